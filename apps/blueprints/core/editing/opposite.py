"""The operation that takes another one back by what it means, for when the text around it has changed shape.

A list that was empty is written differently once it has an item, and the text of the first item cannot simply
be cut out again when a second has come. What was done can be taken back all the same, as an operation with a
precondition of its own.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing.edits import same
from apps.blueprints.core.editing.spans import Source

_FIELDS = ("set_config", "set_edge", "set_contract")


def opposite(source: Source, kind: str, payload: dict[str, Any], op_id: UUID) -> ops.AnyOperation | None:
    """None where there is none, or where others have built upon it."""
    values: dict[str, Any]
    if kind in _FIELDS:
        values = {k: v for k, v in payload.items() if k not in ("old", "new")}
        values |= {"old": payload["new"]} if "new" in payload else {}
        values |= {"new": payload["old"]} if "old" in payload else {}
        return ops.operation({"op_id": op_id, "kind": kind, **values})
    if kind == "add_edge":
        edge = payload["edge"]
        if not any(same(one, edge) for one in _graph(source, payload.get("scope", "")).get("edges") or []):
            return None
        values = {"scope": payload.get("scope", ""), "edge": {"from": edge["from"], "to": edge["to"]}}
        return ops.operation({"op_id": op_id, "kind": "remove_edge", **values})
    if kind == "group":
        groups = source.value(("canvas", "groups", payload["id"]))
        mine = isinstance(groups, dict) and same(groups.get("nodes"), payload["nodes"])
        return ops.operation({"op_id": op_id, "kind": "ungroup", "id": payload["id"]}) if mine else None
    if kind == "add_node" and not payload.get("split"):
        return _without_node(source, payload, op_id)
    return None


def _without_node(source: Source, payload: dict[str, Any], op_id: UUID) -> ops.AnyOperation | None:
    """Only while the node is as it was added, with no other edges than it came with."""
    scope, node = payload.get("scope", ""), payload["node"]
    graph = _graph(source, scope)
    mine = [*payload.get("edges", []), *([payload["edge"]] if payload.get("edge") else [])]
    node_id = node["id"]
    if not any(same(n, node) for n in graph.get("nodes") or []):
        return None
    for edge in graph.get("edges") or []:
        ends = (str(edge.get("from")).partition(".")[0], edge.get("to")) if isinstance(edge, dict) else ()
        if node_id in ends and not any(same(edge, one) for one in mine):
            return None
    path = f"{scope}/{node_id}" if scope else node_id
    return ops.operation({"op_id": op_id, "kind": "remove_node", "node": path})


def _graph(source: Source, scope: str) -> dict[str, Any]:
    graph: Any = source.value(("graph",))
    for part in scope.split("/") if scope else ():
        nodes = graph.get("nodes") if isinstance(graph, dict) else None
        found = next((n for n in nodes or [] if isinstance(n, dict) and n.get("id") == part), {})
        graph = found.get("body")
    return graph if isinstance(graph, dict) else {}
