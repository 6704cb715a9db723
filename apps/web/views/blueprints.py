"""The blueprints of a workspace: their versions, what they do, and running them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from apps.blueprints import selectors as blueprints
from apps.blueprints import services as blueprint_services
from apps.blueprints.reviews import reviews_waiting_for
from apps.runs import services as runs
from apps.web import pictures
from apps.web.cards import Record, card_of, contract_of, outline_of, records
from apps.web.editing import Opened, open_blueprint
from apps.web.forms import Submission, input_fields, read_inputs
from apps.web.views.doors import page, principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput, NotFound


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    principal = principal_of(request)
    so_far = records(principal)
    found = blueprints.blueprints_for(principal)
    called = Counter(one.title for one in found)
    rows = [
        {
            "blueprint": one,
            "record": so_far.get(one.name, Record()),
            "has_namesake": called[one.title] > 1,
        }
        for one in found
    ]
    waiting = reviews_waiting_for(principal)
    return page(
        request,
        "blueprints/list.html",
        {"rows": rows, "reviews_waiting": waiting, "may_edit": principal.may(Permission.EDIT)},
    )


@require_safe
def item(request: HttpRequest, name: str) -> HttpResponse:
    return _detail(request, name, _number(request.GET.get("version", "")))


@require_http_methods(["GET", "HEAD", "POST"])
def run(request: HttpRequest, name: str) -> HttpResponse:
    if request.method != "POST":
        return redirect("web:blueprints-item", name)  # A reload of the form with its errors.
    principal = principal_of(request)
    number = _number(request.POST.get("version", ""))
    version = blueprint_services.version_for_run(principal, f"{name}@{number}" if number else name)
    given = read_inputs(request, principal, blueprints.document_of(version).contract.inputs)
    if given.errors:
        return _detail(request, name, number, given, status=422)
    try:
        started = runs.start_run(
            principal, version, given.values, idempotency_key=request.POST.get("key") or None
        )
    except InvalidInput as wrong:
        kept = Submission(given.values, wrong.fields, given.kept)
        return _detail(request, name, number, kept, str(wrong), 422)
    return redirect("web:runs-detail", started.id)


def _detail(
    request: HttpRequest,
    name: str,
    number: int | None,
    given: Submission | None = None,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    principal = principal_of(request)
    blueprint = blueprints.blueprint_for(principal, name)
    versions = [one for one in blueprints.versions_for(principal, name) if one.number is not None]
    if number is None and not versions:
        return _unpublished(request, open_blueprint(principal, name))
    version = blueprints.version_for(principal, name, number)
    document = blueprints.document_of(version)
    card = card_of(blueprint, document, records(principal).get(name, Record()))
    context: dict[str, Any] = {
        "blueprint": blueprint,
        "may_edit": principal.may(Permission.EDIT) and blueprint.archived_at is None,
        "version": version,
        "versions": versions,
        "card": card,
        "key": card.key,
        "picture": pictures.plain_picture(document, blueprints.tools_of(document)),
        "contract": contract_of(document),
        "outline": outline_of(document),
        "problems": blueprints.problems_of(version),
        "fields": input_fields(document.contract.inputs, given),
        "form_action": reverse("web:blueprints-run", args=[name]) + "#use",
        "run_is_main": True,
        "problem": problem or ("Some fields need another look." if given and given.errors else ""),
    }
    return page(request, "blueprints/detail.html", context, status=status)


def _unpublished(request: HttpRequest, opened: Opened) -> HttpResponse:
    """Nothing is published, so nothing can be run: the draft as it is, and the way on."""
    blueprint, document = opened.blueprint, opened.checked.document
    assert blueprint is not None
    context: dict[str, Any] = {
        "blueprint": blueprint,
        "opened": opened,
        "picture": pictures.plain_picture(opened.document, opened.tools),
        "outline": outline_of(opened.document),
        "problems": opened.problems,
    }
    if document is not None:  # What it would do can be told only of a whole one.
        context |= {
            "card": card_of(blueprint, document, records(opened.principal).get(opened.name, Record())),
            "contract": contract_of(document),
        }
    return page(request, "blueprints/unpublished.html", context)


def _number(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or len(text) > 9:
        raise NotFound(f"There is no version {text!r}.", next="Choose one from the list of versions.")
    return int(text)
