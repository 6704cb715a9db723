"""A step at the door to the outside: it may call now, or waits without a worker until it may.

Waiting costs no retry. A step that waits keeps its place: what was reserved for it is written down with it,
and counts for the next attempt at the same call only.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from apps.governance import flow
from apps.governance.flow import Later, Outgoing, Ticket
from apps.runs.core.states import WaitReason
from apps.runs.errors import Suspended
from apps.runs.ports import Wait
from mirrorneuron.base.clock import now

if TYPE_CHECKING:
    from apps.runs.context import StepContext

SLACK = timedelta(seconds=1)
"""Clocks of two processes may differ by less than this."""


def admit(context: StepContext, call: Outgoing, turn: int, ordinal: int) -> Ticket:
    """Let a call leave. Raises Suspended when the step has to wait for it."""
    place = [turn, ordinal]
    kept = (context.memo or {}).get("limit") or {}
    is_same_call = kept.get("attempt") == context.attempt - 1 and kept.get("place") == place
    due_at = kept.get("due_at")
    if is_same_call and kept["reserved"] and due_at and datetime.fromisoformat(due_at) > now() + SLACK:
        # It failed while it waited and was retried by hand; its turn has not come by that.
        _wait(context, datetime.fromisoformat(due_at), {**kept, "attempt": context.attempt})
    # The first call of an attempt that follows a failure is the retry; what comes after it is new.
    is_retry = context.claim.step.failures > 0 and not context.has_called
    answer = flow.admit(replace(call, is_retry=is_retry), kept.get("reserved") or () if is_same_call else ())
    if isinstance(answer, Later):
        limit = {
            "words": answer.words,
            "attempt": context.attempt,
            "place": place,
            "reserved": list(answer.reserved),
            "due_at": answer.due_at.isoformat(),
        }
        _wait(context, answer.due_at, limit)
    context.has_called = True
    return answer


def _wait(context: StepContext, due_at: datetime, limit: dict[str, Any]) -> NoReturn:
    raise Suspended(Wait(WaitReason.SLOT, due_at, {**(context.memo or {}), "limit": limit}))
