"""Schedules on the real engine: each time starts one run, whoever looks, and what cannot start says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, connections

from apps.blueprints.services import archive
from apps.runs import schedules
from apps.runs.errors import QueueFull
from apps.runs.models import Run, Schedule
from apps.runs.schedules import Plan, add_schedule, change_schedule, fire_schedules, next_times
from apps.runs.services import cancel_run
from apps.runs.upkeep import anything_due, upkeep
from apps.workspaces.access import Principal
from apps.workspaces.models import AuditEntry, Membership, User
from mirrorneuron.base.clock import FrozenClock, clock, now
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, NotFound
from tests.runs.engine import register_worker, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
MONDAY = datetime(2026, 5, 4, 8, 30, tzinfo=UTC)
WAIT = {"id": "wait", "kind": "sensor", "signal": "go"}
QUICK = {"id": "say", "kind": "transform", "output": "Hello {{ inputs.name }}"}
NAMED = {"inputs": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}
Add = Callable[..., Schedule]


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with clock.frozen(MONDAY) as frozen:
        yield frozen


@pytest.fixture
def add(workspace, alice: User, principal: Callable[..., Principal], time: FrozenClock) -> Add:
    """An hourly schedule of alice's over one node, unless said otherwise."""

    def make(node: Any = None, *, who: User = alice, **plan: Any) -> Schedule:
        version = version_of(workspace, nodes=[node or WAIT], contract=plan.pop("contract", {}))
        given = {"name": "hourly", "blueprint": version.blueprint.name, "cron": "0 * * * *"} | plan
        if given.get("every_seconds"):
            given["cron"] = ""
        return add_schedule(principal(who), Plan(**given))

    return make


def hours() -> list[str]:
    """The nominal times of all runs, oldest run first."""
    return [run.labels["scheduled_for"][11:16] for run in Run.objects.order_by("id")]


def fresh(schedule: Schedule) -> Schedule:
    return Schedule.objects.get(id=schedule.id)


def end_all(principal: Principal) -> None:
    work_all()
    for run in Run.objects.exclude(status__in=["succeeded", "failed", "cancelled"]):
        cancel_run(principal, run.id)


def test_a_time_starts_one_run_in_the_name_of_who_made_it(add: Add, alice: User, time: FrozenClock):
    schedule = add(QUICK, contract=NAMED, inputs={"name": "Ada"}, labels={"team": "sales"})
    boot = register_worker()
    assert not anything_due(boot, ("default",))

    time.move(minutes=30)
    assert anything_due(boot, ("default",))
    upkeep(boot)
    upkeep(boot)

    run = Run.objects.get()
    assert run.idempotency_key == f"sched:{schedule.id}:2026-05-04T09:00:00Z"
    assert run.inputs == {"name": "Ada"} and run.started_by == alice
    assert run.labels == {"team": "sales", "schedule": "hourly", "scheduled_for": "2026-05-04T09:00:00Z"}
    assert fresh(schedule).next_at == datetime(2026, 5, 4, 10, tzinfo=UTC)
    assert fresh(schedule).last_run == run.id


@pytest.mark.parametrize(
    ("catch_up", "expected"), [("skip", []), ("one", ["11:00"]), ("all", ["09:00", "10:00", "11:00"])]
)
def test_three_missed_hours_are_made_up_as_the_policy_says(add, alice, principal, time, catch_up, expected):
    add(catch_up=catch_up, overlap="queue")
    time.move(hours=3)

    for _ in range(5):
        fire_schedules()
        end_all(principal(alice))
        time.move(seconds=10)

    assert hours() == expected


def test_skip_still_starts_what_is_only_a_moment_late(add, time):
    add(catch_up="skip")
    time.move(minutes=30, seconds=59)
    fire_schedules()
    assert hours() == ["09:00"]


def test_while_the_run_before_goes_on_a_time_is_skipped(add, alice, principal, time):
    schedule = add(overlap="skip")
    time.move(minutes=30)
    fire_schedules()
    time.move(hours=2)
    fire_schedules()
    assert hours() == ["09:00"] and fresh(schedule).skipped == 2

    end_all(principal(alice))
    time.move(hours=1)
    fire_schedules()
    assert hours() == ["09:00", "12:00"]


def test_queued_times_start_one_after_the_other(add, alice, principal, time):
    schedule = add(overlap="queue")
    for _ in range(3):
        time.move(hours=1)
        fire_schedules()
    assert hours() == ["09:00"]
    assert len(fresh(schedule).held) == 2

    for _ in range(2):
        end_all(principal(alice))
        time.move(seconds=6)
        fire_schedules()

    assert hours() == ["09:00", "10:00", "11:00"]
    assert fresh(schedule).held == []


