"""Runs, steps, events and effects as the API, the command line and the pages show them (SPEC section 3)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from apps.ledger.models import Effect
from apps.ledger.payloads import Extent, column
from apps.ledger.selectors import Entry
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.models import Run, Step


def usd(microusd: int) -> str:
    """Money as a decimal string in USD, exact to the micro-dollar."""
    if not microusd:
        return "0"
    return f"{Decimal(microusd) / 1_000_000:.6f}".rstrip("0").rstrip(".") or "0"


def moment(at: datetime | None) -> str | None:
    """RFC 3339 in UTC."""
    return at.isoformat().replace("+00:00", "Z") if at else None


def run_view(run: Run, waiting: list[Step] | None = None, *, extent: Extent = Extent.WHOLE) -> dict[str, Any]:
    """A run. waiting: its unfinished idle steps when the caller has them already, else one query."""
    if waiting is None:
        waiting = getattr(run, "idle_steps", None)  # read by `selectors.with_waiting`
    if waiting is None and run.status in RUN_ENDED:
        waiting = []
    if waiting is None:
        waiting = list(run.steps.filter(status__in=[StepStatus.WAITING, StepStatus.IN_DOUBT]).order_by("id"))
    return {
        "id": str(run.id),
        "blueprint": run.blueprint_name,
        "version": _number_of(run),
        "class": run.workflow_class,
        "status": run.status,
        "needs_attention": run.needs_attention,
        "waiting_for": [waiting_view(step) for step in waiting],
        "inputs": column(run, "inputs", extent),
        "output": column(run, "output", extent),
        "error": run.error,
        "checks": run.checks,
        "cost_usd": usd(run.cost_microusd),
        "cost_unknown": run.cost_unknown,
        "created_at": moment(run.created_at),
        "started_at": moment(run.started_at),
        "ended_at": moment(run.ended_at),
        "seq": run.seq,
        "trace_id": run.trace_id,
        "labels": run.labels,
        "simulate": run.simulate,
        "demo": run.is_demo,
        "forked_from": str(run.forked_from) if run.forked_from else None,
    }


def _number_of(run: Run) -> int | None:
    """Its version's number. Lists bring it along: a version object for each row costs more than the row."""
    known = run.__dict__
    return known["version_number"] if "version_number" in known else run.version.number  # noqa: SIM401


def slot_words(step: Step) -> str:
    """What a step with reason `slot` waits for: a place among those with its key, or a limit."""
    limit = (step.memo or {}).get("limit")
    if limit and step.due_at:
        return str(limit.get("words") or "a limit")
    return f'a free place: as many steps with the concurrency key "{step.slot}" run as may'


def waiting_view(step: Step) -> dict[str, Any]:
    reason = "effect_in_doubt" if step.status == StepStatus.IN_DOUBT else step.reason
    details = {
        "approval": "a person's decision",
        "timer": "a time",
        "retry": "the next try",
        "signal": _awaited(step),
        "poll": "what it looks for outside",
        "person": "a person: what it takes back could not be taken back",
        "slot": slot_words(step),
        "effect_in_doubt": "proof whether the effect happened"
        if step.due_at
        else "a person to say whether the effect happened",
    }
    return {
        "step": step.path,
        "reason": reason,
        "detail": details.get(reason, reason),
        "since": moment(step.started_at or step.ready_at),
        "until": moment(step.due_at),
    }


def _awaited(step: Step) -> str:
    name = (step.memo or {}).get("waits_for") if step.reason == "signal" else None
    return f'the signal "{name}"' if name else "a signal"


def step_view(step: Step, *, extent: Extent = Extent.WHOLE) -> dict[str, Any]:
    return {
        "path": step.path,
        "node": step.node_id,
        "kind": step.kind,
        "round": step.round,
        "status": step.status,
        "reason": step.reason,
        "port": step.port,
        "attempt": step.attempt,
        "failures": step.failures,
        "losses": step.losses,
        "queued_at": moment(step.ready_at),
        "started_at": moment(step.started_at),
        "ended_at": moment(step.ended_at),
        "due_at": moment(step.due_at),
        "input": column(step, "input", extent),
        "output": column(step, "output", extent),
        "error": step.error,
        "labels": step.labels,
        "model_calls": step.model_calls,
        "tool_calls": step.tool_calls,
        "cost_usd": usd(step.cost_microusd),
        "cost_unknown": step.cost_unknown,
        "kept": step.kept,
        **_inside(step),
    }


def _inside(step: Step) -> dict[str, Any]:
    """Of a map or loop how far it is, of a subflow the run it started."""
    memo = step.memo or {}
    if step.kind in ("map", "loop") and "opened" in memo:
        told = ("total", "opened", "done", "failed")
        return {"passes": {name: memo[name] for name in told if name in memo}}
    return {"child": memo["child"]} if step.kind == "subflow" and "child" in memo else {}


def blocked_view(node_id: str, kind: str) -> dict[str, Any]:
    """A node no step exists for yet."""
    return step_view(Step(path=node_id, node_id=node_id, kind=kind, status=StepStatus.BLOCKED))


def event_view(entry: Entry) -> dict[str, Any]:
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "kind": entry.kind,
        "step": entry.step_path or None,
        "attempt": entry.attempt,
        "data": entry.data,
    }


def effect_view(effect: Effect, *, extent: Extent = Extent.WHOLE) -> dict[str, Any]:
    return {
        "id": str(effect.id),
        "run": str(effect.run_id),
        "step": effect.step_path,
        "tool": effect.tool,
        "class": effect.effect_class,
        "state": effect.state,
        "key": effect.key,
        "fingerprint": effect.fingerprint,
        "arguments": column(effect, "arguments", extent),
        "result": column(effect, "result", extent),
        "error": effect.error,
        "attempts": effect.sends,
        "generation": effect.generation,
        "approved_by": (effect.approved_by or {}).get("by"),
        "business_key": effect.business_key or None,
        "simulated": effect.simulated,
        "inherited_from": str(effect.inherited_from) if effect.inherited_from else None,
        "sent_at": moment(effect.sent_at),
        "committed_at": moment(effect.committed_at),
        "duplicates_blocked": effect.duplicates_blocked,
        "resolution": effect.resolution,
        "evidence": [
            {"at": moment(e.at), "source": e.source, "body": column(e, "body", extent)}
            for e in effect.evidence.all()
        ],
    }
