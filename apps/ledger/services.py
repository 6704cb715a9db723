"""Writing the ledger. Called inside the transactions of `runs`, which allots `seq` under the run's row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.ledger.models import Effect, Entry, Evidence
from mirrorneuron.base.safejson import storable


@dataclass(frozen=True)
class Line:
    """One entry before it has its number."""

    kind: str
    step_path: str
    attempt: int | None
    data: dict[str, Any]


def append(*, workspace_id: UUID, run_id: UUID, first_seq: int, at: datetime, lines: Sequence[Line]) -> None:
    """Append lines as entries `first_seq`, `first_seq + 1`, …; the caller holds the run's row."""
    Entry.objects.bulk_create(
        Entry(
            workspace_id=workspace_id,
            run_id=run_id,
            seq=first_seq + offset,
            at=at,
            kind=line.kind,
            step_path=line.step_path,
            attempt=line.attempt,
            data=storable(line.data),
        )
        for offset, line in enumerate(lines)
    )


def add_evidence(effect: Effect, source: str, body: dict[str, Any], fence: int | None = None) -> Evidence:
    """Record what somebody learned about an effect; always allowed, also to a worker that lost its step."""
    return Evidence.objects.create(effect=effect, source=source, body=storable(body), fence=fence)
