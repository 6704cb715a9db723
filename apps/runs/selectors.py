"""Reading runs; every function takes who asks, or a run that was already allowed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import Prefetch, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast

from apps.blueprints.core.kinds import ports
from apps.ledger.models import Effect, Entry
from apps.ledger.selectors import effects_of, entries_after
from apps.runs.core.plan import Plan
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.errors import RunNotFound
from apps.runs.models import Call, Run, Step, Worker
from apps.runs.plans import plan_for
from apps.runs.views import blocked_view, moment, step_view, usd, waiting_view
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.ids import as_uuid


def runs_for(
    principal: Principal,
    *,
    status: str | None = None,
    blueprint: str | None = None,
    label: str | None = None,
    since: datetime | None = None,
) -> QuerySet[Run]:
    """Runs of the workspace, newest first, with what each waits for. label: `key=value`, or a key alone."""
    principal.require(Permission.READ)
    idle = Step.objects.filter(status__in=[StepStatus.WAITING, StepStatus.IN_DOUBT]).order_by("id")
    runs = (
        Run.objects.filter(workspace=principal.workspace)
        .select_related("version")
        .prefetch_related(Prefetch("steps", queryset=idle, to_attr="idle_steps"))
        .order_by("-id")
    )
    if status:
        runs = runs.filter(status=status)
    if blueprint:
        runs = runs.filter(blueprint_name=blueprint)
    if since:
        runs = runs.filter(created_at__gte=since)
    if label:
        key, equals, value = label.partition("=")
        if equals:
            # Not `labels__<key>`: a key such as `team__regex` would be read as a lookup.
            found = Cast(KeyTextTransform(key, "labels"), TextField())
            runs = runs.annotate(label_value=found).filter(label_value=value)
        else:
            runs = runs.filter(labels__has_key=key)
    return runs


def run_for(principal: Principal, run_id: Any) -> Run:
    """One run of the workspace. Raises RunNotFound for everybody else's."""
    principal.require(Permission.READ)
    identity = as_uuid(run_id)
    run = (
        Run.objects.filter(id=identity, workspace=principal.workspace).select_related("version").first()
        if identity
        else None
    )
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run


def steps_of(run: Run) -> list[dict[str, Any]]:
    """Every step in running order, then the nodes that are still blocked, in the graph's order."""
    steps = list(Step.objects.filter(run=run).order_by("id"))
    seen = {s.node_id for s in steps}
    plan = plan_for(run.version_id)
    rank = {node: i for i, node in enumerate(plan.topological())}
    steps.sort(key=lambda s: (s.started_at or s.ready_at or s.created_at, rank.get(s.node_id, 0), s.id))
    blocked = [blocked_view(n, plan.nodes[n].kind) for n in plan.topological() if n not in seen]
    return [step_view(s) for s in steps] + ([] if run.status in RUN_ENDED else blocked)


def step_for(run: Run, path: str) -> Step:
    step = Step.objects.filter(run=run, path=path).first()
    if step is None:
        raise NotFound(f'Run {run.id} has no step "{path}".', code="step_not_found")
    return step


def attempts_of(run: Run) -> dict[str, list[dict[str, Any]]]:
    """Earlier attempts by step path, oldest first."""
    found: dict[str, list[dict[str, Any]]] = {}
    rows = Step.objects.filter(run=run, attempts__isnull=False).distinct().prefetch_related("attempts")
    for step in rows:
        found[step.path] = [
            {
                "number": a.number,
                "status": a.status,
                "queued_at": moment(a.ready_at),
                "started_at": moment(a.started_at),
                "ended_at": moment(a.ended_at),
                "error": a.error,
            }
            for a in sorted(step.attempts.all(), key=lambda a: (a.ended_at, a.number))
        ]
    return found


def calls_of(run: Run, path: str) -> list[Call]:
    """Model requests and tool calls of one step, in the order they were made."""
    return list(Call.objects.filter(step__run=run, step__path=path).order_by("turn", "started_at", "id"))


def events_after(run: Run, after: int = 0, limit: int = 200) -> list[Entry]:
    return entries_after(run.id, after, limit)


def run_effects(run: Run) -> list[Effect]:
    return effects_of(run.id)


def effects_for(
    principal: Principal, *, state: str | None = None, run: Run | None = None
) -> QuerySet[Effect]:
    principal.require(Permission.READ)
    effects = (
        Effect.objects.filter(workspace=principal.workspace)
        .prefetch_related("evidence")
        .order_by("-created_at")
    )
    if state:
        effects = effects.filter(state=state)
    if run is not None:
        effects = effects.filter(run_id=run.id)
    return effects


def effect_for(principal: Principal, effect_id: Any) -> Effect:
    identity = as_uuid(effect_id)
    effect = effects_for(principal).filter(id=identity).first() if identity else None
    if effect is None:
        raise NotFound(f"There is no effect {effect_id}.", next="List them with `mn effects list`.")
    return effect


