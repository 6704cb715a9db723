"""W4: runs that wait, for a person or for a signal: what they cost while they wait, and waking many.

Extra memory is that of a fresh process on a database full of waiting runs against one on an empty database:
what starting them left in the allocator is not theirs.
"""

from __future__ import annotations

import time
from typing import Any

from bench import measure
from bench.stage import Stage
from bench.subject import Subject

TITLE = "waiting runs: memory, idle cost, waking"
SETTLE_SECONDS = 2.0


def measure_round(stage: Stage) -> dict[str, dict[str, Any]]:
    """Figures by line, one round."""
    scale = stage.scale
    with stage.home("w4") as (database, environment):
        with stage.engine(environment) as subject:
            kinds = subject.ask("hello")["kinds"]
            subject.ask("park", what="question", runs=5)
            subject.ask("wake", what="question", runs=5)
        lines: dict[str, dict[str, Any]] = {}
        for line, what, kind in (("approval", "question", "approval"), ("signal", "listener", "sensor")):
            if kind not in kinds:
                continue
            with stage.engine(environment) as subject:
                time.sleep(SETTLE_SECONDS)
                empty = measure.rss(subject.pids)
                parked, start = subject.measured(database, "park", seconds=900, what=what, runs=scale.waiting)
                started = measure.rss(subject.pids)
            with stage.engine(environment) as subject:
                time.sleep(SETTLE_SECONDS)
                full = measure.rss(subject.pids)
                idle = _idle(subject, database, scale.idle_seconds)
                woken, wake = subject.measured(database, "wake", what=what, runs=scale.woken)
            lines[line] = {
                "waiting": scale.waiting,
                "start_s": round(parked["seconds"][0], 2),
                "start_commits_per_run": start.per(scale.waiting)["commits_per_step"],
                "start_cpu_s_per_1000": start.per(scale.waiting)["engine_cpu_s_per_1000"],
                "rss_before_mb": round(empty / 2**20, 1),
                "rss_after_starting_mb": round(started / 2**20, 1),
                "rss_waiting_mb": round(full / 2**20, 1),
                "extra_bytes_per_run": round((full - empty) / scale.waiting),
                **idle,
                "woken": scale.woken,
                "wake_s": round(woken["seconds"][0], 3),
                "wake_commits_per_run": wake.per(scale.woken)["commits_per_step"],
                "wake_sql_per_run": wake.per(scale.woken)["sql_per_step"],
                "wake_cpu_s_per_1000": wake.per(scale.woken)["engine_cpu_s_per_1000"],
            }
    return lines


def _idle(subject: Subject, database: Any, seconds: float) -> dict[str, Any]:
    """What doing nothing costs."""
    return idle(subject.pids, database, seconds)


def idle(pids: list[int], database: Any, seconds: float) -> dict[str, Any]:
    """CPU in per cent of a core and statements a second of processes left alone."""
    before, cpu = database.begin(), measure.cpu_seconds(pids)
    began = time.monotonic()
    time.sleep(seconds)
    passed, cpu_after = time.monotonic() - began, measure.cpu_seconds(pids)
    spent = measure.cost(before, database.end(), engine_cpu=cpu_after - cpu, peak_rss=0)
    return {
        "idle_cpu_percent": round(spent.engine_cpu / passed * 100, 2),
        "idle_database_cpu_percent": None
        if spent.server_cpu is None
        else round(spent.server_cpu / passed * 100, 2),
        "idle_sql_per_s": None if spent.statements is None else round(spent.statements / passed, 2),
    }
