"""What the format knows about each node kind: its ports, its boundary, whether this runtime can run it."""

from __future__ import annotations

from enum import StrEnum

from apps.blueprints.core.document import Node


class Boundary(StrEnum):
    """What a step touches; the badge in every picture."""

    DETERMINISTIC = "deterministic"
    MODEL = "model"
    EXTERNAL_READ = "external_read"
    EXTERNAL_WRITE = "external_write"
    HUMAN = "human"


PORTS: dict[str, tuple[str, ...]] = {
    "agent": ("done", "failed"),
    "extract": ("done", "failed"),
    "tool": ("done", "failed"),
    "transform": ("done", "failed"),
    "router": ("else", "failed"),
    "aggregator": ("done", "failed"),
    "approval": ("approved", "rejected", "changes", "answered", "expired", "failed"),
    "check": ("pass", "fail", "failed"),
    "timer": ("done", "failed"),
    "sensor": ("done", "expired", "failed"),
    "map": ("done", "failed"),
    "loop": ("done", "exhausted", "failed"),
    "subflow": ("done", "failed"),
    "code": ("done", "failed"),
}
MAIN_PORT: dict[str, str] = {kind: ports[0] for kind, ports in PORTS.items()} | {"router": "else"}
"""The port an edge `from: node` leaves by."""
UNKNOWN_PORTS = ("done", "failed")
"""Of a kind nobody knows, so that a draft with a mistake in it can still be drawn."""

RUNNABLE = frozenset(
    [
        "agent", "extract", "tool", "transform", "router", "aggregator", "approval", "check", "timer",
        "sensor", "map", "loop", "subflow", "code",
    ]
)  # fmt: skip
"""Kinds this release runs; the others are part of the format, and validation refuses them in words."""


def ports(node: Node) -> tuple[str, ...]:
    """All out-ports of a node, its routes included, in drawing order."""
    if node.kind == "router":
        return (*(route.name for route in node.routes), *PORTS["router"])
    return PORTS.get(node.kind, UNKNOWN_PORTS)


def main_port(node: Node) -> str:
    return MAIN_PORT.get(node.kind, UNKNOWN_PORTS[0])


COMMON_FIELDS = frozenset(
    [
        "id", "kind", "title", "notes", "label", "when", "with", "output", "timeout", "deadline", "retry",
        "queue", "concurrency", "priority", "tier", "compensate",
    ]
)  # fmt: skip
FIELDS: dict[str, frozenset[str]] = {
    "agent": frozenset(["progress", "agent", "model", "prompt"]),
    "extract": frozenset(["progress", "agent", "model", "prompt"]),
    "tool": frozenset(["progress", "tool", "business_key"]),
    "transform": frozenset(),
    "router": frozenset(["routes", "match", "agent", "model", "prompt"]),
    "aggregator": frozenset(["join", "n", "merge"]),
    "approval": frozenset(["proposes", "show", "assign", "quorum", "due", "verbs", "schema"]),
    "check": frozenset(["checks"]),
    "timer": frozenset(["duration", "until"]),
    "sensor": frozenset(["signal", "schema", "poll", "every", "condition", "due", "until"]),
    "map": frozenset(["items", "max_parallel", "max_items", "join", "n", "merge", "body", "retry_budget"]),
    "loop": frozenset(["condition", "max_rounds", "body"]),
    "subflow": frozenset(["blueprint", "on_cancel"]),
    "code": frozenset(["code", "python"]),
}
"""Fields a kind uses besides `COMMON_FIELDS`; any other has no effect on it."""


def fields(kind: str) -> frozenset[str]:
    return COMMON_FIELDS | FIELDS[kind]
