"""Runs inside runs: a `subflow` step starts a child and waits for it.

The child is inserted in the transaction in which its parent's step begins to wait. When the child ends, that
transaction leaves a signal for the parent; a second transaction delivers it, at once or by upkeep, so that
none locks two runs (ENGINE rule 20). Cancelling travels the other way: the waiting step becomes due, and
whoever finds it due asks the child to stop, until it has.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.blueprints.models import Version
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus, WaitReason
from apps.runs.deadlines import run_deadline_of
from apps.runs.errors import RunNotFound, StaleStep, StepError
from apps.runs.inbox import INPUTS_FROM, sources_of_inputs
from apps.runs.models import Run, Signal, Step
from apps.runs.plans import plan_for
from apps.runs.ports import Child, Context, Done, Outcome, Wait, register_handler
from apps.runs.transact import RunBusy, RunTransaction, locked_run
from apps.workspaces.selectors import stored_file
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, NotFound
from mirrorneuron.base.ids import uuid7
from mirrorneuron.base.logs import logger

log = logger(__name__)
ENDED = "child.ended"
"""Name of the signal a child leaves for its parent."""


def subflow(context: Context) -> Outcome:
    """Start the child, or take up the one that is already there.

    Output: the child's own.
    """
    child_id = (context.memo or {}).get("child")
    known = Run.objects.filter(id=child_id).first() if child_id else None
    if known is not None and known.status not in RUN_ENDED:
        return Wait(WaitReason.CHILD, memo=context.memo)
    if known is not None and known.status == RunStatus.SUCCEEDED:
        return Done(known.output, labels=_labels_of(known))
    parent = Run.objects.get(id=context.run_id)
    return Child(_child_of(parent, context, _version_of(context)))


def _version_of(context: Context) -> Version:
    """`name@3`, or the newest published version of `name`; this workspace's only."""
    name, _, number = context.node.blueprint.partition("@")
    versions = Version.objects.filter(blueprint__workspace_id=context.workspace_id, blueprint__name=name)
    versions = versions.select_related("blueprint").order_by("-number")
    found = versions.filter(number=int(number)).first() if number else versions.first()
    if found is None:
        raise StepError(
            f'Subflow "{context.node.id}" runs {context.node.blueprint}, which this workspace does not have.',
            code="unknown_blueprint", permanent=True,
            next="Publish that blueprint, or name another version.",
        )  # fmt: skip
    return found


def _child_of(parent: Run, context: Context, version: Version) -> Run:
    from apps.runs.services import fitting_inputs

    plan = plan_for(version.id)
    given = context.render(context.node.with_) if context.node.with_ is not None else {}
    context.set_input(given)
    _check_depth(parent, context)

    def value_of(file_id: str) -> dict[str, Any] | None:
        try:
            return stored_file(context.workspace_id, file_id).as_value()
        except NotFound:
            return None

    try:
        values = fitting_inputs(plan.document.contract.inputs, given, value_of)
    except InvalidInput as exc:
        raise StepError(
            f'Subflow "{context.node.id}": {exc.message}', code="bad_inputs", permanent=True
        ) from exc
    # Its inputs are no more to be trusted than what they were made of.
    untrusted = [x for x in context.labels_of(context.node.with_) if x.startswith("tool:")]
    labels = {name: value for name, value in parent.labels.items() if name != INPUTS_FROM}
    if untrusted:
        labels[INPUTS_FROM] = " ".join(untrusted)
    prefix = f"{parent.root_path}/" if parent.root_path else ""
    at, seconds = now(), context.node.deadline
    given_time = at + timedelta(seconds=seconds) if seconds else None
    deadlines = [d for d in (run_deadline_of(plan, at), given_time) if d is not None]
    return Run(
        id=uuid7(),
        workspace_id=parent.workspace_id,
        version=version,
        blueprint_name=version.blueprint.name,
        workflow_class=plan.document.metadata.workflow_class,
        inputs=values,
        labels=labels,
        is_demo=parent.is_demo,
        simulate=parent.simulate,
        priority=parent.priority,
        root_id=parent.root_id or parent.id,
        parent_id=parent.id,
        parent_path=context.path,
        root_path=f"{prefix}{context.path}",
        trace_id=parent.trace_id or secrets.token_hex(16),
        started_by_id=parent.started_by_id,
        created_at=at,
        deadline_at=min(deadlines) if deadlines else None,
    )


def _check_depth(parent: Run, context: Context) -> None:
    """A blueprint that runs itself must end somewhere."""
    depth, above = 1, parent.parent_id
    while above is not None and depth <= LIMITS.subflow_depth:
        depth += 1
        above = Run.objects.filter(id=above).values_list("parent_id", flat=True).first()
    if depth > LIMITS.subflow_depth:
        raise StepError(
            f'Subflow "{context.node.id}" would be run number {depth} inside another; '
            f"{LIMITS.subflow_depth} are the most.",
            code="too_deep", permanent=True, next="Let a condition end the recursion, or use a loop.",
        )  # fmt: skip


