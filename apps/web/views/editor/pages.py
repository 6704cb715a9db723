"""The editor's own pages: a new blueprint, the graph, and the tabs beside it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_safe

from apps.blueprints import services as blueprint_services
from apps.blueprints.core.editing.palette import KINDS, palette
from apps.web import pictures
from apps.web.core.places import TABS
from apps.web.editing import Opened, open_blueprint
from apps.web.views.doors import page, principal_of
from apps.web.views.editor.fields import inspector_of
from apps.web.views.editor.history import history_context
from apps.web.views.editor.outline import lists_of
from apps.web.views.editor.shell import shell_of
from apps.web.views.editor.source import yaml_context
from apps.web.views.editor.tabs import tab_context
from apps.web.views.trials import past_runs
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """One question, then the editor. Everything else can wait."""
    principal = principal_of(request)
    principal.require(Permission.EDIT)
    title = request.POST.get("title", "")
    if request.method == "POST":
        try:
            made = blueprint_services.create_blueprint(principal, title)
        except InvalidInput as wrong:
            context = {"title": title, "problem": wrong.fields.get("title", str(wrong))}
            return page(request, "editor/new.html", context, status=422)
        return redirect("web:blueprints-edit", made.name)
    return page(request, "editor/new.html", {"title": title})


@require_safe
def edit(request: HttpRequest, name: str) -> HttpResponse:
    opened = open_blueprint(principal_of(request), name, private=request.GET.get("private") == "1")
    tab = request.GET.get("tab", "")
    if tab not in dict(TABS):
        tab = ""
    context = {**shell_of(opened, tab)}
    if not tab:
        context |= _graph(opened) | inspector_of(request, opened)
    elif tab == "yaml":
        context |= yaml_context(opened)
    elif tab == "history":
        context |= history_context(opened, request.GET.get("before", ""))
    else:
        context |= tab_context(opened, tab)
    return page(request, "editor/edit.html" if not tab else f"editor/{tab}.html", context)


def _graph(opened: Opened) -> dict[str, Any]:
    return {
        "picture": pictures.plain_picture(opened.document, opened.tools),
        **lists_of(opened),
        "view": opened.view,
        "palette": _palette(opened) if opened.may_edit else [],
        "past": past_runs(opened.principal, opened.name) if opened.may_edit else [],
    }


def _palette(opened: Opened) -> list[dict[str, Any]]:
    """The kinds of steps in plain words; tools and agents are found by searching."""
    found = {entry.kind: entry for entry in palette(opened.data, opened.tools) if not entry.name}
    return [found[kind].as_json() for kind in KINDS if kind in found]
