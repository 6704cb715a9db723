"""Rivals on one run, interleaved at the point where it hurts, on PostgreSQL (READ COMMITTED)."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection, connections

from apps.ledger.models import Effect
from apps.ledger.selectors import entries
from apps.runs import effects, executor, ports, services, upkeep
from apps.runs.claims import claim_next
from apps.runs.core.states import StepStatus
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Worker
from apps.runs.ports import Done, EffectCall
from mirrorneuron.base.clock import now
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def on_postgresql(db):
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer; rivals meet on PostgreSQL")
    yield
    assert check_all() == []


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, edges=()):
        return services.start_run(principal(alice), version_of(workspace, nodes, edges), {})

    return start


t = recorded


def together(*jobs):
    """Run each in a thread of its own; what one raises is raised here."""
    errors = []

    def run(job):
        try:
            job()
        except BaseException as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if errors:
        raise errors[0]


def seqs(run):
    return [e.seq for e in entries(run.id)]


def test_steps_that_finish_together_start_their_join_once(start, monkeypatch):
    ids = [f"p{i}" for i in range(6)]
    run = start([*(t(i) for i in ids), {"id": "j", "kind": "aggregator"}],
                [{"from": i, "to": "j"} for i in ids])  # fmt: skip
    boot = register_worker()
    claims = [claim_next(boot, ("default",), alone=True) for _ in ids]
    barrier, real = threading.Barrier(len(ids)), executor._finish_surely

    def finish(*args, **options):
        barrier.wait(20)
        return real(*args, **options)

    monkeypatch.setattr(executor, "_finish_surely", finish)
    together(*(lambda c=c: work(c, boot, ("default",), chain=False) for c in claims))
    monkeypatch.setattr(executor, "_finish_surely", real)
    work_all(boot)
    assert set(statuses(run).values()) == {"succeeded"}
    kinds = [e.kind for e in entries(run.id, path="j")]
    assert kinds.count("step.ready") == kinds.count("step.succeeded") == 1
    assert seqs(run) == list(range(1, len(seqs(run)) + 1))


def test_many_workers_claim_a_step_once(start):
    run = start([t("a")])
    boots = [register_worker() for _ in range(6)]
    barrier, won = threading.Barrier(6), []

    def claim(boot):
        barrier.wait(20)
        if claim_next(boot, ("default",), alone=True):
            won.append(boot)

    together(*(lambda b=b: claim(b) for b in boots))
    run.refresh_from_db()
    assert ([run.held_worker], statuses(run)) == (won, {"a": "running"})
    assert [e.kind for e in entries(run.id, path="a")] == ["step.ready", "step.started"]
    work_all()
    Worker.objects.filter(boot=won[0]).update(lease_until=now() - timedelta(seconds=1))
    work_all()
    assert statuses(run) == {"a": "succeeded"}


@pytest.fixture
def paying(start, monkeypatch):
    """A claimed step that pays, its sends, and its worker's boot id."""
    sends = []

    def handler(context):
        return Done(
            context.effect(
                EffectCall(tool="pay", effect_class="opaque", arguments={}, timeout_seconds=5,
                           execute=lambda key: sends.append(key) or {})
            )
        )  # fmt: skip

    monkeypatch.setitem(ports._handlers, "tool", handler)
    run = start([{"id": "pay", "kind": "tool", "tool": "pay"}])
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    return run, claim, boot, sends


def die(boot):
    Worker.objects.filter(boot=boot).update(lease_until=now() - timedelta(seconds=1))


def test_a_reaper_that_comes_while_an_effect_goes_in_flight_sees_it(paying, monkeypatch):
    run, claim, boot, sends = paying
    inside, reaped, real = threading.Event(), threading.Event(), effects._guard

    def guard(*args, **options):
        real(*args, **options)
        inside.set()
        reaped.wait(20)

    monkeypatch.setattr(effects, "_guard", guard)

    def reaper():
        assert inside.wait(20)
        die(boot)
        assert upkeep.reap(register_worker()) == 0, "the run's row is held: it comes again later"
        reaped.set()

    together(lambda: work(claim, boot, ("default",), chain=False), reaper)
    assert len(sends) == 1
    work_all()
    assert statuses(run) == {"pay": "succeeded"}


def test_an_effect_that_comes_while_its_step_is_reaped_never_leaves(paying, monkeypatch):
    run, claim, boot, sends = paying
    holding, tried, real = threading.Event(), threading.Event(), upkeep._proof
    sent_by_first: list[int] = []

    def proof(*args):
        holding.set()
        tried.wait(1)  # The worker waits for the run's row now.
        return real(*args)

    monkeypatch.setattr(upkeep, "_proof", proof)

    def reaper():
        die(boot)
        assert upkeep.reap(register_worker()) == 1

    def worker():
        assert holding.wait(20)
        work(claim, boot, ("default",), chain=False)
        sent_by_first.append(len(sends))

    together(reaper, worker)
    assert sent_by_first == [0]
    assert Effect.objects.count() == 0
    work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(sends) == 1


@pytest.mark.parametrize("act", ["cancel_run", "pause_run"])
def test_a_person_who_stops_a_run_while_steps_finish_is_heard(start, principal, alice, monkeypatch, act):
    ids = [f"p{i}" for i in range(4)]
    run = start([*(t(i) for i in ids), t("z")], [{"from": i, "to": "z"} for i in ids])
    boot = register_worker()
    claims = [claim_next(boot, ("default",), alone=True) for _ in ids]
    barrier, real = threading.Barrier(len(ids) + 1), executor._finish_surely

    def finish(*args, **options):
        barrier.wait(20)
        return real(*args, **options)

    def stop():
        barrier.wait(20)
        getattr(services, act)(principal(alice), run.id)

    monkeypatch.setattr(executor, "_finish_surely", finish)
    together(stop, *(lambda c=c: work(c, boot, ("default",), chain=False) for c in claims))
    stored = Run.objects.get(id=run.id)
    assert stored.cancel_requested or stored.pause_requested or stored.status == "cancelled"
    assert claim_next(boot, ("default",), alone=True) is None, "nothing starts any more"
    assert StepStatus.RUNNING not in statuses(run).values()
    assert seqs(run) == list(range(1, len(seqs(run)) + 1))
