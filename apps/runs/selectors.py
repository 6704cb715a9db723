"""Reading runs; every function takes who asks, or a run that was already allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from sys import maxsize
from typing import Any

from django.db.models import Count, F, IntegerField, OuterRef, Q, QuerySet, Subquery, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce

from apps.blueprints.core.kinds import ports
from apps.ledger import payloads
from apps.ledger.models import Effect
from apps.ledger.payloads import Extent, warm_rows
from apps.ledger.selectors import Entry, effects_of, entries_after
from apps.runs import held as held_step
from apps.runs import store
from apps.runs.core.plan import Plan, enclosing, is_undo
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.errors import RunNotFound, RunRemoved
from apps.runs.models import Call, RemovedRun, Run, Slot, Step, Worker
from apps.runs.plans import plan_for
from apps.runs.slots import keyed_steps
from apps.runs.views import blocked_view, moment, step_view, usd, waiting_view
from apps.runs.why import lost_steps, why
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.ids import as_uuid

PASSES_OPEN = 30
PASSES_FAILED = 15
PASSES_ENDED = 10
"""Items and rounds a page shows of a run: under way, failed, the latest others."""


def runs_for(
    principal: Principal,
    *,
    status: str | None = None,
    blueprint: str | None = None,
    label: str | None = None,
    since: datetime | None = None,
) -> QuerySet[Run]:
    """Runs of the workspace with their `version_number`, newest first. label: `key=value`, or a key alone."""
    principal.require(Permission.READ)
    runs = Run.objects.filter(workspace=principal.workspace, removed_at=None).order_by("-id")
    runs = runs.annotate(version_number=F("version__number"))
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


def with_waiting(runs: Iterable[Run]) -> list[Run]:
    """These runs, each with the steps it waits for as `idle_steps`: one query for all that have not ended."""
    found = list(runs)
    idle: dict[Any, list[Step]] = {run.id: [] for run in found}
    unended = [run.id for run in found if run.status not in RUN_ENDED]
    if unended:
        steps = Step.objects.filter(run__in=unended, status__in=[StepStatus.WAITING, StepStatus.IN_DOUBT])
        for step in steps.order_by("id"):
            idle[step.run_id].append(step)
    for run in found:
        run.idle_steps = idle[run.id]  # type: ignore[attr-defined]
    return found


def run_for(principal: Principal, run_id: Any) -> Run:
    """One run of the workspace. Raises RunNotFound for everybody else's."""
    principal.require(Permission.READ)
    identity = as_uuid(run_id)
    run = (
        _with_version(Run.objects.filter(id=identity, workspace=principal.workspace, removed_at=None)).first()
        if identity
        else None
    )
    if run is None:
        removed = RemovedRun.objects.filter(workspace=principal.workspace)
        gone = removed.filter(id=identity).first() if identity else None
        if gone is not None:
            raise RunRemoved(gone.id, gone.removed_at, gone.archive)
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run


def _with_version(runs: QuerySet[Run]) -> QuerySet[Run]:
    """Runs with their version but not its document: that is large, and in memory as a plan anyway."""
    return runs.select_related("version").defer("version__document", "version__source")


def page_rows(run: Run) -> list[Step]:
    """The steps a page shows: all of them, but of the items and rounds of maps and loops only the ones under
    way, the latest failures and the latest others."""
    if not plan_for(run.version_id).bodies:
        return step_rows(run)
    passes = Step.objects.filter(run=run, kind__in=["item", "round"]).order_by("-id")
    chosen: set[str] = set()
    for wanted, most in (
        (passes.exclude(status__in=STEP_ENDED), PASSES_OPEN),
        (passes.filter(status=StepStatus.FAILED), PASSES_FAILED),
        (passes.filter(status__in=STEP_ENDED), PASSES_ENDED),
    ):
        chosen.update(wanted.values_list("scope", flat=True)[:most])
    return step_rows(run, sorted({around for scope in chosen for around in enclosing(scope)} | {""}))


def step_counts(run: Run) -> tuple[int, int]:
    """(ended, all) of the steps there are, items and rounds of maps and loops left out."""
    rows = Step.objects.filter(run=run).exclude(kind__in=["item", "round"])
    counted = rows.aggregate(all=Count("id"), ended=Count("id", filter=Q(status__in=STEP_ENDED)))
    return counted["ended"], counted["all"]


def step_rows(run: Run, scopes: Sequence[str] | None = None) -> list[Step]:
    """The steps of a run in the order they were made, the one it holds among them as a row never saved.
    Whoever shows several things of one run reads them once and hands them on.

    scopes: only those; see `core/plan.py`.
    """
    held = None if run.status in RUN_ENDED else held_step.step_of(run.id, plan_for(run.version_id))
    steps = store.step_rows(run.id, scopes)
    if held is not None and all(s.path != held.path for s in steps):
        steps.append(held)
    return steps


