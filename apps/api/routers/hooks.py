"""Webhooks: addresses that outside systems post signed messages to."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Annotated, Any, Literal

from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.responses import Status
from pydantic import BaseModel, ConfigDict, Field

from apps.api import problems
from apps.api.doors import body_length, principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.problems import Problem
from apps.api.shapes import Hook, HookDetail, OpenedHook, Received
from apps.runs import hooks
from apps.runs.core.webhook import Scheme
from apps.runs.errors import HookUnknown, SignatureRefused
from apps.runs.models import Hook as HookRow
from apps.workspaces.services import audit
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.base.throttle import Throttle

router = Router(by_alias=True)
GUESSES = Throttle(30, 60.0)
"""Unknown addresses and wrong signatures from one address of the network."""
MESSAGES = Throttle(600, 60.0)
"""Messages of one hook; its sender is told to come back."""
TOLD = Throttle(1, 60.0)
"""Refusals of one hook and kind that are audited: one a minute says that it goes on."""


class HookIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    target: Literal["start", "signal"]
    mapping: dict[str, Any] = Field(
        max_length=20, description="What becomes of a message: templates over `body` and `headers`."
    )
    scheme: Scheme = Scheme.STANDARD
    tolerance_seconds: int = Field(300, ge=10, le=86400)
    secret: str = Field("", max_length=200, description="Made for you unless the sender has made one.")


class RotateIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    secret: str = Field("", max_length=200)
    keep_old_seconds: Annotated[int, Field(ge=0, le=30 * 86400)] = 86400


@router.get("", response=reads(Page[Hook]), summary="List webhooks")
def list_hooks(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Never with what is secret."""
    return page(hooks.hooks_for(principal(request)), hooks.hook_view, cursor=cursor, limit=limit)


@router.post("", response=writes(OpenedHook, 201), summary="Open a webhook")
def add_hook(request: HttpRequest, payload: HookIn) -> Any:
    """The address and the secret are in this answer and nowhere else. It acts in your name."""
    opened = hooks.add_hook(principal(request), hooks.HookPlan(**payload.model_dump()))
    address = f"{request.path}/{opened.token}"
    return Status(201, hooks.hook_view(opened.hook) | {"address": address, "secret": opened.secret})


@router.get("/{hook}", response=reads(HookDetail), summary="Read one webhook with its latest messages")
def get_hook(request: HttpRequest, hook: str) -> Any:
    found = hooks.hook_for(principal(request), hook)
    return hooks.hook_view(found) | {"deliveries": hooks.deliveries_of(found)}


@router.delete("/{hook}", response={204: None, **writes(Hook)}, summary="Close a webhook")
def remove_hook(request: HttpRequest, hook: str) -> Any:
    hooks.remove_hook(principal(request), hook)
    return HttpResponse(status=204)


@router.post("/{hook}/rotate", response=writes(OpenedHook), summary="Give a webhook another secret")
def rotate_hook(request: HttpRequest, hook: str, payload: RotateIn) -> Any:
    """The one before stays valid for a day, unless you say otherwise; 0 ends it at once."""
    keep = timedelta(seconds=payload.keep_old_seconds)
    opened = hooks.rotate_hook(principal(request), hook, new=payload.secret, keep_old=keep)
    return hooks.hook_view(opened.hook) | {"address": None, "secret": opened.secret}


ANSWERS = {200: Received, 202: Received, frozenset({400, 401, 403, 404, 409, 413, 422, 429}): Problem}


@router.post("/{hook}", auth=None, response=ANSWERS, summary="Where outside systems post to")
def receive(request: HttpRequest, hook: str) -> Any:
    """`hook` is the token of the address. The message is signed; no session, cookie or API token counts here.

    202 when it is taken, 200 when it was taken before. 409 when the run it is about has ended.
    """
    place, at = request.META.get("REMOTE_ADDR", ""), time.monotonic()
    try:
        row = hooks.hook_by_token(hook)
    except HookUnknown:
        if wait := GUESSES.pause((place, None), at):
            return _too_many(wait)
        GUESSES.failed((place, None), at)
        return problems.unknown_path(request)
    if wait := GUESSES.pause((place, row.id), at) or MESSAGES.pause(row.id, at):
        return _too_many(wait)
    if body_length(request) > hooks.MOST_BYTES:
        return problems.too_large()
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        receipt = hooks.receive(row, headers, request.body)
    except SignatureRefused as refused:
        GUESSES.failed((place, row.id), at)
        _audit(row, refused, place, at)
        raise
    except MirrorNeuronError:
        MESSAGES.failed(row.id, at)
        raise
    # Only what is genuine counts, so that nobody else can use up the sender's share.
    MESSAGES.failed(row.id, at)
    answer = hooks.delivery_view(receipt.delivery) | {"duplicate": receipt.duplicate}
    return Status(200 if receipt.duplicate else 202, answer)


def _too_many(wait: float) -> HttpResponse:
    seconds = max(1, round(wait))
    return problems.problem(
        429,
        "rate_limited",
        "Too many messages.",
        next=f"Send it again in {seconds} s.",
        headers={"Retry-After": str(seconds)},
    )


def _audit(row: HookRow, refused: SignatureRefused, place: str, at: float) -> None:
    key = (row.id, refused.code)
    if not TOLD.pause(key, at):
        TOLD.failed(key, at)
        told = {"code": refused.code, "address": place}
        audit(None, "hook.refused", row.name, told, workspace=row.workspace_id, label="webhook")
