"""Steps inside maps and loops, on a page: which come under which, and what they are called.

A path says where a step is: `each[2]/price` is node `price` in item 2 of `each`, `each[2]/.` the item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_DEEP = 4
"""Levels that are told apart by their indent."""


def scope_of(path: str) -> str:
    return path.rpartition("/")[0]


def is_pass(path: str) -> bool:
    return path.endswith("/.")


def depth_of(path: str) -> int:
    """0 for a step of the graph itself, 1 for an item of a map in it, 2 for a step in that item."""
    inside = path.count("[") and scope_of(path).count("/") + 1 if scope_of(path) else 0
    return min(2 * inside - is_pass(path), MOST_DEEP)


def ordered(steps: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same steps, each map or loop followed by its passes in their order, each pass by its steps."""
    found = list(steps)
    below: dict[str, list[Mapping[str, Any]]] = {}
    top = []
    for step in found:
        path = str(step["path"])
        if is_pass(path):
            below.setdefault(scope_of(path)[: scope_of(path).rindex("[")], []).append(step)
        elif scope_of(path):
            below.setdefault(f"{scope_of(path)}/.", []).append(step)
        else:
            top.append(step)
    for passes in below.values():
        if is_pass(str(passes[0]["path"])):
            passes.sort(key=lambda step: step["round"])
    shown: list[Mapping[str, Any]] = []
    waiting = list(reversed(top))
    while waiting:
        step = waiting.pop()
        shown.append(step)
        waiting.extend(reversed(below.pop(str(step["path"]), [])))
    # Whatever hangs on nothing that is shown still is.
    return shown + [step for rest in below.values() for step in rest]


def pass_name(kind: str, number: int) -> str:
    """`Item 3` for people who count from one, `Round 3`."""
    return f"Item {number + 1}" if kind == "item" else f"Round {number}"


def named(path: str, titles: Mapping[str, str], kinds: Mapping[str, str]) -> str:
    """A step's title with where it is: `Price, item 3 of Every order`.

    titles: by node id. kinds: of the graph's maps and loops, by node id.
    """
    scope = scope_of(path)
    title = titles.get(path.rpartition("/")[2].partition("[")[0], "")
    if not scope:
        return title
    place = []
    for part in reversed(scope.split("/")):
        node, _, rest = part.partition("[")
        number = int(rest.rstrip("]").rpartition("[")[2] or 0)
        kind = "round" if kinds.get(node) == "loop" else "item"
        place.append(f"{pass_name(kind, number).lower()} of {titles.get(node, node)}")
    where = ", ".join(place)
    return where[:1].upper() + where[1:] if is_pass(path) else f"{title}, {where}"
