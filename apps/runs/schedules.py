"""Schedules: rows that start runs, level-triggered by every worker's upkeep.

    look        a row whose `due_at` has passed (one indexed statement; nothing is kept in memory)
    cancel      with overlap `cancel_other`: the runs before, each in its own transaction
    fire        one transaction: lock the row, decide (`core.schedule`), insert the run under the key
                `sched:<id>:<nominal time>`, move `next_at`

Two processes that look at once find the row locked or moved on; one that dies in between has changed nothing.
A time that cannot start its run (archived blueprint, a member who left, inputs that do not fit any more) is
used up all the same and said in `last_error`; a queue that is full is tried again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db import Error as DatabaseTrouble
from django.db import IntegrityError, connection, transaction
from django.db.models import BigIntegerField, QuerySet, Value

from apps.blueprints.services import version_for_run
from apps.runs.core.limits import LIMITS
from apps.runs.core.schedule import CATCH_UP_AT_MOST, CatchUp, Due, Overlap, Times, Turn, due, in_words, turn
from apps.runs.core.schedule import problems_of as time_problems
from apps.runs.core.states import RUN_ENDED
from apps.runs.errors import RunConflict, RunNotFound
from apps.runs.models import Run, Schedule
from apps.runs.named import one_named
from apps.runs.services import cancel_run, check_inputs, start_run
from apps.runs.views import moment
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.core.roles import Permission
from apps.workspaces.errors import WorkspaceNotFound
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, MirrorNeuronError, NotFound
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.logs import logger
from mirrorneuron.base.safejson import storable

log = logger(__name__)
RECHECK_SECONDS = 5.0
"""How often a time that waits for its turn looks whether the run before it has ended."""
TRY_AGAIN_SECONDS = 30.0
"""After a refusal that passes (a full queue)."""
TROUBLE_SECONDS = 300.0
"""After an error nobody foresaw, so that one schedule does not keep every upkeep busy."""


@dataclass(frozen=True)
class Plan:
    """What a person wants of a schedule, as they gave it."""

    name: str
    blueprint: str
    """`name` for the newest published version at each time, or `name@3`."""
    cron: str = ""
    every_seconds: int | None = None
    time_zone: str = ""
    """Empty: the workspace's."""
    inputs: Mapping[str, Any] | None = None
    labels: Mapping[str, str] | None = None
    catch_up: str = CatchUp.ONE
    overlap: str = Overlap.SKIP


# --- what people do ---------------------------------------------------------------------------------------


def add_schedule(principal: Principal, plan: Plan) -> Schedule:
    """Make a schedule; it acts in the name of who makes it. Raises InvalidInput with a sentence per field."""
    fields = _checked(principal, plan)
    at = now()
    schedule = Schedule(
        workspace=principal.workspace, acts_as=principal.user, anchor_at=at.replace(microsecond=0), **fields
    )
    schedule.next_at = schedule.due_at = times_of(schedule).next(at)
    try:
        with transaction.atomic():
            schedule.save(force_insert=True)
            audit(principal, "schedule.created", schedule.name, _told(schedule))
    except IntegrityError as exc:
        raise _taken(plan.name) from exc
    return schedule


def change_schedule(principal: Principal, which: Any, changes: Mapping[str, Any]) -> Schedule:
    """Change what a schedule does; from now on it acts in the name of who changed it.

    changes: fields of `Plan`; what is left out stays. Raises NotFound, InvalidInput, Conflict.
    """
    principal.require(Permission.OPERATE)
    before = schedule_for(principal, which)
    kept = {
        "name": before.name,
        "blueprint": reference_of(before),
        "cron": before.cron,
        "every_seconds": before.every_seconds,
        "time_zone": before.time_zone,
        "inputs": before.inputs,
        "labels": before.labels,
        "catch_up": before.catch_up,
        "overlap": before.overlap,
    }
    if changes.get("cron") and "every_seconds" not in changes:
        kept["every_seconds"] = None
    if changes.get("every_seconds") is not None and "cron" not in changes:
        kept["cron"] = ""
    fields = _checked(principal, Plan(**{**kept, **changes}))
    try:
        with transaction.atomic():
            schedule = _locked(before.id)
            old = times_of(schedule)
            for name, value in fields.items():
                setattr(schedule, name, value)
            schedule.acts_as = principal.user
            schedule.last_error = None
            if times_of(schedule) != old:
                schedule.next_at = times_of(schedule).next(now())
            _set_due(schedule)
            schedule.save()
            audit(principal, "schedule.changed", schedule.name, _told(schedule))
    except IntegrityError as exc:
        raise _taken(fields["name"]) from exc
    return schedule


