"""One attempt at one step, from claim to commit, and on along the chain.

handler works (outside any transaction) → one commit: result, entries, cost, successors, next claim
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from apps.runs import outcomes
from apps.runs.at_work import at_work
from apps.runs.candidates import others_wait
from apps.runs.claim import Claim, claim_in
from apps.runs.claims import next_in_chain
from apps.runs.context import StepContext
from apps.runs.core.limits import LIMITS
from apps.runs.doubts import tell_late
from apps.runs.errors import StaleStep, StepError, Suspended
from apps.runs.inline import work_inline
from apps.runs.ports import (
    HandBack,
    Outcome,
    handler_for,
)
from apps.runs.transact import RunTransaction
from mirrorneuron.base import crash
from mirrorneuron.base.logs import logger

log = logger(__name__)
FINISH_PAUSES = (0.05, 0.2, 1.0, *[3.0] * 20)
"""Seconds between tries to store an outcome while the database does not answer: a minute, which a restart
or a failover takes. What is lost after that is looked into like after a crash."""


def work_chain(claim: Claim, worker: UUID, queues: Sequence[str], keep_going: Any) -> int:
    """Work a claimed step and what follows it for as long as the chain may last; returns steps worked.

    keep_going: called between steps; False ends the chain (the worker is stopping).
    """
    worked, current = 0, claim
    asked, at_step = time.monotonic(), 0
    while True:
        worked += 1
        chain = keep_going()
        if worked - at_step >= LIMITS.chain_steps or time.monotonic() - asked >= LIMITS.chain_seconds:
            chain = chain and not others_wait(current.run.workspace_id, queues, current.priority)
            asked, at_step = time.monotonic(), worked
        following = work(current, worker, queues, chain=chain)
        if following is None:
            claim.is_last = current.is_last
            return worked
        current = following


def work(claim: Claim, worker: UUID, queues: Sequence[str], *, chain: bool) -> Claim | None:
    """Work one step; returns the claim of its successor when the chain goes on."""
    with at_work(claim):
        context = StepContext(claim)
        try:
            outcome = _call_handler(context)
            crash.reach("before_finish")
            following = _finish_surely(context, outcome, worker, queues, chain=chain)
        except StaleStep as exc:
            _dropped(context, exc)
            return None
        crash.reach("after_finish")
        return following


def _finish_surely(
    context: StepContext, outcome: Outcome | StepError, worker: UUID, queues: Sequence[str], *, chain: bool
) -> Claim | None:
    """Finish although the database may be away for a moment, or the outcome cannot be applied.

    A commit whose answer was lost is looked for: if it did happen, it counts, with the successor it claimed
    (ENGINE rule 9).
    """
    claimed: list[Claim] = []

    def apply(tx: RunTransaction) -> None:
        claimed.clear()
        outcomes.apply(context, tx, outcome)
        if chain:
            work_inline(tx, worker, queues)
        path = next_in_chain(tx, queues) if chain else None
        if path is not None:
            claimed.append(claim_in(tx, path, worker))
        tx.asks = () if claimed else tuple(queues)

    def finish() -> None:
        context.claim.is_last = context.finish(apply).is_quiet

    try:
        _surely(context, finish)
    except (StaleStep, OperationalError, InterfaceError):
        raise
    except Exception as exc:
        if chain:
            # It may be what follows that cannot be worked; what is to blame is claimed by itself and fails.
            log.exception("chain.failed", run=str(context.run_id), step=context.path)
            return _finish_surely(context, outcome, worker, queues, chain=False)
        # A bug of ours must not leave the step running for ever.
        log.exception("step.finish_failed", run=str(context.run_id), step=context.path)
        outcome = StepError(f"{type(exc).__name__}: {exc}", code="unexpected_error", permanent=True)
        _surely(context, finish)
    if not claimed:
        return None
    following = claimed[0]
    following.state = context.claim.state
    if following.names.plan.bodies:
        following.state.forget(following.path)
        following.names.forget()
    return following


def _surely(context: StepContext, write: Callable[[], object]) -> None:
    """Write although the database may be away for a moment."""
    for pause in FINISH_PAUSES:
        try:
            write()
            return
        except (OperationalError, InterfaceError) as exc:
            log.warning("step.write_repeated", run=str(context.run_id), step=context.path, error=str(exc))
            connection.close()
            time.sleep(pause)
    write()


def _call_handler(context: StepContext) -> Outcome | StepError:
    handler = handler_for("undo" if context.claim.step.is_undo else context.node.kind)
    if handler is None:
        return StepError(
            f'This installation has no handler for nodes of kind "{context.node.kind}".',
            code="kind_not_runnable", permanent=True,
        )  # fmt: skip
    try:
        return handler(context)
    except Suspended as exc:
        return exc.outcome
    except StaleStep:
        raise
    except StepError as exc:
        return exc
    except (OperationalError, InterfaceError) as exc:
        # The database went away, not the step: it is given back and no retry is consumed.
        log.warning("step.database_lost", run=str(context.run_id), step=context.path, error=str(exc))
        connection.close()
        if context.attempt >= LIMITS.attempts_for_free:
            return StepError(f"The database does not answer: {exc}", code="database_lost")
        return HandBack()
    except Exception as exc:
        log.exception("step.crashed", run=str(context.run_id), step=context.path)
        return StepError(f"{type(exc).__name__}: {exc}", code="unexpected_error")


def _dropped(context: StepContext, exc: StaleStep) -> None:
    """Our step is somebody else's now: nothing is written but what we learned about the world."""
    log.warning("step.write_dropped", run=str(context.run_id), step=context.path, why=exc.message)
    for effect, body in context.late_results:
        _surely(context, lambda e=effect, b=body: tell_late(e, b, context.claim.fence))  # type: ignore[misc]
