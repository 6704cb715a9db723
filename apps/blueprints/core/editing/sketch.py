"""Reads a draft that may be wrong, as far as it can be drawn.

`Document` refuses what does not fit; a person who is in the middle of a change still wants to see all of it.
So this reading takes the plain values as they are: a node without an id gets a name of its own, a kind nobody
knows is a box, an edge to nowhere is kept and marked. Nothing here raises, whatever the values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from pydantic import ValidationError

from apps.blueprints.core import text_fit
from apps.blueprints.core.document import (
    Agent,
    DeclaredTool,
    Document,
    Edge,
    Graph,
    Metadata,
    Node,
    Position,
    Route,
    ToolCall,
)
from apps.blueprints.core.kinds import main_port, ports
from apps.blueprints.core.problems import Path

MOST_NESTED = 12
"""Bodies inside bodies that are drawn; validation allows fewer."""
FARTHEST = 100_000.0
"""Px from the origin that anything may be placed at."""


@dataclass(frozen=True)
class SketchedEdge:
    scope: str
    index: int
    """Its place in the list of edges of its graph."""
    place: Path
    """Where it stands in the document."""
    edge: Edge
    """Both ends by the names boxes are drawn under; an end that does not exist as it was written."""
    source: str
    """Path of the box it leaves; empty when there is none."""
    target: str
    port: str
    """The port it leaves by, the main port named."""
    written: Mapping[str, Any]
    """As it stands in the draft."""
    at: int
    """Which one it is of the edges written with the same ends, from 0."""
    id: str
    """`scope|from.port|to|n`; n counts the edges that leave by the same port to the same node, from 0."""


@dataclass
class Sketch:
    document: Document
    """Nodes, edges, agents, tools and layout; everything else is left out."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """By path, in the order of the draft, a container before its content."""
    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The plain values of each node."""
    scopes: dict[str, str] = field(default_factory=dict)
    """Path of a node → path of its container, empty at the top."""
    places: dict[Path, str] = field(default_factory=dict)
    """Where a node stands in the document → its path."""
    edges: list[SketchedEdge] = field(default_factory=list)
    canvas: Mapping[str, Any] = field(default_factory=dict)

    def node_at(self, place: Path) -> str:
        """Path of the innermost node that a place in the document belongs to; empty when there is none."""
        for length in range(len(place), 2, -1):
            found = self.places.get(place[:length])
            if found is not None:
                return found
        return ""

    def edge_at(self, place: Path) -> SketchedEdge | None:
        """The innermost edge that a place in the document belongs to."""
        for length in range(len(place), 2, -1):
            found = self._edges_by_place.get(place[:length])
            if found is not None:
                return found
        return None

    def place_of(self, path: str) -> Path:
        return self._places_by_path.get(path, ())

    @cached_property
    def _edges_by_place(self) -> dict[Path, SketchedEdge]:
        """Kept, as there may be hundreds of problems to place among hundreds of edges."""
        return {edge.place: edge for edge in reversed(self.edges)}

    @cached_property
    def _places_by_path(self) -> dict[str, Path]:
        return {path: place for place, path in reversed(self.places.items())}

    def title(self, path: str) -> str:
        node = self.nodes[path]
        return text_fit.title_of(node.title, node.id)

    def children(self, scope: str) -> list[str]:
        return [path for path, found in self.scopes.items() if found == scope]

    def leaving(self, path: str) -> list[SketchedEdge]:
        return [e for e in self.edges if e.source == path]


def sketch(data: Any) -> Sketch:
    """Read plain values as a draft. Never raises for what they contain."""
    top = _mapping(data)
    result = Sketch(_empty())
    graph = _Reader(result).graph(top.get("graph"), ("graph",), "", 0)
    positions = {}
    for path, value in _mapping(top.get("layout")).items():
        position = position_of(value)
        if position is not None:
            positions[str(path)] = position
    result.document = _empty().model_copy(
        update={
            "graph": graph,
            "layout": positions,
            "tools": dict(_fitting(DeclaredTool, top.get("tools"))),
            "agents": dict(_agents(top.get("agents"))),
        }
    )
    result.canvas = _mapping(top.get("canvas"))
    return result


def position_of(value: Any) -> Position | None:
    x, y = number(_mapping(value).get("x")), number(_mapping(value).get("y"))
    return Position.model_construct(x=x, y=y) if x is not None and y is not None else None


