"""The step a run holds: the one its worker has gone on to, kept on the run's row until it comes to rest.

Along a chain a step comes into being, is claimed by the worker that ended its predecessor, and ends, with
nothing between; a row that is inserted only to be changed at once would cost more than all the rest. So such
a step is a handful of columns on the run, which is written anyway. It gets its row, whole, when it ends,
waits, goes in doubt, is taken back or is changed in any other way, and when another row needs its id. The
step with which a run begins has a row from the start; it is lifted from it when it is claimed, which costs
the database less than to change a row twice that four indexes lead to.

A held step has never been tried before: its fence and attempt are 1. It was ready the moment it was claimed;
the run's first step was when the run was made.
Nothing of it needs a compare of its own: whoever takes it from its worker raises the run's `seq`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.runs.core.plan import Plan, scope_of
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus
from apps.runs.models import Run, Step, Worker

if TYPE_CHECKING:
    from apps.runs.core.transition import Transition

FENCE = 1
NOTHING: dict[str, Any] = {
    "held_path": None, "held_worker": None, "held_started_at": None, "held_deadline_at": None,
    "held_memo": None,
}  # fmt: skip
_KEPT = frozenset(
    {
        "status",
        "fence",
        "attempt",
        "worker",
        "started_at",
        "deadline_at",
        "due_at",
        "reason",
        "memo",
    }
)
"""What a decision may say of a step for it to be held; each is a column on the run, or always the same."""


def may_hold(decision: Transition, path: str, created_at: datetime) -> bool:
    """Whether a step that this decision claims can do without a row for now: it came into being in it, or it
    is the run's first. created_at: the run's."""
    step = decision.state.steps[path]
    return (
        step.status is StepStatus.RUNNING
        and not step.is_undo
        and step.fence == step.attempt == FENCE
        and step.started_at == decision.now
        and (
            step.ready_at == decision.now
            if path in decision.inserts
            else step.ready_at == created_at
            and decision.expected[path] == (StepStatus.READY, 0)
            and decision.state.started_at == decision.now
            and path in decision.plan.roots
        )
        and not (step.slot or step.reason or step.due_at or step.labels or step.expires_at)
        and decision.node_of(step).progress is None
        and decision.updates[path].keys() <= _KEPT
    )


def columns_of(step: StepState) -> dict[str, Any]:
    """The run's columns while it holds this step, but for its memo."""
    return {
        "held_path": step.path,
        "held_worker": step.worker,
        "held_started_at": step.started_at,
        "held_deadline_at": step.deadline_at,
    }


def state_of(run: Run, plan: Plan) -> StepState | None:
    """The step a run's row holds, as the engine's state knows it."""
    if run.held_path is None:
        return None
    is_first = run.started_at == run.held_started_at and run.held_path in plan.roots
    node_id, _, rest = run.held_path.rpartition("/")[2].partition("[")
    return StepState(
        path=run.held_path,
        node_id=node_id,
        kind=plan.for_scope(scope_of(run.held_path)).nodes[node_id].kind,
        round=int(rest[:-1]) if rest else 1,
        status=StepStatus.RUNNING,
        fence=FENCE,
        attempt=FENCE,
        worker=run.held_worker,
        ready_at=run.created_at if is_first else run.held_started_at,
        started_at=run.held_started_at,
        deadline_at=run.held_deadline_at,
        memo=run.held_memo,
    )


def step_of(run_id: UUID, plan: Plan) -> Step | None:
    """The step a run holds just now, as a row that was never saved; for those who only look."""
    run = (
        Run.objects.only("workspace_id", "priority", "created_at", "started_at", *NOTHING)
        .filter(id=run_id)
        .first()
    )
    held = state_of(run, plan) if run is not None else None
    if run is None or held is None:
        return None
    node = plan.for_scope(held.scope).nodes[held.node_id]
    return Step(
        run_id=run_id,
        workspace_id=run.workspace_id,
        scope=held.scope,
        path=held.path,
        node_id=held.node_id,
        kind=held.kind,
        round=held.round,
        status=held.status,
        fence=held.fence,
        attempt=held.attempt,
        queue=node.queue or "default",
        priority=node.priority if node.priority is not None else run.priority,
        worker=held.worker,
        ready_at=held.ready_at,
        started_at=held.started_at,
        deadline_at=held.deadline_at,
        memo=held.memo,
    )


# --- all runs that hold a step ----------------------------------------------------------------------------


def runs() -> QuerySet[Run]:
    """Runs that hold a step; there is an index of just these."""
    return Run.objects.filter(held_worker__isnull=False)


def lost(boot: UUID, at: datetime) -> QuerySet[Run]:
    """Runs whose held step has a dead worker or is past its deadline. boot: by its deadline only."""
    alive = Worker.objects.filter(boot=OuterRef("held_worker"), lease_until__gte=at, stopped_at=None)
    return runs().filter(Q(held_deadline_at__lt=at) | (~Q(held_worker=boot) & ~Exists(alive)))


def orphaned(at: datetime) -> QuerySet[Run]:
    """Runs whose held step should have been taken back a minute ago."""
    alive = Worker.objects.filter(boot=OuterRef("held_worker"), lease_until__gte=at, stopped_at=None)
    return runs().filter(
        ~Exists(alive), held_deadline_at__lt=at - timedelta(minutes=1), pause_requested=False
    )
