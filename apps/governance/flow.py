"""Whether a call may leave now: limits, requests for rest, breakers and the budget of retries.

    admit    before the call: it may go, or when to come again
    report   after it: what that says about the other side

Both are short transactions of their own, outside any run's. Where nothing limits a call and nothing failed,
they only look.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeVar
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Model, Q, QuerySet

from apps.governance.core import breakers, buckets
from apps.governance.core.breakers import Health
from apps.governance.core.buckets import Level
from apps.governance.models import Breaker, Bucket
from mirrorneuron.base.clock import now

RETRY_CAPACITY = 10.0
RETRY_PER_SECOND = 0.2
"""Retries of one tool that are always possible, however badly it does."""
RETRY_PER_SUCCESS = 0.1
"""Retries that one answered call earns: what fails now and then may be retried at a tenth of its calls."""
IDLE_SECONDS = 3600.0
REST_SECONDS = 1.0
"""For whoever says "too many requests" and not how long to wait."""
MOST_REST_SECONDS = 3600.0
"""More is not believed, as by whoever retries."""
_LEVEL = tuple(f.name for f in fields(Level))
_HEALTH = tuple(f.name for f in fields(Health))
M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Outgoing:
    """A call that wants to leave.

    target: `tool:<name>` or `provider:<name>`. is_shared: all workspaces reach it with the same key, so what
    it answers to one counts for all. users: keys of limits besides. per_hour: (key, calls) of a limit that
    exists by declaration. has_breaker: it reaches something that can be down.
    """

    workspace_id: UUID
    target: str
    timeout_seconds: float
    is_shared: bool = False
    limits: tuple[str, ...] = ()
    per_hour: tuple[str, int] | None = None
    is_retry: bool = False
    has_breaker: bool = True

    @property
    def place(self) -> UUID | None:
        """Where requests for rest and failures are kept."""
        return None if self.is_shared else self.workspace_id


@dataclass(frozen=True)
class Ticket:
    """It may leave."""

    call: Outgoing
    is_probe: bool = False
    is_watched: bool = False
    """A breaker or retry budget exists, so success is news too."""


@dataclass(frozen=True)
class Later:
    """It may not leave yet."""

    due_at: datetime
    words: str
    reserved: tuple[str, ...] = ()
    """Buckets in which a token is kept for it."""


class Reply(Enum):
    ANSWERED = "answered"
    """Whatever it said: the other side is there."""
    RESTS = "rests"
    """Too many requests, or it asked for a pause."""
    FAILED = "failed"
    """A server error, or nobody knows what happened."""


def admit(call: Outgoing, reserved: Collection[str] = ()) -> Ticket | Later:
    """Take what the call needs, all or nothing that would be lost.

    reserved: buckets in which a token was kept for exactly this call.
    """
    names = {call.target, *call.limits}
    retry = f"retry:{call.target}"
    hourly = call.per_hour[0] if call.per_hour else ""
    wanted = names | ({hourly} if hourly else set()) | ({retry} if call.has_breaker else set())
    found = _buckets(call, wanted)
    health = _breaker(call).first() if call.has_breaker else None
    limits = [b for b in found if b.key != retry or call.is_retry]
    if not limits and not hourly and (health is None or health.open_until is None):
        return Ticket(call, is_watched=health is not None or bool(found))
    if hourly and not any(b.key == hourly for b in found):
        _declare(call)
    with transaction.atomic():
        return _take(call, wanted - (set() if call.is_retry else {retry}), reserved)


def _take(call: Outgoing, wanted: set[str], reserved: Collection[str]) -> Ticket | Later:
    at = now()
    health = _locked(_breaker(call)).first() if call.has_breaker else None
    answer = breakers.ask(_health(health), at) if health else breakers.Answer.CALL
    if health is not None and answer is breakers.Answer.WAIT:
        turned, due = breakers.turned_away(_health(health), at, random.random())
        _store(health, turned, _HEALTH)
        words = f"{_name(call.target)} to work again: it is not called while it keeps failing"
        return Later(due, words, tuple(reserved))
    waits: list[tuple[datetime, str]] = []
    kept: list[str] = []
    for bucket in _locked(_buckets(call, wanted)):
        _adopt(call, bucket)
        level = _level(bucket)
        if bucket.key in reserved:
            due_again = buckets.come_again(level, at, random.random())
        else:
            level, due_again = buckets.take(level, at, random.random())
            _store(bucket, level, _LEVEL)
        kept.append(bucket.key)
        if due_again is not None:
            waits.append((due_again, _words(bucket, at)))
    if waits:
        due, words = max(waits)
        return Later(due, words, tuple(kept))
    if health is not None and answer is breakers.Answer.PROBE:
        _store(health, breakers.probing(_health(health), at, call.timeout_seconds), _HEALTH)
    return Ticket(call, is_probe=answer is breakers.Answer.PROBE, is_watched=True)


def report(ticket: Ticket, reply: Reply, *, retry_after: float | None = None, error: str = "") -> None:
    """Say how the call went, so that the next ones know.

    retry_after: seconds the other side asked for; everybody with this key waits for them.
    """
    call = ticket.call
    if reply is Reply.RESTS or retry_after:
        _rest(call, REST_SECONDS if retry_after is None else min(MOST_REST_SECONDS, retry_after))
    if not call.has_breaker:
        return
    if reply is Reply.FAILED:
        _note_failure(ticket, error)
    elif ticket.is_watched:
        _note_answer(ticket)


def _rest(call: Outgoing, seconds: float) -> None:
    at = now()
    Bucket.objects.bulk_create(
        [Bucket(workspace_id=call.place, key=call.target, updated_at=at)], ignore_conflicts=True
    )
    with transaction.atomic():
        for bucket in _locked(Bucket.objects.filter(_of(call), key=call.target)):
            level = buckets.rest(_level(bucket), at + timedelta(seconds=seconds), at)
            _store(bucket, level, _LEVEL)


def _note_failure(ticket: Ticket, error: str) -> None:
    call, at = ticket.call, now()
    Breaker.objects.bulk_create([Breaker(workspace_id=call.place, key=call.target)], ignore_conflicts=True)
    Bucket.objects.bulk_create(
        [Bucket(workspace_id=call.place, key=f"retry:{call.target}", tokens=RETRY_CAPACITY,
                capacity=RETRY_CAPACITY, per_second=RETRY_PER_SECOND, updated_at=at)],
        ignore_conflicts=True,
    )  # fmt: skip
    with transaction.atomic():
        for health in _locked(_breaker(call)):
            health.last_error = error[:300]
            after = breakers.failed(_health(health), at, was_probe=ticket.is_probe)
            _store(health, after, _HEALTH, "last_error")


def _note_answer(ticket: Ticket) -> None:
    call, at = ticket.call, now()
    with transaction.atomic():
        for health in _locked(_breaker(call)):
            before = _health(health)
            after = breakers.succeeded(before, was_probe=ticket.is_probe)
            if after != before:
                _store(health, after, _HEALTH)
        for bucket in _locked(Bucket.objects.filter(_of(call), key=f"retry:{call.target}")):
            level = buckets.refilled(_level(bucket), at)
            if level.tokens < level.most:
                _store(bucket, buckets.credited(level, RETRY_PER_SUCCESS, at), _LEVEL)


def forget_idle() -> int:
    """Drop rows that say nothing any more: full buckets nobody set, breakers without a recent failure.

    Without this an agent that calls many hosts would leave rows for all of them.
    """
    old = now() - timedelta(seconds=IDLE_SECONDS)
    rested = Bucket.objects.filter(capacity=None, updated_at__lt=old).filter(
        Q(blocked_until=None) | Q(blocked_until__lt=old)
    )
    refilled = Bucket.objects.filter(
        Q(key__startswith="hour:") | Q(key__startswith="retry:"),
        updated_at__lt=old,
        tokens__gte=F("capacity") - F("per_second") * IDLE_SECONDS,
    )
    healthy = Breaker.objects.filter(open_until=None).filter(
        Q(window_started_at=None) | Q(window_started_at__lt=old)
    )
    return sum(rows.delete()[0] for rows in (rested, refilled, healthy))


# --- rows -------------------------------------------------------------------------------------------------


def _buckets(call: Outgoing, keys: Iterable[str]) -> QuerySet[Bucket]:
    mine = Q(workspace_id=call.workspace_id)
    if call.is_shared:
        mine |= Q(workspace_id=None)
    return Bucket.objects.filter(mine, key__in=list(keys)).order_by("key", "id")


def _breaker(call: Outgoing) -> QuerySet[Breaker]:
    return Breaker.objects.filter(_of(call), key=call.target)


def _of(call: Outgoing) -> Q:
    return Q(workspace_id=None) if call.is_shared else Q(workspace_id=call.workspace_id)


def _declare(call: Outgoing) -> None:
    """A limit the contract states has a bucket from its first use on."""
    assert call.per_hour is not None
    key, calls = call.per_hour
    Bucket.objects.bulk_create(
        [Bucket(workspace_id=call.workspace_id, key=key, tokens=calls, capacity=calls,
                per_second=calls / 3600, updated_at=now())],
        ignore_conflicts=True,
    )  # fmt: skip


def _adopt(call: Outgoing, bucket: Bucket) -> None:
    """Another version of the blueprint may state another number."""
    if call.per_hour and bucket.key == call.per_hour[0] and bucket.capacity != call.per_hour[1]:
        bucket.capacity, bucket.per_second = float(call.per_hour[1]), call.per_hour[1] / 3600
        bucket.save(update_fields=["capacity", "per_second"])


def _locked(rows: QuerySet[M]) -> QuerySet[M]:
    return rows.select_for_update(of=("self",)) if connection.features.has_select_for_update else rows


def _level(bucket: Bucket) -> Level:
    return Level(**{name: getattr(bucket, name) for name in _LEVEL})


def _health(breaker: Breaker) -> Health:
    return Health(**{name: getattr(breaker, name) for name in _HEALTH})


def _store(row: Bucket | Breaker, value: Level | Health, names: tuple[str, ...], *more: str) -> None:
    for name in names:
        setattr(row, name, getattr(value, name))
    row.save(update_fields=[*names, *more])


def _words(bucket: Bucket, at: datetime) -> str:
    """What a waiting step waits for, as an end of "… waits for"."""
    if bucket.blocked_until is not None and bucket.blocked_until > at:
        return f"{_name(bucket.key)}, which asked for rest"
    if bucket.key.startswith("retry:"):
        return f"its turn: {_name(bucket.key.removeprefix('retry:'))} is retried only so often"
    if bucket.capacity is None:
        return f"its turn after {_name(bucket.key)} rested"
    if bucket.key.startswith("hour:"):
        return f"the contract's limit of {bucket.capacity:g} calls an hour for one person"
    return f"the limit of {_name(bucket.key)}"


def _name(key: str) -> str:
    kind, _, name = key.partition(":")
    return "this person" if kind == "user" else f'{kind} "{name}"'
