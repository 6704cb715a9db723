"""W2: 200 runs of chain10 with 4 workers; wall time from the first call until the last run is complete."""

from __future__ import annotations

from bench.documents import STEPS
from bench.stage import Scale
from bench.stretches import Stretch

TITLE = "many chain10 at once, 4 workers"


def stretches(scale: Scale) -> list[Stretch]:
    return [
        Stretch("W2", kind, "all_at_once", f"chain.{kind}", scale.all_at_once, STEPS, warm=8)
        for kind in ("recorded", "pure")
    ]
