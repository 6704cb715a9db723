"""Signals and the sensors that wait for them: nothing lost, nothing taken twice, whoever comes first."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext

from apps.runs import services, signals
from apps.runs.claims import claim_next
from apps.runs.core.limits import LIMITS
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Signal, Step
from apps.workspaces.access import Principal
from apps.workspaces.models import User, Workspace
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import Forbidden, InvalidInput, NotFound, TooLarge
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
PAID = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 1}}}
Start = Callable[..., Run]


def sensor(id: str = "wait", **more: Any) -> dict[str, Any]:
    return {"id": id, "kind": "sensor", "signal": "paid", **more}


@pytest.fixture
def start(workspace: Workspace, alice: User, principal: Callable[..., Principal]) -> Start:
    def make(*nodes: dict[str, Any], edges: Any = (), worked: bool = True, **more: Any) -> Run:
        run = services.start_run(
            principal(alice), version_of(workspace, nodes=list(nodes), edges=list(edges)), {}, **more
        )
        if worked:
            work_all()
        return run

    return make


@pytest.fixture
def deliver(alice: User, principal: Callable[..., Principal]) -> Callable[..., dict[str, Any]]:
    def send(run: Run, body: Any = None, name: str = "paid", **more: Any) -> dict[str, Any]:
        return services.deliver_signal(principal(alice), run.id, name, body, **more)

    return send


def output(run: Run, path: str = "wait") -> Any:
    return Step.objects.get(run=run, path=path).output


def fresh(run: Run) -> Run:
    return Run.objects.get(id=run.id)


def test_a_sensor_waits_without_a_worker_and_the_signal_completes_it_at_once(start, deliver):
    run = start(
        sensor(),
        {"id": "after", "kind": "transform", "output": "{{ steps.wait.output.body.amount }}"},
        edges=[{"from": "wait", "to": "after"}],
    )
    waiting = Step.objects.get(run=run)
    assert (waiting.status, waiting.reason, waiting.worker, waiting.due_at) == (
        "waiting",
        "signal",
        None,
        None,
    )

    assert deliver(run, {"amount": 7})["delivered_to"] == "wait"
    work_all()

    assert fresh(run).status == "succeeded"
    assert output(run, "after") == 7
    assert Step.objects.get(run=run, path="wait").labels == ["user"]
    assert check_all() == []


def test_a_signal_that_came_first_is_taken_when_the_sensor_gets_there(start, deliver):
    run = start(sensor(), worked=False)
    assert deliver(run, {"amount": 1})["delivered_to"] is None
    assert deliver(run, {"amount": 2})["delivered_to"] is None

    work_all()

    assert output(run)["body"] == {"amount": 1}, "the oldest first"
    assert list(run.signals.order_by("id").values_list("consumed_by", flat=True)) == ["wait", None]
    assert fresh(run).status == "succeeded"


def test_a_signal_between_the_look_and_the_wait_is_not_lost(start, deliver):
    run = start(sensor(), worked=False)
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    assert claim is not None

    deliver(run, {"amount": 3})  # The worker has claimed the step and knows the run as it was before.
    work(claim, boot, ("default",), chain=False)

    assert output(run)["body"] == {"amount": 3}


def test_each_signal_is_taken_once_and_the_earliest_waiter_wins(start, deliver):
    run = start(sensor("one"), sensor("two"))
    first = Step.objects.filter(run=run).order_by("started_at", "id").values_list("path", flat=True)[0]

    assert deliver(run, 1)["delivered_to"] == first
    second = deliver(run, 2)["delivered_to"]

    assert {first, second} == {"one", "two"}
    assert {output(run, first)["body"], output(run, second)["body"]} == {1, 2}
    assert fresh(run).status == "succeeded"


def test_a_path_chooses_the_waiter(start, deliver):
    run = start(sensor("one"), sensor("two"))

    assert deliver(run, 1, path="two")["delivered_to"] == "two"
    assert statuses(run) == {"one": "waiting", "two": "succeeded"}


def test_a_signal_for_another_path_or_of_another_name_is_not_taken(start, deliver):
    run = start(sensor(), worked=False)
    deliver(run, 1, path="elsewhere")
    deliver(run, 2, name="refunded")

    work_all()

    assert statuses(run) == {"wait": "waiting"}


def test_a_repeated_key_is_the_same_signal_and_without_a_key_each_counts(start, deliver):
    run = start(sensor("one"), sensor("two"), sensor("three"))

    taken = [deliver(run, 1, key="a") for _ in range(3)]

    assert [t["duplicate"] for t in taken] == [False, True, True]
    assert len({t["delivered_to"] for t in taken}) == 1
    deliver(run, 2)
    deliver(run, 2)
    assert fresh(run).status == "succeeded"


def test_a_body_that_does_not_fit_is_refused_with_its_fields_while_somebody_waits(start, deliver):
    run = start(sensor(schema=PAID))

    with pytest.raises(InvalidInput) as refused:
        deliver(run, {"amount": "many"}, key="k")

    assert set(refused.value.fields) == {"amount"}
    assert run.signals.count() == 0, "the sender mends it and sends it under the same key"
    assert deliver(run, {"amount": 5}, key="k")["delivered_to"] == "wait"


def test_a_missing_field_is_named(start, deliver):
    run = start(sensor(schema=PAID))

    with pytest.raises(InvalidInput) as refused:
        deliver(run, {})

    assert refused.value.fields == {"amount": "It is missing."}


def test_a_body_that_came_before_its_sensor_and_does_not_fit_is_passed_over_and_said(start, deliver):
    run = start(sensor(schema=PAID), worked=False)
    deliver(run, "nonsense")
    deliver(run, {"amount": 4})

    work_all()

    assert output(run)["body"] == {"amount": 4}
    told = signals.signals_of(run)
    assert told[0]["refused"]["step"] == "wait" and told[0]["taken_by"] is None


def test_after_the_end_it_is_stored_and_answered_with_a_conflict(start, deliver):
    run = start({"id": "only", "kind": "transform", "output": 1})

    with pytest.raises(services.RunConflict):
        deliver(run, {"late": True}, key="k")

    assert run.signals.count() == 1
    assert deliver(run, {"late": True}, key="k")["duplicate"] is True


def test_when_the_time_is_over_it_leaves_by_expired(start, deliver):
    with clock.frozen(now()) as time:
        run = start(
            sensor(due="4h"),
            {"id": "late", "kind": "transform", "output": "{{ steps.wait.output.by }}"},
            edges=[{"from": "wait.expired", "to": "late"}],
        )
        assert Step.objects.get(run=run).due_at == now() + timedelta(hours=4)
        time.move(hours=3, minutes=59)
        work_all()
        assert statuses(run) == {"wait": "waiting"}

        time.move(minutes=1)
        work_all()

    assert statuses(run) == {"wait": "succeeded", "late": "succeeded"}
    assert Step.objects.get(run=run, path="wait").port == "expired"
    assert fresh(run).status == "succeeded"


def test_expiry_that_nothing_handles_fails_the_run_in_words(start):
    run = start(sensor(due=0), sensor("other", signal="never"))
    work_all()

    assert fresh(run).status == "failed"
    assert fresh(run).error["code"] == "sensor_expired"


def test_a_signal_that_came_in_time_wins_over_an_expiry_that_nobody_worked_on(start, deliver):
    with clock.frozen(now()) as time:
        run = start(sensor(due="1h"), worked=False)
        deliver(run, "in time")
        time.move(hours=2)
        work_all()

    assert output(run)["body"] == "in time"


def test_until_takes_an_expression(start, workspace, alice, principal):
    version = version_of(workspace, nodes=[sensor(until="{{ inputs.end }}")])
    run = services.start_run(principal(alice), version, {"end": "2030-01-01T00:00:00Z"})
    work_all()

    assert Step.objects.get(run=run).due_at.year == 2030


def test_a_pause_moves_the_end_of_the_wait(start, alice, principal):
    with clock.frozen(now()) as time:
        run = start(sensor(due="1h"))
        end = Step.objects.get(run=run).due_at
        services.pause_run(principal(alice), run.id)
        time.move(hours=5)
        services.resume_run(principal(alice), run.id)
        step = Step.objects.get(run=run)
        assert step.due_at == end + timedelta(hours=5)
        assert step.memo["expires_at"] == step.due_at.isoformat()
        work_all()
        assert statuses(run) == {"wait": "waiting"}


def test_a_simulated_run_waits_for_nobody(start):
    run = start(sensor(schema=PAID), simulate=True)

    assert fresh(run).status == "succeeded"
    assert output(run)["by"] == "simulation" and output(run)["body"] == {"amount": 0}


def test_a_preview_says_who_would_take_it_and_changes_nothing(start, deliver):
    run = start(sensor(schema=PAID))

    assert deliver(run, {"amount": 1}, preview=True) == {
        "stored": False,
        "duplicate": False,
        "delivered_to": "wait",
    }
    assert run.signals.count() == 0 and statuses(run) == {"wait": "waiting"}
    with pytest.raises(InvalidInput):
        deliver(run, {}, preview=True)


def test_what_a_run_waits_for_is_listed_with_its_schema(start):
    run = start(sensor(schema=PAID, due="1d"))

    (waits,) = signals.awaited(run)

    assert (waits["step"], waits["signal"], waits["schema"]) == ("wait", "paid", PAID)
    assert waits["until"]


def test_names_keys_and_bodies_are_bounded(start, deliver):
    run = start(sensor())

    for wrong in ("", "a b", "x" * 65, "ä"):
        with pytest.raises(InvalidInput):
            deliver(run, None, name=wrong)
    with pytest.raises(InvalidInput):
        deliver(run, None, key="x" * 201)
    with pytest.raises(TooLarge):
        deliver(run, "x" * (LIMITS.max_inputs_bytes + 1))
    assert run.signals.count() == 0


def test_strangers_and_viewers_deliver_nothing(start, charlie, bob, principal):
    run = start(sensor())
    with pytest.raises(NotFound):
        services.deliver_signal(principal(charlie), run.id, "paid")
    bob.memberships.update(roles=["viewer"])
    with pytest.raises(Forbidden):
        services.deliver_signal(principal(bob), run.id, "paid")
    assert run.signals.count() == 0


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite writes one after the other anyway")
def test_waiting_and_delivering_at_the_same_moment_never_lose_each_other(start, deliver):
    for _ in range(10):
        run = start(sensor(), worked=False)
        boot = register_worker()
        claim = claim_next(boot, ("default",), alone=True)
        both = threading.Barrier(2)

        def wait(claim=claim, boot=boot, both=both):
            both.wait()
            work(claim, boot, ("default",), chain=False)
            connections.close_all()

        def send(run=run, both=both):
            both.wait()
            deliver(run, "x", key="k")
            connections.close_all()

        threads = [threading.Thread(target=t) for t in (wait, send)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(20)

        assert fresh(run).status == "succeeded", statuses(run)
        assert Signal.objects.get(run=run).consumed_by == "wait"
    assert connection.vendor == "postgresql"


def test_sensors_inside_a_map_wait_each_for_its_own_signal(start, deliver):
    body = {
        "nodes": [{"id": "wait", "kind": "sensor", "signal": "paid.{{ item }}"}],
        "edges": [],
    }
    run = start({"id": "each", "kind": "map", "items": ["a", "b", "c"], "body": body})
    assert fresh(run).status == "waiting"
    assert {w["signal"] for w in signals.awaited(run)} == {"paid.a", "paid.b", "paid.c"}

    for name in ("b", "c", "a"):
        assert deliver(run, {"for": name}, name=f"paid.{name}")["delivered_to"].startswith("each[")
        work_all()

    assert fresh(run).status == "succeeded"
    assert [o["body"]["for"] for o in output(run, "each")] == ["a", "b", "c"]
    assert check_all() == []


def test_while_a_run_is_paused_signals_are_taken_and_nothing_is_claimed(start, deliver, alice, principal):
    after = {"id": "after", "kind": "transform", "output": 1}
    run = start(sensor(), after, edges=[{"from": "wait", "to": "after"}])
    services.pause_run(principal(alice), run.id)

    assert deliver(run, "x")["delivered_to"] == "wait"
    work_all()
    assert fresh(run).status == "paused" and statuses(run) == {"wait": "succeeded", "after": "ready"}

    services.resume_run(principal(alice), run.id)
    work_all()
    assert fresh(run).status == "succeeded"


def test_a_cancelled_run_waits_for_nothing_any_more(start, deliver, alice, principal):
    run = start(sensor())
    services.cancel_run(principal(alice), run.id)
    with pytest.raises(services.RunConflict):
        deliver(run, "x")
    assert statuses(run) == {"wait": "cancelled"}


def test_a_signal_that_wakes_a_step_costs_six_statements(start, deliver):
    run = start(sensor())
    with CaptureQueriesContext(connection) as queries:
        deliver(run, {"amount": 1})
    # Who asks is looked up by this test.
    said = [q["sql"] for q in queries if "workspaces_membership" not in q["sql"]]
    assert fresh(run).status == "succeeded"
    if connection.vendor == "postgresql":
        # BEGIN, the run under its lock, its steps, the signal, one write, COMMIT.
        assert len(said) == 6, said
