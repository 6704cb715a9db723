"""Token buckets: how often something may be called, and who comes when it may not. Pure.

A caller that finds no token reserves one: the level goes below zero, and the debt says when that token will
be there. So everybody who waits has a time of his own, in the order they came, and nobody asks twice. A
bucket without a limit knows only what the other side asked for: until then nobody calls, and afterwards those
who waited come one by one instead of all at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

PACE = 20.0
"""Calls per second after a time of rest, where no limit says something else."""
MOST_JITTER_SECONDS = 1.0


@dataclass(frozen=True)
class Level:
    """A bucket at one moment."""

    tokens: float
    """Below zero: reserved by callers who wait."""
    updated_at: datetime
    capacity: float | None = None
    """None: no limit of its own."""
    per_second: float | None = None
    blocked_until: datetime | None = None
    """The other side asked for rest (`Retry-After`); nothing is refilled before."""

    @property
    def rate(self) -> float:
        return self.per_second if self.capacity is not None and self.per_second else PACE

    @property
    def most(self) -> float:
        """A bucket without a limit never saves anything up; it can only be in debt."""
        return self.capacity if self.capacity is not None else 0.0


def refilled(level: Level, now: datetime) -> Level:
    """The level at a later moment."""
    start = level.updated_at
    if level.blocked_until is not None:
        start = max(start, level.blocked_until)
    seconds = (now - start).total_seconds()
    if seconds <= 0:
        return level
    tokens = min(level.most, level.tokens + seconds * level.rate)
    return replace(level, tokens=tokens, updated_at=now)


def is_blocked(level: Level, now: datetime) -> bool:
    return level.blocked_until is not None and level.blocked_until > now


def take(level: Level, now: datetime, jitter: float) -> tuple[Level, datetime | None]:
    """Take or reserve one token: the new level, and when the caller may come (None: now).

    jitter: a draw from [0, 1).
    """
    level = refilled(level, now)
    blocked = is_blocked(level, now)
    if level.capacity is None and not blocked and level.tokens >= 0:
        return level, None
    left = replace(level, tokens=level.tokens - 1)
    if not blocked and left.tokens >= 0:
        return left, None
    start = max(now, level.blocked_until) if level.blocked_until else now
    spread = jitter * min(1 / level.rate, MOST_JITTER_SECONDS)
    return left, start + timedelta(seconds=-left.tokens / level.rate + spread)


def come_again(level: Level, now: datetime, jitter: float) -> datetime | None:
    """For a caller whose reserved token is due: None, or, after a new request for rest, another time.

    Places are drawn anew among all who wait, because what they had reserved is past.
    """
    if not is_blocked(level, now):
        return None
    assert level.blocked_until is not None
    waiting = max(-level.tokens, 1.0)
    return level.blocked_until + timedelta(seconds=jitter * waiting / level.rate)


def rest(level: Level, until: datetime, now: datetime) -> Level:
    """The other side asked for rest; an earlier request for longer stands."""
    level = refilled(level, now)
    if level.blocked_until is not None and level.blocked_until >= until:
        return level
    return replace(level, blocked_until=until)


def credited(level: Level, amount: float, now: datetime) -> Level:
    level = refilled(level, now)
    return replace(level, tokens=min(level.most, level.tokens + amount))
