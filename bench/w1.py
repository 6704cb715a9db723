"""W1: chain10, one run at a time on an idle engine, warmed by one run; wall time from call to result."""

from __future__ import annotations

from bench.documents import STEPS
from bench.stage import Scale
from bench.stretches import Stretch

TITLE = "chain10, one run at a time on an idle engine"


def stretches(scale: Scale) -> list[Stretch]:
    return [
        Stretch("W1", kind, "one_by_one", f"chain.{kind}", scale.one_by_one, STEPS)
        for kind in ("recorded", "pure")
    ]
