"""The draft as text. A text that cannot be read changes nothing, and comes back as it was typed."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from apps.blueprints.core.editing.apply import text_hash
from apps.blueprints.core.problems import Problem
from apps.blueprints.services import check_source
from apps.web.editing import Changed, Opened, apply_operation, open_blueprint
from apps.web.views.doors import page, principal_of
from apps.web.views.editor.shell import shell_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import NotFound

MOST_SHOWN = 200


@require_http_methods(["GET", "HEAD", "POST"])
def source(request: HttpRequest, name: str) -> HttpResponse:
    """GET: the text, its hash and its problems as JSON. POST `text`, `old_hash`: make it the draft's."""
    opened = open_blueprint(principal_of(request), name, private=request.GET.get("private") == "1")
    if request.method != "POST":
        return _json(opened)
    opened.principal.require(Permission.EDIT)
    if not opened.may_edit:
        raise NotFound(opened.why_read_only, next="Fork it to change it.")
    text = request.POST.get("text", "")
    # A browser sends the lines of a textarea with its own ends.
    if "\r\n" not in opened.source:
        text = text.replace("\r\n", "\n")
    made = apply_operation(
        opened, {"kind": "set_source", "old_hash": request.POST.get("old_hash", ""), "text": text}
    )
    if "application/json" in request.headers.get("Accept", ""):
        return _json(opened, made, text)
    if isinstance(made, Changed):
        context = shell_of(opened, "yaml") | yaml_context(opened) | {"text": text, "refused": made.message}
        return page(request, "editor/yaml.html", context, status=422)
    query = "?tab=yaml&private=1" if opened.private else "?tab=yaml"
    return redirect(reverse("web:blueprints-edit", args=[opened.name]) + query)


def yaml_context(opened: Opened) -> dict[str, Any]:
    return {
        "text": opened.source,
        "text_hash": text_hash(opened.source),
        "problems": opened.problems,
        "source_url": reverse("web:blueprints-edit-source", args=[opened.name])
        + ("?private=1" if opened.private else ""),
    }


def _json(opened: Opened, made: Any = None, text: str | None = None) -> JsonResponse:
    body: dict[str, Any] = {
        "text": opened.source,
        "hash": text_hash(opened.source),
        "version": opened.version,
        "problems": _lines(opened.problems),
    }
    if isinstance(made, Changed):
        stale = made.theirs == body["hash"]
        body |= {"refused": made.message, "stale": stale}
        if not stale and text is not None:
            body["problems"] = _lines(check_source(text).problems)
    elif made is not None:
        body |= {"patch": made.patch}
    return JsonResponse(body, headers={"Cache-Control": "private, no-store"})


def _lines(problems: list[Problem]) -> list[dict[str, Any]]:
    return [problem.as_json() for problem in problems[:MOST_SHOWN]]
