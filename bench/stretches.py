"""Workloads that are one stretch of runs: the same shape for our engine and for every peer."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from bench.databases import Database
from bench.subject import Subject


@dataclass(frozen=True)
class Stretch:
    """One line of a workload's table."""

    workload: str
    line: str
    """What is special about it: `recorded`, `pure`, `map, recorded`."""
    do: str
    """The verb of the subject: `one_by_one` or `all_at_once`."""
    what: str
    runs: int
    steps: int
    """Steps of one run, as others count them."""
    warm: int = 1
    """Runs before the measured ones."""

    def measure(self, subject: Subject, database: Database) -> dict[str, Any]:
        """Figures of one round."""
        if self.warm:
            subject.ask(self.do, what=self.what, runs=self.warm)
        answer, cost = subject.measured(database, self.do, what=self.what, runs=self.runs)
        seconds, steps = answer["seconds"], self.runs * self.steps
        if self.do == "all_at_once":
            times = {"steps_per_s": round(steps / seconds[0], 1)}
        else:
            times = {"latency_ms": round(statistics.median(seconds) * 1000, 3)}
        return {**times, **cost.per(steps)}
