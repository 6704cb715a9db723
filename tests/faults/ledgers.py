"""Two ledgers side by side: what must be the same on every installation, and what may differ.

Steps of different branches may be interleaved differently, times and ids are an installation's own. What
happened to each step and in which order, with which data, is the same everywhere.
"""

from __future__ import annotations

from typing import Any

OWN = ("queued_seconds", "until", "due_at", "at", "key", "worker", "seconds", "fired_at", "latency_ms", "id",
       "date")  # fmt: skip
"""Data of entries that belong to one installation or one moment."""


def comparable(state: dict[str, Any], run_id: str, mark: str) -> dict[str, Any]:
    """A run's ledger by step. mark: what stands in its inputs to tell the installation, and is left out."""
    by_step: dict[str, list[Any]] = {}
    for entry in state["entries"]:
        data = _without(entry["data"], run_id, mark)
        by_step.setdefault(entry["path"], []).append((entry["kind"], data))
    # The run's own lines and those of passes may come in another order where branches run side by side.
    return {
        path: lines if path and not path.endswith("/.") else sorted(map(str, lines))
        for path, lines in sorted(by_step.items())
    }


def _without(value: Any, run_id: str, mark: str) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, run_id, mark) for k, v in value.items() if k not in OWN}
    if isinstance(value, list):
        return [_without(v, run_id, mark) for v in value]
    if isinstance(value, str):
        return value.replace(run_id, "RUN").replace(mark, "MARK")
    return value
