"""What people and other rooms do to runs. One public function is one transaction."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from django.db import IntegrityError

from apps.blueprints.models import Version
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.ledger.services import add_evidence
from apps.runs import deadlines
from apps.runs.core.inputs import input_problems, resolve_files
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import undo_of
from apps.runs.core.state import RunState
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus
from apps.runs.errors import RunConflict, RunNotFound
from apps.runs.inbox import shift
from apps.runs.models import RemovedRun, Run, Worker
from apps.runs.names import Names
from apps.runs.plans import plan_for
from apps.runs.ports import desk
from apps.runs.queueing import check_room, deadline_of, shift_deadline
from apps.runs.signals import deliver_signal
from apps.runs.transact import OpenedLate, RunTransaction, locked_run, open_transaction
from apps.runs.undo import call_for, undoable, undone
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.selectors import file_for
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, NotFound, TooLarge
from mirrorneuron.base.ids import as_uuid, uuid7
from mirrorneuron.base.packed import size_of
from mirrorneuron.base.safejson import fingerprint, storable

__all__ = [
    "can_kill_worker",
    "cancel_run",
    "check_inputs",
    "deliver_signal",
    "locked_run",
    "pause_run",
    "request_kill",
    "resolve_effect",
    "resume_run",
    "start_run",
]


def start_run(
    principal: Principal,
    version: Version,
    inputs: dict[str, Any],
    *,
    idempotency_key: str | None = None,
    labels: dict[str, str] | None = None,
    is_demo: bool = False,
    simulate: bool = False,
    priority: int = 5,
) -> Run:
    """Start a run of a version; when this returns, the run is committed and cannot be lost.

    priority: 0 first, 9 last, among the workspace's own; of its steps that name none.
    inputs: checked against the contract's schema; file inputs are ids of stored files (or their values).
    idempotency_key: the same key with the same request gives the run that was started first.
    Raises InvalidInput with a sentence per field; InvalidInput `idempotency_mismatch` when the key was used
    for another request; QueueFull when as many runs wait as may.
    """
    principal.require(Permission.OPERATE)
    if version.blueprint.workspace_id != principal.workspace.id:
        raise NotFound(f"There is no version {version.id} in this workspace.")
    if version.blueprint.archived_at is not None:
        raise RunConflict(f'Blueprint "{version.blueprint.name}" is archived.', next="Start another one.")
    plan = plan_for(version.id)
    values = checked_inputs(principal, plan.document.contract.inputs, inputs)
    request = fingerprint([str(version.id), values, simulate]) if idempotency_key else ""
    if idempotency_key:
        existing = run_by_key(principal, idempotency_key, request)
        if existing is not None:
            return existing
    if not 0 <= priority <= 9:
        raise InvalidInput(
            f"Priority {priority} is unknown; expected 0 (first) to 9 (last).",
            fields={"priority": "From 0 to 9."},
        )
    check_room(principal.workspace.id, plan)
    at = now()
    run = Run(
        id=uuid7(),
        workspace=principal.workspace,
        version=version,
        blueprint_name=version.blueprint.name,
        workflow_class=plan.document.metadata.workflow_class,
        inputs=storable(values),
        labels=storable(labels or {}),
        is_demo=is_demo,
        simulate=simulate,
        priority=priority,
        idempotency_key=idempotency_key or None,
        idempotency_fingerprint=request,
        trace_id=secrets.token_hex(16),
        started_by=principal.user,
        created_at=at,
        deadline_at=deadlines.run_deadline_of(plan, at),
        queue_deadline_at=deadline_of(plan, at),
    )
    try:
        begin_run(run)
    except IntegrityError:
        existing = run_by_key(principal, idempotency_key, request) if idempotency_key else None
        if existing is None:
            raise
        return existing
    return run


def begin_run(run: Run) -> None:
    """Store a new run with its first steps and entries, in the transaction that is open or in its own."""
    state = RunState(id=run.id, workspace_id=run.workspace_id, status=RunStatus.QUEUED, seq=0)
    with OpenedLate() as opening:
        tx = open_transaction(run, state, Names(run, plan_for(run.version_id)), opening=opening)
        tx.new_run = {str(f.column): getattr(run, f.attname) for f in Run._meta.concrete_fields}
        tx.transition.now = run.created_at  # Its first steps are ready from the moment it is there.
        tx.transition.start()
        tx.write()
        tx.after_commit()
    run.seq, run.status = tx.state.seq, tx.state.status


def check_inputs(principal: Principal, version: Version, inputs: Any) -> None:
    """Raises InvalidInput, with a sentence per field, when no run could start with these inputs."""
    checked_inputs(principal, plan_for(version.id).document.contract.inputs, inputs)


def run_by_key(principal: Principal, key: str, request: str) -> Run | None:
    """The run that was started with this key. Raises InvalidInput when that was another request."""
    run = Run.objects.filter(workspace=principal.workspace, idempotency_key=key).first()
    if run is not None and run.idempotency_fingerprint != request:
        raise InvalidInput(
            f'Idempotency key "{key}" was used for another request (run {run.id}).',
            code="idempotency_mismatch",
            next="Use a new key for a new request.",
        )
    if run is None:
        _refuse_removed(principal, key)
    return run


def _refuse_removed(principal: Principal, key: str) -> None:
    """A key outlives its run: what it did once is not done again because the run was archived."""
    gone = RemovedRun.objects.filter(workspace=principal.workspace, idempotency_key=key).first()
    if gone is not None:
        raise RunConflict(
            f'Idempotency key "{key}" belongs to run {gone.id}, which ended and was archived.',
            code="run_removed",
            next="Bring that run back with `mn runs restore`, or use a new key for new work.",
        )


def checked_inputs(principal: Principal, schema: dict[str, Any], inputs: Any) -> dict[str, Any]:
    """Inputs as a run stores them: files by value, defaults filled in. Raises InvalidInput, TooLarge."""

    def value_of(file_id: str) -> dict[str, Any] | None:
        try:
            return file_for(principal, file_id).as_value()
        except NotFound:
            return None

    return fitting_inputs(schema, inputs, value_of)


def fitting_inputs(
    schema: dict[str, Any], inputs: Any, value_of: Callable[[str], dict[str, Any] | None]
) -> dict[str, Any]:
    """The same for whoever may read the files. value_of: what is stored of a file, by its id."""
    if not isinstance(inputs, dict):
        raise InvalidInput(f"Inputs must be an object; found {type(inputs).__name__}.")
    try:
        size = _size(inputs)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InvalidInput(f"Inputs are not JSON: {exc}.") from exc
    if size > LIMITS.max_inputs_bytes:
        raise TooLarge(
            f"Inputs have {size:,} bytes; at most {LIMITS.max_inputs_bytes:,} are allowed.",
            next="Give large texts as files.",
        )

    values, problems = resolve_files(schema, inputs, value_of)
    problems |= input_problems(schema, values)
    if problems:
        raise InvalidInput(
            "The inputs do not fit the blueprint: " + " ".join(problems.values()),
            fields=problems,
            next="Correct the named inputs and start again.",
        )
    return values


def _size(inputs: dict[str, Any]) -> int:
    try:
        return size_of(inputs)
    except TypeError:  # A date from a YAML file, for instance.
        return len(json.dumps(inputs, default=str))


# --- cancel, pause, resume --------------------------------------------------------------------------------


def cancel_run(
    principal: Principal, run_id: Any, *, reason: str = "", preview: bool = False
) -> dict[str, Any]:
    """Stop a run. Effects in flight settle and are recorded first; what has not started never will.

    preview: say what would happen and change nothing.
    Raises RunConflict when the run has ended already (unless it was cancelled: then nothing happens again).
    """
    run = _operable(principal, run_id)
    with locked_run(run.id) as tx:
        consequences = _consequences(tx)
        if tx.state.status in RUN_ENDED or tx.state.cancel_requested:
            if tx.state.cancel_requested:
                return consequences
            raise RunConflict(f"Run {run.id} has already {tx.state.status}.", next="Start a new run instead.")
        if preview:
            return consequences
        tx.transition.cancel(reason)
        audit(principal, "run.cancel", str(run.id), {"reason": reason})
        return consequences


def pause_run(
    principal: Principal, run_id: Any, *, reason: str = "", preview: bool = False
) -> dict[str, Any]:
    """Claim nothing more of this run; what runs now finishes. Survives restarts."""
    run = _operable(principal, run_id)
    with locked_run(run.id) as tx:
        consequences = _consequences(tx)
        if tx.state.status in RUN_ENDED or tx.state.cancel_requested:
            raise RunConflict(f"Run {run.id} is {tx.state.status} and cannot be paused.")
        if preview or tx.state.pause_requested:
            return consequences
        tx.transition.pause(reason)
        audit(principal, "run.pause", str(run.id), {"reason": reason})
        return consequences


def resume_run(principal: Principal, run_id: Any, *, preview: bool = False) -> dict[str, Any]:
    """Go on after a pause; deadlines and due dates have moved by its length."""
    run = _operable(principal, run_id)
    with locked_run(run.id) as tx:
        consequences = _consequences(tx)
        if not tx.state.pause_requested:
            if tx.state.status in RUN_ENDED:
                raise RunConflict(f"Run {run.id} has already {tx.state.status}.")
            return consequences
        if preview:
            return consequences
        seconds = (now() - (tx.run.paused_at or now())).total_seconds()
        tx.transition.resume(seconds)
        shift(tx, seconds)
        desk().shift(run_id=run.id, seconds=seconds)
        shift_deadline(tx, seconds)
        deadlines.shift(tx, seconds)
        audit(principal, "run.resume", str(run.id), {"paused_seconds": seconds})
        if ready := tx.queues_of(tx.state.steps):
            from apps.runs.doorbell import ring

            tx.after.append(lambda: ring(ready))
        return consequences


def _operable(principal: Principal, run_id: Any) -> Run:
    principal.require(Permission.OPERATE)
    identity = as_uuid(run_id)
    run = (
        Run.objects.filter(id=identity, workspace=principal.workspace).only("id").first()
        if identity
        else None
    )
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run


def _consequences(tx: RunTransaction) -> dict[str, Any]:
    """What stopping now would mean, from the rows as they are."""
    steps = list(tx.state.steps.values())
    return {
        "run": str(tx.run.id),
        "status": str(tx.state.status),
        "finish_first": [s.path for s in steps if s.status is StepStatus.RUNNING],
        "stop": [s.path for s in steps if s.status in (StepStatus.READY, StepStatus.WAITING)],
        "in_doubt": [s.path for s in steps if s.status is StepStatus.IN_DOUBT],
        "kept": [s.path for s in steps if s.status is StepStatus.SUCCEEDED],
        "never_start": [n for n in tx.plan.order if tx.state.current(tx.plan, n) is None],
        "compensations": _compensations(tx),
        "effects_committed": Effect.objects.filter(run_id=tx.run.id, state=EffectState.COMMITTED).count(),
    }


def _compensations(tx: RunTransaction) -> list[dict[str, str]]:
    """What stopping for good would take back, in the order in which it is done."""
    found = []
    for path in undoable(tx.run.id, tx.plan):
        if tx.state.find(undo_of(path)) is None:
            tools = dict.fromkeys(e.tool for e in undone(tx.run.id, path).effects)
            calls = [call for tool in tools if (call := call_for(tx.plan, path, tool)) is not None]
            found += [{"step": path, "tool": name} for name in dict.fromkeys(c.tool for c in calls)]
    return found


# --- effects in doubt -------------------------------------------------------------------------------------


def resolve_effect(
    principal: Principal, effect_id: Any, *, outcome: str, reason: str, reference: str = ""
) -> Effect:
    """A person says what became of an effect in doubt; the step goes on from there.

    outcome: `happened` (with a reference if there is one), `did_not_happen` (it may be sent), `abandon`
    (the step fails). Raises InvalidInput without a reason; RunConflict when it is not in doubt any more.
    """
    principal.require(Permission.OPERATE)
    identity = as_uuid(effect_id)
    found = Effect.objects.filter(id=identity, workspace=principal.workspace).first() if identity else None
    if found is None:
        raise NotFound(f"There is no effect {effect_id}.", next="List them with `mn effects list`.")
    if outcome not in ("happened", "did_not_happen", "abandon"):
        raise InvalidInput(
            f'Outcome "{outcome}" is unknown; expected happened, did_not_happen or abandon.',
            fields={"outcome": "Choose happened, did_not_happen or abandon."},
        )
    if not reason.strip():
        raise InvalidInput("A reason is needed.", fields={"reason": "Say how you know."})
    with locked_run(found.run_id) as tx:
        effect = Effect.objects.get(id=found.id)
        if effect.state != EffectState.IN_DOUBT:
            raise RunConflict(
                f'Effect {effect.id} ("{effect.tool}") is {effect.state}, not in doubt.',
                code="effect_not_in_doubt",
                next="Reload; somebody or something has resolved it meanwhile.",
            )
        resolution = {
            "outcome": outcome, "by": principal.label, "reason": reason, "reference": reference,
            "at": now().isoformat(),
        }  # fmt: skip
        if outcome == "happened":
            Effect.objects.filter(id=effect.id).update(
                state=EffectState.COMMITTED,
                result={"confirmed_by": principal.label, "reference": reference},
                committed_at=now(),
                resolution=resolution,
            )
        else:
            Effect.objects.filter(id=effect.id).update(state=EffectState.FAILED, resolution=resolution)
        add_evidence(effect, "person", resolution)
        tx.entry(
            "effect.resolved", effect.step_path,
            {"tool": effect.tool, "key": effect.key, "outcome": outcome, "by": principal.label},
        )  # fmt: skip
        step = tx.state.steps.get(effect.step_path)
        if step is not None and step.status is StepStatus.IN_DOUBT:
            if outcome == "abandon":
                tx.fail_step(
                    effect.step_path,
                    {"code": "abandoned", "permanent": True,
                     "message": f'"{effect.tool}" was abandoned by {principal.label}: {reason}'},
                )  # fmt: skip
            else:
                tx.wake_step(effect.step_path)
        audit(principal, "effect.resolve", str(effect.id), resolution)
    return Effect.objects.get(id=found.id)


# --- the kill button --------------------------------------------------------------------------------------


def can_kill_worker() -> bool:
    """Whether a killed worker would be missed by nobody: it is restarted, or another one is alive."""
    alive = Worker.objects.filter(lease_until__gt=now(), stopped_at=None).values_list("embedded", flat=True)
    return len(alive) > 1 or any(alive)


def request_kill(principal: Principal, run_id: Any) -> dict[str, Any]:
    """Have the worker process of a demo run really killed; recovery is then seen on its page.

    Returns {boot, embedded}: an embedded worker is this very process, which the caller has to kill after it
    answered; another process kills itself within a second. Raises RunConflict when the run is not a demo, or
    when nobody would be left to recover it.
    """
    run = _operable(principal, run_id)
    with locked_run(run.id) as tx:
        if not tx.run.is_demo:
            raise RunConflict(
                f"Run {run.id} is not a demo run; its worker is not killed for show.",
                next="Start the blueprint from the gallery with its sample inputs.",
            )
        if tx.state.status in RUN_ENDED:
            raise RunConflict(f"Run {run.id} has ended; there is nothing to recover.")
        boots = {s.worker for s in tx.state.steps.values() if s.worker and s.status is StepStatus.RUNNING}
        alive = Worker.objects.filter(lease_until__gt=now(), stopped_at=None)
        worker = alive.filter(boot__in=boots).first() or alive.order_by("-started_at").first()
        if worker is None:
            raise RunConflict("No worker is running.", next="Start one with `mn worker`.")
        if not worker.embedded and alive.count() < 2:
            raise RunConflict(
                "It is the only worker and nothing here restarts it.",
                next="Start a second worker with `mn worker`, then kill this one.",
            )
        Worker.objects.filter(boot=worker.boot).update(kill_requested_at=now(), kill_run=run.id)
        tx.entry("worker.kill_requested", "", {"boot": str(worker.boot), "by": principal.label})
        audit(principal, "worker.kill", str(worker.boot), {"run": str(run.id)})
    return {"boot": str(worker.boot), "embedded": worker.embedded}
