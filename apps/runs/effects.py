"""The side-effect protocol: how one call changes the world at most once, and who is asked when nobody knows.

    intent       the key and the exact arguments are recorded
    (approval)   if the contract asks for one, the step waits here
    in flight    committed before the first byte leaves, after re-checking everything under the run's lock
    the call     with the key, one total time-out, no library retries
    committed    with the result, in the step's next transaction (usually the one that finishes it)

A definite failure (nothing can have happened) may be tried again under a new generation of the key. Anything
else is `in_doubt` and is resolved, in this order, by late evidence, a same-key resend (`idempotent`, `keyed`
within the key's lifetime), the tool's own probe, or a person. Never by a guess.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import IntegrityError, InterfaceError, OperationalError, connection, connections

from apps.ledger.core.states import EffectClass, EffectState
from apps.ledger.models import Effect, Evidence
from apps.ledger.services import add_evidence
from apps.runs.core.effect_key import action_hash, effect_key
from apps.runs.core.limits import LIMITS
from apps.runs.doubts import late_evidence, next_look_at, tell_late
from apps.runs.errors import StepError, Suspended
from apps.runs.payloads import keep
from apps.runs.ports import Answer, Ask, EffectCall, HandBack, InDoubt, Question, desk
from apps.runs.repeats import (
    TOUCHED,
    ask_again,
    consent_to_repeat,
    done_before,
    was_retried_since,
)
from mirrorneuron.base import crash
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger
from mirrorneuron.base.packed import Packed
from mirrorneuron.base.safejson import storable

if TYPE_CHECKING:
    from apps.runs.context import StepContext
    from apps.runs.transact import RunTransaction

log = logger(__name__)


def perform(context: StepContext, call: EffectCall) -> Any:
    """Run one effect through the protocol; returns its recorded result.

    Raises Suspended when the step must wait for a person or for clarity; StepError when it failed definitely,
    was refused, or was abandoned.
    """
    context.touched_effects = True
    fingerprint = action_hash(call.tool, call.arguments)
    effect = _latest(context, call)
    if effect is not None:
        match EffectState(effect.state):
            case EffectState.COMMITTED:
                return _replay(context, effect, fingerprint)
            case EffectState.IN_FLIGHT:
                # Whoever put it in flight never reported: nobody knows.
                effect = _mark_doubt(context, effect, "The worker that sent it never reported.")
                return _resolve(context, call, effect)
            case EffectState.IN_DOUBT:
                return _resolve(context, call, effect)
            case EffectState.FAILED:
                return _after_failure(context, call, effect, fingerprint)
            case EffectState.INTENT:
                pass
    return _send(context, call, fingerprint, intent=effect, generation=effect.generation if effect else 0)


def _latest(context: StepContext, call: EffectCall) -> Effect | None:
    return (
        Effect.objects.filter(
            run_id=context.run_id, step_path=context.path, turn=call.turn, ordinal=call.ordinal
        )
        .order_by("-generation")
        .first()
    )


def _key(context: StepContext, call: EffectCall, generation: int) -> str:
    return effect_key(
        workspace=context.workspace_id.hex,
        root_run=context.root_run_id.hex,
        path=context.full_path,
        turn=call.turn,
        ordinal=call.ordinal,
        generation=generation,
        simulated=context.simulate,
    )


def _replay(context: StepContext, effect: Effect, fingerprint: str) -> Any:
    if effect.fingerprint != fingerprint:
        raise StepError(
            f'"{effect.tool}" was already done at this place with other arguments.',
            code="effect_conflict", permanent=True,
            next="Fork the run if it has to be done again with the new arguments.",
        )  # fmt: skip
    context.entry("effect.replayed", {"key": effect.key, "tool": effect.tool})
    return effect.result


def _after_failure(context: StepContext, call: EffectCall, effect: Effect, fingerprint: str) -> Any:
    resolution = (effect.resolution or {}).get("outcome")
    if resolution in ("abandon", "rejected") and consent_to_repeat(context, call, fingerprint) is None:
        said = f'"{effect.tool}" was {"abandoned" if resolution == "abandon" else "rejected"} by a person.'
        if was_retried_since(context, effect):
            unknown = " Nobody knows whether it happened." if resolution == "abandon" else ""
            raise Suspended(ask_again(call, _question(call), said + unknown))
        raise StepError(said, code=resolution, permanent=True)
    return _send(context, call, fingerprint, intent=None, generation=effect.generation + 1, before=effect)


# --- intent, approval, in flight --------------------------------------------------------------------------


def _send(
    context: StepContext,
    call: EffectCall,
    fingerprint: str,
    *,
    intent: Effect | None,
    generation: int,
    before: Effect | None = None,
) -> Any:
    key = _key(context, call, generation)
    business_key = call.business_key
    # One approval is for one happening: an earlier generation that did not happen hands its grant on.
    inherited = before.approved_by if before and before.fingerprint == fingerprint else None
    approved_by: dict[str, Any] | None = inherited
    repeat = consent_to_repeat(context, call, fingerprint)
    if repeat is None and not inherited and (done := done_before(context, call, fingerprint)):
        _intend(context, call, key, generation, fingerprint, intent)
        raise Suspended(ask_again(call, _question(call), done))
    if call.needs_grant and not inherited:
        approved_by = desk().grant(run_id=context.run_id, tool=call.tool, fingerprint=fingerprint)
        if approved_by is None:
            _intend(context, call, key, generation, fingerprint, intent)
            raise Suspended(Ask(_question(call)))
    grants = [str(approved_by["request"])] if approved_by and not inherited else []
    if repeat is not None:
        if _holder(context, call, business_key) is not None:
            business_key = ""
        if not inherited:
            # Used up with it, so that it can never count as a grant for something else.
            grants = list(dict.fromkeys([*grants, str(repeat["request"])]))
            approved_by = approved_by or {k: repeat[k] for k in ("request", "at")} | {"by": [repeat["by"]]}
    call.admit()
    effect = _in_flight(context, call, key, generation, fingerprint, intent, approved_by,
                        grants=grants, business_key=business_key)  # fmt: skip
    crash.reach("after_in_flight")
    return _execute(context, call, effect)


def _question(call: EffectCall) -> Question:
    if call.question is not None:
        return call.question
    return Question(
        title=f"Run {call.tool}?",
        proposal=call.arguments,
        tool=call.tool,
        effect_summary=f"{call.tool} will run with these arguments.",
        ordinal=call.ordinal,
    )


def _intend(
    context: StepContext, call: EffectCall, key: str, generation: int, fingerprint: str, intent: Effect | None
) -> None:
    """Record the intent; it is stored together with the question in the step's next transaction."""
    if intent is not None:
        if intent.fingerprint != fingerprint:
            _allow_new_arguments(context, intent, call, fingerprint)
        return
    context.entry("effect.intended", {"tool": call.tool, "key": key})
    context.later(lambda: _create(context, call, key, generation, fingerprint))
    crash.reach("after_intent")


