"""What an editor asks before it changes a draft: the picture, where an edge may go, what can be added."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from apps.api.doors import answer, principal, reads
from apps.api.shapes import Json, Shape
from apps.blueprints import editing_selectors as editing

router = Router(by_alias=True)
Private = Annotated[bool, Query(description="This person's private draft instead of the shared one.")]
From = Annotated[str, Query(alias="from", description="`path` or `path.port`.", max_length=800)]
COPIED: Any = Query(min_length=1, max_length=500, description="Paths; repeat for several.")


class View(Shape):
    """Boxes and lines as they stand in the plane, in px, absolute."""

    version: int
    mode: str
    nodes: dict[str, Json]
    """By path: {path, id, scope, kind, title, subtitle, boundary, boundary_words, x, y, w, h, container,
    collapsed, children, ports, problems}. What a collapsed container holds is left out."""
    edges: dict[str, Json]
    """By id: {id, scope, from, port, to, label, when, max_rounds, back, points, written, at, problem?}."""
    groups: dict[str, Json]
    notes: dict[str, Json]
    x: float
    y: float
    width: float
    height: float


class Target(Shape):
    node: str
    title: str
    scope: str
    allowed: bool
    reason: str
    """Why not, or what it will do."""
    edge: Json
    """The edge to add; null when it is refused."""


class Targets(Shape):
    targets: list[Target]
    """Allowed ones first, what fits best first."""


class Addition(Shape):
    kind: str
    name: str
    """Of the tool, agent or blueprint."""
    title: str
    description: str
    group: str
    fit: str
    """Why it fits here."""
    template: Json
    """Fields of the node to add."""
    tool: str | None = None
    agent: str | None = None


class Additions(Shape):
    items: list[Addition]


class Fragment(Shape):
    text: str
    """YAML: {nodes, edges, layout}."""


class Mend(Shape):
    words: str
    ops: list[Json]
    """Operations without an `op_id`."""


class ToFix(Shape):
    path: str
    line: int | None
    level: str
    code: str
    message: str
    fix: str
    node: str
    """Path of the node to go to; empty for the blueprint as a whole."""
    mend: Mend | None


class Problems(Shape):
    items: list[ToFix]


@router.get("/{name}/draft/view", response=reads(View), summary="The picture of the draft")
def view(request: HttpRequest, name: str, private: Private = False) -> HttpResponse:
    found = editing.view_for(principal(request), name, private=private)
    response = answer(found)
    response["ETag"] = f'"{found["version"]}"'
    return response


@router.get("/{name}/draft/connect", response=reads(Targets), summary="Where an edge may go")
def connect(request: HttpRequest, name: str, source: From, private: Private = False) -> Any:
    """Every node, with the reason in words where an edge is refused."""
    found = editing.targets_for(principal(request), name, source, private=private)
    return {"targets": [target.as_json() for target in found]}


@router.get("/{name}/draft/palette", response=reads(Additions), summary="What can be added")
def palette(
    request: HttpRequest,
    name: str,
    source: Annotated[str, Query(alias="from", max_length=800)] = "",
    q: Annotated[str, Query(max_length=200)] = "",
    scope: Annotated[str, Query(max_length=600)] = "",
    private: Private = False,
) -> Any:
    """What fits after `from` stands first; with `q` only what is called so."""
    found = editing.palette_for(
        principal(request), name, source=source, query=q, scope=scope, private=private
    )
    return {"items": [entry.as_json() for entry in found]}


@router.get("/{name}/draft/fragment", response=reads(Fragment), summary="Copy nodes as YAML")
def fragment(
    request: HttpRequest,
    name: str,
    nodes: list[str] = COPIED,
    private: Private = False,
) -> Any:
    """Comments included; edges come along when both their ends do."""
    return {"text": editing.fragment_for(principal(request), name, nodes, private=private)}


@router.get("/{name}/draft/problems", response=reads(Problems), summary="Everything to fix")
def problems(request: HttpRequest, name: str, private: Private = False) -> Any:
    """Errors first, each with the operations that mend it where that is possible."""
    return {
        "items": [
            {
                **entry.problem.as_json(),
                "node": entry.node,
                "mend": None
                if entry.fix is None
                else {"words": entry.fix.words, "ops": list(entry.fix.operations)},
            }
            for entry in editing.to_fix_for(principal(request), name, private=private)
        ]
    }