def pause_schedule(principal: Principal, which: Any) -> Schedule:
    """Start nothing until it is resumed; times that pass meanwhile are not made up."""
    principal.require(Permission.OPERATE)
    found = schedule_for(principal, which)
    with transaction.atomic():
        schedule = _locked(found.id)
        if schedule.paused_at is None:
            schedule.paused_at = now()
            schedule.held = []
            _set_due(schedule)
            schedule.save()
            audit(principal, "schedule.paused", schedule.name)
    return schedule


def resume_schedule(principal: Principal, which: Any) -> Schedule:
    """Go on with the next time from now."""
    principal.require(Permission.OPERATE)
    found = schedule_for(principal, which)
    with transaction.atomic():
        schedule = _locked(found.id)
        if schedule.paused_at is not None:
            schedule.paused_at = None
            schedule.next_at = times_of(schedule).next(now())
            _set_due(schedule)
            schedule.save()
            audit(principal, "schedule.resumed", schedule.name)
    return schedule


def remove_schedule(principal: Principal, which: Any) -> None:
    """End a schedule; the runs it started stay."""
    principal.require(Permission.OPERATE)
    found = schedule_for(principal, which)
    with transaction.atomic():
        if Schedule.objects.filter(id=found.id).delete()[0]:
            audit(principal, "schedule.removed", found.name, _told(found))


# --- looking ----------------------------------------------------------------------------------------------


def schedules_for(principal: Principal) -> QuerySet[Schedule]:
    principal.require(Permission.READ)
    return Schedule.objects.filter(workspace=principal.workspace).select_related("acts_as").order_by("name")


def schedule_for(principal: Principal, which: Any) -> Schedule:
    """One schedule of the workspace, by id or name. Raises NotFound for everybody else's."""
    return one_named(schedules_for(principal), which, "schedule")


def times_of(schedule: Schedule) -> Times:
    return Times(
        cron=schedule.cron,
        zone=schedule.time_zone,
        every_seconds=schedule.every_seconds or 0,
        anchor=schedule.anchor_at,
    )


def reference_of(schedule: Schedule) -> str:
    """The blueprint as people name it: `name` or `name@3`."""
    number = schedule.version_number
    return f"{schedule.blueprint_name}@{number}" if number else schedule.blueprint_name


def words_of(schedule: Schedule) -> str:
    return in_words(schedule.cron, schedule.every_seconds, schedule.time_zone)


def next_times(schedule: Schedule, count: int = 5) -> list[datetime]:
    """The next nominal times, in the schedule's zone; none while it is paused."""
    if schedule.paused_at is not None or schedule.next_at is None:
        return []
    zone = ZoneInfo(schedule.time_zone)
    following = times_of(schedule).after(schedule.next_at - timedelta(microseconds=1))
    return [at.astimezone(zone) for at in islice(following, count)]


def schedule_view(schedule: Schedule) -> dict[str, Any]:
    return {
        "id": str(schedule.id),
        "name": schedule.name,
        "blueprint": schedule.blueprint_name,
        "version": schedule.version_number,
        "cron": schedule.cron,
        "every_seconds": schedule.every_seconds,
        "time_zone": schedule.time_zone,
        "in_words": words_of(schedule),
        "inputs": schedule.inputs,
        "labels": schedule.labels,
        "catch_up": schedule.catch_up,
        "overlap": schedule.overlap,
        "paused": schedule.paused_at is not None,
        "next_at": moment(schedule.next_at) if schedule.paused_at is None else None,
        "next": [at.isoformat() for at in next_times(schedule)],
        "held": schedule.held,
        "last_at": moment(schedule.last_at),
        "last_run": str(schedule.last_run) if schedule.last_run else None,
        "last_error": schedule.last_error,
        "skipped": schedule.skipped,
        "acts_as": schedule.acts_as.email if schedule.acts_as else None,
        "created_at": moment(schedule.created_at),
    }


# --- firing -----------------------------------------------------------------------------------------------


