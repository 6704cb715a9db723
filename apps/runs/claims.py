"""Claiming: turning a ready step into this worker's own, in one conditional update.

Candidates are chosen without locks. The claim is decided on the run as it is read then, and stored only if
nobody changed the run meanwhile. A step that only computes is worked at once, in the very commit that would
have claimed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from enum import Enum
from itertools import chain
from uuid import UUID

from django.db import Error as DatabaseTrouble
from django.db import InterfaceError, OperationalError

from apps.runs import queueing, slots, store
from apps.runs.candidates import Candidates, ready_steps
from apps.runs.claim import Claim, claim_in
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import scope_of
from apps.runs.core.shares import Candidate
from apps.runs.core.state import RunState
from apps.runs.core.states import StepStatus
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.inline import work_inline
from apps.runs.models import Run
from apps.runs.together import Together, together_on
from apps.runs.transact import OpenedLate, RunTransaction, SeqMoved, open_transaction, state_of
from mirrorneuron.base import crash
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger

log = logger(__name__)
FEW_ENTRIES = 10
"""A run with no more entries than this has so few steps that it is read together with them."""


def claim_next(
    worker: UUID,
    queues: Sequence[str],
    *,
    alone: bool,
    lossy_first: bool = False,
    candidates: Candidates | None = None,
) -> Claim | None:
    """Claim the ready step that is next, having worked those before it that only compute; None if none is.

    See `claim_or_compute`.
    """
    candidates = candidates or Candidates(queues)
    while True:
        claim = claim_or_compute(worker, queues, candidates, alone=alone, lossy_first=lossy_first)
        if claim is not Missed.DONE:
            return claim if isinstance(claim, Claim) else None


def claim_or_compute(
    worker: UUID, queues: Sequence[str], candidates: Candidates, *, alone: bool, lossy_first: bool = False
) -> Claim | Missed | None:
    """Claim the ready step that is next, or work what only computes and stood before it (`Missed.DONE` or
    `LAST`).

    alone: nothing else runs in this process; only then may a step that has killed a worker be claimed, so
    that the next death is certainly its own (ENGINE rule 14). lossy_first: this process was emptied for one.
    candidates: the process's own, shared by its slots. None when nothing is to be had.
    """
    crash.reach("before_claim")
    with closing(candidates.offers(alone=alone, lossy_first=lossy_first)) as offers:
        for candidate in offers:
            with candidates.holding(candidate.workspace_id):
                missed = _try(candidate, worker, queues)
            if isinstance(missed, Claim):
                crash.reach("after_claim")
                return missed
            if missed is Missed.STEP:
                candidates.keep_run(candidate)
            elif missed in (Missed.DONE, Missed.LAST):
                return missed
    return None


class Missed(Enum):
    """Why a candidate did not become a claim."""

    RUN = "its run has changed; somebody else was faster"
    STEP = "the step had to wait for its slot; others of its run need not"
    DONE = "it only computed, and is done together with all that could follow at once"
    LAST = "as DONE, and nothing else is ready"


def _try(candidate: Candidate, worker: UUID, queues: Sequence[str]) -> Claim | Missed:
    """Try on what other slots of this process know of the run, if they do; else on the run as it is read."""
    together = together_on(candidate.run_id)
    with together.turn:  # Else several would compute the same steps, and all but one in vain.
        known = together.known
        try:
            if known is not None and known[1].seq >= candidate.entries:
                run, state = known[0], known[1].copy()
                return _try_on(together, run, state, candidate.path, worker, queues, beside=True)
        except SeqMoved:
            pass  # Another process changed it.
        except _Unforeseen:
            pass  # What is known was changed by the decision that failed.
        try:
            try:
                return _try_as_read(together, candidate, worker, queues)
            except _Unforeseen:
                # Claimed by itself, it fails if it is to blame, and keeps none of its neighbours.
                return _try_as_read(together, candidate, worker, queues, by_itself=True)
        except (SeqMoved, _Unforeseen):
            return Missed.RUN


class _Unforeseen(Exception):
    """What the step makes happen cannot be decided or stored; nobody knows why."""


def _try_as_read(
    together: Together,
    candidate: Candidate,
    worker: UUID,
    queues: Sequence[str],
    *,
    by_itself: bool = False,
) -> Claim | Missed:
    run_id, path = candidate.run_id, candidate.path
    try:
        top = None
        if candidate.entries <= FEW_ENTRIES and not scope_of(path):
            run, top = store.read_run_and_steps(run_id)
        else:
            run = store.read_run(run_id)
        if run is None:
            return Missed.RUN
        state = state_of(run, path, top)
    except StaleStep:
        return Missed.RUN
    except DatabaseTrouble:
        raise
    except Exception:
        # One run that cannot even be read must not stand before all others.
        log.exception("claim.failed", run=str(run_id), step=path)
        return Missed.RUN
    return _try_on(together, run, state, path, worker, queues, by_itself=by_itself)


def _try_on(
    together: Together,
    run: Run,
    state: RunState,
    path: str,
    worker: UUID,
    queues: Sequence[str],
    *,
    beside: bool = False,
    by_itself: bool = False,
) -> Claim | Missed:
    """state: the run as somebody knows it. beside: any other step will do when this one has gone. by_itself:
    claim the step, also one that only computes.

    Raises SeqMoved when the run is not like that any more, _Unforeseen.
    """
    run_id = run.id
    try:
        with OpenedLate() as opening:
            tx = open_transaction(run, state, is_locked=False, opening=opening)
            step = tx.state.find(path)
            if beside and (step is None or not tx.transition.may_claim(path)):
                path = next_in_chain(tx, queues) or path
                step = tx.state.find(path)
            if step is None or not tx.transition.may_claim(path):
                return Missed.RUN
            claim, missed = None, Missed.DONE
            if not queueing.may_begin(tx):
                missed = Missed.RUN
            elif tx.is_pure(step) and not by_itself:
                work_inline(tx, worker, queues, first=path)
                following = next_in_chain(tx, queues)
                if following is not None:
                    claim = claim_in(tx, following, worker)
                else:
                    tx.asks = tuple(queues)
            elif slots.take(tx, path):
                claim = claim_in(tx, path, worker)
            else:
                missed = Missed.STEP
            tx.write()
            tx.after_commit()
        together.learn(run, tx.state)
        if claim is None:
            return Missed.LAST if tx.is_quiet else missed
        claim.step = tx.state.steps[claim.path]
        return claim
    except SeqMoved:
        raise
    except (StaleStep, RunNotFound):
        return Missed.RUN
    except (OperationalError, InterfaceError):
        raise  # The database went away, not the step.
    except Exception as exc:
        log.exception("claim.failed", run=str(run_id), step=path)
        if by_itself and isinstance(exc, DatabaseTrouble):
            raise
        raise _Unforeseen from exc


def needs_empty_process(queues: Sequence[str]) -> bool:
    """Whether a step that has killed a worker has waited so long that a process empties itself for it."""
    since = now() - timedelta(seconds=LIMITS.lossy_patience_seconds)
    return ready_steps(queues).filter(losses__gt=0, ready_at__lt=since).exists()


def next_in_chain(tx: RunTransaction, queues: Sequence[str]) -> str | None:
    """The step its worker may go on with: what this decision made ready first, then what was ready before.

    Never one with a concurrency key: its slot is taken by a transaction that lets none go (`slots.py`).
    """
    t = tx.transition
    for path in chain(t.updates, (p for p in tx.state.steps if p not in t.updates)):
        step = tx.state.steps[path]
        if step.status is not StepStatus.READY or step.losses:
            continue
        node = t.node_of(step)
        if (node.queue or "default") in queues and node.concurrency is None and t.may_claim(path):
            return path
    return None
