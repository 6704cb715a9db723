"""Writing the ledger. Called inside the transactions of `runs`, which allots `seq` under the run's row."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.ledger.core.lines import Line, packed
from apps.ledger.models import Effect, EntryBatch, Evidence
from apps.ledger.payloads import keep

__all__ = ["Line", "add_evidence", "append"]


def append(*, workspace_id: UUID, run_id: UUID, first_seq: int, at: datetime, lines: Sequence[Line]) -> None:
    """Append lines as entries `first_seq`, `first_seq + 1`, …; the caller holds the run's row."""
    if lines:
        EntryBatch.objects.create(
            run_id=run_id,
            seq=first_seq + len(lines) - 1,
            workspace_id=workspace_id,
            at=at,
            lines=packed(lines),
        )


def add_evidence(effect: Effect, source: str, body: dict[str, Any], fence: int | None = None) -> Evidence:
    """Record what somebody learned about an effect; always allowed, also to a worker that lost its step."""
    with transaction.atomic():
        kept = keep(effect.workspace_id, effect.run_id, body, outlives=True)
        return Evidence.objects.create(effect=effect, source=source, body=kept, fence=fence)
