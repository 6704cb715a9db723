"""States of an approval request.

open, claimed → approved | rejected | changes_requested | answered | expired | cancelled | superseded
open ⇄ claimed (a claim lapses after 30 minutes)
"""

from __future__ import annotations

from enum import StrEnum


class RequestState(StrEnum):
    OPEN = "open"
    CLAIMED = "claimed"
    APPROVED = "approved"
    REJECTED = "rejected"
    CHANGES_REQUESTED = "changes_requested"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


PENDING = frozenset({RequestState.OPEN, RequestState.CLAIMED})


class Verb(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    REQUEST_CHANGES = "request_changes"
    ANSWER = "answer"
