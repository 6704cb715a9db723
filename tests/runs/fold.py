"""The ledger read from its beginning: which state it says each step is in."""

from __future__ import annotations

from collections.abc import Iterable

SAYS = {
    "step.ready": "ready",
    "step.started": "running",
    "step.succeeded": "succeeded",
    "step.kept": "succeeded",
    "step.failed": "failed",
    "step.cancelled": "cancelled",
    "step.skipped": "skipped",
    "step.waiting": "waiting",
    "step.retrying": "waiting",
    "step.in_doubt": "in_doubt",
    "attempt.lost": "ready",
    "attempt.handed_back": "ready",
}


def fold(entries: Iterable[tuple[str, str]]) -> dict[str, str]:
    """(kind, path) in order → status by path."""
    return {path: SAYS[kind] for kind, path in entries if kind in SAYS}