def test_cancel_other_ends_the_run_before(add, time):
    add(overlap="cancel_other")
    time.move(hours=1)
    fire_schedules()
    work_all()
    time.move(hours=1)
    fire_schedules()

    assert hours() == ["09:00", "10:00"]
    first = Run.objects.order_by("id")[0]
    assert first.status == "cancelled"


def test_an_interval_counts_from_when_it_was_made(add, time):
    add(every_seconds=600, overlap="queue", catch_up="all", node=QUICK, contract=NAMED, inputs={"name": "A"})
    for _ in range(4):
        time.move(minutes=10)
        fire_schedules()
        work_all()
    assert hours() == ["08:40", "08:50", "09:00", "09:10"]


@pytest.mark.parametrize("day", ["2026-03-28T12:00+01:00", "2026-10-24T12:00+02:00"])
def test_a_daily_run_happens_once_a_day_when_the_clocks_change(add, time, day):
    time.move(seconds=(datetime.fromisoformat(day) - MONDAY).total_seconds())
    add(QUICK, contract=NAMED, inputs={"name": "A"}, cron="30 2 * * *", time_zone="Europe/Berlin")

    for _ in range(3 * 24 * 2):
        time.move(minutes=30)
        fire_schedules()
        work_all()

    days = [run.labels["scheduled_for"][:10] for run in Run.objects.order_by("id")]
    assert len(days) == 3 and len(set(days)) == 3


def test_a_crash_before_the_commit_starts_nothing_and_loses_nothing(add, time, monkeypatch):
    add()
    time.move(minutes=30)

    class Died(BaseException):
        pass

    def die(*args: Any, **kwargs: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(Schedule, "save", die)  # After the run was inserted, before the row has moved on.
        with pytest.raises(Died):
            fire_schedules()
    assert Run.objects.count() == 0

    fire_schedules()
    assert hours() == ["09:00"]


def test_a_row_that_was_set_back_starts_no_second_run(add, time):
    schedule = add()
    time.move(minutes=30)
    fire_schedules()
    back = datetime(2026, 5, 4, 9, tzinfo=UTC)
    Schedule.objects.filter(id=schedule.id).update(next_at=back, due_at=back, active=[], inputs={"x": 1})

    fire_schedules()

    assert hours() == ["09:00"]
    assert fresh(schedule).last_error is None


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite writes one after the other anyway")
def test_two_schedulers_at_once_start_one_run(add, time):
    add(catch_up="all", overlap="queue", node=QUICK, contract=NAMED, inputs={"name": "A"})
    time.move(hours=3)
    start = threading.Barrier(4)

    def look() -> None:
        start.wait()
        for _ in range(3):
            fire_schedules()
        connections.close_all()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)

    assert Run.objects.count() == 1, "the others wait for it"
    assert connection.vendor == "postgresql"


def test_an_archived_blueprint_is_said_and_nothing_is_stuck(add, alice, principal, time):
    schedule = add()
    archive(principal(alice), schedule.blueprint_name)
    time.move(minutes=30)

    fire_schedules()

    told = fresh(schedule)
    assert told.last_error["code"] == "blueprint_archived" and "archived" in told.last_error["message"]
    assert told.next_at == datetime(2026, 5, 4, 10, tzinfo=UTC)
    time.move(hours=1)
    fire_schedules()
    assert AuditEntry.objects.filter(action="schedule.failed").count() == 1, "a row of failures is told once"


def test_a_member_who_left_starts_nothing_until_somebody_takes_over(add, alice, bob, principal, time):
    schedule = add(who=bob)
    Membership.objects.filter(user=bob).delete()
    time.move(minutes=30)
    fire_schedules()
    assert Run.objects.count() == 0
    assert fresh(schedule).last_error["code"] == "actor_left"

    change_schedule(principal(alice), schedule.id, {})
    time.move(hours=1)
    fire_schedules()
    assert Run.objects.get().started_by == alice
    assert fresh(schedule).last_error is None


def test_a_member_who_may_no_longer_operate_starts_nothing(add, bob, time):
    schedule = add(who=bob)
    Membership.objects.filter(user=bob).update(roles=["viewer"])
    time.move(minutes=30)
    fire_schedules()
    assert Run.objects.count() == 0 and fresh(schedule).last_error["code"] == "forbidden"


def test_inputs_that_fit_no_more_are_said(add, workspace, time):
    schedule = add(QUICK, contract=NAMED, inputs={"name": "Ada"})
    Schedule.objects.filter(id=schedule.id).update(inputs={})
    time.move(minutes=30)
    fire_schedules()
    assert "name" in fresh(schedule).last_error["message"]


