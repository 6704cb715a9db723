"""W3: 100 trivial steps at the same time, then a join; as a graph, and as a map where the engine has one."""

from __future__ import annotations

from bench.documents import WIDTH
from bench.stage import Scale
from bench.stretches import Stretch

TITLE = "100-way fan-out and join"


def stretches(scale: Scale) -> list[Stretch]:
    return [
        Stretch("W3", line, "one_by_one", what, scale.fan_outs, WIDTH)
        for line, what in (
            ("recorded", "fan.recorded"),
            ("pure", "fan.pure"),
            ("map, recorded", "map.recorded"),
            ("map, pure", "map.pure"),
        )
    ]
