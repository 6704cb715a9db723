"""Which claimed steps this process really works on.

A step may be claimed for this process although nothing here works on it: the answer to the claim's commit was
lost, or the database stayed away when its outcome was to be stored. Its lease lives, so only this process can
tell, and give it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from apps.runs.claim import Claim

_claims: dict[tuple[UUID, str, int], Claim] = {}


@contextmanager
def at_work(claim: Claim) -> Iterator[None]:
    key = (claim.run.id, claim.path, claim.fence)
    _claims[key] = claim
    try:
        yield
    finally:
        _claims.pop(key, None)


def is_at_work(claim: Claim) -> bool:
    return works_on(claim.run.id, claim.path, claim.fence)


def works_on(run_id: UUID, path: str, fence: int) -> bool:
    return (run_id, path, fence) in _claims


def claims() -> list[Claim]:
    """What this process works on just now."""
    return list(_claims.values())


def late(at: datetime) -> int:
    """How many of our steps are past their deadline and still hold a slot."""
    deadlines = [claim.step.deadline_at for claim in claims()]
    return sum(deadline is not None and deadline < at for deadline in deadlines)
