"""Dead letters: failed runs by what they failed with, and sending them on their way again."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Query, Router
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Page, listed
from apps.api.shapes import DeadLetters, Redriven
from apps.runs import dead_letters

router = Router(by_alias=True)


class Which(BaseModel):
    code: str | None = Field(None, max_length=64, description="The error's code.")
    blueprint: str | None = Field(None, max_length=64)
    since: AwareDatetime | None = Field(None, description="Runs created since; 30 days unless given.")


class RedriveIn(Which):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(100, ge=1, le=dead_letters.MOST_AT_ONCE, description="The oldest so many.")
    reason: str = Field("", max_length=10_000, description="Needed, unless it is a preview.")
    preview: bool = False


@router.get("", response=reads(Page[DeadLetters]), summary="Failed runs by error and blueprint, counted")
def list_dead_letters(request: HttpRequest, which: Query[Which]) -> Any:
    found = dead_letters.dead_letters(
        principal(request), code=which.code, blueprint=which.blueprint, since=which.since
    )
    return listed(found)


@router.post("/redrive", response=writes(Redriven), summary="Retry many failed runs")
def redrive(request: HttpRequest, payload: RedriveIn) -> Any:
    """The oldest first, each audited; it stops where the queue is full."""
    return dead_letters.redrive(
        principal(request),
        code=payload.code,
        blueprint=payload.blueprint,
        since=payload.since,
        limit=payload.limit,
        reason=payload.reason,
        preview=payload.preview,
    )
