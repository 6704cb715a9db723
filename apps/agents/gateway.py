"""The single door to every tool.

Before anything leaves, in this order: declared and allowed → forbidden actions → argument schema → labels of
the arguments → tier → approval → limits → effect ledger. A refusal is the entry `tool.refused` with its
rule; an attempt at something forbidden is counted as unsafe.

Reads are journalled with the step and remembered for a while inside the run. Writes go through the effect
ledger, which asks for the approval again under the run's lock. In a simulated run every tool answers by its
`simulate`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from apps.agents import memo, outgoing
from apps.agents.bounded import run_bounded
from apps.agents.core.policy import Attempt, Clearance, Refusal, is_untrusted, judge
from apps.agents.errors import Refused, Rejected
from apps.agents.tools.base import Tool, ToolRun
from apps.agents.tools.registry import tool_for
from apps.blueprints.core.tools import ToolSpec
from apps.runs.core.limits import LIMITS
from apps.runs.errors import StepError
from apps.runs.ports import CallRecord, Context, EffectCall, Question
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.base.safejson import fingerprint, storable

QUESTIONS_PER_TURN = 16
"""Keeps the numbers of questions of different turns apart; no answer may hold more tool calls."""
DUPLICATE_QUESTIONS = 1000
"""Where the effect ledger's own questions about duplicates begin."""


def call_tool(
    context: Context,
    name: str,
    arguments: dict[str, Any],
    *,
    turn: int = 0,
    ordinal: int = 0,
    business_key: str = "",
    labels: Mapping[str, Sequence[str]] | None = None,
    own_tools: Sequence[str] | None = None,
    approved: bool = False,
    poll: int | None = None,
    undoing: bool = False,
) -> Any:
    """Call one tool of the blueprint for a step; returns its recorded result.

    turn, ordinal: the call's place in the step; a call already recorded there is replayed, never repeated.
    labels: where each argument came from. own_tools: what the calling agent was given; None for a call that
    the blueprint itself makes. approved: the arguments come from an approval, whose grant this call uses up.
    poll: how often this step has asked before; then it must be a read, is never answered from memory, and
    only the first one is journalled (`keep_poll` adds the last). undoing: the call takes back what another
    one did; a tool's own `undo` need not be among the allowed tools, and no limit of calls stops it.
    Raises Refused, Rejected, StepError, and Suspended (never catch it) while a person is asked.
    """
    turn = turn if poll is None else poll
    known = context.recorded("tool", turn, ordinal) if poll is None else None
    if known is not None and known.error is None:
        return known.response
    tool = tool_for(context.document, name)
    spec = tool.spec_for(arguments) if tool else None
    place = _Place(context, name, turn, ordinal)
    if spec is not None and spec.is_write:
        arguments = _decided(place, arguments)
    given = {key: list(value) for key, value in (labels or {}).items()}
    attempt = Attempt(name, spec, arguments, given, own_tools, context.node.tier)
    boundaries = context.document.contract.boundaries
    if undoing:
        allowed = [*boundaries.allowed_tools, name]
        boundaries = boundaries.model_copy(update={"allowed_tools": allowed})
    verdict = judge(attempt, boundaries, place.holds(arguments))
    if isinstance(verdict, Refusal):
        raise place.refused(verdict)
    assert tool is not None and spec is not None
    if poll is not None and spec.is_write:
        message = f'"{name}" changes something outside; only what reads may be asked again and again.'
        raise place.refused(Refusal("poll_writes", message, next="Poll a tool that reads."))
    if not undoing:
        place.check_limit(max((poll or 0) - 1, 0))  # The first one is in the journal.
    if poll:
        return storable(_read_now(place, tool, spec, arguments))
    if spec.is_write:
        return _write(place, tool, spec, arguments, verdict, given, business_key, approved)
    return _read(place, tool, spec, arguments, from_memory=poll is None)


def keep_poll(context: Context, name: str, arguments: dict[str, Any], result: Any, poll: int) -> None:
    """Journal the poll that ended a wait, numbered by those before it."""
    if context.recorded("tool", poll) is None:
        _Place(context, name, poll, 0).record(arguments, result, 0.0, polls=poll + 1)


def labels_added(context: Context, name: str) -> list[str]:
    """What a tool's result adds to the labels of whatever it goes into."""
    tool = tool_for(context.document, name)
    return [f"tool:{name}"] if tool is None or tool.spec.open_world else []


def untrusted(labels: Sequence[str]) -> list[str]:
    return [x for x in labels if is_untrusted(x)]


