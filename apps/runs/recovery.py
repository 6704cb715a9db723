"""What a person does with a step that stands still: retry it, or skip it with a value.

A preview runs the same decision on the same rows under the same lock, and then takes everything back; so what
it says is what the act does. Each act needs a reason, is audited, and is told in the ledger.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.blueprints.core.document import Document, Node
from apps.blueprints.selectors import tools_of
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.ledger.services import add_evidence
from apps.runs.core.checks import field_problems
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import scope_of
from apps.runs.core.recovery import CannotRecover
from apps.runs.core.state import RunState
from apps.runs.core.states import StepStatus, WaitReason
from apps.runs.errors import RunConflict, RunNotFound
from apps.runs.models import Run, Step
from apps.runs.plans import plan_for
from apps.runs.store import read_steps
from apps.runs.transact import RunTransaction, lock_run, open_transaction, state_of
from apps.runs.views import usd
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, TooLarge
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.safejson import canonical, storable

UNSETTLED = (EffectState.IN_FLIGHT, EffectState.IN_DOUBT)


def retry_step(
    principal: Principal, run_id: Any, path: str, *, reason: str = "", preview: bool = False
) -> dict[str, Any]:
    """Try a failed step again, with a fresh count of failures; its run goes on if it had failed for it.

    Effects it has committed are replayed, never repeated; one that a person rejected or abandoned is asked
    about again. preview: say what would happen and change nothing.
    Returns the consequences (see `_consequences`). Raises RunNotFound, RunConflict in words, InvalidInput
    without a reason.
    """
    run = operable(principal, run_id)
    with whole_run(run.id, preview=preview) as tx:
        by = _by(principal, reason, preview)
        asked = _asked(tx)
        with in_words():
            again = tx.transition.retry(path, by=by, errors=_errors(run.id))
        said = _consequences(tx, path, "retry", tried_again=again, asked=asked)
        if not preview:
            audit(principal, "run.retry", str(run.id), {"step": path, **by})
    return said


def skip_step(
    principal: Principal,
    run_id: Any,
    path: str,
    *,
    value: Any = None,
    port: str = "",
    abandon: bool = False,
    reason: str = "",
    preview: bool = False,
) -> dict[str, Any]:
    """Leave a failed, doubtful, waiting or blocked step with a value as its output; the run goes on from it.

    port: the way it leaves by, its main one unless given. abandon: of a step in doubt, give its effect up
    although nobody knows whether it happened. preview: say what would happen and change nothing.
    Raises RunNotFound, RunConflict in words, InvalidInput when the value does not fit or a reason is missing.
    """
    run = operable(principal, run_id)
    with whole_run(run.id, preview=preview) as tx:
        by = _by(principal, reason, preview)
        labels, asked = (f"user:{principal.user.id}",), _asked(tx)
        undecided = _undecided_before(tx, path)  # Before a skipped join has withdrawn what it waits for.
        with in_words():
            again = tx.transition.skip(path, value, port=port, labels=labels, by=by, errors=_errors(run.id))
        step = tx.state.steps[path]
        if not step.is_undo:  # Nothing reads what a compensation gives.
            node = tx.transition.node_of(step)
            check_person_is_not_passed_over(tx, node, "skipped")
            if undecided:
                raise _required(
                    f'"{undecided}" before "{path}" goes on; "{path}" cannot be skipped until then'
                )
            if not preview or value is not None:
                check_value(tx, node, value)
        given_up = _abandon(tx, principal, path, consent=abandon or preview, reason=reason)
        said = _consequences(tx, path, "skip", tried_again=again, asked=asked)
        said["effects_abandoned"] = [effect_words(e) for e in given_up]
        if not preview:
            audit(principal, "run.skip", str(run.id), {"step": path, "port": port, **by})
    return said


# --- shared with forks --------------------------------------------------------------------------------------


def operable(principal: Principal, run_id: Any) -> Run:
    """A run of the workspace, for somebody who may change its course. Raises RunNotFound, Forbidden."""
    principal.require(Permission.OPERATE)
    identity = as_uuid(run_id)
    runs = Run.objects.filter(id=identity, workspace=principal.workspace) if identity else Run.objects.none()
    run = runs.first()
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run


@contextmanager
def whole_run(run_id: UUID, *, preview: bool) -> Iterator[RunTransaction]:
    """A locked run with every step loaded; a preview takes back whatever was done to it."""
    with transaction.atomic():
        run = lock_run(run_id)
        tx = open_transaction(run, whole_state(run))
        yield tx
        if preview:
            transaction.set_rollback(True)
            return
        tx.write()
        tx.after_commit()


def whole_state(run: Run) -> RunState:
    """The state of a run with all its scopes; reading ten thousand steps takes a fraction of a second."""
    state = state_of(run, "")
    if plan_for(run.version_id).bodies:
        scopes: dict[str, list[Any]] = {}
        for step in read_steps(run.id):
            scopes.setdefault(step.scope, []).append(step)
        for scope, steps in scopes.items():
            state.add_scope(scope, steps)
    return state


@contextmanager
def in_words() -> Iterator[None]:
    try:
        yield
    except CannotRecover as exc:
        raise RunConflict(exc.message, code="cannot_recover", next=exc.next) from exc


def need_reason(reason: str, preview: bool) -> str:
    """Raises InvalidInput when an act comes without a reason."""
    reason = str(storable(reason.strip()))[:10_000]
    if not reason and not preview:
        raise InvalidInput("A reason is needed.", fields={"reason": "Say why; it is kept in the ledger."})
    return reason


def check_value(tx: RunTransaction, node: Node, value: Any) -> None:
    """A value that a person gives must be one the step could have given. Raises InvalidInput, TooLarge."""
    size = len(canonical(storable(value)).encode())
    if size > LIMITS.max_output_bytes:
        raise TooLarge(f"The value has {size:,} bytes; {LIMITS.max_output_bytes:,} are the most.")
    schema = node.output if node.kind in ("agent", "extract", "code") else None
    if node.kind == "tool":
        spec = tools_of(tx.plan.document).get(node.tool)
        schema = spec.output if spec else None
    if node.kind == "approval":
        schema = {"type": "object"}
    if not isinstance(schema, dict) or not schema:
        return
    problems = field_problems(value, schema)
    if problems:
        raise InvalidInput(
            f'The value does not fit the output of "{node.id}": '
            + " ".join(f"{name}: {words}" for name, words in problems.items()),
            fields={f"value.{name}" if name != "body" else "value": w for name, w in problems.items()},
            next="Give a value that fits the node's output schema.",
        )


def is_required_of_a_person(document: Document, node: Node) -> bool:
    """Whether the contract requires that people decide this, or something in this map or loop, so that
    nothing may stand in for them."""
    if node.body is not None:
        return any(is_required_of_a_person(document, inner) for inner in node.body.nodes)
    checkpoints = document.contract.human_checkpoints
    return node.kind == "approval" and any(c.step == node.id and c.required for c in checkpoints)


def check_person_is_not_passed_over(tx: RunTransaction, node: Node, how: str) -> None:
    """A decision that the contract requires is made by the people it names. Raises RunConflict."""
    if is_required_of_a_person(tx.plan.document, node):
        raise _required(f'"{node.id}"; it cannot be {how}')


def _required(what: str) -> RunConflict:
    return RunConflict(
        f"The contract requires that a person decides {what}.",
        code="checkpoint_required",
        next="Decide it in the inbox.",
    )


def _undecided_before(tx: RunTransaction, path: str) -> str:
    """A node before this blocked step that people have to decide and have not; empty when there is none.

    A step that was reached has them behind it, or is not meant to wait for them.
    """
    known, scope = tx.state.find(path), scope_of(path)
    if known is not None and known.status is not StepStatus.BLOCKED:
        return ""
    try:
        plan = tx.plan.for_scope(scope)
    except (KeyError, ValueError):
        return ""  # There is no such step, which the skip says itself.
    waiting, seen = [path.rpartition("/")[2].partition("[")[0]], set[str]()
    while waiting:
        for edge in plan.incoming.get(waiting.pop(), ()):
            if edge.source in seen:
                continue
            seen.add(edge.source)
            waiting.append(edge.source)
            step = tx.state.current(plan, edge.source, scope)
            is_open = step is None or not step.has_ended
            if is_open and is_required_of_a_person(tx.plan.document, plan.nodes[edge.source]):
                return edge.source
    return ""


def effect_words(effect: Effect) -> dict[str, Any]:
    return {
        "id": str(effect.id),
        "run": str(effect.run_id),
        "step": effect.step_path,
        "tool": effect.tool,
        "state": effect.state,
        "at": (effect.committed_at or effect.sent_at or effect.created_at).isoformat(),
    }


# --- the consequences ---------------------------------------------------------------------------------------


def _by(principal: Principal, reason: str, preview: bool) -> dict[str, Any]:
    return {"by": principal.label, "reason": need_reason(reason, preview)}


def _errors(run_id: UUID) -> dict[str, dict[str, Any]]:
    failed = Step.objects.filter(run_id=run_id, status=StepStatus.FAILED, error__isnull=False)
    return {path: error or {} for path, error in failed.values_list("path", "error")}


def _abandon(
    tx: RunTransaction, principal: Principal, path: str, *, consent: bool, reason: str
) -> list[Effect]:
    """Give up the effects of a step nobody knows the outcome of. Raises RunConflict without consent."""
    effects = list(Effect.objects.filter(run_id=tx.run.id, step_path=path, state__in=UNSETTLED))
    if effects and not consent:
        names = ", ".join(f'"{e.tool}"' for e in effects)
        raise RunConflict(
            f'Nobody knows yet whether {names} of step "{path}" happened.',
            code="effect_in_doubt",
            next="Resolve the effect first, or say that you abandon it.",
        )
    for effect in effects:
        resolution = {
            "outcome": "abandon", "by": principal.label, "reason": reason, "at": now().isoformat(),
        }  # fmt: skip
        Effect.objects.filter(id=effect.id).update(state=EffectState.FAILED, resolution=resolution)
        add_evidence(effect, "person", resolution)
        said = {"tool": effect.tool, "key": effect.key, "outcome": "abandon", "by": principal.label}
        tx.entry("effect.resolved", path, said)
    Effect.objects.filter(run_id=tx.run.id, step_path=path, state=EffectState.INTENT).update(
        state=EffectState.FAILED, resolution={"outcome": "skipped", "by": principal.label}
    )
    return effects


def _asked(tx: RunTransaction) -> set[str]:
    """Steps a person is asked about now."""
    waiting = [s for s in tx.state.steps.values() if s.status is StepStatus.WAITING]
    return {s.path for s in waiting if s.reason == WaitReason.APPROVAL}


def _consequences(
    tx: RunTransaction, path: str, action: str, *, tried_again: list[str], asked: set[str]
) -> dict[str, Any]:
    """What the decision in `tx` does, in paths, effects and money.

    {run, step, action, status, reopened, tried_again, restored, starts, kept, questions_closed,
    questions_reopened, effects_kept, effects_asked_again, cost_usd, cost_unknown}; cost is what the tried
    again steps have cost so far, the best guess for what they will cost again.
    """
    t = tx.transition
    t.settle()
    steps = tx.state.steps
    ready = [p for p in t.updates if steps[p].status is StepStatus.READY]
    restored = [e.path for e in t.entries if e.kind == "step.ready" and e.data.get("restored")]
    started = [p for p in ready if p not in tried_again and p not in restored]
    effects = Effect.objects.filter(run_id=tx.run.id, step_path__in=tried_again).order_by("created_at")
    doubtful = [e for e in effects if (e.resolution or {}).get("outcome") in ("abandon", "rejected")]
    return {
        "run": str(tx.run.id),
        "step": path,
        "action": action,
        "status": str(tx.state.status),
        "reopened": any(e.kind == "run.reopened" for e in t.entries),
        "tried_again": tried_again,
        "restored": restored,
        "starts": started,
        "kept": [s.path for s in steps.values() if s.status is StepStatus.SUCCEEDED],
        "questions_closed": [p for p in t.closed if p in asked],
        "questions_reopened": [p for p in (*tried_again, *restored) if steps[p].kind == "approval"],
        "effects_kept": [effect_words(e) for e in effects if e.state == EffectState.COMMITTED],
        "effects_asked_again": [effect_words(e) for e in doubtful],
        "cost_usd": usd(sum(steps[p].cost_microusd for p in tried_again)),
        "cost_unknown": any(steps[p].cost_unknown for p in tried_again),
        "effects_abandoned": [],
    }