def _labels_of(child: Run) -> tuple[str, ...]:
    """Where a child's output came from: what it was given, and what any of its steps touched."""
    rows = Step.objects.filter(run_id=child.id).exclude(labels=[]).values_list("labels", flat=True)
    touched = {label for labels in rows.iterator(chunk_size=500) for label in labels}
    return tuple(sorted(touched | sources_of_inputs(child)))


# --- the child's end --------------------------------------------------------------------------------------


def report_end(tx: RunTransaction) -> None:
    """Leave word for the parent in the transaction in which its child ends."""
    child, parent_id, path = tx.run.id, tx.run.parent_id, tx.run.parent_path
    if parent_id is None:
        return
    key = f"{child}:{tx.state.seq + len(tx.transition.entries)}"
    tx.rows.append(
        lambda: Signal.objects.create(run_id=parent_id, name=ENDED, key=key, path=path, body=str(child))
    )

    def deliver() -> None:
        deliver_end(parent_id, path)

    tx.after.append(deliver)


def deliver_ends() -> int:
    """Deliver what was left and not delivered, whatever became of the process that should have."""
    left = Signal.objects.filter(name=ENDED, consumed_by=None).order_by("received_at")
    found = list(left.values_list("run_id", "path")[: LIMITS.due_batch])
    return sum(deliver_end(parent_id, path) for parent_id, path in dict.fromkeys(found))


def deliver_end(parent_id: UUID, path: str) -> int:
    """Let the parent's step end as its child did. Returns 1 when it did."""
    try:
        with locked_run(parent_id, path, skip_locked=True) as tx:
            return _deliver(tx, path)
    except (RunBusy, RunNotFound, StaleStep):
        return 0
    except Exception:
        # Upkeep comes again; a child's own end must not fail over its parent.
        log.exception("subflow.not_delivered", run=str(parent_id), step=path)
        return 0


def _deliver(tx: RunTransaction, path: str) -> int:
    word = Signal.objects.filter(run_id=tx.run.id, name=ENDED, path=path, consumed_by=None)
    step = tx.state.find(path)
    child_id = (step.memo or {}).get("child") if step is not None else None
    child = Run.objects.filter(id=child_id).first() if child_id else None
    if child is not None and child.status not in RUN_ENDED:
        word.exclude(body=child_id).update(consumed_by=path)
        return 0
    word.update(consumed_by=path)
    if (
        step is None
        or child is None
        or step.status is not StepStatus.WAITING
        or step.reason != WaitReason.CHILD
    ):
        return 0
    _end_as(child, tx, path)
    return 1


def take_end(tx: RunTransaction, path: str, wait: Wait) -> bool:
    """Let a step that is about to wait for its child again end as it did; False when that is still under way.

    Ending and beginning to wait both hold the parent's row, so neither can miss the other: word that came
    while the step ran was taken for news of an attempt before.
    """
    child_id = (wait.memo or {}).get("child")
    if wait.reason != WaitReason.CHILD or not child_id:
        return False
    tx.hold()
    child = Run.objects.filter(id=child_id).first()
    if child is None or child.status not in RUN_ENDED:
        return False
    _end_as(child, tx, path)
    return True


def _end_as(child: Run, tx: RunTransaction, path: str) -> None:
    tx.entry(ENDED, path, {"child": str(child.id), "status": str(child.status)})
    if child.status == RunStatus.SUCCEEDED:
        tx.complete_step(path, child.output, labels=_labels_of(child))
    else:
        tx.fail_step(path, _error_of(child))


def _error_of(child: Run) -> dict[str, Any]:
    cause = child.error or {}
    why = cause.get("message") or f"It was {child.status}."
    return {
        "code": "child_cancelled" if child.status == RunStatus.CANCELLED else "child_failed",
        "message": f"{child.blueprint_name} {child.status}: {why}",
        "permanent": True,
        "child": str(child.id),
        "next": f"Retry what failed in run {child.id} and then this step, which takes up that run's result; "
        "while that run stays as it is, a retry of this step starts a new one.",
    }


# --- cancelling -------------------------------------------------------------------------------------------


def stop_child(child_id: Any, parent_id: UUID, path: str) -> None:
    """Ask a child to stop because its parent did; it settles like any run. One that has ended is told again,
    so that nobody waits for it for ever."""
    try:
        with locked_run(UUID(str(child_id)), skip_locked=True) as tx:
            has_ended = tx.state.status in RUN_ENDED
            if not has_ended and not tx.state.cancel_requested:
                tx.transition.cancel(f"run {parent_id}, which started it, was stopped")
    except (RunBusy, RunNotFound, StaleStep):
        return
    if has_ended:
        deliver_end(parent_id, path)


def stop_due(tx: RunTransaction, path: str) -> None:
    """A step whose child has to stop has come due: ask it to, and look again in a while."""
    child = (tx.step(path).memo or {}).get("child")
    tx.transition.remind(path, now() + timedelta(seconds=LIMITS.child_stop_seconds))
    tx.after.append(lambda: stop_child(child, tx.run.id, path))


def register() -> None:
    register_handler("subflow", subflow)
