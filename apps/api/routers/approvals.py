"""Questions to people: the queue, one card, whose turn it is, the decision."""

from __future__ import annotations

from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, revision, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Approval, ApprovalCard
from apps.approvals import selectors, services
from apps.approvals.models import ApprovalRequest
from apps.approvals.people import People
from apps.approvals.views import request_view

router = Router(by_alias=True)
IF_MATCH = {
    "parameters": [
        {
            "in": "header",
            "name": "If-Match",
            "required": False,
            "description": "The revision you saw; 412 when somebody has edited the action since.",
            "schema": {"type": "string"},
        }
    ]
}


class AssignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    groups: list[str] = Field([], max_length=50)
    users: list[str] = Field([], max_length=50, description="E-mail addresses of members who may decide.")


class DecisionIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    verb: Literal["approve", "reject", "request_changes", "answer"]
    edits: Any = Field(
        None,
        description="approve: a JSON merge patch over the arguments (RFC 7396). answer: the answer itself.",
    )
    reason: str = Field("", max_length=10_000, description="Required to reject and to request changes.")
    comment: str = Field("", max_length=10_000)


@router.get("", response=reads(Page[Approval]), summary="List approval requests")
def list_approvals(
    request: HttpRequest, state: str = "open", mine: bool = False, cursor: Cursor = "", limit: Limit = 50
) -> Any:
    """Oldest first.

    `state`: open, decided, all, or one exact state. `mine`: only what you are asked to answer.
    """
    asked = principal(request)
    people = People(asked.workspace.id)
    return page(
        selectors.requests_for(asked, state=state, mine=mine),
        lambda row: request_view(row, selectors.tally_of(row, people)),
        cursor=cursor,
        limit=limit,
        newest_first=False,
    )


@router.get("/{approval_id}", response=reads(ApprovalCard), summary="Read one with everything its card shows")
def get_approval(request: HttpRequest, response: HttpResponse, approval_id: str) -> Any:
    """The `ETag` is the revision to send as `If-Match` with the decision."""
    asked = principal(request)
    found = selectors.request_for(asked, approval_id)
    response["ETag"] = f'"{found.revision}"'
    return selectors.card(found, asked)


@router.post("/{approval_id}/claim", response=writes(Approval), summary="Claim it for 30 minutes")
def claim(request: HttpRequest, response: HttpResponse, approval_id: str) -> Any:
    return _shown(response, services.claim(principal(request), approval_id))


@router.post("/{approval_id}/release", response=writes(Approval), summary="Give a claim back")
def release(request: HttpRequest, response: HttpResponse, approval_id: str) -> Any:
    return _shown(response, services.release(principal(request), approval_id))


@router.post("/{approval_id}/assign", response=writes(Approval), summary="Ask other people instead")
def assign(request: HttpRequest, response: HttpResponse, approval_id: str, payload: AssignIn) -> Any:
    changed = services.assign(principal(request), approval_id, groups=payload.groups, users=payload.users)
    return _shown(response, changed)


@router.post("/{approval_id}/decision", response=writes(Approval), summary="Decide", openapi_extra=IF_MATCH)
def decide(request: HttpRequest, response: HttpResponse, approval_id: str, payload: DecisionIn) -> Any:
    """The first decision stands; a late one is a 409 that says who decided what, and when."""
    decided = services.decide(
        principal(request),
        approval_id,
        verb=payload.verb,
        edits=payload.edits,
        reason=payload.reason,
        comment=payload.comment,
        if_revision=revision(request),
    )
    return _shown(response, decided)


def _shown(response: HttpResponse, changed: ApprovalRequest) -> dict[str, Any]:
    response["ETag"] = f'"{changed.revision}"'
    return request_view(changed, selectors.tally_of(changed))
