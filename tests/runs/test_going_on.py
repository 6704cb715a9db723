"""What only computes and is made possible by somebody's commit is worked in that very commit."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.ledger.models import EntryBatch
from apps.runs import ports, services, transact, upkeep
from apps.runs.invariants import check_all
from apps.runs.models import Attempt, Run, Step
from apps.runs.plans import plan_for
from mirrorneuron.base.clock import clock, now
from tests.runs.commits import each_commit
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
SUM = {"id": "sum", "kind": "transform", "output": "{{ 1 + 1 }}"}
LAST = {"id": "last", "kind": "transform", "output": "{{ steps.sum.output + 1 }}"}
WAITS = {
    "a person": ({"id": "wait", "kind": "approval", "with": {}}, ".approved"),
    "a signal": ({"id": "wait", "kind": "sensor", "signal": "go"}, ""),
    "a time": ({"id": "wait", "kind": "timer", "duration": "1h"}, ""),
}


@pytest.fixture
def waiting(workspace, alice, principal) -> Callable[..., Run]:
    def start(what: str, *nodes: dict, edges: tuple = ()) -> Run:
        wait, port = WAITS[what]
        pairs = [("wait" + port, nodes[0]["id"]), *edges]
        graph = [{"from": a, "to": b} for a, b in pairs]
        run = services.start_run(principal(alice), version_of(workspace, [wait, *nodes], graph), {})
        work_all()
        assert statuses(run)["wait"] == "waiting"
        return run

    return start


@pytest.fixture
def answer(alice, principal) -> Callable[[Run, str], None]:
    def give(run: Run, what: str) -> None:
        if what == "a person":
            approvals.decide(principal(alice), ApprovalRequest.objects.get(run=run).id, verb="approve")
        elif what == "a signal":
            services.deliver_signal(principal(alice), run.id, "go")
        else:
            with clock.frozen(now()) as time:
                time.move(seconds=3601)
                assert upkeep.fire_due() == 1

    return give


@pytest.mark.parametrize("what", WAITS)
def test_an_answer_ends_a_run_of_which_only_computing_is_left(waiting, answer, what):
    run = waiting(what, SUM, LAST, edges=[("sum", "last")])
    batches = EntryBatch.objects.filter(run_id=run.id).count()
    answer(run, what)
    run.refresh_from_db()
    assert (run.status, Step.objects.get(run=run, path="last").output) == ("succeeded", 3)
    assert EntryBatch.objects.filter(run_id=run.id).count() == batches + 1  # All of it is one transaction.
    assert not Step.objects.filter(run=run, worker__isnull=False).exists()
    assert check_all() == []


@pytest.mark.parametrize("what", WAITS)
def test_what_must_not_be_done_twice_waits_for_a_worker(waiting, answer, what):
    run = waiting(what, SUM, recorded("work"), edges=[("sum", "work")])
    answer(run, what)
    assert statuses(run) == {"wait": "succeeded", "sum": "succeeded", "work": "ready"}
    work_all()
    assert statuses(run)["work"] == "succeeded"


@pytest.mark.parametrize(
    "long",
    [
        {"kind": "transform", "output": ["{{ inputs.a }} and {{ inputs.b }}"] * 80},
        {"kind": "transform", "with": {"a": {"b": ["{{ 1 }}"] * 160}}, "output": 1},
        {"kind": "aggregator", "merge": {str(i): "{{ 1 }}" for i in range(160)}},
        {"kind": "router", "routes": [{"name": f"r{i}", "when": "false"} for i in range(160)]},
        {"kind": "check", "checks": [{"args": {"that": "true"}}] * 160},
    ],
)
def test_what_may_take_long_waits_for_a_worker(waiting, answer, long):
    """160 expressions over a list of 10,000 took 25 s, in which a worker that looks after its timers takes
    itself for dead."""
    run = waiting("a time", SUM, {"id": "long", **long}, edges=[("sum", "long")])
    answer(run, "a time")
    assert statuses(run) == {"wait": "succeeded", "sum": "succeeded", "long": "ready"}
    assert plan_for(run.version_id).pure == {"sum", "long"}


def test_steps_of_other_queues_wait_for_their_workers(waiting, answer):
    run = waiting("a signal", {**SUM, "queue": "gpu"})
    answer(run, "a signal")
    assert statuses(run)["sum"] == "ready"


def test_a_paused_run_takes_the_answer_and_goes_no_further(waiting, answer, alice, principal):
    run = waiting("a signal", SUM)
    services.pause_run(principal(alice), run.id)
    answer(run, "a signal")
    assert statuses(run) == {"wait": "succeeded", "sum": "ready"}


def test_what_cannot_be_computed_fails_its_step_and_not_the_answer(waiting, answer):
    run = waiting("a person", {"id": "sum", "kind": "transform", "output": "{{ 1 / 0 }}"})
    answer(run, "a person")
    assert statuses(run) == {"wait": "succeeded", "sum": "failed"}
    assert ApprovalRequest.objects.get(run=run).state == "approved"


def test_an_answer_costs_one_commit(waiting, answer):
    run, commits = waiting("a signal", SUM, LAST, edges=[("sum", "last")]), []
    with each_commit(lambda: commits.append(1)):
        answer(run, "a signal")
    assert len(commits) == 1


def test_of_many_that_are_due_a_round_moves_what_its_time_allows(waiting, monkeypatch):
    runs = [waiting("a time", SUM) for _ in range(3)]
    monkeypatch.setattr(upkeep, "LIMITS", upkeep.LIMITS.__class__(due_seconds=0.0))
    with clock.frozen(now()) as time:
        time.move(seconds=3601)
        assert [upkeep.fire_due() for _ in range(4)] == [1, 1, 1, 0]
    assert {Run.objects.get(id=run.id).status for run in runs} == {"succeeded"}


@pytest.fixture
def unreadable(monkeypatch):
    """Runs of which nobody can make anything any more."""
    broken: set = set()
    real = transact.plan_for

    def plan_for(version_id):
        if version_id in broken:
            raise ValueError("its blueprint cannot be read")
        return real(version_id)

    monkeypatch.setattr(transact, "plan_for", plan_for)
    return lambda run: broken.add(run.version_id)


def test_a_run_that_cannot_be_read_does_not_use_up_the_time_of_those_behind_it(
    waiting, unreadable, monkeypatch
):
    broken, run = waiting("a time", SUM), waiting("a time", SUM)
    unreadable(broken)
    monkeypatch.setattr(upkeep, "LIMITS", upkeep.LIMITS.__class__(due_seconds=0.0))
    with clock.frozen(now()) as time:
        time.move(seconds=3601)
        assert upkeep.fire_due() == 1
    assert Run.objects.get(id=run.id).status == "succeeded"


@pytest.mark.parametrize(
    ("of_run", "of_step"),
    [({"queue_deadline": "1h"}, {}), ({"run_deadline": "1h"}, {}), ({}, {"deadline": "1h"})],
    ids=["in the queue", "of a run", "of a step"],
)
def test_a_run_that_cannot_be_read_keeps_no_other_from_its_deadline(
    workspace, alice, principal, unreadable, of_run, of_step
):
    nodes = [{**SUM, **of_step, "queue": "elsewhere"}]
    runs = [
        services.start_run(principal(alice), version_of(workspace, nodes, contract=of_run), {})
        for _ in range(2)
    ]
    unreadable(runs[0])
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=10_000)
        time.move(seconds=3601)
        upkeep.upkeep(boot)
    assert Run.objects.get(id=runs[1].id).status == "failed"


def test_an_attempt_nobody_worked_names_no_worker(waiting, answer, monkeypatch):
    retried = {**SUM, "retry": {"max_attempts": 2, "base": "1h"}}
    run = waiting("a signal", retried)

    def crashes(context):
        raise RuntimeError("by chance")

    monkeypatch.setitem(ports._handlers, "transform", crashes)
    answer(run, "a signal")
    assert statuses(run)["sum"] == "waiting"
    assert Attempt.objects.get(step__run=run).worker is None


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"type": "nonsense"}, {"properties": {"a": 5}}, "{{ 1 }}"])
@pytest.mark.parametrize("what", ["a worker", "a person"])
def test_a_schema_that_cannot_be_used_keeps_no_run_from_its_end(
    workspace, alice, principal, answer, schema, what
):
    criterion = {"text": "fits", "check": "schema", "args": {"value": "{{ inputs }}", "schema": schema}}
    nodes, edges = [SUM], []
    if what == "a person":
        nodes, edges = [WAITS[what][0], SUM], [{"from": "wait.approved", "to": "sum"}]
    contract = {"success_criteria": {"output": [criterion]}}
    version = version_of(workspace, nodes, edges, contract=contract)
    run = services.start_run(principal(alice), version, {"a": 1})
    work_all()
    if what == "a person":
        answer(run, what)
    run.refresh_from_db()
    assert (run.status, [check["result"] for check in run.checks]) == ("succeeded", ["fail"])
