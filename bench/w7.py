"""W7: a megabyte that does not compress, handed through ten recorded steps; a new one for each run."""

from __future__ import annotations

from bench.documents import STEPS
from bench.stage import Scale
from bench.stretches import Stretch

TITLE = "1 MB through 10 steps"


def stretches(scale: Scale) -> list[Stretch]:
    return [Stretch("W7", "recorded", "one_by_one", "passing", scale.payloads, STEPS)]