def steps_of(run: Run, rows: list[Step] | None = None, extent: Extent = Extent.WHOLE) -> list[dict[str, Any]]:
    """Every step in running order, then the nodes that are still blocked, in the graph's order."""
    plan = plan_for(run.version_id)
    order = list(plan.topological())
    rank, at = {node: i for i, node in enumerate(order)}, now()
    steps = sorted(
        step_rows(run) if rows is None else rows,
        key=lambda s: (
            s.started_at or s.ready_at or s.ended_at or at,
            rank.get(s.node_id, 0),
            s.id or maxsize,
        ),
    )
    warm_rows(steps, ("input", "output"), extent)
    shown = [step_view(s, extent=extent) for s in steps]
    if run.status in RUN_ENDED:
        return shown
    seen = {s.node_id for s in steps}
    return shown + [blocked_view(n, plan.nodes[n].kind) for n in order if n not in seen]


def step_for(run: Run, path: str) -> Step:
    held = held_step.step_of(run.id, plan_for(run.version_id))
    step = Step.objects.filter(run=run, path=path).first()
    if step is None and held is not None and held.path == path:
        return held
    if step is None:
        raise NotFound(f'Run {run.id} has no step "{path}".', code="step_not_found")
    return step


def payload_of(run: Run, hash: str) -> dict[str, Any]:
    """A large value of the run, whole: {hash, size, type, value}. Raises PayloadMissing."""
    return payloads.payload_of(run.id, hash)


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


def costs_of(run: Run, rows: list[Step] | None = None) -> dict[str, Any]:
    """What the run cost, per step and per model; unknown is said, never counted as zero."""
    steps = [s for s in (step_rows(run) if rows is None else rows) if s.model_calls or s.tool_calls]
    by_model: dict[str, dict[str, Any]] = {}
    calls = Call.objects.filter(step__run=run, kind="model").order_by("id")
    asked = any(s.model_calls for s in steps)
    for call in calls.defer("request", "response", "error") if asked else ():
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


def explain(run: Run, rows: list[Step] | None = None) -> dict[str, Any]:
    """Where a run is, what it waits for, and what comes next, in words.

    {status, why, waiting_for, now, lost, next: [{step, title, kind, when, effect}], actions, kept}
    """
    plan = plan_for(run.version_id)
    steps = step_rows(run) if rows is None else rows
    waiting = [s for s in steps if s.status in (StepStatus.WAITING, StepStatus.IN_DOUBT)]
    running = [s for s in steps if s.status == StepStatus.RUNNING]
    return {
        "run": str(run.id),
        "status": run.status,
        "why": why(run, steps),
        "waiting_for": [waiting_view(s) for s in waiting],
        "now": [s.path for s in running],
        "lost": lost_steps(running),
        "next": [] if run.status in RUN_ENDED else _next(plan, steps),
        "actions": _actions(run, waiting),
        "kept": sum(s.status == StepStatus.SUCCEEDED for s in steps),
    }


def _title(plan: Plan, node_id: str) -> str:
    return plan.nodes[node_id].title or node_id.replace("_", " ")


def _next(plan: Plan, steps: list[Step]) -> list[dict[str, Any]]:
    """What follows the active steps, with the choice that leads there."""
    worked = [s for s in steps if not is_undo(s.path)]
    latest = {s.node_id: s for s in sorted(worked, key=lambda s: s.round)}
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
    if run.status == RunStatus.CANCELLING:
        return ["retry", "skip"] if any(s.reason == "person" for s in waiting) else []
    actions = ["resume"] if run.status == RunStatus.PAUSED else ["pause"]
    if any(s.reason == "approval" for s in waiting):
        actions.insert(0, "decide")
    if any(s.status == StepStatus.IN_DOUBT and s.due_at is None for s in waiting):
        actions.insert(0, "resolve")
    return [*actions, "cancel"]


def worker_is_alive() -> bool:
    """Whether any worker process holds a lease."""
    return Worker.objects.filter(lease_until__gt=now(), stopped_at=None).exists()


def slots_for(principal: Principal) -> list[dict[str, Any]]:
    """Concurrency keys in use: {key, in_use, limit, waiting}."""
    principal.require(Permission.READ)
    waiting = (
        keyed_steps()
        .filter(workspace_id=OuterRef("workspace_id"), slot=OuterRef("key"), status=StepStatus.WAITING)
        .order_by()
        .values("slot")
        .annotate(n=Count("id"))
        .values("n")
    )
    slots = Slot.objects.filter(workspace=principal.workspace).order_by("key")
    slots = slots.annotate(waiting=Coalesce(Subquery(waiting, output_field=IntegerField()), 0))
    return [dict(x) for x in slots.values("key", "in_use", "waiting", limit=F("cap"))[:1000]]
