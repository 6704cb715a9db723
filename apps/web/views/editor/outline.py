"""The outline and the box of things to fix: the same draft, to read and to edit without the picture."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from apps.blueprints.core.editing.view import view_of
from apps.blueprints.core.problems import path_parts
from apps.blueprints.editing_selectors import ToFix, to_fix
from apps.web.comments import comments_on
from apps.web.core.outline import rows_of
from apps.web.editing import Changed, Opened, apply_operations, open_blueprint
from apps.web.views.doors import page, principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import Conflict


@require_safe
def outline(request: HttpRequest, name: str) -> HttpResponse:
    opened = _open(request, name)
    return page(request, "editor/_outline.html", {"opened": opened, **outline_of(opened)})


@require_safe
def problems(request: HttpRequest, name: str) -> HttpResponse:
    opened = _open(request, name)
    return page(request, "editor/_problems.html", {"opened": opened, **problems_of(opened)})


@require_POST
def fix(request: HttpRequest, name: str) -> HttpResponse:
    """Mend one problem, named by its place and its code, as one step to undo."""
    principal_of(request).require(Permission.EDIT)
    opened = _open(request, name)
    entry = _named(opened, request.POST.get("path", ""), request.POST.get("code", ""))
    said, applied = "", None
    if entry is None or entry.fix is None:
        said = "That is mended already."
    else:
        made = apply_operations(opened, [dict(operation) for operation in entry.fix.operations])
        if isinstance(made, Changed):
            said = made.message
        else:
            said, applied = f"Mended: {entry.problem.message}", made
    if not request.htmx:  # type: ignore[attr-defined]
        if applied is None:
            raise Conflict(said, next="Look at the list again.")
        return redirect(_address(opened))
    context = {"opened": opened, "said": said, "is_open": True, **problems_of(opened)}
    response = page(request, "editor/_problems.html", context)
    if applied is not None:
        # A patch may be larger than a header can hold; the page reads the view again.
        told = {"version": applied.version, "patch": None, "origin": "fix"}
        response.headers["HX-Trigger"] = json.dumps({"mn:applied": told})
    return response


def outline_of(opened: Opened) -> dict[str, Any]:
    view = opened.view
    if any(node["collapsed"] for node in view["nodes"].values()):
        canvas = {k: v for k, v in opened.plan.canvas.items() if k != "collapsed"}
        view = view_of({**opened.data, "canvas": canvas}, problems=opened.problems, tools=opened.tools)
    comments = comments_on(opened.principal, opened.name) if opened.draft is not None else {}
    return {"rows": rows_of(opened.plan, view, comments), "comments": comments}


def problems_of(opened: Opened) -> dict[str, Any]:
    entries = to_fix(opened.data, opened.problems)
    return {
        "entries": [{"entry": entry, "tab": _tab(entry)} for entry in entries],
        "errors": sum(e.problem.level == "error" for e in entries),
        "warnings": sum(e.problem.level != "error" for e in entries),
    }


_TABS = {
    "contract": "contract", "outputs": "contract", "metadata": "card", "card": "card", "agents": "agents",
    "models": "agents", "tools": "tools", "connections": "tools",
}  # fmt: skip


def _tab(entry: ToFix) -> str:
    """The tab where a problem of the blueprint as a whole is mended by hand; empty: the graph or the YAML."""
    place = path_parts(entry.problem.path)
    if place[:2] == ("contract", "inputs"):
        return "inputs"
    return _TABS.get(str(place[0]), "") if place else ""


def _named(opened: Opened, path: str, code: str) -> ToFix | None:
    entries = to_fix(opened.data, [p for p in opened.problems if p.path == path and p.code == code])
    return next(iter(entries), None)


def _open(request: HttpRequest, name: str) -> Opened:
    given = request.POST if request.method == "POST" else request.GET
    return open_blueprint(principal_of(request), name, private=given.get("private") == "1")


def _address(opened: Opened) -> str:
    here = reverse("web:blueprints-edit", args=[opened.name])
    return f"{here}?private=1" if opened.private else here
