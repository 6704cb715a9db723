"""The timeline's bars: where each step's time went, in percent of the run's length.

A step's time splits in three, because slow queues, slow machines and slow people need different cures:
`queue` (ready, nobody had picked it up), `work` (a worker was on it) and `wait` (a person, a timer, a retry).
Each attempt is a bar of its own; one whose worker died ends in `lost`, one that failed in `failed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from apps.web.core.words import span

LEAST_PERCENT = 0.7
"""A bar is never thinner than this, so that it can be seen and hit."""

STARTS: dict[str, str] = {
    "step.ready": "queue",
    "step.reopened": "queue",
    "step.started": "work",
    "step.waiting": "wait",
    "step.retrying": "wait",
    "step.in_doubt": "wait",
    "approval.requested": "wait",
    "approval.decided": "queue",
    "timer.fired": "queue",
    "signal.received": "queue",
    "effect.resolved": "queue",
    "attempt.lost": "queue",
    "attempt.handed_back": "queue",
}
"""What an entry begins for its step. An entry not listed here changes nothing about where time goes."""
ENDS = frozenset({"step.succeeded", "step.failed", "step.cancelled", "step.skipped"})


@dataclass(frozen=True)
class Mark:
    """One ledger entry, as far as the bars need it."""

    path: str
    kind: str
    at: datetime
    queued_seconds: float = 0.0
    """For `step.started`: how long it had been ready."""


@dataclass(frozen=True)
class Stretch:
    """What one step did between two moments; `end` is None while it still does."""

    kind: str
    start: datetime
    end: datetime | None = None
    attempt: int = 0
    fate: str = ""
    """For work: `lost`, `failed` or empty."""


@dataclass(frozen=True)
class Bar:
    kind: str
    x: float
    width: float
    words: str
    fate: str = ""
    open: bool = False


@dataclass(frozen=True)
class StepTimes:
    """The times on a step's own row; they fill in what the entries do not tell."""

    path: str
    status: str
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass
class _Fold:
    stretches: list[Stretch] = field(default_factory=list)
    attempts: int = 0

    def begin(self, kind: str, at: datetime) -> None:
        if self.stretches and self.stretches[-1].end is None and self.stretches[-1].kind == kind:
            return
        self.close(at)
        if kind == "work":
            self.attempts += 1
        self.stretches.append(Stretch(kind, at, attempt=self.attempts))

    def close(self, at: datetime, fate: str = "") -> None:
        if self.stretches and self.stretches[-1].end is None:
            last = self.stretches[-1]
            self.stretches[-1] = Stretch(
                last.kind, last.start, max(at, last.start), last.attempt, fate if last.kind == "work" else ""
            )


def stretches(steps: Iterable[StepTimes], marks: Iterable[Mark]) -> dict[str, list[Stretch]]:
    """What each step did when, by path. A step without entries falls back to its row's times."""
    folds: dict[str, _Fold] = {}
    for mark in marks:
        if not mark.path:
            continue
        fold = folds.setdefault(mark.path, _Fold())
        if mark.kind in ENDS:
            fold.close(mark.at, "failed" if mark.kind == "step.failed" else "")
        elif mark.kind in STARTS:
            fate = {"attempt.lost": "lost", "step.retrying": "failed"}.get(mark.kind, "")
            if fate:
                fold.close(mark.at, fate)
            if mark.queued_seconds and not (fold.stretches and fold.stretches[-1].end is None):
                fold.begin("queue", mark.at - timedelta(seconds=mark.queued_seconds))
            fold.begin(STARTS[mark.kind], mark.at)
    result: dict[str, list[Stretch]] = {}
    for step in steps:
        fold = folds.get(step.path) or _Fold()
        found = fold.stretches
        if not any(s.kind == "work" for s in found) and step.started_at:
            waits = [s for s in found if s.kind == "wait"]
            found = _from_row(step, waits)
        elif not found and step.queued_at:
            found = _from_row(step, [])
        elif found and step.queued_at and found[0].kind == "work" and step.queued_at < found[0].start:
            found = [Stretch("queue", step.queued_at, found[0].start), *found]
        if step.ended_at and found and found[-1].end is None:
            found[-1] = replace(found[-1], end=max(step.ended_at, found[-1].start))
        result[step.path] = found
    return result


def _from_row(step: StepTimes, waits: list[Stretch]) -> list[Stretch]:
    found: list[Stretch] = []
    if step.queued_at:
        found.append(Stretch("queue", step.queued_at, step.started_at or step.ended_at))
    if step.started_at:
        until = waits[0].start if waits else (None if step.status == "running" else step.ended_at)
        if step.status == "waiting" and not waits:
            found.append(Stretch("wait", step.started_at))
        else:
            fate = "failed" if step.status == "failed" else ""
            found.append(Stretch("work", step.started_at, until, 1, fate))
    return [*found, *waits]


def bars(by_path: Mapping[str, Sequence[Stretch]], start: datetime, end: datetime) -> dict[str, list[Bar]]:
    """Place every stretch between `start` and `end`, in percent with two decimals.

    A stretch that has not ended reaches to `end`. Empty stretches of queue are left out, so that a step
    picked up at once shows no queue at all.
    """
    whole = max((end - start).total_seconds(), 0.001)

    def percent(moment: datetime) -> float:
        return min(100.0, max(0.0, (moment - start).total_seconds() / whole * 100))

    placed: dict[str, list[Bar]] = {}
    for path, found in by_path.items():
        row: list[Bar] = []
        for stretch in found:
            until = stretch.end or end
            length = (until - stretch.start).total_seconds()
            if stretch.kind == "queue" and length < whole * 0.004:
                continue
            x = percent(stretch.start)
            width = max(LEAST_PERCENT, percent(until) - x)
            if x + width > 100:
                x = 100 - width
            row.append(
                Bar(
                    stretch.kind,
                    round(x, 2),
                    round(width, 2),
                    _words(stretch, length),
                    stretch.fate,
                    stretch.end is None,
                )
            )
        placed[path] = row
    return placed


def _words(stretch: Stretch, length: float) -> str:
    what = {"queue": "in the queue", "work": "at work", "wait": "waiting"}[stretch.kind]
    text = f"{span(length)} {what}"
    if stretch.attempt > 1 and stretch.kind == "work":
        text += f", try {stretch.attempt}"
    if stretch.fate:
        text += ", worker lost" if stretch.fate == "lost" else ", failed"
    return text


def totals(found: Sequence[Stretch], now: datetime) -> dict[str, float]:
    """Seconds per kind of one step: `{queue, work, wait}`."""
    sums = {"queue": 0.0, "work": 0.0, "wait": 0.0}
    for stretch in found:
        sums[stretch.kind] += max(0.0, ((stretch.end or now) - stretch.start).total_seconds())
    return sums


def ticks(start: datetime, end: datetime) -> list[tuple[float, str]]:
    """The labels under the axis: percent and the time since the start. Few, so that they never collide."""
    whole = max(end - start, timedelta(milliseconds=1)).total_seconds()
    return [(50.0 * i, span(whole * i / 2) if i else "0") for i in range(3)]
