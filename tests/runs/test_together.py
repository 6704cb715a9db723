"""Slots of one process that work on the same run: each begins with what the one before has stored."""

from __future__ import annotations

import threading

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs import services, store, together
from apps.runs.claims import claim_next
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run
from apps.runs.worker import WorkerProcess
from mirrorneuron.config import config
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


@pytest.fixture
def fan(workspace, alice, principal):
    """A run whose steps all stand side by side."""

    def fan(width, **more):
        nodes = [recorded(f"p{i}", **more) for i in range(width)]
        return services.start_run(principal(alice), version_of(workspace, nodes), {})

    return fan


@pytest.fixture
def side_by_side(fan):
    """(run, its claims): as many steps as asked for, claimed by slots of one process."""

    def side_by_side(claimed, width):
        run = fan(width)
        boot = register_worker()
        return run, boot, [claim_next(boot, QUEUES, alone=True) for _ in range(claimed)]

    return side_by_side


def said(what):
    with CaptureQueriesContext(connection) as queries:
        what()
    return [q["sql"] for q in queries]


def test_an_end_beside_another_reads_nothing_again(side_by_side):
    run, boot, claims = side_by_side(3, 3)
    for claim in claims:
        spoken = said(lambda claim=claim: work(claim, boot, QUEUES, chain=True))
        assert not [sql for sql in spoken if sql.startswith('SELECT "id"') or "FOR UPDATE" in sql]
        if connection.vendor == "postgresql":
            assert len([sql for sql in spoken if sql.startswith("WITH r AS")]) == len(spoken), spoken
    assert set(statuses(run).values()) == {"succeeded"}


def test_a_worker_that_has_ended_a_step_goes_on_with_its_sibling_in_the_same_commit(side_by_side):
    run, boot, claims = side_by_side(2, 6)
    writes = 0
    while claims:
        with CaptureQueriesContext(connection) as queries:
            following = work(claims.pop(0), boot, QUEUES, chain=True)
        writes += len([q for q in queries if 'UPDATE "runs_run"' in q["sql"]])
        claims += [following] if following else []
    assert set(statuses(run).values()) == {"succeeded"}
    assert writes == 6


def test_claiming_beside_a_step_at_work_reads_no_run(side_by_side):
    run, boot, _claims = side_by_side(1, 3)
    spoken = said(lambda: claim_next(boot, QUEUES, alone=True))
    assert not [sql for sql in spoken if 'FROM "runs_run"' in sql and "JOIN" not in sql], spoken
    assert sorted(statuses(run).values()) == ["ready", "running", "running"]


def test_what_another_process_did_meanwhile_is_read(side_by_side, alice, principal):
    run, boot, claims = side_by_side(2, 4)
    services.pause_run(principal(alice), run.id)
    assert claim_next(boot, QUEUES, alone=True) is None, "paused"
    assert work(claims[0], boot, QUEUES, chain=True) is None
    services.resume_run(principal(alice), run.id)
    assert claim_next(boot, QUEUES, alone=True), "on the run as it is now"
    assert work(claims[1], boot, QUEUES, chain=True) is not None


def test_a_step_taken_away_is_not_written_by_who_knows_the_newest_state(side_by_side, alice, principal):
    run, boot, claims = side_by_side(2, 2)
    services.cancel_run(principal(alice), run.id)
    work(claims[0], boot, QUEUES, chain=True)
    work(claims[1], boot, QUEUES, chain=True)
    run.refresh_from_db()
    assert run.status == "cancelled"


@pytest.fixture
def mapped(workspace, alice, principal):
    """(run, worker, claims): a map over that many items, two of them at work."""
    body = {"nodes": [recorded("a"), recorded("b")], "edges": [{"from": "a", "to": "b"}]}
    node = {"id": "each", "kind": "map", "items": "{{ inputs.all }}", "max_parallel": 2, "body": body}

    def mapped(items):
        version = version_of(workspace, [node])
        run = services.start_run(principal(alice), version, {"all": list(range(items))})
        boot = register_worker()
        return run, boot, [claim_next(boot, QUEUES, alone=True) for _ in range(3)]

    return mapped


def test_items_of_a_map_read_their_run_once(mapped):
    run, boot, (opening, *_) = mapped(6)
    first = work(opening, boot, QUEUES, chain=True)
    claims = [first, claim_next(boot, QUEUES, alone=True)]

    def work_on():
        following = work(claims.pop(0), boot, QUEUES, chain=True)
        claims.extend([following] if following else [])

    spoken = []
    while claims:
        spoken += said(work_on)
    assert statuses(run)["each"] == "succeeded" and set(statuses(run).values()) == {"succeeded"}
    assert not [sql for sql in spoken if sql.startswith('SELECT "id"') or "FOR UPDATE" in sql]


def test_items_that_have_ended_are_not_kept(mapped):
    run, boot, (opening, *_) = mapped(30)
    claims = [work(opening, boot, QUEUES, chain=True), claim_next(boot, QUEUES, alone=True)]
    most = 0
    while claims:
        following = work(claims.pop(0), boot, QUEUES, chain=True)
        claims += [following] if following else []
        known = together.together_on(run.id).known
        most = max(most, len(known[1].steps) if known else 0)
    assert set(statuses(run).values()) == {"succeeded"}
    assert 0 < most <= 3 * 3 + 1, "steps of the items at work, and the map's own"


def test_nothing_is_kept_of_a_run_nobody_works_on(fan):
    run = fan(3)
    work_all()
    assert together.together_on(run.id).known is None


def test_a_wide_run_costs_one_commit_a_step(fan, monkeypatch):
    monkeypatch.setattr(config(), "poll_seconds", 0.05)
    real, lock, wrote, missed = store.write, threading.Lock(), [], []

    def write(ws):
        ids = real(ws)
        with lock:
            (missed if ids is None else wrote).append(ws.run_id)
        return ids

    run = fan(40)
    monkeypatch.setattr(store, "write", write)
    worker = WorkerProcess(slots=4)
    worker.start()
    try:
        for _ in range(400):
            if Run.objects.get(id=run.id).status == "succeeded":
                break
            threading.Event().wait(0.05)
    finally:
        worker.stop(5)
    assert statuses(run) == {f"p{i}": "succeeded" for i in range(40)}
    # One for each step, and a claim for each slot; slots that begin at the same moment may miss once.
    assert 40 <= len(wrote) <= 40 + 3 * 4
    assert len(missed) <= 4
