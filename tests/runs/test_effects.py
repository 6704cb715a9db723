"""The side-effect protocol: how often the world is touched, whatever happens in between."""

from __future__ import annotations

from typing import Any

import pytest

from apps.ledger.core.states import EffectClass
from apps.ledger.models import Effect, Evidence
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.errors import DefiniteFailure, RunConflict
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.ports import Answer, Context, Done, EffectCall
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import InvalidInput, NotFound
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


class World:
    """A remote that counts, and answers as the test says."""

    def __init__(self) -> None:
        self.sends: list[str] = []
        self.done: set[str] = set()
        self.script: list[str] = []
        self.effect_class = EffectClass.OPAQUE
        self.probe: Any = None
        self.business_key = ""
        self.on_duplicate = "block"
        self.ttl = 86400.0
        self.timeout = 5.0

    def execute(self, key: str) -> dict[str, str]:
        self.sends.append(key)
        match self.script.pop(0) if self.script else "ok":
            case "refused":
                raise DefiniteFailure("connection refused")
            case "lost before":
                raise TimeoutError("no answer")
            case "lost after":
                self.done.add(key)
                raise TimeoutError("no answer")
            case "dies after":
                self.done.add(key)
                raise WorkerDied
            case _:
                self.done.add(key)
        return {"receipt": key[:8]}

    def handler(self, context: Context) -> Done:
        result = context.effect(
            EffectCall(
                tool="pay",
                effect_class=self.effect_class,
                arguments={"to": "a"},
                execute=self.execute,
                probe=self.probe,
                timeout_seconds=self.timeout,
                business_key=self.business_key,
                on_duplicate=self.on_duplicate,
                key_ttl_seconds=self.ttl,
            )
        )
        return Done(result)


