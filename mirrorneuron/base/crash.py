"""Named points at which a fault test makes the process die.

`MN_CRASH_AT=after_call:2` kills the process, as SIGKILL would, the second time it passes `after_call`.
Refused unless `MN_FAULTS=1`, so that no production setting can contain a mine.
"""

from __future__ import annotations

import os
import threading

POINTS = (
    "before_claim",
    "after_claim",
    "after_decision",
    "after_intent",
    "after_in_flight",
    "after_call",
    "before_finish",
    "after_finish",
    "before_doorbell",
)

_lock = threading.Lock()
_armed: tuple[str, int] | None = None
_passed = 0


def arm(spec: str) -> None:
    """Arm one point, written `point` or `point:nth`. The configuration has checked the text."""
    global _armed, _passed
    point, _, nth = spec.partition(":")
    _armed, _passed = (point, int(nth or 1)), 0


def reach(point: str) -> None:
    """Pass a named point; does nothing unless that point is armed."""
    global _passed
    if _armed is None or _armed[0] != point:
        return
    with _lock:
        _passed += 1
        if _passed == _armed[1]:
            os._exit(137)