def test_a_queue_that_is_full_is_tried_again(add, time, monkeypatch):
    schedule = add()
    time.move(minutes=30)

    def full(*args: Any, **kwargs: Any) -> None:
        raise QueueFull("The queue is full.")

    with monkeypatch.context() as patch:
        patch.setattr(schedules, "start_run", full)
        fire_schedules()
    assert fresh(schedule).last_error["code"] == "queue_full"

    time.move(seconds=31)
    fire_schedules()
    assert hours() == ["09:00"]


def test_one_broken_row_does_not_keep_the_others_from_their_runs(add, time):
    broken = add(name="broken")
    add(name="fine")
    Schedule.objects.filter(id=broken.id).update(time_zone="Mars/Olympus")
    time.move(minutes=30)

    fire_schedules()

    assert [run.labels["schedule"] for run in Run.objects.all()] == ["fine"]
    assert fresh(broken).last_error["code"] == "unexpected_error"
    assert not schedules.schedules_due(now()).exists(), "it is not looked at each second"


def test_what_passes_while_paused_is_not_made_up(add, alice, principal, time):
    schedule = add(catch_up="all")
    schedules.pause_schedule(principal(alice), schedule.name)
    time.move(hours=3)
    fire_schedules()
    assert Run.objects.count() == 0 and next_times(fresh(schedule)) == []

    schedules.resume_schedule(principal(alice), schedule.name)
    fire_schedules()
    assert Run.objects.count() == 0
    time.move(minutes=30)
    fire_schedules()
    assert hours() == ["12:00"]


def test_other_times_are_counted_from_the_change(add, alice, principal, time):
    schedule = add()
    changed = change_schedule(principal(alice), schedule.name, {"every_seconds": 7200})

    assert changed.cron == "" and changed.next_at == MONDAY + timedelta(hours=2)
    assert change_schedule(principal(alice), schedule.name, {"cron": "15 * * * *"}).every_seconds is None


def test_the_next_times_stand_in_the_zone(add):
    schedule = add(cron="0 9 * * 1-5", time_zone="America/New_York")

    assert [at.isoformat() for at in next_times(schedule, 2)] == [
        "2026-05-04T09:00:00-04:00",
        "2026-05-05T09:00:00-04:00",
    ]
    assert schedules.words_of(schedule) == "At 09:00 on Monday through Friday, America/New_York time"


def test_every_mistake_is_named_at_once(add, alice, principal, workspace):
    version = version_of(workspace, nodes=[QUICK], contract=NAMED)
    plan = Plan(
        name="", blueprint=version.blueprint.name, cron="nonsense", time_zone="Mars/Olympus",
        inputs={"name": 3}, catch_up="maybe", overlap="sometimes",
    )  # fmt: skip

    with pytest.raises(InvalidInput) as refused:
        add_schedule(principal(alice), plan)

    wrong = {"name", "cron", "time_zone", "inputs.name", "catch_up", "overlap"}
    assert set(refused.value.fields) == wrong
    assert Schedule.objects.count() == 0


def test_a_name_is_taken_once(add):
    add(name="nightly")
    with pytest.raises(Conflict):
        add(name="nightly")


def test_strangers_see_nothing_and_viewers_change_nothing(add, bob, charlie, principal):
    schedule = add()
    with pytest.raises(NotFound):
        schedules.schedule_for(principal(charlie), schedule.id)
    assert list(schedules.schedules_for(principal(charlie))) == []
    Membership.objects.filter(user=bob).update(roles=["viewer"])
    for act in (schedules.pause_schedule, schedules.resume_schedule, schedules.remove_schedule):
        with pytest.raises(Forbidden):
            act(principal(bob), schedule.id)
    with pytest.raises(Forbidden):
        change_schedule(principal(bob), schedule.id, {})
    assert Schedule.objects.count() == 1


def test_removing_it_leaves_its_runs(add, alice, principal, time):
    schedule = add()
    time.move(minutes=30)
    fire_schedules()
    schedules.remove_schedule(principal(alice), schedule.name)
    assert Schedule.objects.count() == 0 and Run.objects.count() == 1
    actions = AuditEntry.objects.order_by("id").values_list("action", flat=True)
    assert list(actions) == ["schedule.created", "schedule.removed"]


def test_a_next_run_that_cannot_start_cancels_nothing(add, alice, principal, time):
    schedule = add(overlap="cancel_other")
    time.move(hours=1)
    fire_schedules()
    work_all()
    archive(principal(alice), schedule.blueprint_name)
    time.move(hours=1)
    fire_schedules()

    assert Run.objects.get().status == "waiting"
    assert fresh(schedule).last_error["code"] == "blueprint_archived"
