"""Sensors that poll: on the real engine, through the gateway; no worker held, no journal filled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from apps.ledger.selectors import entries
from apps.runs import services
from apps.runs.errors import StepError
from apps.runs.invariants import check_all
from apps.runs.models import Call, Run, Step
from mirrorneuron.base.clock import FrozenClock, clock, now
from tests.agents.fakes import tool
from tests.runs.engine import statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def time() -> Iterator[FrozenClock]:
    with clock.frozen(now().replace(microsecond=0)) as frozen:
        yield frozen


@pytest.fixture
def world(tools: Callable[..., None]) -> dict[str, Any]:
    """An order outside: `status`, how often it was `asked`, and what asking raises."""
    state: dict[str, Any] = {"status": "open", "asked": 0, "trouble": None}

    def ask(arguments: dict[str, Any]) -> dict[str, Any]:
        state["asked"] += 1
        if state["trouble"]:
            raise state["trouble"]
        return {"status": state["status"]}

    tools(
        tool("look_up", ask, open_world=True, parameters={"type": "object", "properties": {"order": {}}}),
        tool("change", lambda a: {}, effect="keyed"),
    )
    return state


@pytest.fixture
def start(workspace, alice, principal, world, time) -> Callable[..., Run]:
    def make(*, contract: Any = None, simulate: bool = False, edges: Any = (), nodes: Any = (), **more: Any):
        sensor = {
            "id": "wait",
            "kind": "sensor",
            "poll": {"tool": "look_up", "with": {"order": "{{ inputs.order }}"}},
            "every": "1m",
            "condition": 'output.status == "paid"',
            "due": "2h",
            **more,
        }
        allowed = {"boundaries": {"allowed_tools": ["look_up", "change"]}} | (contract or {})
        version = version_of(workspace, nodes=[sensor, *nodes], edges=list(edges), contract=allowed)
        run = services.start_run(principal(alice), version, {"order": "17"}, simulate=simulate)
        work_all()
        return run

    return make


def step(run: Run) -> Step:
    return Step.objects.get(run=run, path="wait")


def status(run: Run) -> str:
    return str(Run.objects.get(id=run.id).status)


def test_it_asks_until_the_condition_holds_and_holds_no_worker_between(start, world, time):
    run = start()
    assert (step(run).status, step(run).reason, step(run).worker) == ("waiting", "poll", None)
    assert step(run).due_at == now() + timedelta(minutes=1)

    for _ in range(3):
        time.move(minutes=1)
        work_all()
    assert world["asked"] == 4
    world["status"] = "paid"
    time.move(minutes=1)
    work_all()

    assert status(run) == "succeeded"
    output = step(run).output
    assert (output["by"], output["body"], output["polls"]) == ("poll", {"status": "paid"}, 5)
    assert step(run).labels == ["tool:look_up", "user"]
    assert check_all() == []


def test_it_is_asked_each_time_and_never_from_memory(start, world, time):
    run = start(every="1s", due="10s")
    for _ in range(3):
        time.move(seconds=1)
        work_all()
    assert world["asked"] == 4 and status(run) == "waiting"


def test_the_journal_keeps_the_first_and_the_last_look_however_many_there_were(start, world, time):
    run = start()
    for _ in range(30):
        time.move(minutes=1)
        work_all()
    assert Call.objects.count() == 1
    memo = step(run).memo
    assert memo["polls"] == 31 and memo["last"]["output"] == {"status": "open"}

    world["status"] = "paid"
    time.move(minutes=1)
    work_all()

    assert [c.response["status"] for c in Call.objects.order_by("turn")] == ["open", "paid"]
    assert len(list(entries(run.id, kinds=["tool.called"]))) == 2


def test_looks_keep_their_rhythm_when_one_comes_late(start, time):
    run = start()
    began = step(run).started_at
    time.move(minutes=5, seconds=20)
    work_all()
    assert step(run).due_at == began + timedelta(minutes=6)


def test_when_the_time_is_over_it_expires_at_that_very_time(start, world, time):
    run = start(
        due="90s",
        nodes=[{"id": "late", "kind": "transform", "output": "{{ steps.wait.output.polls }}"}],
        edges=[{"from": "wait.expired", "to": "late"}],
    )
    time.move(minutes=1)
    work_all()
    assert step(run).due_at == now() + timedelta(seconds=30), "not a whole minute more"
    world["status"] = "paid"
    time.move(seconds=30)
    work_all()

    assert statuses(run) == {"wait": "succeeded", "late": "succeeded"}
    assert step(run).port == "expired" and step(run).output["polls"] == 2


def test_a_look_that_fails_is_one_that_saw_nothing(start, world, time):
    world["trouble"] = StepError("503", retry_after=300.0)
    run = start()
    assert step(run).due_at == now() + timedelta(seconds=300), "the other side asked for time"
    assert step(run).failures == 0
    world.update(trouble=None, status="paid")
    time.move(minutes=5)
    work_all()
    assert status(run) == "succeeded"


def test_too_many_failures_in_a_row_fail_the_step_and_one_success_forgives_them(start, world, time):
    run = start()
    for trouble in (True, True, False, True, True, True):
        world["trouble"] = StepError("503") if trouble else None
        time.move(minutes=1)
        work_all()
    assert status(run) == "waiting"

    time.move(minutes=1)
    work_all()

    assert status(run) == "failed"
    assert "4 times in a row" in step(run).error["message"]


def test_a_failure_for_good_ends_it_at_once(start, world):
    world["trouble"] = StepError("no such order", permanent=True)
    assert status(start()) == "failed"


def test_a_condition_that_is_no_condition_fails_in_words(start):
    run = start(condition="output.status")
    assert step(run).error["code"] == "bad_condition"


def test_what_writes_is_never_polled(start, world):
    run = start(poll={"tool": "change"})
    assert step(run).error["code"] == "refused"
    assert [e.data["rule"] for e in entries(run.id, kinds=["tool.refused"])] == ["poll_writes"]


def test_what_the_contract_does_not_allow_is_not_asked(start, world):
    run = start(contract={"boundaries": {"allowed_tools": []}})
    assert status(run) == "failed" and world["asked"] == 0


def test_the_contracts_number_of_calls_counts_every_look(start, world, time):
    run = start(contract={"tool_limits": {"look_up": {"per_run": 3}}})
    for _ in range(5):
        time.move(minutes=1)
        work_all()
    assert world["asked"] == 3 and status(run) == "failed"


def test_a_simulated_run_looks_nowhere(start, world):
    run = start(simulate=True)
    assert status(run) == "succeeded" and world["asked"] == 0
    assert step(run).output["by"] == "simulation"


def test_a_signal_ends_it_whether_it_waits_or_looks_just_then(start, world, time, alice, principal):
    run = start(signal="paid")
    assert step(run).reason == "signal"
    assert services.deliver_signal(principal(alice), run.id, "paid", {"amount": 5})["delivered_to"] == "wait"
    assert step(run).output["body"] == {"amount": 5}

    other = start(signal="paid")
    # While the step is ready or at work nobody waits; the signal lies in the inbox.
    Step.objects.filter(run=other).update(due_at=now())
    from apps.runs.upkeep import fire_due

    fire_due()
    assert services.deliver_signal(principal(alice), other.id, "paid", 6)["delivered_to"] is None
    asked = world["asked"]
    work_all()
    assert step(other).output["body"] == 6 and world["asked"] == asked


def test_after_a_crash_in_the_middle_of_a_look_it_looks_again(start, world, time, monkeypatch):
    run = start()

    class Died(BaseException):
        pass

    with monkeypatch.context() as patch:
        world["trouble"] = Died()
        time.move(minutes=1)
        patch.setattr("apps.agents.gateway.run_bounded", lambda f, call: f(call))
        with pytest.raises(Died):
            work_all()
    world.update(trouble=None, status="paid")
    time.move(minutes=10)
    work_all()

    assert status(run) == "succeeded" and step(run).output["by"] == "poll"


def test_a_limit_on_calls_makes_it_wait_without_losing_when_it_began(start, world, time, monkeypatch):
    from apps.governance import flow

    def later(*args: Any) -> Any:
        return flow.Later(now() + timedelta(seconds=30), "a limit")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "admit", later)
        run = start(due="3m")
        assert step(run).reason == "slot" and world["asked"] == 0
        end = step(run).memo["expires_at"]
    time.move(seconds=30)
    work_all()
    assert world["asked"] == 1
    assert step(run).memo["expires_at"] == end and "limit" not in step(run).memo
    assert step(run).due_at == now() + timedelta(seconds=30), "in its rhythm"