class _Place:
    """Where in a step a call is made, and what is written down about it."""

    def __init__(self, context: Context, tool: str, turn: int, ordinal: int) -> None:
        self.context, self.tool, self.turn, self.ordinal = context, tool, turn, ordinal

    @property
    def question_number(self) -> int:
        return self.turn * QUESTIONS_PER_TURN + self.ordinal

    def holds(self, arguments: dict[str, Any]) -> Any:
        """Judges a contract's predicate over tool, args, approval and the run's state."""

        def judged(predicate: str, approval: dict[str, Any] | None) -> bool:
            try:
                value = self.context.evaluate(predicate, tool=self.tool, args=arguments, approval=approval)
            except MirrorNeuronError as exc:
                raise ValueError(exc.message) from exc
            if not isinstance(value, bool):
                raise ValueError(f"it gives {value!r}, expected true or false")
            return value

        return judged

    def refused(self, refusal: Refusal) -> Refused:
        self.context.entry(
            "tool.refused",
            {
                "tool": self.tool,
                "rule": refusal.rule,
                "message": refusal.message,
                "unsafe": refusal.unsafe,
                "turn": self.turn,
                "ordinal": self.ordinal,
            },
        )
        # Arguments that do not fit are a mistake, not a breach: only the rest counts as refused by policy.
        code = "bad_arguments" if refusal.rule == "argument_schema" else "refused"
        return Refused(
            refusal.message, rule=refusal.rule, unsafe=refusal.unsafe, next=refusal.next, code=code
        )

    def check_limit(self, unrecorded: int = 0) -> None:
        """The contract's number of calls of this tool per run. unrecorded: calls the journal left out."""
        limit = self.context.document.contract.tool_limits.get(self.tool)
        if limit is None or limit.per_run is None:
            return
        made = calls_made(self.context, self.tool, self.turn, self.ordinal) + unrecorded
        if made >= limit.per_run:
            message = f'"{self.tool}" may be called {limit.per_run} times in a run, and was.'
            raise self.refused(
                Refusal("tool_limit", message, next="Raise contract.tool_limits if it should.")
            )

    def record(self, arguments: dict[str, Any], result: Any, seconds: float, **more: Any) -> None:
        self.context.record(
            CallRecord(
                kind="tool",
                name=self.tool,
                turn=self.turn,
                ordinal=self.ordinal,
                request_hash=fingerprint([self.tool, arguments]),
                request=arguments,
                response=storable(result),
                started_at=now() - timedelta(seconds=seconds),
                latency_ms=round(seconds * 1000),
                attempt=self.context.attempt,
            )
        )
        self.context.entry(
            "tool.called",
            {
                "tool": self.tool,
                "turn": self.turn,
                "ordinal": self.ordinal,
                "latency_ms": round(seconds * 1000),
                **more,
            },
        )


def calls_made(context: Context, tool: str, turn: int, ordinal: int) -> int:
    """Calls of a tool that this run has recorded, the one at this place left out."""
    from apps.runs.models import Call

    made = Call.objects.filter(step__run_id=context.run_id, kind="tool", name=tool, error__isnull=True)
    return made.exclude(step__path=context.path, turn=turn, ordinal=ordinal).count()


# --- reads ------------------------------------------------------------------------------------------------


def _read(place: _Place, tool: Tool, spec: ToolSpec, arguments: dict[str, Any], *, from_memory: bool) -> Any:
    context, began = place.context, time.monotonic()
    key = memo.key_of(context, spec, arguments) if from_memory else ""
    known, result = memo.recall(key) if key else (False, None)
    if not known:
        result = storable(_read_now(place, tool, spec, arguments))
        if key:
            memo.keep(key, result)
    place.record(
        arguments,
        result,
        time.monotonic() - began,
        **({"remembered": True} if known else {}),
        **({"simulated": True} if context.simulate else {}),
    )
    return result


def _read_now(place: _Place, tool: Tool, spec: ToolSpec, arguments: dict[str, Any]) -> Any:
    context = place.context
    call = ToolRun.of(context, arguments, timeout_seconds=_seconds(context, spec))
    if context.simulate:
        return _ask(tool.simulate, call, spec)
    leaving = outgoing.tool_call(context, spec, arguments, call.timeout_seconds)
    with outgoing.watched(context, context.admit(leaving, place.turn, place.ordinal)):
        context.progress(at_least=call.timeout_seconds + LIMITS.call_margin_seconds)
        return _ask(tool.run, call, spec)


