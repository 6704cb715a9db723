"""Forking a run: a new run that takes over what holds of another one, and does the rest.

    from_step, redo   these steps, and all that depends on them, are done again
    edit              these steps keep their place with another output; what depends on them is done again
    version           the rest is done by another version of the blueprint
    inputs            everything is done again with other inputs

The new run has its own root, so its effects have their own keys. Effects of steps that are kept are inherited
as results and never sent; before a step that is done again repeats what the other run has done, a person is
asked (`apps.runs.repeats`, ENGINE rule 23).
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from apps.blueprints.models import Version
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.ledger.payloads import keep
from apps.runs.core.effect_key import effect_key
from apps.runs.core.forking import Forking, Recorded, vanished
from apps.runs.core.plan import UNDO, Plan, scope_of
from apps.runs.core.state import RunState
from apps.runs.core.states import RunStatus, StepStatus
from apps.runs.deadlines import run_deadline_of
from apps.runs.errors import RunConflict
from apps.runs.models import Run, Step
from apps.runs.names import Names
from apps.runs.payloads import whole
from apps.runs.plans import plan_for
from apps.runs.recovery import (
    check_person_is_not_passed_over,
    check_value,
    effect_words,
    in_words,
    need_reason,
    operable,
    whole_state,
)
from apps.runs.repeats import TOUCHED, ancestors_of
from apps.runs.services import checked_inputs, run_by_key
from apps.runs.transact import RunTransaction, lock_run, open_transaction
from apps.runs.views import usd
from apps.workspaces.access import Principal
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, NotFound
from mirrorneuron.base.ids import uuid7
from mirrorneuron.base.safejson import fingerprint, storable

COPIED_AT_ONCE = 500


@dataclass(frozen=True)
class Wish:
    """What a person wants of a fork."""

    redo: tuple[str, ...]
    edit: Mapping[str, Any]
    version: int | None
    inputs: dict[str, Any] | None


def fork_run(
    principal: Principal,
    run_id: Any,
    *,
    from_step: str = "",
    redo: Iterable[str] = (),
    edit: Mapping[str, Any] | None = None,
    version: int | None = None,
    inputs: dict[str, Any] | None = None,
    reason: str = "",
    preview: bool = False,
    idempotency_key: str | None = None,
) -> dict[str, Any]:
    """Start a run that takes over what holds of this one; possible from any state of it.

    Without any wish it goes on from what has succeeded, which is how a cancelled or failed run is taken up
    again. preview: say what would happen and change nothing.
    Returns the consequences (see `_consequences`), with the new run's id under `fork`.
    Raises RunNotFound, RunConflict in words, InvalidInput, NotFound for a step or version that is not there.
    """
    run = operable(principal, run_id)
    asked = tuple(dict.fromkeys(path for path in (from_step, *redo) if path))
    wish = Wish(asked, dict(edit or {}), version, inputs)
    request = fingerprint(["fork", str(run.id), list(wish.redo), wish.edit, version, inputs])
    if idempotency_key and not preview:
        known = run_by_key(principal, idempotency_key, request)
        if known is not None:
            return {"run": str(run.id), "action": "fork", "fork": str(known.id), "preview": False}
    try:
        return _fork(principal, run, wish, need_reason(reason, preview), preview, idempotency_key, request)
    except IntegrityError:
        known = run_by_key(principal, idempotency_key, request) if idempotency_key else None
        if known is None:
            raise
        return {"run": str(run.id), "action": "fork", "fork": str(known.id), "preview": False}


def _fork(
    principal: Principal, run: Run, wish: Wish, reason: str, preview: bool, key: str | None, request: str
) -> dict[str, Any]:
    with transaction.atomic():
        source = lock_run(run.id)
        origin = open_transaction(source, whole_state(source))
        version = _version(source, wish.version)
        values = _inputs(principal, source, version, wish)
        there = recorded = _recorded(source.id, origin.state)
        _check_wish(origin, wish)
        # What was taken back is not there to be kept.
        back = [s.path.removesuffix(UNDO) for s in origin.state.steps.values() if s.is_undo and s.attempt]
        wish = replace(wish, redo=(*wish.redo, *(p for p in back if p not in wish.redo)))
        if wish.inputs is not None and values != source.inputs:
            recorded = {path: known for path, known in there.items() if path in wish.edit}
        before = _played(principal, source, source.version_id, source.inputs, recorded, wish)
        kept = _forking(before).kept
        if version.id != source.version_id:
            missing = vanished(plan_for(version.id), kept, recorded)
            if missing:
                raise RunConflict(
                    missing,
                    code="path_vanished",
                    next="Redo from a step before it, or start a new run of the version.",
                )
        tx = _played(principal, source, version.id, values, recorded, wish, reason)
        new, t = tx.run, _forking(tx)
        t.settle()
        _check_kept(tx, t)
        if _is_idle(t, wish):
            raise RunConflict(
                "All of this run would be kept; there is nothing to do again.",
                code="nothing_to_do",
                next="Name a step to redo or to edit, or another version.",
            )
        inherited = _inherited(source.id, t, recorded)
        said = _consequences(origin, tx, there, inherited, kept, version)
        if preview:
            return {**said, "fork": None, "preview": True}
        new.idempotency_key, new.idempotency_fingerprint = key or None, request
        _store(tx, source, recorded, inherited)
        origin.entry("run.forked", data={"to": str(new.id), "by": principal.label, "reason": reason})
        origin.write()
        origin.after_commit()
        audit(
            principal, "run.fork", str(new.id),
            {"from": str(source.id), "redo": list(wish.redo), "edited": sorted(wish.edit), "reason": reason,
             "version": version.number},
        )  # fmt: skip
    return {**said, "fork": str(new.id), "preview": False, "status": str(tx.state.status)}


# --- what is wished -----------------------------------------------------------------------------------------


def _version(source: Run, number: int | None) -> Version:
    versions = Version.objects.select_related("blueprint")
    if number is None:
        return versions.get(id=source.version_id)
    found = versions.filter(blueprint__versions=source.version_id, number=number).first()
    if found is None:
        raise NotFound(
            f'Blueprint "{source.blueprint_name}" has no version {number}.',
            code="version_not_found",
            next="List its versions; only published ones can be forked to.",
        )
    return found


def _inputs(principal: Principal, source: Run, version: Version, wish: Wish) -> dict[str, Any]:
    if wish.inputs is None and version.id == source.version_id:
        return dict(source.inputs)
    given = source.inputs if wish.inputs is None else wish.inputs
    return checked_inputs(principal, plan_for(version.id).document.contract.inputs, given)


def _check_wish(origin: RunTransaction, wish: Wish) -> None:
    """Steps that are redone or edited exist, and an edited one could have had that output."""
    steps = origin.state.steps
    for path in (*wish.redo, *wish.edit):
        if path not in steps or steps[path].is_pass or steps[path].is_undo:
            raise NotFound(
                f'Run {origin.run.id} has no step "{path}".',
                code="step_not_found",
                next="List its steps to see their paths.",
            )
    both = set(wish.redo) & set(wish.edit)
    if both:
        raise InvalidInput(f"{', '.join(sorted(both))}: either redone or edited, not both.")
    for path, value in wish.edit.items():
        step = steps[path]
        if step.status not in (StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.SKIPPED):
            raise RunConflict(f'Step "{path}" is {step.status}; only a step that has ended can be edited.')
        node = origin.transition.node_of(step)
        check_person_is_not_passed_over(origin, node, "edited")
        check_value(origin, node, value)


def _check_kept(tx: RunTransaction, t: Forking) -> None:
    """What the version leaves to people is not taken over from a version that did not."""
    for path in t.kept:
        step = tx.state.steps[path]
        if path in t.edits or step.status is StepStatus.SKIPPED:
            check_person_is_not_passed_over(tx, t.node_of(step), "taken over as somebody put it")


def _recorded(run_id: UUID, state: RunState) -> dict[str, Recorded]:
    rows = Step.objects.filter(run_id=run_id).only("path", "ended_at", "input", "output", "error", "run_id")
    found = {}
    for row in rows.order_by("id"):
        ended = row.ended_at.timestamp() if row.ended_at else float("inf")
        found[row.path] = Recorded(state.steps[row.path], row, (ended, row.pk))
    return found


# --- playing ------------------------------------------------------------------------------------------------


class ForkNames(Names):
    """Names of a run whose kept steps have no rows yet: what it does not know is read from the other run."""

    source_id: UUID

    def _read(self, paths: list[str]) -> None:
        rows = Step.objects.filter(run_id=self.source_id, path__in=paths)
        found = list(rows.values_list("path", "output"))
        outputs = whole([output for _, output in found], self.source_id)
        for (path, _), output in zip(found, outputs, strict=True):
            self.know(path, output)

    def effects(self) -> list[dict[str, Any]]:
        return self.effects_of(self.source_id)


def _played(
    principal: Principal,
    source: Run,
    version_id: UUID,
    inputs: dict[str, Any],
    recorded: Mapping[str, Recorded],
    wish: Wish,
    reason: str = "",
) -> RunTransaction:
    """A new run, not stored yet, in which what holds of the other one has been played."""
    plan, at = plan_for(version_id), now()
    run = Run(
        id=uuid7(),
        workspace_id=source.workspace_id,
        version_id=version_id,
        blueprint_name=source.blueprint_name,
        workflow_class=plan.document.metadata.workflow_class,
        inputs=storable(inputs),
        labels=source.labels,
        is_demo=source.is_demo,
        simulate=source.simulate,
        priority=source.priority,
        forked_from=source.id,
        deadline_at=run_deadline_of(plan, at),
        trace_id=secrets.token_hex(16),
        started_by=principal.user,
        created_at=at,
    )
    state = RunState(id=run.id, workspace_id=run.workspace_id, status=RunStatus.QUEUED, seq=0)
    names = ForkNames(run, plan)
    names.source_id, names.state = source.id, state
    t = Forking(
        plan=plan, state=state, now=at, evaluate=names.evaluate_for_decision, jitter=random.random(),
        learn=names.know, learn_input=names.know_input, item_of=names.item_of, result_of=names.result_of,
        source=recorded, redo=wish.redo, edits=wish.edit, edited_by=(f"user:{principal.user.id}",),
    )  # fmt: skip
    with in_words():
        t.fork(
            {
                "forked_from": str(source.id), "by": principal.label, "reason": reason,
                "redo": list(wish.redo), "edited": sorted(wish.edit),
            }
        )  # fmt: skip
    tx = RunTransaction(run=run, state=state, transition=t, names=names)
    tx.new_run = {}
    return tx


def _forking(tx: RunTransaction) -> Forking:
    assert isinstance(tx.transition, Forking)
    return tx.transition


def _is_idle(t: Forking, wish: Wish) -> bool:
    """Whether the new run would be over at once although nobody wished for anything else."""
    ended = t.state.status in (RunStatus.SUCCEEDED, RunStatus.FAILED)
    return ended and not wish.edit and wish.version is None and wish.inputs is None


# --- storing ------------------------------------------------------------------------------------------------


def _is_copied(path: str, t: Forking) -> bool:
    """Whether a step lies below something that was taken over whole."""
    return any(path.startswith((f"{whole}[", f"{whole}/")) for whole in t.copied)


def _inherited(source_id: UUID, t: Forking, recorded: Mapping[str, Recorded]) -> list[Effect]:
    """Committed effects of the steps that were taken over with their own output."""
    kept = set(t.kept) - set(t.edits) | {path for path in recorded if t.copied and _is_copied(path, t)}
    committed = Effect.objects.filter(run_id=source_id, state=EffectState.COMMITTED).order_by("created_at")
    return [effect for effect in committed if effect.step_path in kept]


def _store(
    tx: RunTransaction, source: Run, recorded: Mapping[str, Recorded], inherited: list[Effect]
) -> None:
    run, t = tx.run, _forking(tx)
    for effect in inherited:
        said = {"tool": effect.tool, "key": _key(tx, effect), "from": str(_first(effect))}
        tx.entry("effect.inherited", effect.step_path, said)
    tx.new_run = {str(f.column): getattr(run, f.attname) for f in Run._meta.concrete_fields}
    tx.write()
    rows = [_copy_of(tx, effect) for effect in inherited]
    Effect.objects.bulk_create(rows, batch_size=COPIED_AT_ONCE)
    if t.copied:
        _copy_steps(tx, source.id, [path for path in recorded if _is_copied(path, t)])
    tx.after_commit()


def _first(effect: Effect) -> UUID:
    """The effect that really happened, however often it was inherited."""
    return effect.inherited_from or effect.id


def _key(tx: RunTransaction, effect: Effect) -> str:
    return effect_key(
        workspace=tx.state.workspace_id.hex,
        root_run=tx.run.id.hex,
        path=effect.step_path,
        turn=effect.turn,
        ordinal=effect.ordinal,
        generation=effect.generation,
        simulated=effect.simulated,
    )


def _copy_of(tx: RunTransaction, effect: Effect) -> Effect:
    """A result of another run as this run's own; nothing was sent for it, so it holds no business key."""
    workspace_id, run_id = tx.state.workspace_id, tx.run.id
    return Effect(
        workspace_id=workspace_id,
        run_id=run_id,
        step_path=effect.step_path,
        turn=effect.turn,
        ordinal=effect.ordinal,
        generation=effect.generation,
        key=_key(tx, effect),
        fingerprint=effect.fingerprint,
        tool=effect.tool,
        effect_class=effect.effect_class,
        state=EffectState.COMMITTED,
        arguments=keep(workspace_id, run_id, effect.arguments, outlives=True),
        result=keep(workspace_id, run_id, effect.result, outlives=True),
        simulated=effect.simulated,
        has_probe=effect.has_probe,
        approved_by=effect.approved_by,
        created_at=tx.transition.now,
        committed_at=effect.committed_at,
        inherited_from=_first(effect),
    )


