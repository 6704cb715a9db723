"""Where a blueprint names its nodes: `steps.<id>` in expressions, and the fields that hold an id.

Found in the raw text of each value, so that a renamed node changes identifiers and nothing around them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from apps.blueprints.core.problems import Path

EXPRESSIONS = frozenset(
    [
        "when", "condition", "until", "items", "merge", "sees", "that", "duration", "present", "concurrency",
        "key", "claim", "sources",
    ]
)  # fmt: skip
"""Fields whose text is an expression without `{{ }}`."""
_INSIDE = re.compile(r"\{\{.*?\}\}", re.DOTALL)


def pattern(node_id: str, root: str = "steps") -> re.Pattern[str]:
    """`steps.<id>` and `steps["<id>"]`; the id is the group that took part."""
    name = re.escape(node_id)
    return re.compile(rf"(?<![\w.]){root}\s*(?:\.\s*({name})(?!\w)|\[\s*\\?[\"']({name})\\?[\"']\s*\])")


def mentions(text: str, wanted: re.Pattern[str], key: str) -> list[tuple[int, int]]:
    """Where a text names the node, as places of the id itself."""
    if "{{" in text:
        areas = [(m.start(), m.end()) for m in _INSIDE.finditer(text)]
    elif key in EXPRESSIONS:
        areas = [(0, len(text))]
    else:
        return []
    return [
        found.span(1) if found[1] is not None else found.span(2)
        for start, stop in areas
        for found in wanted.finditer(text, start, stop)
    ]


def replaced(text: str, places: list[tuple[int, int]], to: str) -> str:
    pieces, at = [], 0
    for start, end in places:
        pieces += [text[at:start], to]
        at = end
    return "".join([*pieces, text[at:]])


def texts(value: Any, path: Path, key: str = "") -> Iterator[tuple[Path, str, str]]:
    """Every text below a value with its path and the nearest named key."""
    if isinstance(value, str):
        yield path, value, key
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from texts(inner, (*path, name), name)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from texts(inner, (*path, index), key)


def shadowed(body: Any, node_id: str) -> bool:
    """Whether a body has a node of its own by this id, which its expressions then mean."""
    nodes = body.get("nodes") if isinstance(body, dict) else None
    return any(isinstance(n, dict) and n.get("id") == node_id for n in nodes or [])


def renamed_values(value: Any, ids: dict[str, str], key: str = "") -> Any:
    """A value with every mention of some nodes renamed at once; bodies with a node of that id keep it."""
    if isinstance(value, str):
        found = sorted(
            (place, new)
            for old, new in ids.items()
            for root in ("steps", "results")
            for place in mentions(value, pattern(old, root), key)
        )
        pieces, at = [], 0
        for (start, end), new in found:
            pieces += [value[at:start], new]
            at = end
        return "".join([*pieces, value[at:]])
    if isinstance(value, list):
        return [renamed_values(item, ids, key) for item in value]
    if isinstance(value, dict):
        if isinstance(value.get("nodes"), list) and key == "body":
            ids = {old: new for old, new in ids.items() if not shadowed(value, old)}
        return {name: renamed_values(item, ids, name) for name, item in value.items()}
    return value
