"""Claiming: turning a ready step into this worker's own, in one conditional update.

Candidates are chosen without locks; then the run's row is locked (skipping one that another worker holds) and
the claim is decided again under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import Error as DatabaseTrouble
from django.db.models import QuerySet

from apps.blueprints.core.document import Node
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.models import Run, Step
from apps.runs.names import Names
from apps.runs.transact import RunBusy, RunTransaction, locked_run
from mirrorneuron.base import crash
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger

log = logger(__name__)


@dataclass
class Claim:
    """A step that is ours, with all we know of its run, so that finishing it needs no reading."""

    run: Run
    state: RunState
    step: StepState
    names: Names
    fence: int
    resumed: bool
    """The step has a past (an earlier attempt, or it waited), so its journal must be read."""

    @property
    def path(self) -> str:
        return self.step.path

    @property
    def node(self) -> Node:
        return self.names.plan.nodes[self.step.node_id]


def timeout_of(node: Node) -> float:
    return node.timeout or LIMITS.step_timeout_seconds


def claim_next(
    worker: UUID, queues: Sequence[str], *, alone: bool, lossy_first: bool = False
) -> Claim | None:
    """Claim the most urgent ready step, or None.

    alone: nothing else runs in this process; only then may a step that has killed a worker be claimed, so
    that the next death is certainly its own (ENGINE rule 14). lossy_first: this process was emptied for one.
    """
    crash.reach("before_claim")
    passed_over: set[UUID] = set()
    for _ in range(LIMITS.claim_rounds):
        candidates = _candidates(queues).exclude(run_id__in=passed_over)
        if not alone:
            candidates = candidates.filter(losses=0)
        elif lossy_first:
            candidates = candidates.order_by("-losses", "ready_at", "id")
        found = list(candidates.values_list("run_id", "path")[: LIMITS.claim_candidates])
        for run_id, path in found:
            if run_id in passed_over:
                continue
            claim = _try(run_id, path, worker)
            if claim is not None:
                crash.reach("after_claim")
                return claim
            # Its run is busy, or has changed: there may be work behind it.
            passed_over.add(run_id)
        if len(found) < LIMITS.claim_candidates:
            return None
    return None


def _candidates(queues: Sequence[str]) -> QuerySet[Step]:
    return (
        Step.objects.filter(status=StepStatus.READY, queue__in=queues, run__pause_requested=False)
        .exclude(run__status__in=RUN_ENDED)
        .order_by("priority", "ready_at", "id")
    )


def _try(run_id: UUID, path: str, worker: UUID) -> Claim | None:
    try:
        with locked_run(run_id, skip_locked=True) as tx:
            return claim_in(tx, path, worker) if tx.transition.may_claim(path) else None
    except (RunBusy, StaleStep, RunNotFound):
        return None
    except DatabaseTrouble:
        raise
    except Exception:
        # One run that cannot even be read must not stand before all others.
        log.exception("claim.failed", run=str(run_id), step=path)
        return None


def needs_empty_process(queues: Sequence[str]) -> bool:
    """Whether a step that has killed a worker has waited so long that a process empties itself for it."""
    since = now() - timedelta(seconds=LIMITS.lossy_patience_seconds)
    return _candidates(queues).filter(losses__gt=0, ready_at__lt=since).exists()


def claim_in(tx: RunTransaction, path: str, worker: UUID) -> Claim:
    """Claim a step inside an open transaction that has found it claimable."""
    resumed = tx.step(path).attempt > 0
    step = tx.transition.claim(path, worker, timeout_of(tx.plan.nodes[tx.step(path).node_id]))
    return Claim(run=tx.run, state=tx.state, step=step, names=tx.names, fence=step.fence, resumed=resumed)


def next_in_chain(tx: RunTransaction, queues: Sequence[str]) -> str | None:
    """The first step this decision made ready that its worker may go on with."""
    for path in tx.transition.updates:
        step = tx.state.steps[path]
        queue = tx.plan.nodes[step.node_id].queue or "default"
        if queue in queues and not step.losses and tx.transition.may_claim(path):
            return path
    return None