def _create(context: StepContext, call: EffectCall, key: str, generation: int, fingerprint: str) -> Effect:
    return Effect.objects.create(
        workspace_id=context.workspace_id,
        run_id=context.run_id,
        step_path=context.path,
        turn=call.turn,
        ordinal=call.ordinal,
        generation=generation,
        key=key,
        fingerprint=fingerprint,
        tool=call.tool,
        effect_class=call.effect_class,
        arguments=keep(context.workspace_id, context.run_id, call.arguments, outlives=True),
        has_probe=call.probe is not None,
        simulated=context.simulate,
        created_at=now(),
    )


def _allow_new_arguments(context: StepContext, intent: Effect, call: EffectCall, fingerprint: str) -> None:
    """Only a person's decision may replace what is intended (ENGINE rule 31)."""
    decision = (context.memo or {}).get("decision") or {}
    if action_hash(call.tool, decision.get("final")) != fingerprint:
        raise StepError(
            f'"{call.tool}" is waiting with other arguments than those it is called with now.',
            code="effect_conflict", permanent=True,
        )  # fmt: skip
    Effect.objects.filter(id=intent.id, state=EffectState.INTENT).update(
        arguments=keep(context.workspace_id, context.run_id, call.arguments, outlives=True),
        fingerprint=fingerprint,
    )


