"""Effects nobody knows the outcome of: when they are looked into, and what is told about them meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.ledger.core.states import EffectClass, EffectState
from apps.ledger.models import Effect, Evidence
from apps.ledger.services import add_evidence
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import StepStatus
from apps.runs.transact import RunTransaction, locked_run
from mirrorneuron.base.clock import now


def leave_in_doubt(tx: RunTransaction, path: str, effects: list[Effect], why: str) -> None:
    """The step stands still until it is known what became of these effects; `tx` holds the run's row."""
    due: list[datetime | None] = []
    for effect in effects:
        if effect.state == EffectState.IN_FLIGHT:
            Effect.objects.filter(id=effect.id, state=EffectState.IN_FLIGHT).update(
                state=EffectState.IN_DOUBT, error={"message": why}
            )
            tx.entry("effect.in_doubt", path, {"tool": effect.tool, "key": effect.key, "why": why})
        due.append(next_look_at(effect, has_probe=effect.has_probe))
    look = None if None in due else max(d for d in due if d is not None)
    if tx.step(path).attempt >= LIMITS.attempts_for_free and not all(late_evidence(e) for e in effects):
        look = None  # Looking again and again has not helped: a person says.
    tx.transition.doubt(path, look, {"effect": effects[0].key, "why": why})


def next_look_at(effect: Effect, *, has_probe: bool) -> datetime | None:
    """When a doubt can be looked into without a person; None when only a person can say."""
    at = now()
    if late_evidence(effect) is not None:
        return at  # It has been said already; whoever was to read it did not get to the end.
    resendable = effect.effect_class == EffectClass.IDEMPOTENT or (
        effect.effect_class == EffectClass.KEYED
        and effect.key_expires_at is not None
        and at + timedelta(seconds=LIMITS.call_margin_seconds) < effect.key_expires_at
    )
    if resendable and effect.sends < LIMITS.resend_limit:
        delay = min(LIMITS.resend_base_seconds * 2 ** max(effect.sends - 1, 0), LIMITS.resend_max_seconds)
        return at + timedelta(seconds=delay if effect.sends > 1 else 0)
    if has_probe and effect.call_deadline_at is not None:
        return max(at, effect.call_deadline_at + timedelta(seconds=LIMITS.probe_grace_seconds))
    return None


def tell_late(effect: Effect, body: dict[str, Any], fence: int) -> None:
    """Keep what was learned about an effect too late to be written; a step in doubt looks at it now."""
    add_evidence(effect, "worker", body, fence)
    with locked_run(effect.run_id) as tx:
        step = tx.state.steps.get(effect.step_path)
        if step is not None and step.status is StepStatus.IN_DOUBT:
            tx.transition.wake(effect.step_path)


def can_be_told(workspace_id: UUID, key: str) -> bool:
    """Whether looking again at an effect in doubt would settle it: somebody has said what became of it."""
    effect = Effect.objects.filter(workspace_id=workspace_id, key=key).first()
    if effect is None:
        return False
    if effect.state in (EffectState.COMMITTED, EffectState.FAILED):
        return True
    return late_evidence(effect) is not None


def late_evidence(effect: Effect) -> dict[str, Any] | None:
    """What a worker or the other side said later. "absent" speaks of one send and not for the others."""
    told = Evidence.objects.filter(effect=effect, source__in=["worker", "webhook"]).order_by("-id")
    for evidence in told[: LIMITS.resend_limit]:
        body: dict[str, Any] = evidence.body
        if body.get("state") == "present" or (body.get("state") == "absent" and effect.sends == 1):
            return body
    return None