def _copy_steps(tx: RunTransaction, source_id: UUID, paths: list[str]) -> None:
    """Steps below a map, loop or pass that was taken over whole, as they ended."""
    at = tx.transition.now
    for start in range(0, len(paths), COPIED_AT_ONCE):
        some = paths[start : start + COPIED_AT_ONCE]
        rows = []
        for row in Step.objects.filter(run_id=source_id, path__in=some).order_by("id"):
            rows.append(
                Step(
                    run_id=tx.run.id, workspace_id=row.workspace_id, scope=row.scope, path=row.path,
                    node_id=row.node_id, kind=row.kind, round=row.round, status=row.status,
                    reason=row.reason, port=row.port, taken=row.taken, attempt=row.attempt,
                    queue=row.queue, priority=row.priority, ready_at=at, ended_at=at,
                    input=_again(tx, row.input), output=_again(tx, row.output), error=row.error,
                    labels=row.labels, memo=row.memo, kept=True,
                )
            )  # fmt: skip
        Step.objects.bulk_create(rows)


def _again(tx: RunTransaction, value: Any) -> Any:
    return None if value is None else keep(tx.state.workspace_id, tx.run.id, value)


# --- the consequences ---------------------------------------------------------------------------------------


def _consequences(
    origin: RunTransaction,
    tx: RunTransaction,
    recorded: Mapping[str, Recorded],
    inherited: list[Effect],
    kept_before: list[str],
    version: Version,
) -> dict[str, Any]:
    """What the fork keeps, does again, and may repeat, and what that cost last time.

    {run, action, version, status, kept, edited, redone, starts, left_out, changed, effects_inherited,
    effects_repeat, questions_reopened, cost_usd, cost_unknown}; effects_repeat are what the other run did in
    steps that are done again: a person is asked before each of them is repeated.
    """
    t = _forking(tx)
    kept = {*t.kept, *(path for path in recorded if t.copied and _is_copied(path, t))}
    opened = {p for p, s in t.state.steps.items() if not s.has_ended and s.is_pass}
    worked = [
        known.step for path, known in recorded.items()
        if path not in kept and path not in opened and not known.step.is_pass
        and not known.step.is_undo and known.step.attempt
    ]  # fmt: skip
    again = [s for s in worked if _exists(t.plan, s.path, s.node_id) and not _is_open(t, s.path)]
    past = [origin.run.id, *ancestors_of(origin.run)]
    risky = Effect.objects.filter(
        run_id__in=past, state__in=TOUCHED, simulated=False, inherited_from=None
    ).order_by("created_at")
    redone = {s.path for s in again}
    before = plan_for(origin.run.version_id)
    return {
        "run": str(origin.run.id),
        "action": "fork",
        "version": version.number,
        "status": str(tx.state.status),
        "kept": [p for p in t.kept if p not in t.edits],
        "edited": [p for p in t.kept if p in t.edits],
        "redone": [s.path for s in again],
        "starts": [p for p, s in t.state.steps.items() if s.status is StepStatus.READY],
        "left_out": [p for p in kept_before if p not in kept and p not in redone],
        "changed": [] if t.plan is before else _changed(before, t.plan, t.kept),
        "effects_inherited": [effect_words(e) for e in inherited],
        "effects_repeat": [] if tx.run.simulate else [
            effect_words(e) for e in risky if e.step_path in redone
        ],
        "questions_reopened": [
            s.path for s in again if s.kind == "approval" and s.status is StepStatus.SUCCEEDED
        ],
        "cost_usd": usd(sum(s.cost_microusd for s in again)),
        "cost_unknown": any(s.cost_unknown for s in again),
    }  # fmt: skip


def _is_open(t: Forking, path: str) -> bool:
    """A map or loop that goes on with the passes it has."""
    step = t.state.steps.get(path)
    return step is not None and step.status is StepStatus.WAITING


def _exists(plan: Plan, path: str, node_id: str) -> bool:
    try:
        return node_id in plan.for_scope(scope_of(path)).nodes
    except KeyError:
        return False


def _changed(before: Plan, after: Plan, kept: list[str]) -> list[str]:
    """Kept steps whose node says something else in the new version."""
    found = []
    for path in kept:
        scope = scope_of(path)
        node_id = path[len(scope) + bool(scope) :].partition("[")[0]
        if before.for_scope(scope).nodes[node_id] != after.for_scope(scope).nodes[node_id]:
            found.append(path)
    return found
