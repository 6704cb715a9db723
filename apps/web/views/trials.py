"""Testing a draft: choose what to run and with which data, see what came out, keep it as pins."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.blueprints import selectors as blueprints
from apps.blueprints.comparing import draft_side
from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.document import Document
from apps.blueprints.core.svg import render_svg
from apps.blueprints.core.trial import Aim, Given
from apps.blueprints.errors import BlueprintInvalid
from apps.blueprints.pins import pins_for, remove_pins, set_pins
from apps.runs import selectors as runs
from apps.runs import trials
from apps.web.core.fields import widget_of
from apps.web.differences import short_title
from apps.web.forms import Submission, input_fields, read_inputs
from apps.web.views.doors import page, principal_of
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError

KINDS = (
    ("whole", "All of it"),
    ("upto", "Up to a step"),
    ("only", "One step alone"),
    ("item", "One item of a map"),
)
PAST_RUNS = 12


@require_http_methods(["GET", "HEAD", "POST"])
def test(request: HttpRequest, name: str) -> HttpResponse:
    """GET works out the test that was chosen; POST starts it."""
    principal = principal_of(request)
    principal.require(Permission.EDIT)
    blueprints.blueprint_for(principal, name)
    if request.method != "POST":
        return _page(request, name, request.GET)
    aim, data_from = _aim(request.POST), request.POST.get("data_from", "")
    private = _is_private(request)
    try:
        plan = trials.plan_trial(principal, name, aim, data_from=data_from or None, private=private)
        given = read_inputs(request, principal, plan.inputs_schema)
        if given.errors:
            return _page(request, name, request.POST, given=given, status=422)
        run = trials.start_trial(
            principal,
            name,
            aim,
            given.values,
            simulate=request.POST.get("effects") != "real",
            data_from=data_from or None,
            idempotency_key=request.POST.get("key") or None,
            private=private,
        )
    except (InvalidInput, BlueprintInvalid) as wrong:
        return _page(request, name, request.POST, problem=wrong, status=422)
    if request.POST.get("then") == "editor":
        return redirect(reverse("web:blueprints-edit", args=[name]) + _query(request, test=run.id))
    return redirect(reverse("web:blueprints-test", args=[name]) + _query(request) + "#result")


@require_safe
def overlay(request: HttpRequest, name: str) -> HttpResponse:
    """The latest test as the canvas shows it."""
    wanted = request.GET.get("run") or None
    found = trials.overlay(principal_of(request), name, wanted, private=_is_private(request))
    return JsonResponse(found, headers={"Cache-Control": "no-store"})


@require_safe
def result(request: HttpRequest, name: str) -> HttpResponse:
    """The result alone, for a page that waits for a test to end."""
    return page(request, "blueprints/_trial_result.html", _result(request, name, _draft(request, name)))


@require_POST
def pin(request: HttpRequest, name: str) -> HttpResponse:
    """Write a pin by hand, take it from a run, or remove it."""
    principal = principal_of(request)
    node, verb = request.POST.get("node", ""), request.POST.get("verb", "set")
    try:
        if verb == "remove":
            remove_pins(principal, name, [node] if node else None)
        elif verb == "load":
            loaded = trials.pin_from_run(
                principal,
                name,
                request.POST.get("run", ""),
                [node] if node else None,
                private=_is_private(request),
            )
            messages.success(request, f"Pinned: {', '.join(loaded)}." if loaded else "Nothing to pin.")
        else:
            output = _json(request.POST.get("output", ""))
            set_pins(principal, name, _draft(request, name), {node: Given(output)})
    except InvalidInput as wrong:
        return _page(request, name, request.GET, pin_problem=wrong, status=422)
    return redirect(reverse("web:blueprints-test", args=[name]) + _query(request) + "#pins")


def _is_private(request: HttpRequest) -> bool:
    """Whether this is about the person's own draft."""
    return request.GET.get("private") == "1"


def _query(request: HttpRequest, **more: Any) -> str:
    """The query that stays with the same draft."""
    given = {**({"private": "1"} if _is_private(request) else {}), **more}
    return f"?{urlencode(given)}" if given else ""


def _aim(given: Any) -> Aim:
    kind = given.get("kind", "whole")
    index = given.get("index", "1")
    return Aim(
        kind if kind in dict(KINDS) else "whole",
        given.get("node", "") if kind != "whole" else "",
        int(index) - 1 if index.isdecimal() and 0 < len(index) < 7 else 0,
    )


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        why = "it is nested too deep" if isinstance(exc, RecursionError) else exc
        raise InvalidInput(
            f"The data is not JSON: {why}.",
            fields={"output": "Any JSON value; a text goes in double quotes."},
            next="Correct it and pin again.",
        ) from exc


