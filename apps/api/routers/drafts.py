"""Drafts: operations with `If-Match`, undo and redo, history, named states, private drafts.

The `ETag` of every answer is the draft's version. A client sends the one it last saw; an older one does no
harm as long as what it wants to change still is what it saw.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status
from pydantic import BaseModel, ConfigDict, Field

from apps.api.doors import READS, WRITES, principal, revision
from apps.api.problems import Problem, problem
from apps.api.shapes import BlueprintProblem, Json, Shape
from apps.blueprints import draft_log, draft_merging, draft_texts, drafts
from apps.blueprints.core.editing.operations import AnyOperation
from apps.blueprints.errors import DraftConflict
from apps.blueprints.models import Draft, DraftState
from apps.workspaces.core.roles import Permission

router = Router(by_alias=True)
Private = Annotated[bool, Query(description="This person's private draft instead of the shared one.")]
WithProblems = Annotated[
    bool, Query(alias="problems", description="false leaves `problems` empty: they are in draft/problems.")
]
MOST_SINCE = 200
"""Operations told with a conflict; who has missed more reads the draft again."""
RECENT = 20
IF_MATCH = {
    "parameters": [
        {
            "in": "header",
            "name": "If-Match",
            "required": True,
            "description": "The version you saw (the ETag of the draft).",
            "schema": {"type": "string"},
        }
    ]
}


# --- shapes -------------------------------------------------------------------------------------------------


class Actor(Shape):
    id: str | None
    name: str


class DoneOperation(Shape):
    """One line of the log; besides these, the fields of its kind as they were applied."""

    model_config = ConfigDict(extra="allow")

    seq: int
    op_id: str
    kind: str
    """One of the operations, or undo, redo, restore, merge."""
    actor: Actor
    at: str
    undoes: str | None
    """Of undo and redo: the `op_id` that was taken back."""
    undone: bool
    undo_group: str


class Changed(Shape):
    version: int
    ops: list[DoneOperation]
    patch: Json
    """What changed in the view since the version in `If-Match`; null when the view is to be read again."""
    problems: list[BlueprintProblem]


class Reversed(Changed):
    undone: str
    """`op_id` of the step that was taken back, or done again."""
    undone_ops: list[str]
    """All of them, where one step was several operations."""


class Merged(Changed):
    conflicts: list[Json]
    """What was skipped: {op_id, kind, message, theirs, mine}."""


class State(Shape):
    id: str
    seq: int
    title: str
    created_at: str
    created_by: str | None


class DraftHead(Shape):
    id: str
    blueprint: str
    private: bool
    version: int
    started_from: int | None
    """Number of the version it began with; null for an unpublished one."""
    base_version: int | None
    """Of a private draft: the version of the shared one it was copied from."""
    updated_at: str


class DraftDetail(DraftHead):
    source: str
    document: Json
    """The source as plain values; null when it cannot be read."""
    view: Json
    problems: list[BlueprintProblem]
    history: list[DoneOperation]
    """The last operations, newest first."""
    states: list[State]


class History(Shape):
    items: list[DoneOperation]
    next: str | None
    states: list[State]


class OpsIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    ops: list[AnyOperation] = Field(min_length=1, max_length=draft_log.MOST_AT_ONCE)
    undo_group: str = Field("", max_length=64)
    """Operations of one group are undone together, also across calls."""


class TidyIn(BaseModel):
    keep_placed: bool = False


class StateIn(BaseModel):
    title: str = Field(max_length=400)


class RestoreIn(BaseModel):
    """One of the three."""

    seq: int | None = Field(None, ge=0)
    state: UUID | None = None
    version: int | None = Field(None, ge=1)


class MergeIn(BaseModel):
    skip_conflicts: bool = False


class Discarded(Shape):
    discarded: Literal[True] = True


ANSWERS: Any = WRITES | {428}


# --- reading ------------------------------------------------------------------------------------------------


@router.get("/{name}/draft", response={200: DraftDetail, READS: Problem}, summary="Read the draft")
def get_draft(request: HttpRequest, response: HttpResponse, name: str, private: Private = False) -> Any:
    """Made from the newest version when there is none yet."""
    draft = drafts.draft_for(principal(request), name, private=private)
    response["ETag"] = f'"{draft.version}"'
    found = draft_texts.seen(draft)
    return {
        **_head(draft),
        "source": draft.source,
        "document": found.source.data,
        "view": found.view,
        "problems": [p.as_json() for p in found.problems],
        "history": [drafts.operation_view(row) for row in drafts.history_of(draft, limit=RECENT)],
        "states": _states(draft),
    }


@router.get("/{name}/draft/history", response={200: History, READS: Problem}, summary="What was done to it")
def history(
    request: HttpRequest,
    name: str,
    cursor: str = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    private: Private = False,
) -> Any:
    """Newest first."""
    draft = drafts.draft_for(principal(request), name, private=private)
    before = int(cursor) if cursor.isdecimal() and len(cursor) <= 9 else None
    rows = drafts.history_of(draft, before=before, limit=limit + 1)
    more = str(rows[limit - 1].seq) if len(rows) > limit else None
    return {
        "items": [drafts.operation_view(row) for row in rows[:limit]],
        "next": more,
        "states": _states(draft),
    }


# --- changing -----------------------------------------------------------------------------------------------


@router.post(
    "/{name}/draft/ops",
    response={200: Changed, ANSWERS: Problem},
    summary="Change the draft",
    openapi_extra=IF_MATCH,
)
def operations(
    request: HttpRequest,
    response: HttpResponse,
    name: str,
    payload: OpsIn,
    private: Private = False,
    with_problems: WithProblems = True,
) -> Any:
    """All operations or none. One that was sent before is not done again.

    An operation that no longer fits is a 409 `draft_conflict` that tells what happened since.
    """
    who = principal(request)
    who.require(Permission.EDIT)
    version = revision(request)
    if version is None:
        drafts.draft_for(who, name, private=private)
        return problem(
            428,
            "if_match_missing",
            "The call does not say which version of the draft it was made for.",
            fields={"If-Match": 'The version you saw, such as "17" (the ETag of the draft).'},
            next="Send If-Match with the draft's ETag.",
        )
    try:
        done = draft_log.apply_operations(
            who,
            name,
            payload.ops,
            seen_version=version,
            undo_group=payload.undo_group,
            private=private,
        )
    except DraftConflict as error:
        return _conflict(request, name, private, version, error)
    return _changed(response, done, version, with_problems)


@router.post("/{name}/draft/undo", response={200: Reversed, ANSWERS: Problem}, summary="Undo your last step")
def undo(
    request: HttpRequest,
    response: HttpResponse,
    name: str,
    private: Private = False,
    with_problems: WithProblems = True,
) -> Any:
    """Yours only, and it survives reload. `undo_refused` says who has changed the same since."""
    done = draft_log.undo(principal(request), name, private=private)
    return _changed(response, done, revision(request), with_problems) | _reversed(done)


@router.post("/{name}/draft/redo", response={200: Reversed, ANSWERS: Problem}, summary="Do it again")
def redo(
    request: HttpRequest,
    response: HttpResponse,
    name: str,
    private: Private = False,
    with_problems: WithProblems = True,
) -> Any:
    done = draft_log.redo(principal(request), name, private=private)
    return _changed(response, done, revision(request), with_problems) | _reversed(done)


@router.post("/{name}/draft/tidy", response={200: Changed, ANSWERS: Problem}, summary="Arrange the nodes")
def tidy(
    request: HttpRequest,
    response: HttpResponse,
    name: str,
    payload: TidyIn,
    private: Private = False,
    with_problems: WithProblems = True,
) -> Any:
    done = draft_log.tidy(principal(request), name, keep_placed=payload.keep_placed, private=private)
    return _changed(response, done, revision(request), with_problems)


@router.post("/{name}/draft/states", response={201: State, ANSWERS: Problem}, summary="Name this state")
def name_state(request: HttpRequest, name: str, payload: StateIn, private: Private = False) -> Any:
    return Status(201, _state(draft_log.name_state(principal(request), name, payload.title, private=private)))


@router.post(
    "/{name}/draft/restore", response={200: Changed, ANSWERS: Problem}, summary="Bring an earlier state back"
)
def restore(
    request: HttpRequest, response: HttpResponse, name: str, payload: RestoreIn, private: Private = False
) -> Any:
    done = draft_log.restore(
        principal(request),
        name,
        seq=payload.seq,
        state=payload.state,
        version=payload.version,
        private=private,
    )
    return _changed(response, done, revision(request))


@router.post(
    "/{name}/draft/merge", response={200: Merged, ANSWERS: Problem}, summary="Merge your private draft"
)
def merge(request: HttpRequest, response: HttpResponse, name: str, payload: MergeIn) -> Any:
    """Into the shared one. With conflicts nothing is done, unless they are to be skipped."""
    try:
        done, conflicts = draft_merging.merge(principal(request), name, skip_conflicts=payload.skip_conflicts)
    except DraftConflict as error:
        return _conflict(request, name, False, None, error)
    return _changed(response, done, revision(request)) | {"conflicts": conflicts}


@router.delete(
    "/{name}/draft", response={200: Discarded, ANSWERS: Problem}, summary="Throw your private draft away"
)
def discard(request: HttpRequest, name: str) -> Any:
    draft_merging.discard(principal(request), name)
    return {"discarded": True}


# --- answers ------------------------------------------------------------------------------------------------


def _changed(
    response: HttpResponse, done: draft_log.Outcome, since: int | None, with_problems: bool = True
) -> dict[str, Any]:
    draft = done.draft
    response["ETag"] = f'"{draft.version}"'
    start = since if since is not None else draft.version - len(done.rows)
    return {
        "version": draft.version,
        "ops": [drafts.operation_view(row) for row in done.rows],
        "patch": draft_texts.patch_since(draft, start),
        "problems": [p.as_json() for p in draft_texts.seen(draft).problems] if with_problems else [],
    }


def _reversed(done: draft_log.Outcome) -> dict[str, Any]:
    undone = [str(op_id) for op_id in done.undone]
    return {"undone": undone[0], "undone_ops": undone}


def _conflict(
    request: HttpRequest, name: str, private: bool, version: int | None, error: DraftConflict
) -> HttpResponse:
    draft = drafts.draft_for(principal(request), name, private=private)
    since = drafts.operations_after(draft, version, MOST_SINCE + 1) if version is not None else []
    told = len(since) <= MOST_SINCE
    return problem(
        409,
        error.code,
        error.message,
        next=error.next,
        headers={"ETag": f'"{draft.version}"'},
        version=draft.version,
        ops_since=[drafts.operation_view(row) for row in since] if told else [],
        patch=draft_texts.patch_since(draft, version) if version is not None and told else None,
        conflict=error.conflicts[0] if error.conflicts else None,
        conflicts=error.conflicts,
    )


def _head(draft: Draft) -> dict[str, Any]:
    return {
        "id": str(draft.id),
        "blueprint": draft.blueprint.name,
        "private": draft.owner_id is not None,
        "version": draft.version,
        "started_from": draft.started_from.number if draft.started_from is not None else None,
        "base_version": draft.base_version,
        "updated_at": draft.updated_at.isoformat(),
    }


def _states(draft: Draft) -> list[dict[str, Any]]:
    return [_state(row) for row in drafts.states_of(draft)]


def _state(row: DraftState) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "seq": row.seq,
        "title": row.title,
        "created_at": row.created_at.isoformat(),
        "created_by": row.created_by.email if row.created_by else None,
    }
