"""The gallery: what can be run here, shown honestly, and one click to run it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.blueprints import selectors as blueprints
from apps.blueprints import services as blueprint_services
from apps.runs import services as runs
from apps.web import markdown, pictures
from apps.web.cards import Record, card_of, contract_of, outline_of, records
from apps.web.forms import Submission, input_fields, read_inputs
from apps.web.samples import sample_inputs
from apps.web.views.doors import page, principal_of
from mirrorneuron.base.errors import InvalidInput


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    so_far = records(principal_of(request))
    cards = [
        card_of(
            item,
            blueprints.document_of(item),
            so_far.get(item.name, Record()),
            sample=bool(item.samples),
        )
        for item in blueprints.gallery()
    ]
    return page(request, "gallery/list.html", {"cards": cards})


@require_safe
def item(request: HttpRequest, name: str) -> HttpResponse:
    return _detail(request, name)


@require_POST
def run(request: HttpRequest, name: str) -> HttpResponse:
    """One click: install if need be, and run on the sample inputs the blueprint ships with."""
    principal = principal_of(request)
    shown = blueprints.gallery_item(name)
    inputs = sample_inputs(principal, shown, blueprints.document_of(shown))
    version = blueprint_services.version_for_run(principal, name)
    started = runs.start_run(
        principal, version, inputs, idempotency_key=request.POST.get("key") or None, is_demo=True
    )
    return redirect("web:runs-detail", started.id)


@require_http_methods(["GET", "HEAD", "POST"])
def run_own(request: HttpRequest, name: str) -> HttpResponse:
    """Run on a person's own inputs; errors come back at their field, with everything else kept."""
    if request.method != "POST":
        return redirect("web:gallery-item", name)  # A reload of the form with its errors.
    principal = principal_of(request)
    document = blueprints.document_of(blueprints.gallery_item(name))
    given = read_inputs(request, principal, document.contract.inputs)
    if given.errors:
        return _detail(request, name, given, status=422)
    version = blueprint_services.version_for_run(principal, name)
    try:
        started = runs.start_run(
            principal, version, given.values, idempotency_key=request.POST.get("key") or None
        )
    except InvalidInput as wrong:
        return _detail(request, name, Submission(given.values, wrong.fields, given.kept), str(wrong), 422)
    return redirect("web:runs-detail", started.id)


def _detail(
    request: HttpRequest, name: str, given: Submission | None = None, problem: str = "", status: int = 200
) -> HttpResponse:
    shown = blueprints.gallery_item(name)
    document = blueprints.document_of(shown)
    so_far = records(principal_of(request)).get(name, Record())
    card = card_of(shown, document, so_far, sample=bool(shown.samples))
    context: dict[str, Any] = {
        "item": shown,
        "card": card,
        "key": card.key,
        "picture": pictures.plain_picture(document, blueprints.tools_of(document)),
        "readme": markdown.render(shown.readme),
        "contract": contract_of(document),
        "outline": outline_of(document),
        "fields": input_fields(document.contract.inputs, given),
        "form_action": reverse("web:gallery-run-own", args=[name]) + "#use",
        "problem": problem or ("Some fields need another look." if given and given.errors else ""),
    }
    return page(request, "gallery/detail.html", context, status=status)