def costs_of(run: Run) -> dict[str, Any]:
    """What the run cost, per step and per model; unknown is said, never counted as zero."""
    by_model: dict[str, dict[str, Any]] = {}
    calls = Call.objects.filter(step__run=run, kind="model").order_by("id")
    for call in calls.defer("request", "response", "error"):
        line = by_model.setdefault(
            call.name,
            {"model": call.name, "requests": 0, "input_tokens": 0, "output_tokens": 0, "microusd": 0,
             "unknown": 0},
        )  # fmt: skip
        line["requests"] += 1
        line["input_tokens"] += call.input_tokens
        line["output_tokens"] += call.output_tokens
        line["microusd"] += call.cost_microusd or 0
        line["unknown"] += call.cost_microusd is None
    steps = Step.objects.filter(run=run).exclude(model_calls=0, tool_calls=0).order_by("id")
    return {
        "total_usd": usd(run.cost_microusd),
        "unknown": run.cost_unknown,
        "models": [
            {**{k: v for k, v in line.items() if k != "microusd"}, "cost_usd": usd(line["microusd"])}
            for line in by_model.values()
        ],
        "steps": [
            {
                "path": s.path,
                "model_calls": s.model_calls,
                "tool_calls": s.tool_calls,
                "cost_usd": usd(s.cost_microusd),
                "unknown": s.cost_unknown,
            }
            for s in steps
        ],
    }


# --- why a run is where it is -----------------------------------------------------------------------------


def explain(run: Run) -> dict[str, Any]:
    """Where a run is, what it waits for, and what comes next, in words.

    {status, why, waiting_for, now, next: [{step, title, kind, when, effect}], actions, kept}
    """
    plan = plan_for(run.version_id)
    steps = list(Step.objects.filter(run=run).order_by("id"))
    waiting = [s for s in steps if s.status in (StepStatus.WAITING, StepStatus.IN_DOUBT)]
    running = [s for s in steps if s.status == StepStatus.RUNNING]
    ready = [s for s in steps if s.status == StepStatus.READY]
    return {
        "run": str(run.id),
        "status": run.status,
        "why": _why(run, plan, running, ready, waiting),
        "waiting_for": [waiting_view(s) for s in waiting],
        "now": [s.path for s in running],
        "next": [] if run.status in RUN_ENDED else _next(plan, steps),
        "actions": _actions(run, waiting),
        "kept": sum(s.status == StepStatus.SUCCEEDED for s in steps),
    }


def _title(plan: Plan, node_id: str) -> str:
    return plan.nodes[node_id].title or node_id.replace("_", " ")


def _why(run: Run, plan: Plan, running: list[Step], ready: list[Step], waiting: list[Step]) -> str:
    match run.status:
        case RunStatus.SUCCEEDED:
            return "All steps have ended; the run succeeded."
        case RunStatus.CANCELLED:
            return "A person cancelled the run."
        case RunStatus.FAILED:
            error = run.error or {}
            where = f'Step "{error["step"]}" failed: ' if error.get("step") else ""
            return f"{where}{error.get('message', 'the run failed.')}"
        case RunStatus.PAUSED:
            return "The run is paused; nothing starts until somebody resumes it."
        case RunStatus.CANCELLING:
            return "The run is being cancelled; what is in flight settles first."
    if running:
        return f"Working on {', '.join(s.path for s in running)}."
    if ready:
        if not Worker.objects.filter(lease_until__gt=now(), stopped_at=None).exists():
            return f"{ready[0].path} is ready, but no worker is running."
        return f"{', '.join(s.path for s in ready)} is ready and waits for a free worker."
    reasons = {
        "approval": "a person's decision",
        "timer": "its time",
        "retry": "the next try",
        "signal": "a signal from outside",
    }
    parts = []
    for step in waiting:
        if step.status == StepStatus.IN_DOUBT:
            who = "it is looked into again soon" if step.due_at else "a person has to say"
            parts.append(f"{step.path}: nobody knows yet whether its effect happened; {who}")
        else:
            parts.append(f"{step.path} waits for {reasons.get(step.reason, step.reason)}")
    return ("; ".join(parts) + ".") if parts else "Nothing is active."


def _next(plan: Plan, steps: list[Step]) -> list[dict[str, Any]]:
    """What follows the active steps, with the choice that leads there."""
    latest = {s.node_id: s for s in sorted(steps, key=lambda s: s.round)}
    ended = {n for n, s in latest.items() if s.status in STEP_ENDED}
    active = set(latest) - ended
    following: list[dict[str, Any]] = []
    seen: set[tuple[str, str]] = set()
    for node_id in plan.order:
        if node_id not in active:
            continue
        node = plan.nodes[node_id]
        choices = len({e.port for e in plan.outgoing[node_id]}) > 1
        for edge in plan.outgoing[node_id]:
            if edge.port == "failed" or (edge.target, edge.port) in seen:
                continue
            seen.add((edge.target, edge.port))
            target = plan.nodes[edge.target]
            waits = [
                e.source for e in plan.incoming[edge.target] if e.source != node_id and e.source not in ended
            ]
            following.append(
                {
                    "step": edge.target,
                    "title": _title(plan, edge.target),
                    "kind": target.kind,
                    "after": node_id,
                    "if": edge.port if choices and edge.port in ports(node) else "",
                    "also_waits_for": waits,
                    "tool": target.tool or None,
                    "again": edge.is_back,
                }
            )
    return following


def _actions(run: Run, waiting: list[Step]) -> list[str]:
    if run.status in RUN_ENDED:
        return []
    actions = ["resume"] if run.status == RunStatus.PAUSED else ["pause"]
    if any(s.reason == "approval" for s in waiting):
        actions.insert(0, "decide")
    if any(s.status == StepStatus.IN_DOUBT and s.due_at is None for s in waiting):
        actions.insert(0, "resolve")
    return [*actions, "cancel"]


def worker_is_alive() -> bool:
    """Whether any worker process holds a lease."""
    return Worker.objects.filter(lease_until__gt=now(), stopped_at=None).exists()
