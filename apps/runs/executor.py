"""One attempt at one step, from claim to commit, and on along the chain.

handler works (outside any transaction) → one commit: result, entries, cost, successors, next claim
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection

from apps.runs.at_work import at_work
from apps.runs.claims import Claim, claim_in, next_in_chain
from apps.runs.context import StepContext
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import WaitReason
from apps.runs.doubts import can_be_told, leave_in_doubt, tell_late
from apps.runs.errors import StaleStep, StepError, Suspended
from apps.runs.models import Step
from apps.runs.ports import (
    Ask,
    Done,
    HandBack,
    InDoubt,
    Outcome,
    Wait,
    desk,
    handler_for,
)
from apps.runs.transact import RunTransaction
from mirrorneuron.base import crash
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger
from mirrorneuron.base.safejson import canonical

log = logger(__name__)
FINISH_PAUSES = (0.05, 0.2, 1.0, *[3.0] * 20)
"""Seconds between tries to store an outcome while the database does not answer: a minute, which a restart
or a failover takes. What is lost after that is looked into like after a crash."""


def work_chain(claim: Claim, worker: UUID, queues: Sequence[str], keep_going: Any) -> int:
    """Work a claimed step and what follows it for as long as the chain may last; returns steps worked.

    keep_going: called between steps; False ends the chain (the worker is stopping).
    """
    began, worked, current = time.monotonic(), 0, claim
    while True:
        worked += 1
        long = worked >= LIMITS.chain_steps or time.monotonic() - began >= LIMITS.chain_seconds
        chain = keep_going() and not (long and _others_wait(current))
        following = work(current, worker, queues, chain=chain)
        if following is None:
            return worked
        current = following


def _others_wait(claim: Claim) -> bool:
    """Whether another workspace has ready work that this chain would delay (ENGINE rule 15)."""
    return (
        Step.objects.filter(status="ready")
        .exclude(run__workspace_id=claim.run.workspace_id)
        .exclude(run__pause_requested=True)
        .exists()
    )


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
        _apply(context, tx, outcome)
        path = next_in_chain(tx, queues) if chain else None
        if path is not None:
            claimed.append(claim_in(tx, path, worker))

    try:
        _surely(context, lambda: context.finish(apply))
    except (StaleStep, OperationalError, InterfaceError):
        raise
    except Exception as exc:
        # A bug of ours must not leave the step running for ever.
        log.exception("step.finish_failed", run=str(context.run_id), step=context.path)
        outcome = StepError(f"{type(exc).__name__}: {exc}", code="unexpected_error", permanent=True)
        _surely(context, lambda: context.finish(apply))
    return claimed[0] if claimed else None


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
    handler = handler_for(context.node.kind)
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


def _apply(context: StepContext, tx: RunTransaction, outcome: Outcome | StepError) -> None:
    """Turn what the handler returned into the run's next state."""
    path, t = context.path, tx.transition
    match outcome:
        case Done():
            size = len(canonical(outcome.output).encode())
            if size > LIMITS.max_output_bytes:
                t.fail(
                    path,
                    {"code": "output_too_large", "permanent": True,
                     "message": f"The output has {size:,} bytes; {LIMITS.max_output_bytes:,} are the most."},
                )  # fmt: skip
                return
            t.succeed(path, outcome.output, outcome.port, outcome.labels)
        case Wait():
            t.wait(path, outcome.reason, outcome.due_at, outcome.memo)
        case Ask():
            question = outcome.question
            t.wait(path, WaitReason.APPROVAL, question.due_at, tx.step(path).memo)
            t.entry(
                "approval.requested", tx.step(path), {"title": question.title, "ordinal": question.ordinal}
            )
            tx.rows.append(
                lambda: desk().open(
                    workspace_id=context.workspace_id,
                    run_id=context.run_id,
                    step_path=path,
                    question=question,
                )
            )
        case InDoubt():
            due_at = outcome.due_at
            if due_at is None:
                # Nobody looks again unless told; so what was told meanwhile must not be missed.
                tx.hold()
                due_at = now() if can_be_told(context.workspace_id, outcome.effect_key) else None
            t.doubt(path, due_at, {"effect": outcome.effect_key})
        case HandBack() | StepError() if unresolved := context.unresolved():
            tx.hold()
            why = outcome.message if isinstance(outcome, StepError) else "The attempt was given back."
            leave_in_doubt(tx, path, unresolved, why)
        case HandBack():
            t.hand_back(path)
        case StepError():
            t.try_again_or_fail(
                path, outcome.as_json(), permanent=outcome.permanent, retry_after=outcome.retry_after
            )


def _dropped(context: StepContext, exc: StaleStep) -> None:
    """Our step is somebody else's now: nothing is written but what we learned about the world."""
    log.warning("step.write_dropped", run=str(context.run_id), step=context.path, why=exc.message)
    for effect, body in context.late_results:
        _surely(context, lambda e=effect, b=body: tell_late(e, b, context.claim.fence))  # type: ignore[misc]