def schedules_due(at: datetime) -> QuerySet[Schedule, Any]:
    """A row for each schedule that wants to be looked at, for the question of an idle worker."""
    waiting = Schedule.objects.filter(due_at__lte=at)
    return waiting.annotate(one=Value(1, BigIntegerField())).values("one")


def fire_schedules() -> int:
    """Start what is due; returns how many runs were started."""
    rows = Schedule.objects.filter(due_at__lte=now()).order_by("due_at")
    return sum(_fire(identity) for identity in list(rows.values_list("id", flat=True)[: LIMITS.due_batch]))


def _fire(identity: UUID) -> int:
    try:
        _cancel_others(identity)
        return _fire_locked(identity)
    except DatabaseTrouble:
        raise
    except Exception as exc:
        log.error("schedule.failed", schedule=str(identity), exc_info=exc)
        later = now() + timedelta(seconds=TROUBLE_SECONDS)
        error = {"at": moment(now()), "code": "unexpected_error", "message": f"{type(exc).__name__}: {exc}"}
        Schedule.objects.filter(id=identity, due_at__lt=later).update(due_at=later, last_error=error)
        return 0


def _cancel_others(identity: UUID) -> None:
    """Cancel the runs that the next one replaces; first, so that a crash in between only delays."""
    schedule = Schedule.objects.filter(id=identity, overlap=Overlap.CANCEL_OTHER).first()
    if schedule is None or schedule.due_at is None or schedule.due_at > now():
        return
    # Row and list are from one read: runs that a faster process started since are not in it.
    if not _due(schedule).starts or not schedule.active:
        return
    try:
        who = _actor(schedule)
        check_inputs(who, version_for_run(who, reference_of(schedule)), schedule.inputs)
    except MirrorNeuronError:
        return  # The next one will not start, so the one before goes on; starting says why.
    for run_id in _still_active(schedule):
        with suppress(RunConflict, RunNotFound):
            cancel_run(who, run_id, reason=f'Schedule "{schedule.name}" starts the next one.')


def _fire_locked(identity: UUID) -> int:
    with transaction.atomic():
        rows = Schedule.objects.all()
        if connection.features.has_select_for_update:
            rows = rows.select_for_update(skip_locked=True, of=("self",))
        schedule = rows.filter(id=identity, due_at__lte=now()).first()
        if schedule is None:
            return 0  # Another process has it, or had it.
        told = _due(schedule)
        active = _still_active(schedule)
        held = [datetime.fromisoformat(at) for at in schedule.held]
        chosen = turn(told.starts, held, bool(active), Overlap(schedule.overlap))
        schedule.active = [str(run_id) for run_id in active]
        schedule.next_at = told.next_at
        schedule.held = [at.isoformat() for at in chosen.held]
        schedule.skipped += told.skipped + chosen.skipped
        started = _start(schedule, chosen)
        schedule.save()
        return started


def _due(schedule: Schedule) -> Due:
    return due(times_of(schedule), schedule.next_at, now(), CatchUp(schedule.catch_up))


def _still_active(schedule: Schedule) -> list[UUID]:
    runs = Run.objects.filter(id__in=schedule.active).exclude(status__in=RUN_ENDED)
    return list(runs.values_list("id", flat=True)[:CATCH_UP_AT_MOST])


def _start(schedule: Schedule, chosen: Turn) -> int:
    """Start the chosen time's run inside the open transaction; says in the row why it could not."""
    _set_due(schedule)
    nominal = chosen.start
    if nominal is None:
        return 0
    key = f"sched:{schedule.id}:{moment(nominal)}"
    run = Run.objects.filter(workspace_id=schedule.workspace_id, idempotency_key=key).first()
    known = run is not None
    try:
        with transaction.atomic():
            run = run or _start_run(schedule, key, nominal)
    except MirrorNeuronError as exc:
        _say(schedule, exc)
        if exc.status in (429, 503):
            schedule.held = [nominal.isoformat(), *schedule.held]
            schedule.due_at = now() + timedelta(seconds=TRY_AGAIN_SECONDS)
        return 0
    schedule.active = [*schedule.active, str(run.id)]
    schedule.last_at, schedule.last_run, schedule.last_error = nominal, run.id, None
    return 0 if known else 1