def _page(
    request: HttpRequest,
    name: str,
    chosen: Any,
    *,
    given: Submission | None = None,
    problem: MirrorNeuronError | None = None,
    pin_problem: InvalidInput | None = None,
    status: int = 200,
) -> HttpResponse:
    principal = principal_of(request)
    document = _draft(request, name)
    nodes = dict(all_nodes(document.graph))
    aim, data_from = _aim(chosen), chosen.get("data_from", "")
    plan = None
    try:
        plan = trials.plan_trial(
            principal, name, aim, data_from=data_from or None, private=_is_private(request)
        )
    except (InvalidInput, BlueprintInvalid) as wrong:
        if "kind" in chosen:
            problem = problem or wrong
    pins, past = pins_for(principal, name), past_runs(principal, name)
    context = {
        "blueprint": blueprints.blueprint_for(principal, name),
        "aim": aim,
        "item_number": aim.index + 1,
        "kinds": KINDS,
        "nodes": [(path, short_title(node, path)) for path, node in nodes.items()],
        "plan": plan,
        "problem": problem,
        "problems": [one for one in getattr(problem, "problems", ()) if one.level == "error"],
        "fields": input_fields(plan.inputs_schema, given or _as_last_time(past, plan.inputs_schema))
        if plan
        else (),
        "form_action": reverse("web:blueprints-test", args=[name]) + _query(request),
        "may_operate": principal.may(Permission.OPERATE),
        "data_from": data_from,
        "past": past,
        "pins": list(pins.values()),
        "gone_pins": [path for path in pins if path not in nodes],
        "pin_problem": pin_problem,
        "pin_node": request.POST.get("node", ""),
        "pin_output": request.POST.get("output", ""),
        "key": trials.fresh_key(),
        **_result(request, name, document),
    }
    return page(request, "blueprints/test.html", context, status=status)


def _draft(request: HttpRequest, name: str) -> Document:
    return draft_side(principal_of(request), name, private=_is_private(request)).document


def past_runs(principal: Principal, name: str) -> list[Any]:
    """The latest runs of a blueprint, tests among them: to take data from, and to look at."""
    return list(runs.runs_for(principal, blueprint=name).order_by("-id")[:PAST_RUNS])


def _as_last_time(past: list[Any], schema: dict[str, Any]) -> Submission | None:
    """The inputs of the latest run that fit this form, files too: a test is repeated by one press."""
    properties = schema.get("properties") or {}
    inputs = next((run.inputs for run in past if set(run.inputs) & set(properties)), None)
    if inputs is None:
        return None
    values: dict[str, Any] = {}
    kept: dict[str, list[dict[str, Any]]] = {}
    for name in set(inputs) & set(properties):
        if widget_of(properties[name] or {}) not in ("file", "files"):
            values[name] = inputs[name]
            continue
        files = inputs[name] if isinstance(inputs[name], list) else [inputs[name]]
        kept[name] = [one for one in files if isinstance(one, dict) and "id" in one]
    return Submission(values, {}, kept)


def _result(request: HttpRequest, name: str, document: Document) -> dict[str, Any]:
    """The latest test on the draft: states in the picture, and a row for each step that ran."""
    found = trials.overlay(principal_of(request), name, private=_is_private(request))
    nodes = dict(all_nodes(document.graph))
    rows = [
        {
            "path": path,
            "title": short_title(nodes[path], path) if path in nodes else path,
            "kind": nodes[path].kind if path in nodes else "",
            "gone": path not in nodes,
            "state": told.get("state", "").partition(":")[0],
            "reason": told.get("state", "").partition(":")[2],
            "seconds": told.get("seconds"),
            "cost_usd": told.get("cost_usd"),
            "stale": told.get("stale", False),
            "pinned": told.get("pinned", False),
        }
        for path, told in _in_order(found["nodes"], nodes)
    ]
    return {
        "overlay": found,
        "rows": rows,
        "stale_count": sum(row["stale"] for row in rows),
        "tested_picture": _picture(document, found) if document.graph.nodes else "",
        "name": name,
        "private": _is_private(request),
        "query": _query(request),
    }


def _in_order(told: dict[str, Any], nodes: dict[str, Any]) -> list[tuple[str, Any]]:
    order = {path: index for index, path in enumerate(nodes)}
    return sorted(told.items(), key=lambda one: order.get(one[0], len(order)))


def _picture(document: Document, found: dict[str, Any]) -> SafeString:
    states = {path: told["state"] for path, told in found["nodes"].items() if "state" in told}
    drawn = render_svg(document, states if found["run"] else None, tools=blueprints.tools_of(document))
    return mark_safe(drawn)  # noqa: S308 - render_svg escapes what it draws