def _in_flight(
    context: StepContext,
    call: EffectCall,
    key: str,
    generation: int,
    fingerprint: str,
    intent: Effect | None,
    approved_by: dict[str, Any] | None,
    *,
    grants: list[str],
    business_key: str,
) -> Effect:
    """The point of no return, durable before the first byte leaves (ENGINE rule 25).

    grants: approvals that this use uses up.
    """
    _ensure_lease()
    context.progress(at_least=call.timeout_seconds + LIMITS.call_margin_seconds)
    try:
        with context.owned() as tx:
            _guard(context, tx, call)
            effect = intent
            if effect is None:
                tx.entry("effect.intended", context.path, {"tool": call.tool, "key": key})
                effect = _create(context, call, key, generation, fingerprint)
                crash.reach("after_intent")
            elif effect.fingerprint != fingerprint:
                _allow_new_arguments(context, effect, call, fingerprint)
            for request in grants:
                if not desk().consume(request_id=request):
                    raise StepError("The approval was used by somebody else.", code="grant_used")
            at = now()
            fields: dict[str, Any] = {
                "state": EffectState.IN_FLIGHT,
                "fence": context.claim.fence,
                "sent_at": at,
                "call_deadline_at": at + timedelta(seconds=call.timeout_seconds),
                "key_expires_at": effect.key_expires_at or at + timedelta(seconds=call.key_ttl_seconds),
                "sends": effect.sends + 1,
                "business_key": business_key[:200],
                "approved_by": approved_by,
            }
            if Effect.objects.filter(id=effect.id, state=EffectState.INTENT).update(**fields) != 1:
                raise StepError(f'"{call.tool}" is no longer an intent.', code="effect_moved")
            tx.entry(
                "effect.sent", context.path,
                {"tool": call.tool, "key": key, "send": 1, "approved_by": (approved_by or {}).get("by")},
            )  # fmt: skip
            for name, value in fields.items():
                setattr(effect, name, value)
        return effect
    except IntegrityError as exc:
        raise _duplicate(context, call, business_key) from exc
    except (OperationalError, InterfaceError):
        # The answer to the commit may be lost. Nothing has left yet, so if it did happen we go on.
        connection.close()
        if context.recall() is None:
            raise
        return Effect.objects.get(workspace_id=context.workspace_id, key=key)


def _ensure_lease() -> None:
    from apps.runs.worker import current_worker

    worker = current_worker()
    if worker is not None:
        worker.ensure_lease()


def _guard(context: StepContext, tx: RunTransaction, call: EffectCall, *, resolving: bool = False) -> None:
    """Re-check, under the run's lock, everything that may have changed (ENGINE rules 13, 25, 34, 35)."""
    if tx.state.pause_requested:
        raise Suspended(HandBack())
    stops = tx.state.cancel_requested or tx.state.is_failing
    if stops and not resolving and not context.claim.step.is_undo:
        raise Suspended(HandBack())
    left, ends_at = context.seconds_left(), context.claim.step.expires_at
    if ends_at is not None and not resolving:
        left = min(left, (ends_at - now()).total_seconds())
    if left < call.timeout_seconds + LIMITS.call_margin_seconds:
        raise StepError(
            f'Only {max(left, 0):.0f} s of the step are left, "{call.tool}" may take '
            f"{call.timeout_seconds:.0f} s.",
            code="deadline_near", next="Give the node a longer `timeout`.",
        )  # fmt: skip


def _duplicate(context: StepContext, call: EffectCall, business_key: str) -> Exception:
    """The same business key is in flight, in doubt or committed elsewhere."""
    other = _holder(context, call, business_key)
    if other is None:
        return StepError(f'"{call.tool}" met a conflict that is gone now.', code="effect_moved")
    Effect.objects.filter(id=other.id).update(duplicates_blocked=other.duplicates_blocked + 1)
    if call.on_duplicate == "ask":
        why = f'"{call.tool}" with business key "{business_key}" was already done in run {other.run_id}.'
        return Suspended(ask_again(call, _question(call), why))
    return StepError(
        f'"{call.tool}" with business key "{business_key}" was already done in run {other.run_id}.',
        code="duplicate_effect", permanent=True,
        next="Look at that run's effects; use another business_key if this is a different action.",
    )  # fmt: skip


def _holder(context: StepContext, call: EffectCall, business_key: str) -> Effect | None:
    """The effect that holds a business key."""
    if not business_key:
        return None
    return Effect.objects.filter(
        workspace_id=context.workspace_id, tool=call.tool, business_key=business_key[:200],
        simulated=context.simulate, state__in=TOUCHED,
    ).first()  # fmt: skip


# --- the call ---------------------------------------------------------------------------------------------


def _execute(context: StepContext, call: EffectCall, effect: Effect) -> Any:
    started = now()
    try:
        result = _bounded(call, effect)
    except StepError as exc:
        if effect.sends > 1:
            # It says what became of this send; the first one may have happened all the same.
            why = f"Send {effect.sends} failed ({exc.message}), which proves nothing about the ones before."
            _mark_doubt(context, effect, why, deferred=True)
            raise Suspended(_next_look(call, effect)) from exc
        _note_failure(context, effect, exc)
        raise
    except Exception as exc:
        log.warning("effect.ambiguous", tool=call.tool, key=effect.key, error=str(exc))
        _mark_doubt(context, effect, str(exc) or type(exc).__name__, deferred=True)
        raise Suspended(_next_look(call, effect)) from exc
    crash.reach("after_call")
    _commit(context, effect, result, started)
    return storable(result)


