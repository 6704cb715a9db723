"""Reading the ledger. Callers pass a run they were allowed to see."""

from __future__ import annotations

from uuid import UUID

from apps.ledger.models import Effect, Entry


def entries_after(run_id: UUID, after: int, limit: int = 200) -> list[Entry]:
    """Entries with `seq > after`, in order; ask again from the last one for more."""
    return list(Entry.objects.filter(run_id=run_id, seq__gt=after).order_by("seq")[:limit])


def effects_of(run_id: UUID, state: str = "") -> list[Effect]:
    effects = Effect.objects.filter(run_id=run_id).order_by("created_at")
    if state:
        effects = effects.filter(state=state)
    return list(effects.prefetch_related("evidence"))
