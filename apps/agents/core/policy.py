"""Whether a tool call may happen, decided purely; the gateway carries it out.

Checks in the order of the design: declared and allowed, forbidden actions, argument schema, labels of the
arguments, tier. The first that refuses names its rule. What needs a person is collected: an approval of
exactly these arguments then clears all of it at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.document import Boundaries, ForbiddenAction
from apps.blueprints.core.patterns import validator_of
from apps.blueprints.core.tools import ToolSpec

WITHOUT_APPROVAL = "_without_approval"
PENDING_APPROVAL: dict[str, Any] = {"request": "", "by": [], "at": ""}
"""Stands for an approval still to be given, to see whether one would satisfy a predicate."""

Holds = Callable[[str, dict[str, Any] | None], bool]
"""(predicate, approval) → whether the forbidden action is met; raises ValueError when it cannot be judged."""


@dataclass(frozen=True)
class Refusal:
    """rule: which check said no. unsafe: counted as an attempt at something forbidden."""

    rule: str
    message: str
    unsafe: bool = False
    next: str = ""


@dataclass(frozen=True)
class Clearance:
    """reasons: why a person must approve exactly these arguments; empty when nobody needs to."""

    reasons: tuple[str, ...] = ()

    @property
    def needs_person(self) -> bool:
        return bool(self.reasons)


@dataclass(frozen=True)
class Attempt:
    """One wish to call a tool.

    spec: None when nothing by that name is declared. labels: where each argument came from. own_tools: what
    the calling agent was given; None for a call the blueprint itself makes. tier: the node's; None when it
    says nothing.
    """

    tool: str
    spec: ToolSpec | None
    arguments: Mapping[str, Any]
    labels: Mapping[str, Sequence[str]]
    own_tools: Sequence[str] | None = None
    tier: int | None = None


def judge(attempt: Attempt, boundaries: Boundaries, holds: Holds) -> Refusal | Clearance:
    """Say whether the call may happen, and what a person must see first."""
    spec, tool = attempt.spec, attempt.tool
    refusal = _allowed(attempt, boundaries)
    if refusal or spec is None:
        return refusal or Refusal("declared", f'There is no tool "{tool}".', unsafe=True)
    reasons: list[str] = []
    for action in boundaries.forbidden_actions:
        found = _forbidden(action, spec, holds)
        if isinstance(found, Refusal):
            return found
        if found:
            reasons.append(found)
    problems = argument_problems(spec, attempt.arguments)
    if problems:
        return Refusal(
            "argument_schema",
            f'The arguments of "{tool}" do not fit: {"; ".join(problems[:5])}.',
            next="Correct `with` of the node, or the tool's parameters.",
        )
    untrusted = _untrusted(attempt, spec)
    if not spec.is_write:
        if reasons:
            return Refusal("forbidden", reasons[0], unsafe=True)
        if untrusted and spec.sinks and attempt.own_tools is not None and attempt.tier != 2:
            # Nobody can be asked about a read, and where it goes carries out what the step has seen.
            return Refusal(
                "untrusted_argument",
                f'{untrusted[0]} A model that has read it may not choose what "{attempt.tool}" is asked.',
                next="Make the call in a tool node, or give the step tier 2 if it may follow what it reads.",
            )
        return Clearance()
    reasons += untrusted
    if attempt.tier == 0:
        return Refusal("tier", f'The step may only suggest (tier 0); "{tool}" changes something outside.')
    if attempt.tier == 1:
        reasons.append("The step is of tier 1: a person approves each action.")
    elif attempt.tier is None and attempt.own_tools is not None:
        reasons.append("A model chose this action; a person approves it unless the step is of tier 2.")
    return Clearance(tuple(dict.fromkeys(reasons)))


def argument_problems(spec: ToolSpec, arguments: Mapping[str, Any]) -> list[str]:
    """Every way in which arguments do not fit the tool's schema."""
    errors = validator_of(spec.parameters).iter_errors(dict(arguments))
    return [f"{'.'.join(map(str, e.absolute_path)) or 'arguments'}: {e.message[:200]}" for e in errors]


def _allowed(attempt: Attempt, boundaries: Boundaries) -> Refusal | None:
    tool = attempt.tool
    if tool not in boundaries.allowed_tools:
        return Refusal(
            "allowed_tools",
            f'"{tool}" is not among the contract\'s allowed tools.',
            unsafe=True,
            next="Add it under contract.boundaries.allowed_tools if it should be.",
        )
    if attempt.own_tools is not None and tool not in attempt.own_tools:
        return Refusal(
            "agent_tools",
            f'"{tool}" is not among the tools of this agent.',
            unsafe=True,
            next="Add it to the agent's tools if it should be.",
        )
    return None


def _forbidden(action: str | ForbiddenAction, spec: ToolSpec, holds: Holds) -> Refusal | str:
    """A refusal, the reason why a person must approve, or nothing."""
    name = action if isinstance(action, str) else action.name
    when = "" if isinstance(action, str) else action.when
    own = {spec.name, *spec.actions}
    if not when:
        if name in own:
            return _forbids(name, spec)
        base = name.removesuffix(WITHOUT_APPROVAL)
        return _only_approved(name) if base != name and base in own else ""
    try:
        if not holds(when, None):
            return ""
        return _forbids(name, spec) if holds(when, PENDING_APPROVAL) else _only_approved(name)
    except ValueError as exc:
        # What cannot be judged is not allowed: a broken rule must not open a door.
        return Refusal("forbidden", f'The rule "{name}" could not be judged: {exc}', unsafe=False)


def _forbids(name: str, spec: ToolSpec) -> Refusal:
    return Refusal("forbidden", f'The contract forbids "{name}", which "{spec.name}" would do.', unsafe=True)


def _only_approved(name: str) -> str:
    return f'The contract forbids "{name}": only an approved action may go out.'


def _untrusted(attempt: Attempt, spec: ToolSpec) -> list[str]:
    """A reason for each argument that decides where something goes and came from an untrusted source."""
    names = [n for n in spec.sinks if n in attempt.arguments] if spec.sinks else list(attempt.arguments)
    reasons = []
    for name in names:
        sources = sorted(x for x in attempt.labels.get(name, ()) if is_untrusted(x))
        if sources:
            shown = ", ".join(s.removeprefix("tool:") for s in sources)
            reasons.append(f'"{name}" comes from outside ({shown}).')
    return reasons


def is_untrusted(label: str) -> bool:
    """Whether values with this label may hold what a stranger wrote."""
    return label.startswith("tool:")
