"""Reading the ledger. Callers pass a run they were allowed to see."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.ledger.core.lines import marks_of_kind, marks_of_path, unpacked
from apps.ledger.models import Effect, EntryBatch

BATCHES_AT_ONCE = 200


@dataclass(frozen=True)
class Entry:
    """One line of a run's history. `(run_id, seq)` is gapless; nothing is ever rewritten."""

    run_id: UUID
    workspace_id: UUID
    seq: int
    at: datetime
    kind: str
    """Past tense, `step.succeeded`; the list is in SPEC section 3."""
    step_path: str
    """Empty when it is about the run as a whole."""
    attempt: int | None
    data: dict[str, Any]


def entries_after(run_id: UUID, after: int, limit: int = 200) -> list[Entry]:
    """Entries with `seq > after`, in order; ask again from the last one for more."""
    found: list[Entry] = []
    while len(found) < limit:
        last = found[-1].seq if found else after
        size = min(limit - len(found), BATCHES_AT_ONCE)
        batches = list(EntryBatch.objects.filter(run_id=run_id, seq__gt=last).order_by("seq")[:size])
        found += [entry for batch in batches for entry in _entries_of(batch) if entry.seq > last]
        if len(batches) < size:
            break
    return found[:limit]


def entries(
    run_id: UUID,
    *,
    kinds: Collection[str] = (),
    path: str | None = None,
    since: datetime | None = None,
    newest: int | None = None,
) -> list[Entry]:
    """A run's entries in order. kinds: of one of these kinds only; path: of this step only.

    since: written at this time or later. newest: look into this many of the run's last transactions only,
    for callers that must not read a history of any length.
    """
    batches = EntryBatch.objects.filter(run_id=run_id)
    if newest is not None:
        last = batches.order_by("-seq").values_list("seq", flat=True)[newest : newest + 1]
        batches = batches.filter(seq__gt=next(iter(last), 0))
    return list(_matching(batches, kinds, path, since))


def has_entry(run_id: UUID, kind: str, *, since: datetime | None = None) -> bool:
    """Whether the run has an entry of this kind (written at this time or later)."""
    found = _matching(EntryBatch.objects.filter(run_id=run_id), (kind,), None, since)
    return next(found, None) is not None


def has_batch(run_id: UUID, seq: int, at: datetime) -> bool:
    """Whether the transaction that ended with this number at this time was committed."""
    return EntryBatch.objects.filter(run_id=run_id, seq=seq, at=at).exists()


def _matching(
    batches: QuerySet[EntryBatch], kinds: Collection[str], path: str | None, since: datetime | None
) -> Iterator[Entry]:
    if since is not None:
        batches = batches.filter(at__gte=since)
    if kinds:
        batches = batches.filter(_any_of(chain.from_iterable(map(marks_of_kind, kinds))))
    if path:
        batches = batches.filter(_any_of(marks_of_path(path)))
    for batch in batches.order_by("seq"):
        for entry in _entries_of(batch):
            if (not kinds or entry.kind in kinds) and (path is None or entry.step_path == path):
                yield entry


def _any_of(marks: Iterable[str]) -> Q:
    some = Q()
    for mark in marks:
        some |= Q(lines__contains=mark)
    return some


def _entries_of(batch: EntryBatch) -> list[Entry]:
    lines = unpacked(batch.lines)
    first = batch.seq - len(lines) + 1
    return [
        Entry(
            batch.run_id, batch.workspace_id, first + i, batch.at, line.kind, line.step_path, line.attempt,
            line.data,
        )
        for i, line in enumerate(lines)
    ]  # fmt: skip


def effects_of(run_id: UUID, state: str = "") -> list[Effect]:
    effects = Effect.objects.filter(run_id=run_id).order_by("created_at")
    if state:
        effects = effects.filter(state=state)
    return list(effects.prefetch_related("evidence"))
