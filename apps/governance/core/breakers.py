"""Breakers: whether something that keeps failing is called at all. Pure.

closed     calls go out; more failures than successes in a while open it
open       nobody calls until `open_until`; who wants to gets a time after it, one by one
half open  that time has come: exactly one call goes out. Its success closes, its failure opens for longer

Source: M. Nygard, Release It!, Pragmatic Bookshelf, 2007, "Circuit Breaker".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from apps.governance.core.buckets import PACE

FAILURES = 5
"""Failures, less successes, inside the window that open it."""
WINDOW_SECONDS = 60.0
FIRST_SECONDS = 15.0
"""Open for so long the first time; doubled with every probe that fails."""
MOST_SECONDS = 300.0
PROBE_SLACK_SECONDS = 30.0
"""A probe whose worker died is given up this long after its call's time-out."""
PROBE_LOOK_SECONDS = 5.0
"""When to come again while a probe is under way."""


class Answer(Enum):
    CALL = "call"
    PROBE = "probe"
    WAIT = "wait"


@dataclass(frozen=True)
class Health:
    """A breaker at one moment."""

    failures: int = 0
    window_started_at: datetime | None = None
    open_until: datetime | None = None
    """None: closed."""
    opens: int = 0
    """How often it opened since it was last closed."""
    probe_until: datetime | None = None
    """A probe is under way, and is given up then."""
    waiting: int = 0
    """Callers turned away since it last opened; each comes a little later than the one before."""


def ask(health: Health, now: datetime) -> Answer:
    """Whether a call may go out now."""
    if health.open_until is None:
        return Answer.CALL
    if now < health.open_until:
        return Answer.WAIT
    is_probed = health.probe_until is not None and now < health.probe_until
    return Answer.WAIT if is_probed else Answer.PROBE


def probing(health: Health, now: datetime, timeout_seconds: float) -> Health:
    return replace(health, probe_until=now + timedelta(seconds=timeout_seconds + PROBE_SLACK_SECONDS))


def turned_away(health: Health, now: datetime, jitter: float) -> tuple[Health, datetime]:
    """One more waits; when it comes again. jitter: a draw from [0, 1)."""
    assert health.open_until is not None
    start = max(health.open_until, now)
    if start == now:
        start += timedelta(seconds=PROBE_LOOK_SECONDS)
    due = start + timedelta(seconds=(health.waiting + jitter) / PACE)
    return replace(health, waiting=health.waiting + 1), due


def failed(health: Health, now: datetime, *, was_probe: bool) -> Health:
    """A call failed in a way that may be the other side's being down."""
    if health.open_until is not None:
        return _opened(health, now) if was_probe else health
    recent = health.window_started_at is not None and (
        now - health.window_started_at <= timedelta(seconds=WINDOW_SECONDS)
    )
    failures = health.failures + 1 if recent else 1
    counted = replace(
        health, failures=failures, window_started_at=health.window_started_at if recent else now
    )
    return _opened(counted, now) if failures >= FAILURES else counted


def _opened(health: Health, now: datetime) -> Health:
    seconds = min(FIRST_SECONDS * 2.0 ** min(health.opens, 20), MOST_SECONDS)
    return replace(
        health,
        open_until=now + timedelta(seconds=seconds),
        opens=health.opens + 1,
        probe_until=None,
        waiting=0,
    )


def succeeded(health: Health, *, was_probe: bool) -> Health:
    """A call was answered. One that left before it opened proves nothing."""
    if was_probe:
        return Health()
    if health.open_until is not None:
        return health
    return replace(health, failures=max(health.failures - 1, 0))
