"""Claiming: turning a ready step into this worker's own, in one conditional update.

Candidates are chosen without locks; then the run's row is locked (skipping one that another worker holds) and
the claim is decided again under it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from apps.blueprints.core.document import Node
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.errors import StaleStep
from apps.runs.models import Run, Step
from apps.runs.names import Names
from apps.runs.transact import RunBusy, RunTransaction, locked_run
from mirrorneuron.base import crash


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


def claim_next(worker: UUID, queues: Sequence[str], *, alone: bool) -> Claim | None:
    """Claim the most urgent ready step, or None.

    alone: nothing else runs in this process; only then may a step that has killed a worker be claimed, so
    that the next death is certainly its own (ENGINE rule 14).
    """
    crash.reach("before_claim")
    candidates = (
        Step.objects.filter(status=StepStatus.READY, queue__in=queues, run__pause_requested=False)
        .exclude(run__status__in=RUN_ENDED)
        .order_by("priority", "ready_at", "id")
        .values_list("run_id", "path", "losses")[: LIMITS.claim_candidates]
    )
    for run_id, path, losses in list(candidates):
        if losses and not alone:
            continue
        try:
            with locked_run(run_id, skip_locked=True) as tx:
                if not tx.transition.may_claim(path):
                    continue
                claim = claim_in(tx, path, worker)
        except (RunBusy, StaleStep):
            continue
        crash.reach("after_claim")
        return claim
    return None


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
