"""Which node of the drawn graph a step is of, and which of its steps stands for it in a picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_ORDER = ("in_doubt", "failed", "waiting", "running", "ready", "cancelled", "succeeded", "skipped")
"""What most wants to be looked at comes first."""


def node_path(step_path: str) -> str:
    """The node a step is of, as a path in the graph: `each[3]/score` is of `each/score`.

    Empty for what is no node: a pass through a body, a compensation.
    """
    parts = [part.partition("[")[0] for part in step_path.split("/")]
    return "" if parts[-1] in (".", "undo") else "/".join(parts)


def unhappiness(state: str) -> int:
    """The smaller, the more a state wants to be looked at. `waiting:approval` counts as `waiting`."""
    name = state.partition(":")[0]
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def standing(steps: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """By node the step that stands for it: of rounds the latest, of the passes through a body the unhappiest.

    steps: in the order they were made, each with its path and status.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for step in steps:
        path = node_path(step["path"])
        known = found.get(path)
        if path and (known is None or _takes_over(step, known)):
            found[path] = step
    return found


def _takes_over(step: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    if step["path"].rpartition("/")[0] == known["path"].rpartition("/")[0]:
        return True
    return unhappiness(step["status"]) < unhappiness(known["status"])
