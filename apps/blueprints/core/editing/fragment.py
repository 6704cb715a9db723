"""Parts of a graph as text, to be copied.

A fragment is YAML, `{nodes, edges, layout}`, and reads the same in every blueprint and on every server. Nodes
are copied as their author wrote them, comments included, as long as that text stands for itself; otherwise
their values are written out. What becomes of it is the operation `paste`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from apps.blueprints.core.document import ID_PATTERN
from apps.blueprints.core.editing.sketch import Sketch, sketch
from apps.blueprints.core.layout import layout
from apps.blueprints.core.parse import Parsed, parse, plain_dump
from apps.blueprints.core.problems import Path

_ID = re.compile(ID_PATTERN)
_NOT_IN_IDS = re.compile(r"[^a-z0-9_]+")


def fragment_of(source: str, paths: Iterable[str]) -> str:
    """The named nodes of a draft as a fragment; empty when none of them is there.

    Nodes of one graph are copied together: those beside the first one named. Edges come along when both
    their ends do.
    """
    parsed = parse(source)
    plan = sketch(parsed.data)
    chosen = [path for path in dict.fromkeys(paths) if path in plan.nodes]
    if not chosen:
        return ""
    scope = plan.scopes[chosen[0]]
    beside = {path for path in chosen if plan.scopes[path] == scope}
    nodes = [place for place, path in plan.places.items() if path in beside]
    edges = [e.place for e in plan.edges if e.scope == scope and e.source in beside and e.target in beside]
    positions = _positions(plan, scope, beside)
    values = {
        "nodes": [_at(parsed.data, place) for place in nodes],
        **({"edges": [_at(parsed.data, place) for place in edges]} if edges else {}),
        **({"layout": positions} if positions else {}),
    }
    written = _as_written(parsed, nodes, edges, positions)
    # Text that leans on something outside of it, such as an anchor, does not read the same by itself.
    return written if written and parse(written).data == values else plain_dump(values)


def _positions(plan: Sketch, scope: str, beside: Collection[str]) -> dict[str, dict[str, int]]:
    prefix = f"{scope}/" if scope else ""
    drawn = {b.path: b for b in layout(plan.document.graph, plan.document.layout).boxes}
    kept = {
        path: {"x": round(box.x), "y": round(box.y)}
        for path, box in drawn.items()
        if path in beside
        or (path in plan.document.layout and any(path.startswith(f"{outer}/") for outer in beside))
    }
    return {path.removeprefix(prefix): place for path, place in kept.items()}


def _as_written(
    parsed: Parsed, nodes: list[Path], edges: list[Path], positions: Mapping[str, Mapping[str, int]]
) -> str:
    lines = parsed.text.splitlines()
    parts = ["nodes:"]
    for places in (nodes, edges):
        if places is edges:
            if not edges:
                continue
            parts.append("edges:")
        for place in places:
            item = _item(lines, parsed.lines.get(place)) if not parsed.is_json else None
            if item is None:
                return ""
            parts += item
    if positions:
        parts.append(plain_dump({"layout": positions}).rstrip())
    return "\n".join(parts) + "\n"


def _item(lines: list[str], number: int | None) -> list[str] | None:
    """The lines of a list item that begins in a line, with the comments above it, two further in."""
    if number is None or number > len(lines):
        return None
    first = lines[number - 1]
    indent = len(first) - len(first.lstrip(" "))
    if not first.lstrip(" ").startswith("- "):
        return None
    start = number - 1
    while start > 0 and lines[start - 1].startswith(f"{' ' * indent}#"):
        start -= 1
    end = number
    while end < len(lines) and (
        not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip(" ")) > indent
    ):
        end += 1
    while end > number and (not lines[end - 1].strip() or lines[end - 1].lstrip().startswith("#")):
        end -= 1
    return [f"  {line[indent:]}".rstrip() for line in lines[start:end]]


def _at(data: Any, place: Path) -> Any:
    for part in place:
        data = data[part]
    return data


def free_id(wanted: str, taken: Collection[str]) -> str:
    """An id like the one wanted that nothing has: `send`, `send_2`, …"""
    plain = wanted if _ID.match(wanted) else _as_id(wanted)
    if plain not in taken:
        return plain
    stem, number = plain, 2
    counted = re.fullmatch(r"(.+)_([0-9]{1,4})", plain)
    if counted is not None:
        stem, number = counted[1], int(counted[2]) + 1
    while (found := f"{stem[: 63 - len(str(number))]}_{number}") in taken:
        number += 1
    return found


def _as_id(wanted: str) -> str:
    plain = _NOT_IN_IDS.sub("_", wanted.lower()).strip("_")[:60]
    return plain if plain[:1].isalpha() else f"step_{plain}".rstrip("_")
