"""When a schedule is due, and what becomes of the times that were missed. Pure.

A nominal time is an instant in UTC that a cron expression in a time zone, or an interval from an anchor,
names. Every instant is named at most once, also when the clocks go back; a time of day that the clocks jump
over moves to the end of the gap, so a daily schedule fires every day. `*` and `*/n` in hours or minutes
follow real time through a change, as in Debian's cron.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

LEAST_SECONDS = 10
MOST_SECONDS = 366 * 86400
CATCH_UP_AT_MOST = 100
"""Missed times that `all` makes up, and times that wait for their turn; older ones count as skipped."""
IN_TIME_SECONDS = 60.0
"""A time that is looked at this late still counts as met, not missed."""


class CatchUp(StrEnum):
    SKIP = "skip"
    """Missed times start nothing."""
    ONE = "one"
    """However many were missed, the latest is made up."""
    ALL = "all"
    """Each is made up, oldest first, at most 100."""


class Overlap(StrEnum):
    SKIP = "skip"
    """A time that comes while the run before it goes on starts nothing."""
    QUEUE = "queue"
    """It starts when the run before it has ended."""
    CANCEL_OTHER = "cancel_other"
    """The run before it is cancelled."""


@dataclass(frozen=True)
class Times:
    """The nominal times of one schedule: a cron expression or an interval."""

    cron: str = ""
    zone: str = "UTC"
    every_seconds: int = 0
    anchor: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    """Where intervals count from; the anchor itself is the first time."""

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Every nominal time after a moment, ascending, in UTC, each once."""
        if not self.cron:
            yield from self._intervals(moment)
            return
        last = moment.astimezone(UTC)
        # Of an hour that happens twice, cron names the first; asked in the second, it would name it again.
        for local in CronSim(self.cron, moment.astimezone(ZoneInfo(self.zone))):
            instant = local.astimezone(UTC)
            if instant > last:
                last = instant
                yield instant

    def _intervals(self, moment: datetime) -> Iterator[datetime]:
        step = timedelta(seconds=self.every_seconds)
        count = max((moment - self.anchor) // step + 1, 0)
        while True:
            yield (self.anchor + count * step).astimezone(UTC)
            count += 1

    def next(self, moment: datetime) -> datetime | None:
        """The first nominal time after a moment; None when there will be none."""
        return next(self.after(moment), None)

    def latest(self, first: datetime, moment: datetime, count: int) -> tuple[list[datetime], bool]:
        """The last `count` nominal times from `first` to `moment`, and whether there are older ones.

        Looks back in windows that double, so that a schedule nobody looked at for a year costs no more.
        """
        window = timedelta(hours=1)
        while True:
            start = max(moment - window, first - timedelta(microseconds=1))
            found = []
            for at in self.after(start):
                if at > moment:
                    break
                found.append(at)
            if len(found) > count:
                return found[-count:], True
            if start < first:
                return found, False
            window *= 2


@dataclass(frozen=True)
class Due:
    """What one look at a schedule decided."""

    starts: tuple[datetime, ...]
    """Nominal times that want a run, oldest first."""
    skipped: int
    """Times left out; a lower bound when more than `CATCH_UP_AT_MOST` were missed."""
    next_at: datetime | None


def due(times: Times, next_at: datetime | None, moment: datetime, catch_up: CatchUp) -> Due:
    """Which of the times from `next_at` to `moment` want a run, and which time comes next.

    `next_at` is the earliest time nobody has dealt with; None when there is none.
    """
    if next_at is None or next_at > moment:
        return Due((), 0, next_at)
    found, more = times.latest(next_at, moment, CATCH_UP_AT_MOST)
    following = times.next(moment)
    if not found:
        # The times were changed under it: nothing of the new ones is due.
        return Due((), 0, following)
    if catch_up is CatchUp.ALL:
        return Due(tuple(found), int(more), following)
    latest = found[-1]
    left = len(found) - 1 + int(more)
    if catch_up is CatchUp.SKIP and (moment - latest).total_seconds() > IN_TIME_SECONDS:
        return Due((), left + 1, following)
    return Due((latest,), left, following)


@dataclass(frozen=True)
class Turn:
    """What becomes of the times that want a run, given whether the run before is still going on."""

    start: datetime | None
    held: tuple[datetime, ...]
    skipped: int


def turn(wanted: Sequence[datetime], held: Sequence[datetime], busy: bool, overlap: Overlap) -> Turn:
    """Choose the one time to start now.

    wanted: times that have just come due; held: times that have waited. busy: the run before goes on; with
    `cancel_other` it has been cancelled already, so that makes no difference.
    """
    waiting = sorted({*held, *wanted})
    if not waiting:
        return Turn(None, (), 0)
    if overlap is Overlap.CANCEL_OTHER:
        # Each would cancel the one before it at once: only the last is worth starting.
        return Turn(waiting[-1], (), len(waiting) - 1)
    if not busy:
        return _bounded(Turn(waiting[0], tuple(waiting[1:]), 0), overlap)
    return _bounded(Turn(None, tuple(waiting), 0), overlap)


def _bounded(chosen: Turn, overlap: Overlap) -> Turn:
    if overlap is Overlap.SKIP:
        return replace(chosen, held=(), skipped=len(chosen.held))
    kept = chosen.held[:CATCH_UP_AT_MOST]
    return replace(chosen, held=kept, skipped=len(chosen.held) - len(kept))


# --- reading what people write ----------------------------------------------------------------------------


def problems_of(cron: str, every_seconds: int | None, zone: str) -> dict[str, str]:
    """What is wrong with the times of a schedule, a sentence per field; empty when they can be used."""
    problems: dict[str, str] = {}
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        problems["time_zone"] = f"{zone[:80]!r} is not a time zone; choose one such as Europe/Berlin."
    if bool(cron) is (every_seconds is not None):
        problems["cron"] = "Give either a cron expression or an interval."
    elif every_seconds is not None and not LEAST_SECONDS <= every_seconds <= MOST_SECONDS:
        problems["every"] = f"An interval is {LEAST_SECONDS} seconds to {MOST_SECONDS // 86400} days."
    elif cron and (wrong := _cron_problem(cron)):
        problems["cron"] = wrong
    return problems


def _cron_problem(cron: str) -> str:
    if len(cron) > 120 or len(cron.split()) != 5:
        return "A cron expression has five parts: minute, hour, day of the month, month, day of the week."
    try:
        first = next(CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as exc:
        return f"{cron!r} cannot be read: {exc}."
    return "" if first else f"{cron!r} names no time at all."


def in_words(cron: str, every_seconds: int | None, zone: str) -> str:
    """The times as a person says them: "At 09:00 on Monday, Europe/Berlin time"."""
    if every_seconds is not None:
        return f"Every {_span(every_seconds)}"
    try:
        told = CronSim(cron, datetime(2024, 1, 1, tzinfo=UTC)).explain()
    except CronSimError:
        return cron
    return f"{told}, {zone} time"


def _span(seconds: int) -> str:
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds % size == 0:
            count = seconds // size
            return word if count == 1 else f"{count} {word}s"
    return f"{seconds} seconds"
