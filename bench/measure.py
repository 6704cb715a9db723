"""Counters, read from outside the measured process: time, CPU, memory, commits, statements, WAL.

CPU of the database is that of the whole PostgreSQL process tree, so another client of the same server is
counted too; `mn bench --own-postgres` keeps everybody else out.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Reading:
    """Counters at one moment; only differences mean anything. None where nobody can count it."""

    commits: int | None = None
    """Durable commits: transactions that left a COMMIT record in the write-ahead log."""
    statements: int | None = None
    """Statements the database executed, BEGIN and COMMIT included."""
    wal_bytes: int | None = None
    server_cpu: float | None = None
    """Seconds, user and system, of all PostgreSQL processes."""


@dataclass(frozen=True)
class Cost:
    """What one measured stretch cost in all. `engine_cpu` is what the subject's processes used."""

    engine_cpu: float
    peak_rss: int
    server_cpu: float | None
    commits: int | None
    statements: int | None
    wal_bytes: int | None

    def per(self, steps: int) -> dict[str, Any]:
        """The figures of the table: per step, CPU seconds per 1,000 steps."""
        return {
            "commits_per_step": _each(self.commits, steps, 3),
            "sql_per_step": _each(self.statements, steps, 2),
            "wal_bytes_per_step": _each(self.wal_bytes, steps, 0),
            "engine_cpu_s_per_1000": _each(self.engine_cpu * 1000, steps, 3),
            "database_cpu_s_per_1000": _each(
                None if self.server_cpu is None else self.server_cpu * 1000, steps, 3
            ),
            "peak_rss_mb": round(self.peak_rss / 2**20, 1),
        }


def _each(value: float | None, steps: int, digits: int) -> float | None:
    return None if value is None else round(value / steps, digits)


def cost(before: Reading, after: Reading, *, engine_cpu: float, peak_rss: int) -> Cost:
    def change(a: float | None, b: float | None) -> Any:
        return None if a is None or b is None else b - a

    return Cost(
        engine_cpu=engine_cpu,
        peak_rss=peak_rss,
        server_cpu=change(before.server_cpu, after.server_cpu),
        commits=change(before.commits, after.commits),
        statements=change(before.statements, after.statements),
        wal_bytes=change(before.wal_bytes, after.wal_bytes),
    )


def completed(found: Cost, counted: dict[str, int] | None) -> Cost:
    """The same cost with what only the connection could count, where the database could not."""
    if not counted:
        return found
    return replace(
        found,
        commits=counted["commits"] if found.commits is None else found.commits,
        statements=counted["statements"] if found.statements is None else found.statements,
    )


# --- many readings of one thing ---------------------------------------------------------------------------


def quantile(values: Iterable[float], q: float) -> float:
    """The smallest value that at least `q` of them do not exceed. Raises ValueError when there is none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("there is nothing to take a quantile of")
    return ordered[min(int(q * len(ordered)), len(ordered) - 1)]


def spread(values: Iterable[float | None]) -> dict[str, float] | None:
    """Median, least and greatest of the rounds; None when nobody could count."""
    known = [v for v in values if v is not None]
    if not known:
        return None
    return {"median": _short(statistics.median(known)), "min": _short(min(known)), "max": _short(max(known))}


def _short(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 10_000 else float(round(value))


def over_rounds(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """One dict of spreads from one dict of numbers per round; what is no number is taken from the last."""
    names = list(dict.fromkeys(name for one in rounds for name in one))
    merged: dict[str, Any] = {}
    for name in names:
        values = [one.get(name) for one in rounds]
        numbers = all(v is None or (isinstance(v, (int, float)) and not isinstance(v, bool)) for v in values)
        merged[name] = spread(values) if numbers else next(v for v in reversed(values) if v is not None)
    return merged


# --- processes (Linux) ------------------------------------------------------------------------------------


def tree(pid: int) -> list[int]:
    """A process and all below it that are alive."""
    found = [pid]
    for parent in found:
        try:
            tasks = list((PROC / str(parent) / "task").glob("*/children"))
        except OSError:
            continue  # it has ended meanwhile
        for task in tasks:
            try:
                found += [int(child) for child in task.read_text().split()]
            except (OSError, ValueError):
                continue
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of these processes, and of children they have waited for; 10 ms ticks."""
    total = 0
    for pid in pids:
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(fields[i]) for i in (11, 12, 13, 14))
    return total / TICKS


def fine_cpu_seconds(pid: int) -> float:
    """CPU of a process without threads and of all below it, in nanoseconds where the kernel tells.

    What has ended meanwhile is taken from its parent's own account, in ticks.
    """
    if _scheduled(pid) is None:
        return cpu_seconds(tree(pid))
    total = 0.0
    # Parents last: what ends between the two is in its parent's account by then.
    for one in reversed(tree(pid)):
        try:
            fields = (PROC / str(one) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += (_scheduled(one) or 0.0) + (int(fields[13]) + int(fields[14])) / TICKS
    return total


def _scheduled(pid: int) -> float | None:
    """Seconds a process without threads has run; None where there is no such process or no such account."""
    try:
        return int((PROC / str(pid) / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, ValueError, IndexError):
        return None


def rss(pids: Iterable[int]) -> int:
    """Bytes of memory these processes hold now, shared pages counted in each."""
    return sum(_status(pid, "VmRSS") for pid in pids)


def peak_rss(pids: Iterable[int]) -> int:
    """The most these processes held since `forget_peak`."""
    return sum(_status(pid, "VmHWM") for pid in pids)


def forget_peak(pids: Iterable[int]) -> None:
    for pid in pids:
        try:
            (PROC / str(pid) / "clear_refs").write_text("5")
        except OSError:
            continue  # another user's process; its peak is then since its start


def _status(pid: int, name: str) -> int:
    try:
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def parent_of(pid: int) -> int:
    return int((PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in (PROC / "cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        os.uname().machine,
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": os.uname().release,
        "python": ".".join(map(str, os.sys.version_info[:3])),  # type: ignore[attr-defined]
        "load_before": round(os.getloadavg()[0], 2),
    }
