"""Between draft and version: compare two states, publish the draft, fork, and reviews."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status
from pydantic import BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, revision, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Comparison, Forked, Review, VersionHead
from apps.blueprints import comparing, models, publishing, reviews
from apps.blueprints.drafts import draft_for
from apps.blueprints.selectors import blueprint_for
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput

router = Router(by_alias=True)
Text = Annotated[str, Field(max_length=reviews.LONGEST)]


Private = Annotated[
    bool,
    Query(
        description="Refused with 409 `private_draft`: your own draft is merged into the shared one first."
    ),
]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PublishIn(_In):
    notes: Text = ""
    anyway: bool = Field(
        False, description="Although a review is open, refused or out of date; it is audited."
    )


class CopyIn(_In):
    to: str = Field("", max_length=64, pattern=r"^[a-z0-9_-]*$", description="The new name; made if empty.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="The newest if left out.")


class AskIn(_In):
    people: list[str] = Field(max_length=100, description="Ids of members, never your own.")
    note: Text = ""


class AnswerIn(_In):
    verdict: Literal["approve", "changes"]
    words: Text = Field("", description="What should change; needed for changes without a comment.")


class CommentIn(_In):
    text: Text
    node: str = Field("", max_length=400, description="Path of the step it is about; empty for the whole.")


@router.get("/{name}/diff", response=reads(Comparison), summary="What differs between two states")
def get_diff(
    request: HttpRequest,
    name: str,
    from_: str = Query("", alias="from", max_length=40),
    to: str = Query("", max_length=40),
) -> Any:
    """`from` and `to` are a version's number, `draft` (the shared one), `private` (yours) or `gallery`.

    Without `to` the draft; without `from` the newest version before it. Comments, key order and where things
    stand do not count.
    """
    return comparing.compare(principal(request), name, from_, to).as_json()


@router.post("/{name}/draft/publish", response=writes(VersionHead, 201), summary="Publish the draft")
def publish_draft(
    request: HttpRequest,
    response: HttpResponse,
    name: str,
    payload: PublishIn | None = None,
    private: Private = False,
) -> Any:
    """The shared draft. `If-Match` is its version you have seen; what changed since is never published."""
    given = payload or PublishIn()
    version = publishing.publish_draft(
        principal(request),
        name,
        draft_version=-1 if private else _seen(request, name),
        notes=given.notes,
        anyway=given.anyway,
        private=private,
    )
    return Status(201, _head(version))


@router.post("/{name}/fork", response=writes(Forked, 201), summary="Copy under a new name")
def fork(request: HttpRequest, response: HttpResponse, name: str, payload: CopyIn | None = None) -> Any:
    """Of the workspace's blueprints, and of the gallery's."""
    given = payload or CopyIn()
    made = publishing.fork(principal(request), name, number=given.version, to=given.to)
    response["Location"] = f"/api/v1/blueprints/{made.name}"
    return Status(201, {"name": made.name, "origin": made.origin})


# --- reviews ----------------------------------------------------------------------------------------------


@router.get("/{name}/reviews", response=reads(Page[Review]), summary="List reviews")
def list_reviews(request: HttpRequest, name: str, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Newest first; at most one is open."""
    rows = reviews.reviews_for(principal(request), name)
    source = draft_for(principal(request), name).source
    return page(rows, lambda row: _review(row, source), cursor=cursor, limit=limit)


@router.post("/{name}/reviews", response=writes(Review, 201), summary="Ask for a review")
def ask_review(request: HttpRequest, name: str, payload: AskIn, private: Private = False) -> Any:
    """Of the shared draft as you have seen it (`If-Match`). The review before it is withdrawn."""
    made = reviews.ask_review(
        principal(request),
        name,
        payload.people,
        draft_version=-1 if private else _seen(request, name),
        note=payload.note,
        private=private,
    )
    return Status(201, _shown(request, made))


@router.get("/{name}/reviews/{review_id}", response=reads(Review), summary="Read one review")
def get_review(request: HttpRequest, name: str, review_id: str) -> Any:
    return _shown(request, reviews.review_for(principal(request), review_id))


@router.post(
    "/{name}/reviews/{review_id}/answer", response=writes(Review), summary="Approve or ask for changes"
)
def answer_review(request: HttpRequest, name: str, review_id: str, payload: AnswerIn) -> Any:
    """Only who was asked; the asker's own approval does not count. A later answer replaces the one before."""
    found = reviews.answer_review(principal(request), review_id, payload.verdict, payload.words)
    return _shown(request, found)


@router.post("/{name}/reviews/{review_id}/comments", response=writes(Review), summary="Comment")
def comment_on_review(request: HttpRequest, name: str, review_id: str, payload: CommentIn) -> Any:
    reviews.comment_on_review(principal(request), review_id, payload.text, node=payload.node)
    return _shown(request, reviews.review_for(principal(request), review_id))


@router.post(
    "/{name}/reviews/{review_id}/comments/{comment_id}/{verb}",
    response=writes(Review),
    summary="Settle a comment, or open it again",
)
def resolve_comment(
    request: HttpRequest, name: str, review_id: str, comment_id: str, verb: Literal["resolve", "reopen"]
) -> Any:
    found = reviews.resolve_comment(principal(request), review_id, comment_id, resolved=verb == "resolve")
    return _shown(request, found)


@router.post("/{name}/reviews/{review_id}/withdraw", response=writes(Review), summary="Withdraw a review")
def withdraw_review(request: HttpRequest, name: str, review_id: str) -> Any:
    return _shown(request, reviews.withdraw_review(principal(request), review_id))


def _seen(request: HttpRequest, name: str) -> int:
    """The draft's version the caller has looked at; asked for only of those who may know of the draft."""
    blueprint_for(principal(request), name)
    principal(request).require(Permission.EDIT)
    seen = revision(request)
    if seen is None:
        raise InvalidInput(
            "The call does not say which draft you have looked at.",
            fields={"If-Match": 'The draft\'s version, such as "17" (the ETag of the draft).'},
            next="Read the draft and send its ETag as If-Match.",
        )
    return seen


def _shown(request: HttpRequest, review: models.Review) -> dict[str, Any]:
    return _review(review, draft_for(principal(request), review.blueprint.name).source)


def _review(row: models.Review, source: str) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "blueprint": row.blueprint.name,
        "state": row.state,
        "draft_version": row.draft_version,
        "base_version": row.base.number if row.base else None,
        "note": row.note,
        "asked_by": row.asked_by.email if row.asked_by else None,
        "asked_at": row.asked_at.isoformat(),
        "closed_at": row.closed_at.isoformat() if row.closed_at else None,
        "changed_since": row.closed_at is None and reviews.has_changed(row, source),
        "answers": [
            {
                "person": answer.person.email,
                "verdict": answer.verdict or None,
                "words": answer.words,
                "at": answer.answered_at.isoformat() if answer.answered_at else None,
            }
            for answer in sorted(row.answers.all(), key=lambda one: one.person.email)
        ],
        "comments": [
            {
                "id": str(comment.id),
                "node": comment.node,
                "text": comment.text,
                "by": comment.author.email if comment.author else None,
                "at": comment.created_at.isoformat(),
                "resolved": comment.resolved_at is not None,
            }
            for comment in sorted(row.comments.all(), key=lambda one: one.id)
        ],
    }


def _head(row: models.Version) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "blueprint": row.blueprint.name,
        "version": row.number,
        "content_hash": row.content_hash,
        "notes": row.notes,
        "created_at": row.created_at.isoformat(),
        "created_by": row.created_by.email if row.created_by else None,
    }