def _start_run(schedule: Schedule, key: str, nominal: datetime) -> Run:
    who = _actor(schedule)
    version = version_for_run(who, reference_of(schedule))
    labels = {**schedule.labels, "schedule": schedule.name, "scheduled_for": moment(nominal) or ""}
    return start_run(who, version, schedule.inputs, idempotency_key=key, labels=labels)


def _actor(schedule: Schedule) -> Principal:
    """In whose name it acts, with the rights of now. Raises Forbidden when they have left."""
    user = schedule.acts_as
    try:
        if user is None:
            raise WorkspaceNotFound("the account is gone")
        return principal_for(
            user, schedule.workspace, "schedule", label=f"{user.email} (schedule {schedule.name})"
        )
    except WorkspaceNotFound as exc:
        who = user.email if user else "Who made it"
        raise Forbidden(
            f'{who} is no longer a member here, so schedule "{schedule.name}" starts nothing.',
            code="actor_left",
            next="A member who may operate takes it over: `mn schedule take-over NAME`.",
        ) from exc


def _say(schedule: Schedule, exc: MirrorNeuronError) -> None:
    told = {"at": moment(now()), "code": exc.code, "message": exc.message, "next": exc.next}
    if schedule.last_error is None:
        # The first of a row of failures is enough for the audit; the row says the latest.
        audit(None, "schedule.failed", schedule.name, told, workspace=schedule.workspace_id, label="schedule")
    schedule.last_error = told
    log.warning("schedule.start_failed", schedule=str(schedule.id), code=exc.code, error=exc.message)


def _set_due(schedule: Schedule) -> None:
    """When somebody has to look at the row next."""
    wanted = [schedule.next_at] if schedule.next_at else []
    if schedule.held:
        wanted.append(now() + timedelta(seconds=RECHECK_SECONDS))
    schedule.due_at = min(wanted, default=None) if schedule.paused_at is None else None


# --- checking ---------------------------------------------------------------------------------------------


def _checked(principal: Principal, plan: Plan) -> dict[str, Any]:
    """The row's columns for a plan. Raises InvalidInput with every problem there is."""
    principal.require(Permission.OPERATE)
    zone = plan.time_zone or principal.workspace.time_zone
    cron = " ".join(plan.cron.split())
    problems = time_problems(cron, plan.every_seconds, zone)
    name = plan.name.strip()
    if not name or len(name) > 64 or not name.isprintable() or as_uuid(name):
        problems["name"] = "Give it a name of 1 to 64 characters."
    for field, kind in (("catch_up", CatchUp), ("overlap", Overlap)):
        if getattr(plan, field) not in set(kind):
            problems[field] = f"Choose one of {', '.join(kind)}."
    labels = dict(plan.labels or {})
    if len(labels) > 50 or not all(isinstance(v, str) for v in labels.values()):
        problems["labels"] = "At most 50 labels, each a text."
    version = None
    try:
        version = version_for_run(principal, plan.blueprint)
    except (NotFound, Conflict, InvalidInput) as exc:
        problems["blueprint"] = str(exc)
    inputs = storable(dict(plan.inputs or {}))
    if version is not None:
        try:
            check_inputs(principal, version, inputs)
        except InvalidInput as exc:
            problems |= {f"inputs.{path}": sentence for path, sentence in exc.fields.items()}
    if problems or version is None:
        raise InvalidInput(
            "The schedule cannot be used: " + " ".join(problems.values()),
            fields=problems,
            next="Correct these fields.",
        )
    base, _, number = plan.blueprint.partition("@")
    return {
        "name": name,
        "blueprint_name": base,
        "version_number": version.number if number else None,
        "cron": cron,
        "every_seconds": plan.every_seconds,
        "time_zone": zone,
        "inputs": inputs,
        "labels": storable(labels),
        "catch_up": str(plan.catch_up),
        "overlap": str(plan.overlap),
    }


def _locked(identity: UUID) -> Schedule:
    rows = Schedule.objects.all()
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    found = rows.filter(id=identity).first()
    if found is None:
        raise NotFound(f"There is no schedule {identity}.", code="schedule_not_found")
    return found


def _taken(name: str) -> Conflict:
    return Conflict(
        f'There is already a schedule "{name}".', code="schedule_exists", next="Choose another name."
    )


def _told(schedule: Schedule) -> dict[str, Any]:
    return {"schedule": str(schedule.id), "blueprint": reference_of(schedule), "times": words_of(schedule)}
