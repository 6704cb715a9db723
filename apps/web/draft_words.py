"""What happened to a draft, in words a person can act on."""

from __future__ import annotations

from typing import Any

from apps.blueprints.drafts import actor_name, draft_for, operations_after
from apps.blueprints.models import DraftOperation
from apps.workspaces.access import Principal

SHOWN = 30
"""Sentences; what came before is counted."""
_FIXED: dict[str, str] = {
    "move_nodes": "moved steps on the canvas",
    "set_layout": "arranged the canvas",
    "group": "grouped steps",
    "ungroup": "dissolved a group",
    "paste": "pasted steps",
    "set_source": "changed the YAML",
    "undo": "took a change back",
    "redo": "did a change again",
    "merge": "merged a private draft",
}


def happened_since(principal: Principal, name: str, version: int) -> list[str]:
    """One sentence an operation after this version of the shared draft, the latest last."""
    if version < 0:
        return []
    rows = operations_after(draft_for(principal, name), version)
    told = [sentence(row) for row in rows[-SHOWN:]]
    earlier = len(rows) - len(told)
    return [f"{earlier} changes before that.", *told] if earlier else told


def sentence(row: DraftOperation) -> str:
    return f"{actor_name(row)} {_what(row.kind, row.payload)}."


def _what(kind: str, values: dict[str, Any]) -> str:
    node = values.get("node")
    if kind in _FIXED:
        return _FIXED[kind]
    if kind == "add_node":
        added = node.get("id", "a step") if isinstance(node, dict) else "a step"
        return f"added the step {added}"
    if kind == "remove_node":
        return f"removed the step {node}"
    if kind == "rename":
        return f"renamed {node} to {values.get('to')}"
    if kind == "set_config":
        return f"changed {_path(values)} of {node}"
    if kind in ("add_edge", "remove_edge", "set_edge"):
        verb = {"add_edge": "added", "remove_edge": "removed", "set_edge": "changed"}[kind]
        edge = values.get("edge")
        ends = f" {edge.get('from')} → {edge.get('to')}" if isinstance(edge, dict) else ""
        return f"{verb} the way{ends}"
    if kind == "set_contract":
        return f"changed {_path(values)}"
    if kind == "restore":
        of = str(values.get("of") or "an earlier state")
        return "brought back " + (f"the draft after change {of[10:]}" if of.startswith("operation ") else of)
    return kind.replace("_", " ")


def _path(values: dict[str, Any]) -> str:
    path = values.get("path")
    return ".".join(map(str, path)) if isinstance(path, list) and path else "something"
