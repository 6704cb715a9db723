"""Steps that only compute, worked inside the commit of their neighbours (ENGINE rule 7).

Repeating such a step is harmless, so nothing is lost if the commit never happens. At most 20 of them, or what
50 ms allow, share one commit; it is always the one that also stores what they followed from, and the claim of
what comes after them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from django.db import InterfaceError, OperationalError

from apps.runs import outcomes
from apps.runs.claim import claim_in
from apps.runs.context import StepContext
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus
from apps.runs.errors import StepError
from apps.runs.ports import Outcome, handler_for
from apps.runs.transact import RunTransaction
from mirrorneuron.base.logs import logger

log = logger(__name__)
OPEN_QUEUES = ("default",)
"""Steps of other queues are for chosen workers, even those that only compute."""
P = ParamSpec("P")
R = TypeVar("R")
_is_left: ContextVar[bool] = ContextVar("is_left", default=False)


class CannotGoOn(Exception):
    """What an answer, a signal or a timer makes possible cannot be worked in its commit; nobody knows why."""


def going_on(change: Callable[P, R]) -> Callable[P, R]:
    """For a change that ends with `go_on`: where that fails it is made all the same, and what follows is left
    to a worker, which can let the step fail that is to blame."""

    @wraps(change)
    def changed(*args: P.args, **named: P.kwargs) -> R:
        try:
            return change(*args, **named)
        except CannotGoOn as exc:
            log.error("inline.failed", exc_info=exc)
            token = _is_left.set(True)
            try:
                return change(*args, **named)
            finally:
                _is_left.reset(token)

    return changed


def go_on(tx: RunTransaction) -> None:
    """Work what only computes and has become possible by an answer, a signal or a timer.

    Whoever brought that commits it anyway; a worker would first have to be rung for, and read the run again.
    What may take long is left to one all the same: a person waits for this commit, or a worker's own upkeep.
    """
    if _is_left.get():
        return
    try:
        work_inline(tx, None, OPEN_QUEUES)
    except (OperationalError, InterfaceError):
        raise
    except Exception as exc:
        raise CannotGoOn from exc


def work_inline(
    tx: RunTransaction, worker: UUID | None, queues: Sequence[str], *, first: str | None = None
) -> int:
    """Work pure steps that are ready in this decision; returns how many.

    worker: None when it is no worker's transaction; then only those that cannot take long. first: begin with
    this one.
    """
    if not tx.plan.all_pure:
        return 0
    waiting = ([first] if first else []) + [p for p in _ready(tx, tx.state.steps) if p != first]
    until = time.monotonic() + LIMITS.inline_seconds
    worked = seen = 0
    seen = len(tx.transition.inserts)
    while waiting and worked < LIMITS.inline_steps and (not worked or time.monotonic() < until):
        path = waiting.pop(0)
        step = tx.state.steps[path]
        queue = tx.transition.node_of(step).queue or "default"
        fits = tx.is_pure(step) if worker is not None else tx.is_light(step)
        if not fits or queue not in queues or not tx.transition.may_claim(path):
            continue
        _work(tx, path, worker)
        worked += 1
        waiting += _ready(tx, tx.transition.inserts[seen:])
        seen = len(tx.transition.inserts)
    return worked


def _ready(tx: RunTransaction, paths: Sequence[str] | dict[str, StepState]) -> list[str]:
    # A wide graph has many that are ready and few that only compute.
    known, pure = tx.state.steps, tx.plan.all_pure
    steps = [known[p] for p in paths if p in known]
    return [s.path for s in steps if s.node_id in pure and s.status is StepStatus.READY and tx.is_pure(s)]


def _work(tx: RunTransaction, path: str, worker: UUID | None) -> None:
    context = StepContext(claim_in(tx, path, worker))
    outcome: Outcome | StepError
    handler = handler_for(context.node.kind)
    assert handler is not None, "pure kinds are the engine's own"
    try:
        outcome = handler(context)
    except StepError as exc:
        outcome = exc
    except (OperationalError, InterfaceError):
        raise  # The database went away, not the step: the transaction is over, and nothing of it happened.
    except Exception as exc:
        log.exception("step.crashed", run=str(context.run_id), step=path)
        outcome = StepError(f"{type(exc).__name__}: {exc}", code="unexpected_error")
    context.write_into(tx)
    outcomes.apply(context, tx, outcome)