def _ask(work: Callable[[ToolRun], Any], call: ToolRun, spec: ToolSpec) -> Any:
    try:
        return run_bounded(work, call)
    except StepError:
        raise
    except TimeoutError as exc:
        raise StepError(
            f'"{spec.name}" gave no answer within {call.timeout_seconds:g} s.',
            code="tool_timeout",
            next="The step tries again by itself; give the tool a longer `timeout` if it is slow.",
        ) from exc
    except Exception as exc:
        # A read leaves nothing in doubt: whatever went wrong, asking again is safe.
        raise StepError(f'"{spec.name}" failed: {exc}', code="tool_failed") from exc


def _seconds(context: Context, spec: ToolSpec) -> float:
    """The tool's time-out, or what the attempt has left for it."""
    left = context.seconds_left() - LIMITS.call_margin_seconds - 1.0
    return min(spec.timeout_seconds, left) if left >= 1.0 else spec.timeout_seconds


# --- writes -----------------------------------------------------------------------------------------------


def _decided(place: _Place, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as a person decided them, when this call was asked about. Raises Rejected."""
    decision = (place.context.memo or {}).get("decision") or {}
    asked = (place.question_number, DUPLICATE_QUESTIONS + place.ordinal)
    about_this = decision.get("tool") == place.tool and decision.get("ordinal") in asked
    if not about_this:
        return arguments
    if decision.get("verb") == "approve":
        final = decision.get("output")
        return dict(final) if isinstance(final, Mapping) else arguments
    reason = f": {decision['reason']}" if decision.get("reason") else ""
    raise Rejected(
        f'{decision.get("by") or "A person"} rejected "{place.tool}"{reason}.',
        permanent=True,
        next="Nothing was sent. Change the step's input and run it again if it should happen after all.",
    )


def _write(
    place: _Place,
    tool: Tool,
    spec: ToolSpec,
    arguments: dict[str, Any],
    clearance: Clearance,
    labels: dict[str, list[str]],
    business_key: str,
    approved: bool,
) -> Any:
    context, began = place.context, time.monotonic()
    seconds = _seconds(context, spec)
    call = ToolRun.of(context, arguments, timeout_seconds=seconds)

    def at(key: str) -> ToolRun:
        return replace(call, key=key, started=time.monotonic())

    work = tool.simulate if context.simulate else tool.run
    probe = None if context.simulate else tool.probe
    leaving = None if context.simulate else outgoing.tool_call(context, spec, arguments, seconds)
    sending = outgoing.Sending(context, leaving, place.turn, place.ordinal)
    effect = EffectCall(
        tool=spec.name,
        effect_class=spec.effect,
        arguments=arguments,
        execute=lambda key: sending.execute(lambda: work(at(key))),
        timeout_seconds=seconds,
        turn=place.turn,
        ordinal=place.ordinal,
        probe=(lambda key: probe(at(key))) if probe is not None else None,
        business_key=business_key,
        key_ttl_seconds=spec.key_ttl_seconds,
        needs_grant=clearance.needs_person or approved,
        question=_question(place, tool, arguments, clearance, labels),
        on_duplicate=context.document.contract.recovery_policy.duplicate_side_effect_policy,
        admit=sending.admit,
    )
    with sending.told():
        result = context.effect(effect)
    simulated = {"simulated": True} if context.simulate else {}
    place.record(arguments, result, time.monotonic() - began, effect=True, **simulated)
    return result


def _question(
    place: _Place,
    tool: Tool,
    arguments: dict[str, Any],
    clearance: Clearance,
    labels: dict[str, list[str]],
) -> Question:
    context, node = place.context, place.context.node
    checkpoints = context.document.contract.human_checkpoints
    reasons = list(clearance.reasons)
    return Question(
        title=f"{node.title or node.id.replace('_', ' ')}: {place.tool.replace('_', ' ')}?",
        proposal=arguments,
        tool=place.tool,
        effect_summary=tool.describe(arguments),
        evidence=[
            *([{"step": node.id, "title": "Why a person is asked", "output": reasons}] if reasons else []),
            *_shown(context),
        ],
        labels=labels,
        assign=node.assign.model_dump(),
        quorum=[rule.model_dump() for rule in node.quorum],
        due_at=now() + timedelta(seconds=node.due) if node.due is not None else None,
        timeout_action=next((c.timeout_action for c in checkpoints if c.step == node.id), "pause"),
        ordinal=place.question_number,
        round=context.round,
    )


def _shown(context: Context) -> list[dict[str, Any]]:
    """What the steps right before this one found."""
    steps = context.names().get("steps") or {}
    before = [e.source for e in context.document.graph.edges if e.to == context.node.id]
    found = []
    for node_id in dict.fromkeys([*context.node.show, *before]):
        node, step = context.document.node(node_id), steps.get(node_id) or {}
        if node is not None and step.get("output") is not None:
            found.append({"step": node_id, "title": node.title or node_id, "output": step["output"]})
    return found
