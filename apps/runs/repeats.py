"""Doing again what was done already: only with the recorded consent of a person (ENGINE rule 23).

Three ways lead here: a business key that is taken, a forked run whose step repeats what the run it came from
has done, and a step that is retried by hand although its effect was rejected or given up.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import Q

from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.runs.core.effect_key import action_hash
from apps.runs.errors import StepError
from apps.runs.models import RemovedRun, Run
from apps.runs.ports import Ask, EffectCall, Question

if TYPE_CHECKING:
    from apps.runs.context import StepContext

REPEAT_ORDINAL = 1000
"""From this ordinal on a question asks whether an apparent duplicate is meant."""
GENERATIONS = 100
"""How many forks of forks are looked through."""
TOUCHED = (EffectState.IN_FLIGHT, EffectState.IN_DOUBT, EffectState.COMMITTED)


def consent_to_repeat(context: StepContext, call: EffectCall, fingerprint: str) -> dict[str, Any] | None:
    """The decision of a person who was shown that this very call looks like a duplicate; None if nobody was.

    Raises StepError when the person said no, or approved something else than what would be sent.
    """
    decision: dict[str, Any] = (context.memo or {}).get("decision") or {}
    if decision.get("tool") != call.tool or decision.get("ordinal") != REPEAT_ORDINAL + call.ordinal:
        return None
    if decision.get("verb") != "approve":
        raise StepError(
            f'{decision.get("by") or "A person"} decided that "{call.tool}" is not done again: '
            f"{decision.get('reason') or 'it is a duplicate'}.",
            code="rejected", permanent=True,
        )  # fmt: skip
    if action_hash(call.tool, decision.get("final")) != fingerprint:
        raise StepError(
            f'"{call.tool}" was to be done again with other arguments than those it is called with now.',
            code="effect_conflict", permanent=True,
        )  # fmt: skip
    return decision


def ask_again(call: EffectCall, question: Question, why: str) -> Ask:
    """Ask the same people whether to do it again."""
    return Ask(
        replace(
            question,
            title=f"Do it again? {question.title}",
            effect_summary=f"{why} {question.effect_summary}",
            ordinal=REPEAT_ORDINAL + call.ordinal,
        )
    )


def ancestors_of(run: Run) -> list[UUID]:
    """Runs this one took results over from, the nearest first."""
    found: list[UUID] = []
    following = run.forked_from
    while following is not None and following not in found and len(found) < GENERATIONS:
        found.append(following)
        following = _source_of(following)
    return found


def _source_of(run_id: UUID) -> UUID | None:
    """What a run was forked from, also one that was removed: effects are known for longer than runs."""
    for runs in (Run.objects, RemovedRun.objects):
        known = runs.filter(id=run_id).values_list("forked_from")
        if known:
            return known[0][0]
    return None


def done_before(context: StepContext, call: EffectCall, fingerprint: str) -> str:
    """What a run this one was forked from has done here, in words; empty when it has done nothing.

    The same tool called by the same step, or with the same arguments by any step.
    """
    run = context.claim.run
    if run.forked_from is None or context.simulate:
        return ""
    same = Q(step_path=context.path) | Q(fingerprint=fingerprint)
    ancestors = ancestors_of(run)
    touched = Effect.objects.filter(
        same, run_id__in=ancestors, tool=call.tool, state__in=TOUCHED, simulated=False
    )
    by_run = {effect.run_id: effect for effect in touched.order_by("created_at")}
    effect = next((by_run[run_id] for run_id in ancestors if run_id in by_run), None)
    if effect is None:
        return ""
    if effect.inherited_from is not None:
        effect = Effect.objects.filter(id=effect.inherited_from).first() or effect
    if effect.state == EffectState.COMMITTED:
        return f'"{call.tool}" was already done in run {effect.run_id}, step "{effect.step_path}".'
    return (
        f'"{call.tool}" may have been done already in run {effect.run_id}, step "{effect.step_path}": '
        "nobody knows yet."
    )


def was_retried_since(context: StepContext, effect: Effect) -> bool:
    """Whether a person retried the step after the effect was rejected or given up."""
    retried, ended = (context.memo or {}).get("retried_at"), (effect.resolution or {}).get("at")
    return bool(retried and ended and datetime.fromisoformat(retried) > datetime.fromisoformat(ended))
