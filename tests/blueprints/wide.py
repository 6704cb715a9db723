"""A blueprint of several hundred steps as people draw them, for tests of what one change costs."""

from __future__ import annotations

from typing import Any

from apps.blueprints.core.parse import plain_dump

NAME = "wide"
ROWS = 10
KINDS = ("transform", "transform", "tool", "check", "approval", "timer")


def wide(steps: int = 300) -> dict[str, Any]:
    """Columns of ten steps; each leads to its neighbour, every third also to the row below."""
    nodes = [_node(number) for number in range(steps)]
    edges = [{"from": f"n{n}", "to": f"n{n + ROWS}"} for n in range(steps - ROWS)]
    edges += [{"from": f"n{n}", "to": f"n{n + ROWS + 1}"} for n in range(0, steps - ROWS - 1, 3)]
    card = {"purpose": "Tests", "must_never": ["stop"], "business_owner": "A", "technical_owner": "B"}
    return {
        "apiVersion": "mirrorneuron/v1",
        "kind": "Blueprint",
        "metadata": {"name": NAME, "title": "Wide"},
        "card": {**card, "model_steward": "C"},
        "contract": {
            "goal": "Be large.",
            "inputs": {"type": "object", "properties": {"a": {"type": "string"}}},
        },
        "graph": {"nodes": nodes, "edges": [_edge(edge, nodes) for edge in edges]},
    }


def wide_text(steps: int = 300) -> str:
    return plain_dump(wide(steps))


def _node(number: int) -> dict[str, Any]:
    kind = KINDS[number % len(KINDS)]
    before = f"steps.n{number - ROWS}.output" if number >= ROWS else "inputs.a"
    fields: dict[str, Any] = {
        "transform": {"output": {"text": f"{{{{ {before} != null ? 'after {number}' : '' }}}}"}},
        "tool": {
            "tool": "send_email",
            "with": {"to": "a@b.example", "subject": "S", "body": f"{{{{ {before} }}}}"},
        },
        "check": {"checks": [{"check": "expression", "args": {"that": f"{before} != null"}}]},
        "approval": {"assign": {"groups": ["sales"]}},
        "timer": {"duration": "5m"},
    }[kind]
    return {"id": f"n{number}", "kind": kind, "title": f"Step {number}", **fields}


def _edge(edge: dict[str, str], nodes: list[dict[str, Any]]) -> dict[str, str]:
    kind = nodes[int(edge["from"][1:])]["kind"]
    port = {"approval": ".approved", "check": ".pass"}.get(kind, "")
    return {**edge, "from": edge["from"] + port}
