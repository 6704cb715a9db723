"""What is made of the counters: per step, over rounds, of processes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench import measure
from bench.measure import Reading


def test_costs_are_differences_per_step() -> None:
    before = Reading(commits=10, statements=100, wal_bytes=0, server_cpu=1.0)
    after = Reading(commits=22, statements=250, wal_bytes=70_000, server_cpu=1.05)

    found = measure.cost(before, after, engine_cpu=0.03, peak_rss=50 * 2**20).per(100)

    assert found == {
        "commits_per_step": 0.12,
        "sql_per_step": 1.5,
        "wal_bytes_per_step": 700,
        "engine_cpu_s_per_1000": 0.3,
        "database_cpu_s_per_1000": 0.5,
        "peak_rss_mb": 50.0,
    }


def test_what_the_database_cannot_count_is_taken_from_the_connection_and_nothing_else() -> None:
    blind = measure.cost(Reading(commits=0), Reading(commits=7), engine_cpu=1.0, peak_rss=0)

    found = measure.completed(blind, {"commits": 99, "statements": 40})

    assert (found.commits, found.statements, found.wal_bytes) == (7, 40, None)


def test_rounds_become_a_median_with_its_spread() -> None:
    rounds = [{"latency_ms": v, "queries": 4, "note": "x", "wal": None} for v in (9.0, 30.0, 10.0)]

    found = measure.over_rounds(rounds)

    assert found["latency_ms"] == {"median": 10.0, "min": 9.0, "max": 30.0}
    assert found["queries"] == {"median": 4.0, "min": 4.0, "max": 4.0}
    assert (found["note"], found["wal"]) == ("x", None)


@pytest.mark.parametrize(("q", "expected"), [(0.0, 1), (0.5, 51), (0.95, 96), (1.0, 100)])
def test_quantiles(q: float, expected: int) -> None:
    assert measure.quantile(range(1, 101), q) == expected


def test_a_quantile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        measure.quantile([], 0.5)


def test_a_process_and_its_children_are_seen_with_memory_and_cpu() -> None:
    burn = "import subprocess, sys; sum(range(3_000_000)); print('up', flush=True); sys.stdin.read()"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn!r}], stdin=subprocess.PIPE)\n"
        "sys.stdin.read(); child.stdin.close(); child.wait()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == b"up\n"

    pids = measure.tree(process.pid)

    assert len(pids) == 2 and pids[0] == process.pid
    assert measure.cpu_seconds(pids[1:]) > 0
    assert measure.fine_cpu_seconds(process.pid) > 0
    assert measure.rss(pids) > 2 * 2**20
    assert measure.peak_rss(pids) >= measure.rss(pids)
    assert measure.parent_of(pids[1]) == process.pid
    process.stdin.close()
    process.stdout.close()
    process.wait()
    assert measure.rss([process.pid]) == 0
    assert measure.tree(process.pid) == [process.pid]
    assert measure.cpu_seconds([process.pid]) == 0


def test_this_machine_is_described() -> None:
    found = measure.machine()

    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["cpu"] and found["memory_gib"] > 0
