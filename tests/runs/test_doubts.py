"""An effect in doubt is cleared up first: no cancel, deadline or full slot makes anybody forget it."""

from __future__ import annotations

import pytest

from apps.ledger.core.states import EffectClass
from apps.ledger.models import Effect
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run
from apps.runs.ports import Answer, Done, EffectCall
from apps.runs.upkeep import upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A remote whose first answer is lost, and that can be asked afterwards."""

    def __init__(self) -> None:
        self.sends: list[str] = []
        self.answer = "present"

    def send(self, key: str) -> dict[str, str]:
        self.sends.append(key)
        if len(self.sends) == 1:
            raise TimeoutError("no answer")
        return {"receipt": key[:8]}

    def ask(self, key: str) -> Answer:
        return Answer(self.answer, {"receipt": key[:8]})  # type: ignore[arg-type]

    def handler(self, context: ports.Context) -> Done:
        call = EffectCall(
            tool="pay", effect_class=EffectClass.PROBE, arguments={}, timeout_seconds=5,
            execute=self.send, probe=self.ask,
        )  # fmt: skip
        return Done(context.effect(call))


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setitem(ports._handlers, "tool", world.handler)
    return world


@pytest.fixture
def start(workspace, alice, principal, world):
    def start(**node):
        version = version_of(workspace, [{"id": "pay", "kind": "tool", "tool": "pay", **node}])
        return services.start_run(principal(alice), version, {})

    return start


@pytest.fixture
def boot():
    return register_worker(lease_seconds=99_999)


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


ONE_AT_A_TIME = {"concurrency": {"key": "shop", "limit": 1}}


def claim(boot):
    return claim_next(boot, ("default",), alone=True)


@pytest.mark.parametrize("cancelled", ["before it is looked into", "while it waits for its slot"])
def test_a_doubt_that_waits_for_its_slot_is_looked_into_although_its_run_is_cancelled(
    start, world, boot, alice, principal, cancelled
):
    with clock.frozen(now()) as time:
        doubtful = start(**ONE_AT_A_TIME)
        work(claim(boot), boot, ("default",), chain=False)
        assert statuses(doubtful) == {"pay": "in_doubt"}
        other = start(**ONE_AT_A_TIME)
        holder = claim(boot)  # It has the only slot now.
        if cancelled.startswith("before"):
            services.cancel_run(principal(alice), doubtful.id)
        time.move(seconds=60)
        upkeep(boot)
        assert claim(boot) is None
        assert statuses(doubtful) == {"pay": "waiting"}
        if cancelled.startswith("while"):
            services.cancel_run(principal(alice), doubtful.id)
        assert Run.objects.get(id=doubtful.id).status == "cancelling"
        work(holder, boot, ("default",), chain=False)
        work_all(boot)
        assert Effect.objects.get(run_id=doubtful.id).state == "committed"
        assert Run.objects.get(id=doubtful.id).status == "cancelled"
        assert statuses(other) == {"pay": "succeeded"}
    assert len(world.sends) == 2


def test_a_step_past_its_deadline_is_not_failed_before_its_doubt_is_cleared_up(start, world, boot):
    with clock.frozen(now()) as time:
        run = start(deadline="30s", timeout="20s")
        work_all(boot)
        assert statuses(run) == {"pay": "in_doubt"}
        time.move(seconds=60)
        work_all(boot)
    assert Effect.objects.get().state == "committed"


def test_past_its_deadline_a_step_clears_up_its_doubt_and_sends_nothing_anew(start, world, boot):
    world.answer = "absent"
    with clock.frozen(now()) as time:
        run = start(deadline="30s", timeout="20s")
        work_all(boot)
        for _ in range(4):
            time.move(seconds=60)
            work_all(boot)
    assert [e.state for e in Effect.objects.all()] == ["failed"]
    assert len(world.sends) == 1
    assert Run.objects.get(id=run.id).error["code"] == "step_deadline"


def test_a_doubt_whose_step_has_ended_is_a_broken_promise(start, world, boot):
    run = start()
    work_all(boot)
    run.steps.update(status="cancelled")
    assert "pay is in doubt, but its step has ended." in [found.what for found in check_all()]
    run.steps.update(status="in_doubt")