class WorkerDied(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


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


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def effect() -> Effect:
    return Effect.objects.order_by("-generation").first()


def test_an_effect_is_sent_once_and_its_result_is_kept(start, world):
    run = start()
    work_all()
    assert world.sends == [effect().key]
    assert effect().state == "committed"
    assert run.steps.get().output == {"receipt": effect().key[:8]}


def test_a_definite_failure_is_tried_again_under_a_new_key(start, world):
    world.script = ["refused"]
    run = start(retry={"base": "1ms"})
    with clock.frozen(now()) as time:
        work_all(register_worker(lease_seconds=9999))
        time.move(seconds=5)
        work_all(register_worker(lease_seconds=9999))
    assert statuses(run) == {"pay": "succeeded"}
    assert len(set(world.sends)) == 2
    assert run.steps.get().failures == 1


def test_an_opaque_doubt_asks_a_person_and_sends_nothing(start, world):
    world.script = ["lost after"]
    run = start()
    with clock.frozen(now()) as time:
        work_all(register_worker(lease_seconds=99999))
        time.move(hours=10)
        work_all(register_worker(lease_seconds=99999))
    assert statuses(run) == {"pay": "in_doubt"}
    assert len(world.sends) == 1
    run.refresh_from_db()
    assert run.needs_attention and run.status == "waiting"


@pytest.mark.parametrize(
    ("outcome", "status", "sends"),
    [("happened", "succeeded", 1), ("did_not_happen", "succeeded", 2), ("abandon", "failed", 1)],
)
def test_a_person_resolves_a_doubt(start, world, principal, alice, outcome, status, sends):
    world.script = ["lost before"]
    run = start()
    work_all()
    services.resolve_effect(principal(alice), effect().id, outcome=outcome, reason="looked at the bank")
    work_all()
    run.refresh_from_db()
    assert (run.status, len(world.sends)) == (status, sends)
    with pytest.raises(RunConflict):
        services.resolve_effect(principal(alice), Effect.objects.order_by("created_at")[0].id,
                                outcome="happened", reason="again")  # fmt: skip


def test_a_doubt_is_resolved_only_with_a_reason_and_never_by_a_stranger(
    start, world, principal, alice, charlie
):
    world.script = ["lost before"]
    start()
    work_all()
    with pytest.raises(InvalidInput):
        services.resolve_effect(principal(alice), effect().id, outcome="happened", reason=" ")
    with pytest.raises(NotFound):
        services.resolve_effect(principal(charlie), effect().id, outcome="happened", reason="x")


@pytest.mark.parametrize("effect_class", [EffectClass.KEYED, EffectClass.IDEMPOTENT])
def test_a_keyed_doubt_is_sent_again_with_the_same_key(start, world, effect_class):
    world.effect_class = effect_class
    world.script = ["lost after"]
    run = start()
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 2 and len(set(world.sends)) == 1
    assert run.steps.get().failures == 0


def test_a_refused_resend_proves_nothing_about_the_first_send(start, world):
    world.effect_class = EffectClass.KEYED
    world.script = ["lost after", "refused"]
    run = start()
    with clock.frozen(now()) as time:
        for _ in range(3):
            work_all(register_worker(lease_seconds=9999))
            time.move(seconds=10)
    assert statuses(run) == {"pay": "succeeded"}
    assert len(set(world.sends)) == 1


def test_after_its_lifetime_a_key_is_not_sent_again(start, world):
    world.effect_class = EffectClass.KEYED
    world.ttl = 1.0
    world.script = ["lost after"]
    run = start()
    work_all()
    assert statuses(run) == {"pay": "in_doubt"}
    assert len(world.sends) == 1


def test_a_probe_that_says_present_ends_the_doubt(start, world):
    world.effect_class = EffectClass.PROBE
    world.script = ["lost after"]
    world.probe = lambda key: Answer("present", {"found": key in world.done})
    run = start()
    with clock.frozen(now()) as time:
        work_all(register_worker(lease_seconds=9999))
        assert statuses(run) == {"pay": "in_doubt"}
        time.move(seconds=60)
        work_all(register_worker(lease_seconds=9999))
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1


def test_absent_counts_only_after_the_deadline_and_twice(start, world):
    world.effect_class = EffectClass.PROBE
    world.script = ["lost before"]
    asked = []

    def probe(key):
        asked.append(now())
        return Answer("absent" if key not in world.done else "present")

    world.probe = probe
    run = start()
    with clock.frozen(now()) as time:
        work_all(register_worker(lease_seconds=9999))
        assert asked == []
        time.move(seconds=11)
        work_all(register_worker(lease_seconds=9999))
        assert len(asked) == 1 and len(world.sends) == 1, "once is not enough"
        time.move(seconds=6)
        work_all(register_worker(lease_seconds=9999))
    assert len(asked) == 2
    assert len(world.sends) == 2 and len(set(world.sends)) == 2
    assert statuses(run) == {"pay": "succeeded"}


def test_a_worker_that_dies_in_flight_leaves_a_doubt_not_a_repeat(start, world):
    world.script = ["dies after"]
    run = start()
    dead = register_worker(lease_seconds=-1)
    claim = claim_next(dead, ("default",), alone=True)
    with pytest.raises(WorkerDied):
        work(claim, dead, ("default",), chain=True)
    work_all()
    assert statuses(run) == {"pay": "in_doubt"}
    assert len(world.sends) == 1
    assert run.steps.get().losses == 0


def test_a_late_answer_is_kept_as_evidence_and_ends_the_doubt(start, world, monkeypatch):
    run = start()
    zombie = register_worker()
    claim = claim_next(zombie, ("default",), alone=True)
    real = world.execute

    def meanwhile(key):
        """While the call hangs, the lease runs out and another worker takes over."""
        result = real(key)
        from apps.runs.models import Worker

        Worker.objects.filter(boot=zombie).update(lease_until=now().replace(year=2000))
        work_all()
        assert statuses(run) == {"pay": "in_doubt"}
        return result

    monkeypatch.setattr(world, "execute", meanwhile)
    assert work(claim, zombie, ("default",), chain=True) is None
    monkeypatch.setattr(world, "execute", real)
    assert Evidence.objects.filter(source="worker").count() == 1
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1


def test_a_business_key_is_used_once_across_runs(start, world):
    world.business_key = "invoice/7"
    start()
    work_all()
    second = start()
    work_all()
    second.refresh_from_db()
    assert (second.status, second.error["code"]) == ("failed", "duplicate_effect")
    assert len(world.sends) == 1
    assert Effect.objects.get(state="committed").duplicates_blocked == 1


def test_nothing_goes_in_flight_when_the_deadline_is_near(start, world):
    world.timeout = 60.0
    run = start(timeout="5s", retry={"max_attempts": 1})
    work_all()
    run.refresh_from_db()
    assert world.sends == []
    assert run.error["code"] == "deadline_near"


def test_a_paused_run_puts_nothing_in_flight(start, world, principal, alice):
    run = start()
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    services.pause_run(principal(alice), run.id)
    work(claim, boot, ("default",), chain=True)
    assert world.sends == []
    assert statuses(run) == {"pay": "ready"}
    services.resume_run(principal(alice), run.id)
    work_all()
    assert len(world.sends) == 1


def test_a_cancelled_run_puts_nothing_in_flight(start, world, principal, alice):
    run = start()
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    services.cancel_run(principal(alice), run.id)
    work(claim, boot, ("default",), chain=True)
    assert world.sends == []
    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("cancelled", {"pay": "cancelled"})


def test_a_result_no_database_likes_is_recorded_all_the_same(start, world, monkeypatch):
    monkeypatch.setattr(world, "execute", lambda key: {"a": "x\x00y", "b": "\ud800", "n": float("nan")})
    run = start()
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert effect().result == {"a": "x\\u0000y", "b": "\\ud800", "n": "NaN"}
