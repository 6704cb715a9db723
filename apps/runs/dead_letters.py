"""Failed runs are the dead letters: nothing is lost, and many can be sent on their way again at once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.db import Error as DatabaseTrouble
from django.db.models import Count, Exists, Max, Min, OuterRef, QuerySet, TextField, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce, Concat, Replace

from apps.runs.core.states import RunStatus
from apps.runs.errors import QueueFull, RunConflict
from apps.runs.models import Run, Step
from apps.runs.plans import plan_for
from apps.runs.queueing import check_room
from apps.runs.recovery import need_reason, retry_step
from apps.runs.services import start_run
from apps.runs.views import moment
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError
from mirrorneuron.base.logs import logger

log = logger(__name__)
SINCE_DAYS = 30
MOST_AT_ONCE = 500
GROUPS = 200
PLACE = "redrive:"


def dead_letters(
    principal: Principal,
    *,
    code: str | None = None,
    blueprint: str | None = None,
    since: datetime | None = None,
) -> list[dict[str, Any]]:
    """Failed runs of the workspace by error code and blueprint, the most frequent first.

    since: created since then; the last 30 days unless given.
    {code, blueprint, count, first_at, last_at, run: the latest}
    """
    found = (
        _failed(principal, code, blueprint, since)
        .values("error_code", "blueprint_name")
        .annotate(count=Count("id"), first_at=Min("ended_at"), last_at=Max("ended_at"))
        .order_by("-count", "error_code", "blueprint_name")
    )
    groups = []
    for group in found[:GROUPS]:
        latest = _failed(principal, group["error_code"], group["blueprint_name"], since).order_by("-id")
        groups.append(
            {
                "code": group["error_code"],
                "blueprint": group["blueprint_name"],
                "count": group["count"],
                "first_at": moment(group["first_at"]),
                "last_at": moment(group["last_at"]),
                "run": str(latest.values_list("id", flat=True)[0]),
            }
        )
    return groups


def redrive(
    principal: Principal,
    *,
    code: str | None = None,
    blueprint: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
    reason: str = "",
    preview: bool = False,
) -> dict[str, Any]:
    """Retry failed runs, the oldest first, each with its own ledger entry and audit.

    A run that failed before its first step is started again, once; one that had begun and failed as a whole
    is refused, since that would do again what was done. It stops where the queue is full.
    preview: say which runs it would be and change nothing.
    Returns {redriven: [{run, as}], refused: [{run, code, message}], left, stopped}: `left` is how many are
    dead letters still, `stopped` why it went no further. Raises Forbidden, or InvalidInput without a reason.
    """
    principal.require(Permission.OPERATE)
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidInput(
            f"{limit} runs cannot be redriven at once; from 1 to {MOST_AT_ONCE} can.",
            fields={"limit": f"From 1 to {MOST_AT_ONCE}."},
        )
    need_reason(reason, preview)
    failed = _failed(principal, code, blueprint, since)
    # A child before the run it is part of, which takes up a child that goes on and else starts another one.
    by_age = failed.order_by(Coalesce("root_id", "id"), "-id")
    chosen = list(by_age.select_related("version")[:limit])
    redriven: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    stopped = ""
    for run in chosen:
        try:
            redriven.append({"run": str(run.id), "as": _again(principal, run, reason, preview)})
        except QueueFull as exc:
            stopped = str(exc)
            break
        except MirrorNeuronError as exc:
            refused.append({"run": str(run.id), "code": exc.code, "message": exc.message})
        except DatabaseTrouble:
            raise
        except Exception as exc:
            # It would be the first of the next redrive too, and keep all others from going on.
            log.error("redrive.failed", run=str(run.id), exc_info=exc)
            message = f"{type(exc).__name__}: {exc}"
            refused.append({"run": str(run.id), "code": "unexpected_error", "message": message})
    if not preview and redriven:
        what = {"code": code, "blueprint": blueprint, "reason": reason, "runs": len(redriven)}
        audit(principal, "dead_letters.redrive", blueprint or code or "all", what)
    left = failed.count() - (len(redriven) if preview else 0)
    return {"redriven": redriven, "refused": refused, "left": left, "stopped": stopped}


def _failed(
    principal: Principal, code: str | None, blueprint: str | None, since: datetime | None
) -> QuerySet[Any, Any]:
    principal.require(Permission.READ)
    # A run that was started in the place of another took its key from that one's id.
    name = Replace(Cast("id", TextField()), Value("-"), Value(""), output_field=TextField())
    runs: QuerySet[Any, Any] = Run.objects.filter(
        workspace=principal.workspace,
        status=RunStatus.FAILED,
        created_at__gte=since or now() - timedelta(days=SINCE_DAYS),
    ).annotate(
        error_code=Coalesce(Cast(KeyTextTransform("code", "error"), TextField()), Value("", TextField())),
        key_of_next=Concat(Value(PLACE), name, output_field=TextField()),
    )
    replaced = Run.objects.filter(workspace=principal.workspace, idempotency_key=OuterRef("key_of_next"))
    runs = runs.filter(~Exists(replaced))
    if code is not None:
        runs = runs.filter(error_code=code)
    return runs.filter(blueprint_name=blueprint) if blueprint else runs


def _again(principal: Principal, run: Run, reason: str, preview: bool) -> str:
    """The id of the run that goes on: the same one, or the one started in its place."""
    check_room(run.workspace_id, plan_for(run.version_id))
    step = (run.error or {}).get("step")
    if step:
        retry_step(principal, run.id, step, reason=reason, preview=preview)
        return str(run.id)
    _check_untouched(run)
    if preview:
        return str(run.id)
    labels = {**run.labels, "redrive_of": str(run.id)}
    fresh = start_run(
        principal,
        run.version,
        dict(run.inputs),
        idempotency_key=f"{PLACE}{run.id.hex}",
        labels=labels,
        simulate=run.simulate,
    )
    return str(fresh.id)


def _check_untouched(run: Run) -> None:
    """Raises RunConflict where a run in its place would do again what was done, or what its parent does."""
    if run.parent_id is not None:
        raise RunConflict(
            f"Run {run.id} is part of run {run.parent_id}; by itself it is not started again.",
            code="has_parent",
            next="Retry the step of that run which started it.",
        )
    if Step.objects.filter(run_id=run.id, attempt__gt=0).exists():
        raise RunConflict(
            f"Run {run.id} failed as a whole after it had begun; started again, it would do all of it again.",
            code="has_begun",
            next="Fork it: the fork keeps what was done and goes on from there.",
        )
