"""How a review stands, from what each person asked has said. Pure.

    open       asked; somebody has not answered, and nobody wants changes
    approved   everybody asked has approved
    changes    at least one person wants changes
    withdrawn  the person who asked took it back, or asked anew
    published  the draft was published while this review was the current one

`open`, `approved` and `changes` follow from the answers alone, in any order of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class ReviewState(StrEnum):
    OPEN = "open"
    APPROVED = "approved"
    CHANGES = "changes"
    WITHDRAWN = "withdrawn"
    PUBLISHED = "published"


class Verdict(StrEnum):
    NONE = ""
    APPROVE = "approve"
    CHANGES = "changes"


def standing(verdicts: Iterable[str]) -> ReviewState:
    """How a review stands that was not closed. verdicts: one per person asked, empty until they answer."""
    given = [Verdict(one) for one in verdicts]
    if Verdict.CHANGES in given:
        return ReviewState.CHANGES
    return ReviewState.APPROVED if given and Verdict.NONE not in given else ReviewState.OPEN


def warning_before_publishing(state: str | None, *, changed_since: bool) -> str:
    """Why publishing now asks for a second look; empty when nothing stands against it.

    state: of the current review; None when nobody was asked, which is no reason to wait.
    changed_since: whether the draft means something else than what was reviewed.
    """
    if state == ReviewState.CHANGES:
        return "A reviewer asked for changes."
    if state == ReviewState.OPEN:
        return "The review is not finished: somebody asked has not answered yet."
    if state == ReviewState.APPROVED and changed_since:
        return "The draft has changed since it was approved, so what you publish was not reviewed."
    return ""