def _bounded(call: EffectCall, effect: Effect) -> Any:
    """Run the call under one total time-out.

    A call that does not return is ambiguous; its thread is left, and what it learns later is evidence.
    """
    box: dict[str, Any] = {}
    handover = threading.Lock()
    key, fence = effect.key, effect.fence

    def work() -> None:
        try:
            _still_in_time(call, effect)
            found = {"result": call.execute(key)}
        except BaseException as exc:  # handed to the waiting thread
            found = {"error": exc}
        with handover:
            box.update(found)
        try:
            if box.get("given_up"):
                _tell_what_was_found(effect, found, fence)
        finally:
            connections.close_all()

    thread = threading.Thread(target=work, name=f"effect-{call.tool}", daemon=True)
    thread.start()
    thread.join(call.timeout_seconds)
    with handover:
        box["given_up"] = not box
    if box["given_up"]:
        raise TimeoutError(f"no answer within {call.timeout_seconds:g} s")
    if "error" in box:
        raise box["error"]
    return box["result"]


def _still_in_time(call: EffectCall, effect: Effect) -> None:
    """Raises StepError when this process was asleep since the effect went in flight.

    Once the call's deadline has passed, others take what is not there for something that never will be.
    """
    if effect.call_deadline_at is not None and now() > effect.call_deadline_at:
        raise StepError(
            f'"{call.tool}" was not sent: this worker stood still until the time for it was over.',
            code="not_sent",
        )


def _tell_what_was_found(effect: Effect, found: dict[str, Any], fence: int) -> None:
    error = found.get("error")
    try:
        if error is None:
            tell_late(effect, {"state": "present", "result": storable(found["result"])}, fence)
        elif isinstance(error, StepError):
            tell_late(effect, {"state": "absent", "error": error.as_json()}, fence)
    except Exception:
        log.exception("effect.late_answer_lost", key=effect.key)


def _commit(context: StepContext, effect: Effect, result: Any, at: datetime) -> None:
    """Have the result stored by the step's next transaction, under this attempt's fence."""
    safe = storable(result)

    def write() -> None:
        moved = Effect.objects.filter(id=effect.id, state=EffectState.IN_FLIGHT, fence=effect.fence).update(
            state=EffectState.COMMITTED, result=_kept(effect, safe), committed_at=now(), error=None
        )
        if moved != 1:
            log.warning("effect.commit_dropped", key=effect.key)

    context.entry("effect.committed", {"tool": effect.tool, "key": effect.key})
    context.later(write)
    context.late_results.append((effect, {"state": "present", "result": safe}))


def _kept(effect: Effect, result: Any) -> Packed:
    """A result for the effect's row; what is large outlives the run with it."""
    return keep(effect.workspace_id, effect.run_id, result, outlives=True)


def _note_failure(context: StepContext, effect: Effect, exc: StepError) -> None:
    def write() -> None:
        Effect.objects.filter(id=effect.id, state=EffectState.IN_FLIGHT, fence=effect.fence).update(
            state=EffectState.FAILED, error=storable(exc.as_json())
        )

    context.entry("effect.failed", {"tool": effect.tool, "key": effect.key, "error": exc.as_json()})
    context.later(write)
    context.late_results.append((effect, {"state": "absent", "error": exc.as_json()}))


# --- doubt ------------------------------------------------------------------------------------------------


def _mark_doubt(context: StepContext, effect: Effect, why: str, *, deferred: bool = False) -> Effect:
    """in flight → in doubt, now or with the step's next transaction."""

    def write() -> None:
        Effect.objects.filter(id=effect.id, state=EffectState.IN_FLIGHT).update(
            state=EffectState.IN_DOUBT, error={"message": why}
        )

    context.entry("effect.in_doubt", {"tool": effect.tool, "key": effect.key, "why": why})
    context.later(write)
    if not deferred:
        context.flush()
    effect.state = EffectState.IN_DOUBT
    effect.error = {"message": why}
    return effect


def _next_look(call: EffectCall, effect: Effect) -> InDoubt:
    return InDoubt(effect.key, next_look_at(effect, has_probe=call.probe is not None))


