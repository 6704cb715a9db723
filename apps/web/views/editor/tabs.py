"""What each tab of the editor shows besides its forms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from apps.blueprints.core.document import Criterion, Document
from apps.blueprints.core.schemas import check
from apps.blueprints.models import GalleryItem
from apps.blueprints.selectors import gallery
from apps.runs import selectors as runs
from apps.web.core.fields import Field
from apps.web.core.inspector.change import at
from apps.web.core.tool_words import tool_lines
from apps.web.core.words import plural
from apps.web.editing import Opened, open_blueprint
from apps.web.forms import input_fields
from apps.web.views.doors import page, principal_of
from apps.web.views.editor.fields import part_context

PARTS_OF: dict[str, tuple[str, ...]] = {
    "contract": ("contract",),
    "agents": ("agents", "models"),
    "tools": ("allowed", "tools", "connections"),
    "card": ("card",),
    "inputs": ("inputs", "outputs"),
}
HOW_CHECKED = {
    "expression": "by an expression, at the end of every run",
    "schema": "against a form, at the end of every run",
    "grounded": "against its sources, at the end of every run",
    "person": "by a person",
    None: "not checked: plain words, for people",
}


def tab_context(opened: Opened, tab: str) -> dict[str, Any]:
    context = part_context(opened, *PARTS_OF.get(tab, ()))
    match tab:
        case "tools":
            context["lines"] = _tools(opened)
        case "inputs":
            context |= form_preview(opened)
        case "tests":
            context |= _tests(opened)
    return context


@require_safe
def inputs_preview(request: HttpRequest, name: str) -> HttpResponse:
    """The run form as people will see it, as the draft now is."""
    opened = open_blueprint(principal_of(request), name, private=request.GET.get("private") == "1")
    return page(request, "editor/_inputs_preview.html", {"opened": opened} | form_preview(opened))


def form_preview(opened: Opened) -> dict[str, Any]:
    schema = at(opened.data, ("contract", "inputs"))
    if not isinstance(schema, Mapping) or any(flaw.is_error for flaw in check(schema)):
        return {"fields": (), "no_form": "The form cannot be shown before the inputs are in order."}
    fields: tuple[Field, ...] = input_fields(schema)
    return {"fields": fields, "no_form": ""}


def _tools(opened: Opened) -> list[Any]:
    return tool_lines(
        opened.document, opened.tools, at(opened.data, ("contract", "boundaries", "allowed_tools"))
    )


def _tests(opened: Opened) -> dict[str, Any]:
    """What is there to test with, and nothing that is not."""
    samples = _samples(opened)
    recent = (
        list(runs.runs_for(opened.principal, blueprint=opened.name)[:5])
        if opened.blueprint is not None
        else []
    )
    return {
        "samples": samples,
        "criteria": _criteria(opened.checked.document),
        "check_steps": [
            (node.title or node.id, plural(len(node.checks), "check"))
            for node in opened.document.graph.nodes
            if node.kind == "check"
        ],
        "recent": recent,
    }


def _samples(opened: Opened) -> dict[str, Any]:
    """Sample inputs, which blueprints of the gallery bring along."""
    origin = (opened.blueprint.origin or {}).get("gallery") if opened.blueprint is not None else opened.name
    item: GalleryItem | None = gallery().filter(name=origin).first() if origin else None
    return dict(item.samples) if item is not None and isinstance(item.samples, dict) else {}


def _criteria(document: Document | None) -> list[tuple[str, str]]:
    if document is None:
        return []
    found = []
    for one in document.contract.success_criteria.output:
        if isinstance(one, Criterion):
            found.append((one.text, HOW_CHECKED[one.check]))
        else:
            found.append((one, HOW_CHECKED[None]))
    return found
