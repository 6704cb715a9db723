"""The queue's length and a run's time in it: refused in words, never dropped in silence."""

from __future__ import annotations

import pytest

from apps.ledger.selectors import entries
from apps.runs import queueing, services
from apps.runs.claims import claim_next
from apps.runs.errors import QueueFull
from apps.runs.invariants import check_all
from apps.runs.models import Run
from apps.runs.upkeep import anything_due, upkeep
from mirrorneuron.base.clock import clock, now
from mirrorneuron.config import config
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)


@pytest.fixture
def start(workspace, alice, principal):
    def start(*nodes, key=None, **document):
        version = version_of(workspace, nodes or [{"id": "a", "kind": "transform", "output": 1}], **document)
        return services.start_run(principal(alice), version, {}, idempotency_key=key)

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def test_a_full_queue_refuses_the_start_and_says_when_to_come_again(start, monkeypatch):
    monkeypatch.setattr(config(), "max_queued", 3)
    for _ in range(3):
        start()
    with pytest.raises(QueueFull) as caught:
        start()
    assert caught.value.status == 429 and caught.value.attributes["retry_after"] > 0
    assert "waiting 3, at most 3" in caught.value.message
    assert Run.objects.count() == 3
    work_all()
    assert start().status == "queued"


def test_a_key_that_was_used_gives_its_run_also_when_the_queue_is_full(
    workspace, alice, principal, monkeypatch
):
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": 1}])
    first = services.start_run(principal(alice), version, {}, idempotency_key="k")
    monkeypatch.setattr(config(), "max_queued", 1)
    assert services.start_run(principal(alice), version, {}, idempotency_key="k").id == first.id


def test_each_queue_and_each_workspace_has_room_of_its_own(
    start, workspace, elsewhere, charlie, principal, monkeypatch
):
    monkeypatch.setattr(config(), "max_queued", 1)
    start()
    start({"id": "a", "kind": "transform", "output": 1, "queue": "gpu"})
    theirs = version_of(elsewhere, [{"id": "a", "kind": "transform", "output": 1}])
    services.start_run(principal(charlie), theirs, {})
    with pytest.raises(QueueFull):
        start()


def test_one_run_with_many_ready_steps_fills_no_queue(start, monkeypatch):
    monkeypatch.setattr(config(), "max_queued", 3)
    many = [{"id": f"s{n}", "kind": "timer", "duration": "1h"} for n in range(6)]
    start(*many)
    assert start().status == "queued"


def test_without_a_bound_everything_is_taken(start, monkeypatch):
    monkeypatch.setattr(config(), "max_queued", 0)
    for _ in range(5):
        start()


def test_a_run_that_waited_too_long_fails_before_its_first_step(start):
    run = start(contract={"queue_deadline": "30s"})
    with clock.frozen(now()) as time:
        time.move(seconds=31)
        boot = register_worker()
        assert anything_due(boot, ())
        assert upkeep(boot) == 1
        assert not anything_due(boot, ())
    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "queue_deadline")
    assert statuses(run) == {"a": "cancelled"}
    kinds = [e.kind for e in entries(run.id)]
    assert "step.started" not in kinds and kinds[-1] == "run.failed"


def test_a_claim_that_comes_too_late_does_not_begin_it(start):
    run = start(contract={"queue_deadline": "30s"})
    with clock.frozen(now()) as time:
        time.move(seconds=31)
        assert claim_next(register_worker(), QUEUES, alone=True) is None
    run.refresh_from_db()
    assert run.error["code"] == "queue_deadline"


def test_a_run_that_has_begun_may_take_as_long_as_it_likes(start):
    nodes = [{"id": "w", "kind": "timer", "duration": "1h"}]
    run = start(*nodes, contract={"queue_deadline": "30s"})
    with clock.frozen(now()) as time:
        work_all(register_worker())
        time.move(seconds=3601)
        work_all(register_worker())
    run.refresh_from_db()
    assert run.status == "succeeded" and run.queue_deadline_at is None


def test_the_installations_deadline_holds_where_the_contract_says_nothing(start, monkeypatch):
    monkeypatch.setattr(config(), "queue_deadline_seconds", 60.0)
    plain, own = start(), start(contract={"queue_deadline": "2h"})
    assert (plain.queue_deadline_at - plain.created_at).total_seconds() == 60
    assert (own.queue_deadline_at - own.created_at).total_seconds() == 7200


def test_a_pause_does_not_count(start, alice, principal):
    run = start(contract={"queue_deadline": "30s"})
    with clock.frozen(now()) as time:
        services.pause_run(principal(alice), run.id)
        time.move(seconds=100)
        assert upkeep(register_worker()) == 0
        services.resume_run(principal(alice), run.id)
        work_all(register_worker())
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_what_was_cancelled_in_the_queue_is_not_looked_at_for_ever(start, alice, principal, monkeypatch):
    late = {"contract": {"queue_deadline": "30s"}}
    for _ in range(2):
        services.cancel_run(principal(alice), start(**late).id)
    monkeypatch.setattr(queueing, "LIMITS", queueing.LIMITS.__class__(due_batch=1))
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=1000)
        time.move(seconds=31)
        assert not anything_due(boot, ())
        run = start(**late)
        time.move(seconds=31)
        assert queueing.expire() == 1, "nobody stands before those that still wait"
    run.refresh_from_db()
    assert run.error["code"] == "queue_deadline"


def test_a_run_that_began_without_a_claim_is_not_looked_at_for_its_time_in_the_queue(start):
    """Its first step was skipped, so it runs; nobody has claimed the other one."""
    start(
        {"id": "never", "kind": "transform", "output": 1, "when": "false"},
        {"id": "other", "kind": "transform", "output": 1, "queue": "elsewhere"},
        contract={"queue_deadline": "30s"},
    )
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=1000)
        time.move(seconds=31)
        upkeep(boot)
        assert not anything_due(boot, ())
