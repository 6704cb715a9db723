"""States in words and shape, so that colour is never the only sign (WCAG 1.4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Look:
    """How one state is shown. `icon` names a symbol of `templatetags.mn.ICONS`, `tone` a colour token."""

    word: str
    icon: str
    tone: str


RUN_LOOKS: dict[str, Look] = {
    "queued": Look("Queued", "dots", "quiet"),
    "running": Look("Running", "play", "busy"),
    "waiting": Look("Waiting", "clock", "wait"),
    "paused": Look("Paused", "pause", "quiet"),
    "cancelling": Look("Cancelling", "stop", "quiet"),
    "succeeded": Look("Succeeded", "check", "done"),
    "failed": Look("Failed", "cross", "fail"),
    "cancelled": Look("Cancelled", "stop", "quiet"),
}
STEP_LOOKS: dict[str, Look] = {
    "blocked": Look("Not started", "dot", "quiet"),
    "ready": Look("Queued", "dots", "quiet"),
    "running": Look("Working", "play", "busy"),
    "waiting": Look("Waiting", "clock", "wait"),
    "in_doubt": Look("In doubt", "question", "doubt"),
    "succeeded": Look("Done", "check", "done"),
    "failed": Look("Failed", "cross", "fail"),
    "cancelled": Look("Cancelled", "stop", "quiet"),
    "skipped": Look("Skipped", "skip", "quiet"),
}
EFFECT_LOOKS: dict[str, Look] = {
    "intent": Look("Planned", "dots", "quiet"),
    "in_flight": Look("On its way", "play", "busy"),
    "committed": Look("Happened once", "check", "done"),
    "in_doubt": Look("In doubt", "question", "doubt"),
    "failed": Look("Did not happen", "cross", "fail"),
}
REQUEST_LOOKS: dict[str, Look] = {
    "open": Look("Open", "inbox", "wait"),
    "claimed": Look("Being looked at", "person", "wait"),
    "approved": Look("Approved", "check", "done"),
    "rejected": Look("Rejected", "cross", "fail"),
    "changes_requested": Look("Changes requested", "back", "quiet"),
    "answered": Look("Answered", "check", "done"),
    "expired": Look("Expired", "clock", "quiet"),
    "cancelled": Look("Cancelled", "stop", "quiet"),
    "superseded": Look("Replaced", "back", "quiet"),
}
CHECK_LOOKS: dict[str, Look] = {
    "pass": Look("Passed", "check", "done"),
    "fail": Look("Failed", "cross", "fail"),
    "not_checked": Look("Not checked", "dot", "quiet"),
}
LOOKS: dict[str, dict[str, Look]] = {
    "run": RUN_LOOKS,
    "step": STEP_LOOKS,
    "effect": EFFECT_LOOKS,
    "request": REQUEST_LOOKS,
    "check": CHECK_LOOKS,
}
WAITING_FOR: dict[str, str] = {
    "approval": "a person",
    "timer": "a timer",
    "retry": "the next try",
    "signal": "a signal",
    "person": "a person",
    "poll": "what it looks for",
    "child": "a sub-run",
    "body": "the steps inside",
    "slot": "a free slot",
}
WAITS_SHORT: dict[str, str] = {
    "approval": "Needs a person",
    "timer": "On a timer",
    "retry": "Tries again soon",
    "signal": "Awaits a signal",
    "person": "Needs a person",
    "poll": "Looks again soon",
    "child": "In a sub-run",
    "body": "Under way",
    "slot": "Awaits a slot",
}
"""The same where there is little room, beside the sign that says "waiting"."""
KIND_WORDS: dict[str, str] = {
    "agent": "Agent",
    "extract": "Extract",
    "tool": "Tool",
    "transform": "Transform",
    "router": "Router",
    "aggregator": "Merge",
    "approval": "Approval",
    "check": "Check",
    "timer": "Wait",
    "sensor": "Sensor",
    "map": "For each",
    "loop": "Loop",
    "subflow": "Subflow",
    "code": "Code",
}


def look(of: str, state: str, reason: str = "") -> Look:
    """The look of a state; a waiting run or step says what it waits for."""
    found = LOOKS[of].get(str(state), Look(str(state).replace("_", " ").capitalize(), "dot", "quiet"))
    if state == "waiting" and reason in WAITING_FOR:
        return Look(f"Waiting for {WAITING_FOR[reason]}", found.icon, found.tone)
    return found


def humanise(name: str) -> str:
    """`approve_final_email` as a person would write it: "Approve final email"."""
    text = name.replace("_", " ").replace("-", " ").strip()
    return text[:1].upper() + text[1:]


def span(seconds: float) -> str:
    """A length of time, two units at most: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`."""
    seconds = max(0.0, seconds)
    if seconds < 0.1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, size, small, small_size in (
        ("min", 60, "s", 1),
        ("h", 3600, "min", 60),
        ("d", 86400, "h", 3600),
    ):
        if whole < size * {"min": 60, "h": 24, "d": 10_000_000}[unit]:
            rest = whole % size // small_size
            return f"{whole // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{whole} s"


def since(then: datetime, now: datetime) -> str:
    """How long ago, in words."""
    gap = (now - then).total_seconds()
    return "just now" if gap < 5 else f"{span(gap)} ago"


def usd(microusd: int | None, *, unknown: bool = False) -> str:
    """Money for a person. None is "unknown", never zero; `unknown` marks a sum with unpriced parts."""
    if microusd is None:
        return "unknown"
    dollars = microusd / 1_000_000
    text = "$0" if microusd == 0 else f"${dollars:.2f}" if dollars >= 1 else f"${dollars:.4f}".rstrip("0")
    if microusd and dollars < 0.0001:
        text = "less than $0.0001"
    return f"at least {text}" if unknown else text


def plural(count: int, one: str, many: str = "") -> str:
    """`1 step`, `3 steps`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def event_words(kind: str, data: dict[str, Any]) -> str:
    """One ledger entry as a short sentence; the raw entry stays one fold away."""
    fixed = EVENT_WORDS.get(kind)
    text = fixed or humanise(kind.replace(".", " "))
    extra = ""
    for key in ("verb", "tool", "name", "model", "port", "reason", "message", "rule"):
        value = data.get(key)
        if isinstance(value, str) and value and (key, value) != ("port", "done"):
            value = value.replace("_", " ") if key in ("port", "verb", "reason") else value
            extra = value if len(value) <= 120 else value[:117] + "…"
            break
    error = data.get("error")
    if not extra and isinstance(error, dict) and isinstance(error.get("message"), str):
        extra = error["message"][:160]
    return f"{text}: {extra}" if extra else text


EVENT_WORDS: dict[str, str] = {
    "run.started": "Run started",
    "run.succeeded": "Run succeeded",
    "run.failed": "Run failed",
    "run.cancelled": "Run cancelled",
    "run.paused": "Run paused",
    "run.resumed": "Run resumed",
    "run.recovered": "Run recovered after a worker died",
    "run.reopened": "A person let the failed run go on",
    "run.forked": "A person forked this run",
    "step.ready": "Queued",
    "step.started": "Started",
    "step.succeeded": "Done",
    "step.failed": "Failed",
    "step.waiting": "Waiting",
    "step.retrying": "Will try again",
    "step.skipped": "Skipped",
    "step.kept": "Kept from the run this one was forked from",
    "body.kept": "Its finished passes are kept",
    "step.cancelled": "Cancelled",
    "step.in_doubt": "Outcome unknown",
    "attempt.lost": "The worker died; the step goes back in the queue",
    "attempt.handed_back": "The worker stopped; the step goes back in the queue",
    "run.cancel_requested": "Asked to cancel",
    "run.checked": "Success criteria checked",
    "approval.counted": "One more approval",
    "approval.overdue": "Nobody has answered in time",
    "effect.probed": "Asked the other side whether it happened",
    "effect.failed": "Effect did not happen",
    "model.requested": "Asked a model",
    "tool.called": "Called a tool",
    "code.printed": "The code printed",
    "tool.refused": "Refused a tool call",
    "effect.intended": "Planned an effect",
    "effect.sent": "Effect on its way",
    "effect.committed": "Effect happened",
    "effect.inherited": "Effect taken over as a result, not sent",
    "effect.replayed": "Effect already recorded, not repeated",
    "effect.in_doubt": "Effect in doubt",
    "effect.resolved": "Doubt resolved",
    "approval.requested": "Asked a person",
    "approval.decided": "A person decided",
    "signal.received": "Signal received",
    "signal.refused": "Signal did not fit",
    "timer.fired": "Timer fired",
    "budget.alerted": "Budget alert",
}
