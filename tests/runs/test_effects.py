"""The side-effect protocol: how often the world is touched, whatever happens in between."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import OperationalError

from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.ledger.core.states import EffectClass
from apps.ledger.models import Effect, Evidence
from apps.ledger.selectors import entries
from apps.ledger.services import add_evidence
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.core.limits import LIMITS
from apps.runs.doubts import tell_late
from apps.runs.errors import DefiniteFailure, RunConflict, StepError
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.ports import Answer, CallRecord, Context, Done, EffectCall
from apps.runs.upkeep import reap
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import InvalidInput, NotFound
from tests.runs.commits import answer_lost
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
        self.arguments: dict[str, Any] = {"to": "a"}
        self.before: Any = None
        self.needs_grant = False
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
        if self.before is not None:
            self.before(context)
        result = context.effect(
            EffectCall(
                tool="pay",
                effect_class=self.effect_class,
                arguments=self.arguments,
                execute=self.execute,
                probe=self.probe,
                timeout_seconds=self.timeout,
                business_key=self.business_key,
                on_duplicate=self.on_duplicate,
                key_ttl_seconds=self.ttl,
                needs_grant=self.needs_grant,
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


def test_evidence_is_read_although_its_first_reader_died(start, world, monkeypatch):
    """The worker woken by late evidence dies before it could write: the next one finds the evidence too."""
    world.script = ["dies after"]
    run = start()
    dead = register_worker(lease_seconds=-1)
    with pytest.raises(WorkerDied):
        work(claim_next(dead, ("default",), alone=True), dead, ("default",), chain=True)
    work_all()
    tell_late(effect(), {"state": "present", "result": {"receipt": "late"}}, fence=1)
    reader = register_worker(lease_seconds=-1)
    assert claim_next(reader, ("default",), alone=True)
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert run.steps.get().output == {"receipt": "late"}
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


# --- a commit whose answer was lost -----------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 2], ids=["in flight", "finish"])
def test_an_effect_is_sent_once_although_the_answer_to_a_commit_is_lost(start, world, nth):
    run = start()
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    with answer_lost(nth):
        work(claim, boot, ("default",), chain=True)
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1
    kinds = [e.kind for e in entries(run.id)]
    assert (kinds.count("effect.sent"), kinds.count("effect.committed")) == (1, 1)


def test_a_journal_is_written_once_although_the_answer_to_its_commit_is_lost(start, world):
    def journal(context: Context) -> None:
        if context.recorded("model", 7) is None:
            context.record(CallRecord("model", "m", 7, 0, "h", {}, {}, now(), 1, cost_microusd=5))
            context.entry("model.requested", {})
            context.flush()

    world.before = journal
    run = start()
    with answer_lost(3):  # started and claimed before it
        work_all()
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    run.refresh_from_db()
    assert run.cost_microusd == 5
    assert len(entries(run.id, kinds=["model.requested"])) == 1


# --- doubts that must not be forgotten --------------------------------------------------------------------


def in_doubt_with(world, start, script, effect_class=EffectClass.PROBE):
    world.effect_class, world.script = effect_class, list(script)
    run = start()
    work_all()
    assert statuses(run) == {"pay": "in_doubt"}
    return run


def wake(run):
    with services.locked_run(run.id) as tx:
        tx.transition.wake("pay")


@pytest.mark.parametrize("how", ["dies", "is given back", "fails before", "is too slow"])
@pytest.mark.parametrize("cancelled", [False, True])
def test_a_doubt_outlives_the_attempt_that_looks_into_it(start, world, principal, alice, how, cancelled):
    run = in_doubt_with(world, start, ["lost after"], EffectClass.OPAQUE)
    if cancelled:
        services.cancel_run(principal(alice), run.id)
    wake(run)
    if how == "dies":
        claim_next(register_worker(lease_seconds=-1), ("default",), alone=True)
    elif how == "is too slow":
        with clock.frozen(now()) as time:
            boot = register_worker(lease_seconds=10_000)
            claim_next(boot, ("default",), alone=True)
            time.move(seconds=1000)
            reap(boot)
    else:
        raises = OperationalError("gone") if how == "is given back" else StepError("no", permanent=True)

        def before(context: Context) -> None:
            world.before = None
            raise raises

        world.before = before
    work_all()
    assert statuses(run) == {"pay": "in_doubt"}, "not cancelled, not failed, not sent again"
    services.resolve_effect(principal(alice), effect().id, outcome="happened", reason="I saw it")
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1


def test_a_doubt_resolved_by_a_person_while_it_is_looked_into_goes_on(start, world, principal, alice):
    def probe(key):
        services.resolve_effect(principal(alice), effect().id, outcome="happened", reason="I saw it")
        return Answer("unknown")

    world.probe = probe
    with clock.frozen(now()) as time:
        run = in_doubt_with(world, start, ["lost after"])
        for _ in range(LIMITS.probe_limit - 1):  # The next look is the last one by itself.
            add_evidence(effect(), "probe", {"state": "unknown"})
        for _ in range(10):
            time.move(minutes=10)
            work_all(register_worker())
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1


def test_an_answer_after_the_time_out_is_evidence(start, world, monkeypatch):
    release, real = threading.Event(), world.execute

    def slow(key):
        result = real(key)
        release.wait(20)
        return result

    monkeypatch.setattr(world, "execute", slow)
    world.timeout = 0.05
    run = start()
    work_all()
    assert statuses(run) == {"pay": "in_doubt"}
    release.set()
    for thread in [t for t in threading.enumerate() if t.name == "effect-pay"]:
        thread.join(20)
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 1


def test_conditions_and_criteria_see_what_the_last_step_did(workspace, alice, principal, world):
    version = version_of(
        workspace,
        [{"id": "pay", "kind": "tool", "tool": "pay"}],
        contract={
            "success_criteria": {
                "output": [
                    {"text": "It was paid.", "check": "expression",
                     "args": {"that": 'effects.all(e, e.state == "committed")'}}
                ]
            }
        },
    )  # fmt: skip
    run = services.start_run(principal(alice), version, {})
    work_all()
    run.refresh_from_db()
    assert [c["result"] for c in run.checks] == ["pass"]


# --- "it was done already: do it again?" ------------------------------------------------------------------


@pytest.fixture
def duplicate(start, world):
    """A second run that looks like a repetition of the first, and asks."""
    world.business_key, world.on_duplicate = "invoice/7", "ask"
    start()
    run = start()
    work_all()
    assert statuses(run) == {"pay": "waiting"}
    return run, ApprovalRequest.objects.get(run=run)


def test_a_repetition_that_is_refused_is_not_asked_about_again(duplicate, world, principal, alice):
    run, request = duplicate
    decide(principal(alice), request.id, verb="reject", reason="it was paid")
    work_all()
    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "rejected")
    assert len(world.sends) == 1


def test_a_consent_to_repeat_is_used_up_by_the_repetition(duplicate, world, principal, alice):
    run, request = duplicate
    decide(principal(alice), request.id, verb="approve")
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 2
    request.refresh_from_db()
    assert request.consumed_at is not None
    assert effect_of(run).approved_by["by"] == [principal(alice).label]


def test_a_consent_to_repeat_outlives_a_definite_failure(duplicate, world, principal, alice):
    run, request = duplicate
    world.script = ["refused"]
    decide(principal(alice), request.id, verb="approve")
    with clock.frozen(now()) as time:
        work_all(register_worker())
        time.move(minutes=10)
        work_all(register_worker())
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sends) == 3


def test_a_consent_to_repeat_holds_for_what_was_shown(duplicate, world, principal, alice):
    run, request = duplicate
    world.arguments = {"to": "b"}
    decide(principal(alice), request.id, verb="approve")
    work_all()
    assert statuses(run) == {"pay": "failed"}
    assert len(world.sends) == 1


def effect_of(run):
    return Effect.objects.filter(run_id=run.id).order_by("-generation").first()


@pytest.mark.parametrize("action", ["reject", "edge"])
def test_a_call_nobody_approved_in_time_fails_its_step_and_never_succeeds(start, world, action):
    world.needs_grant = True
    run = start()
    with clock.frozen(now()) as time:
        work_all(register_worker())
        assert statuses(run) == {"pay": "waiting"}
        ApprovalRequest.objects.filter(run=run).update(timeout_action=action, due_at=now())
        run.steps.update(due_at=now())
        time.move(seconds=1)
        work_all(register_worker())
    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "approval_expired")
    assert world.sends == []