def _resolve(context: StepContext, call: EffectCall, effect: Effect) -> Any:
    """Look into a doubt: evidence, same-key resend, probe, person, in that order."""
    late = late_evidence(effect)
    if late is not None and late.get("state") == "present":
        return _settle(context, effect, late.get("result"), {"outcome": "happened", "by": "evidence"})
    if late is not None:
        return _did_not_happen(context, call, effect, "evidence")
    due = next_look_at(effect, has_probe=call.probe is not None)
    resends = effect.effect_class in (EffectClass.IDEMPOTENT, EffectClass.KEYED)
    if resends and effect.sends < LIMITS.resend_limit and _key_lives(effect):
        return _resend(context, call, effect)
    if call.probe is None or due is None:
        raise Suspended(InDoubt(effect.key, None))
    if due > now():
        raise Suspended(InDoubt(effect.key, due))
    return _probe(context, call, effect)


def _key_lives(effect: Effect) -> bool:
    if effect.effect_class == EffectClass.IDEMPOTENT:
        return True
    margin = timedelta(seconds=LIMITS.call_margin_seconds)
    return effect.key_expires_at is not None and now() + margin < effect.key_expires_at


def _resend(context: StepContext, call: EffectCall, effect: Effect) -> Any:
    """Send again with the same key and body: received twice at worst, executed once."""
    if action_hash(call.tool, call.arguments) != effect.fingerprint:
        raise Suspended(InDoubt(effect.key, None))
    _ensure_lease()
    with context.owned() as tx:
        _guard(context, tx, call, resolving=True)
        at = now()
        fields: dict[str, Any] = {
            "state": EffectState.IN_FLIGHT,
            "fence": context.claim.fence,
            "call_deadline_at": at + timedelta(seconds=call.timeout_seconds),
            "sends": effect.sends + 1,
        }
        if Effect.objects.filter(id=effect.id, state=EffectState.IN_DOUBT).update(**fields) != 1:
            raise StepError(f'"{call.tool}" is no longer in doubt.', code="effect_moved")
        tx.entry(
            "effect.sent", context.path,
            {"tool": call.tool, "key": effect.key, "send": effect.sends + 1, "resend": True},
        )  # fmt: skip
        for name, value in fields.items():
            setattr(effect, name, value)
    crash.reach("after_in_flight")
    return _execute(context, call, effect)


def _probe(context: StepContext, call: EffectCall, effect: Effect) -> Any:
    assert call.probe is not None
    try:
        answer = call.probe(effect.key)
    except Exception as exc:
        answer = Answer("unknown", detail=str(exc) or type(exc).__name__)
    before = list(Evidence.objects.filter(effect=effect, source="probe").order_by("id"))
    body = {"state": answer.state, "result": storable(answer.result), "detail": answer.detail}
    context.later(lambda: add_evidence(effect, "probe", body, context.claim.fence))
    context.entry("effect.probed", {"tool": effect.tool, "key": effect.key, "state": answer.state})
    if answer.state == "present":
        return _settle(context, effect, answer.result, {"outcome": "happened", "by": "probe"})
    grace = timedelta(seconds=LIMITS.probe_grace_seconds)
    if answer.state == "absent":
        # Twice, a grace apart: the request may still have been on its way at the first look.
        earlier = [e for e in before if e.body.get("state") == "absent" and e.at + grace <= now()]
        if earlier:
            return _did_not_happen(context, call, effect, "probe")
    if len(before) + 1 >= LIMITS.probe_limit:
        raise Suspended(InDoubt(effect.key, None))
    raise Suspended(InDoubt(effect.key, now() + grace * (1 if answer.state == "absent" else 2)))


def _settle(context: StepContext, effect: Effect, result: Any, resolution: dict[str, Any]) -> Any:
    safe = storable(result)

    def write() -> None:
        Effect.objects.filter(id=effect.id, state=EffectState.IN_DOUBT).update(
            state=EffectState.COMMITTED, result=_kept(effect, safe), committed_at=now(),
            resolution=resolution | {"at": now().isoformat()},
        )  # fmt: skip

    context.later(write)
    context.entry("effect.resolved", {"tool": effect.tool, "key": effect.key, **resolution})
    return safe


def _did_not_happen(context: StepContext, call: EffectCall, effect: Effect, by: str) -> Any:
    """Proven absent: this generation failed, the next one may be sent."""

    def write() -> None:
        Effect.objects.filter(id=effect.id, state=EffectState.IN_DOUBT).update(
            state=EffectState.FAILED,
            resolution={"outcome": "did_not_happen", "by": by, "at": now().isoformat()},
        )

    context.later(write)
    context.entry(
        "effect.resolved",
        {"tool": effect.tool, "key": effect.key, "outcome": "did_not_happen", "by": by},
    )
    context.flush()
    return _send(
        context, call, action_hash(call.tool, call.arguments),
        intent=None, generation=effect.generation + 1, before=effect,
    )  # fmt: skip
