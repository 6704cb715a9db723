"""The worker process: polls without a broker, keeps its lease, gives back what it does not work on."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.test.utils import CaptureQueriesContext

from apps.runs import at_work, executor, lease, ports, services, transact, worker
from apps.runs.candidates import PAGE
from apps.runs.claims import claim_next, needs_empty_process
from apps.runs.core.limits import LIMITS
from apps.runs.drains import Drains
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step, Worker
from apps.runs.ports import Done, HandBack
from apps.runs.upkeep import anything_due, reap, take_back, upkeep
from apps.runs.worker import WorkerProcess
from mirrorneuron.base.clock import clock, now
from mirrorneuron.config import config
from tests.runs.commits import answer_lost
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


t = recorded


@pytest.fixture
def start(workspace, alice, principal):
    def start(*nodes, edges=()):
        return services.start_run(principal(alice), version_of(workspace, nodes, edges), {})

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


@pytest.fixture
def process(monkeypatch):
    """A started worker that is stopped, whatever happens."""
    monkeypatch.setattr(config(), "poll_seconds", 0.05)
    started = []

    def process(**options):
        made = WorkerProcess(**options)
        made.start()
        started.append(made)
        return made

    yield process
    for made in started:
        made.stop(5)


def until(true, what):
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        threading.Event().wait(0.02)


def ended(run):
    return Run.objects.get(id=run.id).status == "succeeded"


@pytest.fixture
def gate(monkeypatch):
    """Tool steps tell that they run and wait until they may go on."""
    entered, go = threading.Semaphore(0), threading.Event()

    def handler(context):
        entered.release()
        assert go.wait(20)
        return Done(1)

    monkeypatch.setitem(ports._handlers, "tool", handler)
    yield entered, go
    go.set()


def test_a_worker_finds_its_work_without_a_doorbell(start, process):
    run = start(t("a"), t("b"), edges=[{"from": "a", "to": "b"}])
    process()
    until(lambda: ended(run), "the run ended")


def test_slots_work_side_by_side_and_are_given_back(start, process, gate):
    entered, go = gate
    run = start(*({"id": f"p{i}", "kind": "tool", "tool": "x"} for i in range(4)))
    made = process(slots=2)
    assert entered.acquire(timeout=20) and entered.acquire(timeout=20)
    assert not entered.acquire(timeout=0.3), "no more than its slots"
    go.set()
    until(lambda: ended(run), "the run ended")
    until(lambda: made._busy == 0 and made._free._value == 2, "all slots are free")
    made.stop()
    until(lambda: not any(x.is_alive() for x in list(made._drains.threads)), "the threads have ended")


def test_what_a_worker_cannot_finish_before_it_stops_is_handed_back_and_counts_nothing(start, process, gate):
    entered, go = gate
    run = start({"id": "p", "kind": "tool", "tool": "x"})
    first = process()
    assert entered.acquire(timeout=20)
    first.stop(0.1)
    assert reap(register_worker()) == 0
    step = run.steps.get()
    assert (step.status, step.losses, step.failures) == ("ready", 0, 0)
    go.set()
    for thread in list(first._drains.threads):
        thread.join(20)  # until its late write is dropped: it holds the run's row for a moment
    work_all()
    assert statuses(run) == {"p": "succeeded"}


def test_a_broken_connection_does_not_end_the_lease(monkeypatch, db):
    made = WorkerProcess()
    made.lease.seconds = 0.04
    asked = []

    def broken():
        asked.append(1)
        if len(asked) == 2:
            made._stopped.set()
        raise InterfaceError("connection already closed")

    monkeypatch.setattr(made.lease, "renew", broken)
    made._lease_loop()
    assert len(asked) == 2


def test_a_process_that_stops_claims_nothing_even_if_it_was_about_to(start):
    run = start(t("a"))
    made = WorkerProcess()
    made.lease.take(sole=False)
    made.stop(0)
    assert made._work_one()[0] == 0
    assert statuses(run) == {"a": "ready"}


def test_a_database_lost_while_a_pure_step_is_worked_is_no_failure_of_the_step(start, monkeypatch):
    handler, asked = ports._handlers["transform"], []

    def away_once(context):
        asked.append(context.path)
        if len(asked) == 1:
            raise OperationalError("server closed the connection unexpectedly")
        return handler(context)

    monkeypatch.setitem(ports._handlers, "transform", away_once)
    run = start({"id": "a", "kind": "transform", "output": 1, "retry": {"max_attempts": 1}})
    with pytest.raises(OperationalError):
        work_all()
    work_all()
    assert statuses(run) == {"a": "succeeded"}
    assert Step.objects.get(run=run).failures == 0


def test_a_worker_that_starts_while_its_database_restarts_waits_for_it(monkeypatch, db):
    made = WorkerProcess()
    took, asked = made.lease.take, []

    def away_twice(*, sole):
        asked.append(sole)
        if len(asked) <= 2:
            raise OperationalError("server closed the connection unexpectedly")
        took(sole=sole)

    monkeypatch.setattr(worker, "START_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(made.lease, "take", away_twice)
    monkeypatch.setattr(worker.connection, "close", lambda: None)
    made._take_lease()
    assert len(asked) == 3
    assert Worker.objects.filter(boot=made.boot, lease_until__gt=now()).count() == 1


def test_a_lease_whose_answer_was_lost_is_taken_once_more(db):
    made = WorkerProcess()
    made.lease.take(sole=False)
    made.lease.take(sole=False)
    assert Worker.objects.filter(boot=made.boot).count() == 1


def test_the_kill_button_is_obeyed_at_the_next_look(monkeypatch, db):
    killed = []
    made = WorkerProcess()
    made.lease.take(sole=False)
    monkeypatch.setattr(worker.os, "kill", lambda pid, number: killed.append(number))
    assert not anything_due(made.boot, ("default",))
    Worker.objects.filter(boot=made.boot).update(kill_requested_at=now())
    assert anything_due(made.boot, ("default",))
    made._obey_kill_button()
    made.sole = True
    made._obey_kill_button()
    assert killed == [worker.signal.SIGKILL]


def test_a_renewal_that_failed_is_no_renewal(monkeypatch, db):
    made = WorkerProcess()
    made.lease._renewed = before = time.monotonic() - 1000

    def away():
        raise OperationalError("gone")

    monkeypatch.setattr(lease, "sync_clock", away)
    with pytest.raises(OperationalError):
        made.ensure_lease()
    assert made.lease._renewed == before


def test_a_claim_whose_answer_was_lost_is_given_back_and_counts_nothing(start):
    run = start(t("a", retry={"max_attempts": 1}))
    boot = register_worker(lease_seconds=1000)
    with answer_lost(1), pytest.raises(OperationalError):
        claim_next(boot, ("default",), alone=True)
    assert statuses(run) == {"a": "running"}
    with clock.frozen(now()) as at:
        assert take_back(boot) == 0, "it may be about to begin"
        at.move(seconds=LIMITS.claim_grace_seconds + 1)
        assert take_back(boot) == 1
    work_all(boot)
    step = run.steps.get()
    assert (step.status, step.losses, step.failures) == ("succeeded", 0, 0)


def test_the_successor_a_lost_answer_claimed_is_worked_on(start):
    run = start(t("a"), t("b"), edges=[{"from": "a", "to": "b"}])
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    with answer_lost(1):
        following = work(claim, boot, ("default",), chain=True)
    assert following is not None and following.path == "b"
    work(following, boot, ("default",), chain=True)
    assert statuses(run) == {"a": "succeeded", "b": "succeeded"}


def test_what_is_worked_on_is_never_given_back(start, process, gate):
    entered, _go = gate
    start({"id": "p", "kind": "tool", "tool": "x"})
    made = process()
    assert entered.acquire(timeout=20)
    later = now() + timedelta(seconds=60)
    with clock.frozen(later):
        assert take_back(made.boot) == 0
    assert at_work.late(later + timedelta(seconds=400)) == 1


def test_a_process_whose_slots_are_past_their_deadline_exits(start, process, gate, monkeypatch):
    entered, _go = gate
    exits = []
    monkeypatch.setattr(worker.os, "_exit", exits.append)
    start({"id": "p", "kind": "tool", "tool": "x"})
    made = process(slots=2)
    assert entered.acquire(timeout=20)
    made._exit_if_stuck()
    assert exits == []
    monkeypatch.setattr(worker, "now", lambda: now() + timedelta(hours=1))
    made._exit_if_stuck()
    assert 70 in exits


def test_steps_that_killed_a_worker_do_not_hide_the_others(start):
    for _ in range(PAGE + 2):
        start(t("bad"))
    Step.objects.update(losses=1)
    good = start(t("good"))
    claim = claim_next(register_worker(), ("default",), alone=False)
    assert claim is not None and claim.run.id == good.id


def test_a_process_empties_itself_for_a_step_that_has_killed_a_worker(start):
    run = start(t("bad"))
    run.steps.update(losses=1)
    assert not needs_empty_process(("default",))
    with clock.frozen(now()) as at:
        at.move(seconds=LIMITS.lossy_patience_seconds + 1)
        assert needs_empty_process(("default",))
        made = WorkerProcess()
        made._emptying, made._busy = True, 1
        assert (made._work_one()[0], made._may_go_on()) == (0, False)
        made._busy = 0
        start(t("urgent"))
        assert made._work_one()[0] == 1
        assert statuses(run) == {"bad": "succeeded"}
        made._emptying = False
        assert made._work_one()[0] == 1


def test_one_run_that_cannot_be_read_does_not_stop_the_others(start, monkeypatch):
    broken, good = start(t("a")), start(t("a"))
    timer = start({"id": "w", "kind": "timer", "duration": "1s"})
    real = transact.plan_for

    def plan_for(version_id):
        if version_id == broken.version_id:
            raise ValueError("a document nobody can read")
        return real(version_id)

    monkeypatch.setattr(transact, "plan_for", plan_for)
    with clock.frozen(now()) as at:
        boot = register_worker(lease_seconds=1000)
        while claim := claim_next(boot, ("default",), alone=True):
            work(claim, boot, ("default",), chain=True)
        broken.steps.update(status="waiting", reason="timer", due_at=now())
        at.move(seconds=5)
        upkeep(boot)
    assert statuses(good) == {"a": "succeeded"}
    assert statuses(timer) == {"w": "succeeded"}


def test_a_step_without_a_database_is_not_given_back_for_ever(start, monkeypatch):
    def handler(context):
        raise OperationalError("gone")

    monkeypatch.setitem(ports._handlers, "tool", handler)
    run = start({"id": "p", "kind": "tool", "tool": "x", "retry": {"max_attempts": 1}})
    work_all()
    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "database_lost")
    assert run.steps.get().attempt == LIMITS.attempts_for_free


def test_a_new_sole_worker_knows_that_all_others_are_dead(start, process):
    run = start(t("a"))
    claim_next(register_worker(lease_seconds=1000), ("default",), alone=True)
    process(sole=True)
    until(lambda: ended(run), "the run ended")
    assert Worker.objects.filter(lease_until__gt=now()).count() == 1


# --- what a worker asks the database ----------------------------------------------------------------------


def drained(made):
    """What one drain in this thread says to the database."""
    with CaptureQueriesContext(connection) as queries:
        made.drain()
    return [q["sql"] for q in queries]


@pytest.fixture
def idle():
    """A worker with a lease and no threads."""
    made = WorkerProcess()
    made.lease.take(sole=False)
    return made


@pytest.mark.parametrize("node", [t, lambda id: {"id": id, "kind": "transform", "output": 1}])
def test_the_last_write_of_a_chain_tells_that_nothing_else_is_ready(start, idle, node, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("on SQLite another query costs next to nothing")
    # A chain asks whether others wait when it has lasted a while, which it may on a busy machine.
    monkeypatch.setattr(executor, "others_wait", lambda *asked: False)
    ids = [f"s{i}" for i in range(10)]
    pairs = [{"from": a, "to": b} for a, b in pairwise(ids)]
    for warm in (True, False):
        run = start(*map(node, ids), edges=pairs)
        said = drained(idle)
        assert ended(run)
        if not warm:
            # Candidates, the run with its steps, the claim, the ends: with the start 14 calls for 10 steps.
            assert len(said) == (13 if node is t else 3), said


def test_a_drain_goes_on_when_another_run_has_become_ready_meanwhile(start, idle, monkeypatch):
    other = []

    def handler(context):
        if not other:
            other.append(start(t("b")))
        return Done(1)

    monkeypatch.setitem(ports._handlers, "tool", handler)
    run = start({"id": "p", "kind": "tool", "tool": "x"})
    assert idle.drain() == 2
    assert ended(run) and ended(other[0])


def test_a_drain_goes_on_with_the_parent_of_a_run_that_ended(start, idle, workspace):
    version = version_of(workspace, [t("inner")])
    child = {"id": "c", "kind": "subflow", "blueprint": f"{version.blueprint.name}@{version.number}"}
    run = start(child, t("after"), edges=[{"from": "c", "to": "after"}])
    idle.drain()
    upkeep(idle.boot)
    idle.drain()
    assert ended(run)


def test_a_step_that_is_tried_again_at_once_is_not_taken_for_nothing(start, idle, monkeypatch):
    tries = []

    def handler(context):
        tries.append(context.attempt)
        return HandBack() if len(tries) == 1 else Done(1)

    monkeypatch.setitem(ports._handlers, "tool", handler)
    run = start({"id": "p", "kind": "tool", "tool": "x"})
    idle.drain()
    assert ended(run) and len(tries) == 2


def test_threads_that_worked_keep_their_connection_for_the_next_work(monkeypatch):
    done, named = threading.Semaphore(0), []

    def work():
        named.append(threading.current_thread())
        done.release()

    drains = Drains(work)
    for _ in range(3):
        drains.go()
        assert done.acquire(timeout=20)
        until(lambda: drains._idle == 1, "the thread waits for more")
    assert len(set(named)) == 1
    monkeypatch.setattr("apps.runs.drains.KEEP_SECONDS", 0.01)
    drains.go()
    named[0].join(20)
    assert not named[0].is_alive() and not drains.threads


def test_celery_keeps_the_connections_of_its_threads():
    from celery.fixups.django import DjangoWorkerFixup

    from mirrorneuron.celery import app

    assert DjangoWorkerFixup(app).db_reuse_max


def test_ready_steps_alone_ask_for_no_upkeep(start, idle):
    assert not anything_due(idle.boot, idle.queues)
    start(t("a"))
    assert anything_due(idle.boot, idle.queues)
    assert not anything_due(idle.boot)


def test_what_a_start_writes_has_no_key_the_database_checks_by_itself():
    with connection.cursor() as cursor:
        for model in (Run, Step):
            assert not [
                name
                for name, found in connection.introspection.get_constraints(
                    cursor, model._meta.db_table
                ).items()
                if found["foreign_key"]
            ]