def number(value: Any) -> float | None:
    """A finite number within reach, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return float(max(-FARTHEST, min(FARTHEST, value)))


def text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _Reader:
    def __init__(self, result: Sketch) -> None:
        self.result = result

    def graph(self, value: Any, place: Path, scope: str, depth: int) -> Graph:
        plain = _mapping(value)
        names: dict[str, str] = {}
        """Id → the name its first node is drawn under."""
        nodes = []
        for index, written in enumerate(_list(plain.get("nodes"))):
            if isinstance(written, dict):
                nodes.append(self.node(written, (*place, "nodes", index), scope, depth, names))
        drawn = {node.id: node for node in nodes}
        edges = []
        alike: dict[tuple[str, ...], int] = {}
        for index, written in enumerate(_list(plain.get("edges"))):
            if isinstance(written, dict):
                edge = _edge(written, names)
                source = drawn.get(edge.source)
                port = edge.port or (main_port(source) if source is not None else "done")
                count = _counted(alike, edge.source, port, edge.to)
                at = _counted(alike, text(written.get("from")), text(written.get("to")))
                self.result.edges.append(
                    SketchedEdge(
                        scope, index, (*place, "edges", index), edge,
                        joined(scope, edge.source) if source is not None else "",
                        joined(scope, edge.to) if edge.to in drawn else "",
                        port, written, at, f"{scope}|{edge.source}.{port}|{edge.to}|{count}",
                    )
                )  # fmt: skip
                edges.append(edge)
        return Graph.model_construct(nodes=nodes, edges=edges)

    def node(
        self, written: dict[str, Any], place: Path, scope: str, depth: int, names: dict[str, str]
    ) -> Node:
        result = self.result
        node_id = text(written.get("id"))
        name = node_id or f"#{place[-1]}"
        while joined(scope, name) in result.nodes:
            name = f"{name}#{place[-1]}"
        names.setdefault(node_id, name)
        path = joined(scope, name)
        result.nodes[path] = _blank()  # A container stands before its content.
        result.written[path] = written
        result.scopes[path] = scope
        result.places[place] = path
        body = None
        if isinstance(written.get("body"), dict) and depth < MOST_NESTED:
            body = self.graph(written["body"], (*place, "body"), path, depth + 1)
        poll = _mapping(written.get("poll"))
        node = _blank().model_copy(
            update={
                "id": name,
                "kind": text(written.get("kind")) or "unknown",
                "body": body,
                "routes": list(_routes(written.get("routes"))),
                "poll": ToolCall.model_construct(tool=text(poll["tool"])) if "tool" in poll else None,
                **{key: text(written[key]) for key in _TEXTS if key in written},
            }
        )
        result.nodes[path] = node
        return node


_TEXTS = ("title", "tool", "agent", "model", "prompt", "blueprint", "signal")


@cache
def _blank() -> Node:
    return Node.model_construct(id="", kind="transform")


@cache
def _blank_edge() -> Edge:
    return Edge.model_construct(from_="", to="")


@cache
def _empty() -> Document:
    return Document.model_construct(metadata=Metadata.model_construct(name="draft"))


def joined(scope: str, node_id: str) -> str:
    """`each/score`; at the top of the graph the id alone."""
    return f"{scope}/{node_id}" if scope else node_id


def _edge(written: Mapping[str, Any], names: Mapping[str, str]) -> Edge:
    source, dot, port = text(written.get("from")).partition(".")
    target = text(written.get("to"))
    rounds = written.get("max_rounds")
    return _blank_edge().model_copy(
        update={
            "from_": f"{names.get(source, source) if source else ''}{dot}{port}",
            "to": names.get(target, target) if target else "",
            "when": text(written.get("when")),
            "label": text(written.get("label")),
            "max_rounds": rounds if isinstance(rounds, int) and not isinstance(rounds, bool) else None,
        }
    )


def _counted(seen: dict[tuple[str, ...], int], *key: str) -> int:
    """How often this has been seen before."""
    seen[key] = seen.get(key, -1) + 1
    return seen[key]


def _routes(value: Any) -> Iterator[Route]:
    seen = set()
    for route in _list(value):
        name = text(_mapping(route).get("name"))
        if name and name not in seen:
            seen.add(name)
            yield Route.model_construct(name=name, when=text(route.get("when")))


def _fitting(kind: type[DeclaredTool], value: Any) -> Iterator[tuple[str, DeclaredTool]]:
    for name, written in _mapping(value).items():
        try:
            yield str(name), kind.model_validate(written)
        except ValidationError:
            continue  # A tool nobody can read counts as one nobody knows: as a write.


def _agents(value: Any) -> Iterator[tuple[str, Agent]]:
    for name, written in _mapping(value).items():
        tools = [tool for tool in _list(_mapping(written).get("tools")) if isinstance(tool, str)]
        yield str(name), Agent.model_construct(tools=tools, model=text(_mapping(written).get("model")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def all_ports(node: Node) -> tuple[str, ...]:
    """Ports without repeats: a route may be called like a port that is there anyway."""
    return tuple(dict.fromkeys(ports(node)))
