"""Where a node or an edge stands in the plain values of a document, by the ids people and pictures use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apps.blueprints.core.editing.sketch import sketch
from apps.web.core.inspector.change import at
from apps.web.core.inspector.inputs import MISSING, Path


def graph_of(data: Any, scope: str) -> Path | None:
    """The place of a graph: "" is the top one, `each` the body of the map `each`."""
    if not scope:
        return ("graph",)
    inside = node_of(data, scope)
    return (*inside, "body") if inside is not None else None


def node_of(data: Any, path: str) -> Path | None:
    """The place of a node such as `each/score`; None when it is not there."""
    place: Path = ("graph",)
    parts = path.split("/")
    for depth, part in enumerate(parts):
        nodes = at(data, (*place, "nodes"))
        found = next(
            (
                i
                for i, node in enumerate(nodes if isinstance(nodes, list) else [])
                if isinstance(node, dict) and node.get("id") == part
            ),
            None,
        )
        if found is None:
            return None
        place = (*place, "nodes", found)
        if depth < len(parts) - 1:
            place = (*place, "body")
    return place


def edge_of(data: Any, edge: str) -> Path | None:
    """The place of an edge by the id pictures give it, `scope|from.port|to|n`."""
    return next((one.place for one in sketch(data).edges if one.id == edge), None)


def scope_of(path: str) -> str:
    return path.rpartition("/")[0]


def node_path(data: Any, place: Path) -> tuple[str, Path] | None:
    """The path of the innermost node a place lies in, and the rest of the place below it."""
    ids: list[str] = []
    rest = place
    while len(rest) >= 3 and rest[:2] == ("graph", "nodes") and isinstance(rest[2], int):
        done = place[: len(place) - len(rest) + 3]
        node_id = at(data, (*done, "id"))
        if not isinstance(node_id, str):
            return None
        ids.append(node_id)
        rest = rest[3:]
        if len(rest) >= 3 and rest[0] == "body" and rest[1] == "nodes":
            rest = ("graph", *rest[1:])
            continue
        return "/".join(ids), rest
    return None


def nodes_in(data: Any, scope: str) -> Iterator[dict[str, Any]]:
    """The nodes of one graph that are at least mappings with an id."""
    graph = graph_of(data, scope)
    nodes = at(data, (*graph, "nodes")) if graph is not None else MISSING
    for node in nodes if isinstance(nodes, list) else []:
        if isinstance(node, dict) and isinstance(node.get("id"), str):
            yield node
