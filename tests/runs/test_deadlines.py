"""Deadlines of runs, of steps over all their tries, and of progress; a pause counts towards none of them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.approvals.models import ApprovalRequest
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.context import StepContext
from apps.runs.errors import StaleStep, StepError
from apps.runs.forks import fork_run
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step
from apps.runs.recovery import retry_step
from apps.runs.upkeep import anything_due, upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
WAITS = {"id": "w", "kind": "timer", "duration": "2h"}


def t(id, output=1, **more):
    return {"id": id, "kind": "transform", "output": output, **more}


@pytest.fixture
def owner(alice, principal):
    return principal(alice)


@pytest.fixture
def start(workspace, owner):
    def start(nodes, edges=(), **document):
        return services.start_run(owner, version_of(workspace, nodes, edges, **document), {})

    return start


@pytest.fixture
def time():
    with clock.frozen(now()) as time:
        yield time


@pytest.fixture
def boot():
    return register_worker(lease_seconds=10**6)


def x(id, **more):
    """A step that a worker claims and works on by itself."""
    return {"id": id, "kind": "extract", "output": {}, **more}


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def fresh(run):
    return Run.objects.get(id=run.id)


# --- the run ------------------------------------------------------------------------------------------------


def test_a_run_past_its_deadline_fails_and_says_so(start, time, boot):
    run = start([WAITS, t("b")], [{"from": "w", "to": "b"}], contract={"run_deadline": "1h"})
    work_all(boot)
    time.move(minutes=59)
    work_all(boot)
    assert fresh(run).status == "waiting"
    time.move(minutes=2)
    assert anything_due(boot, ("default",))
    work_all(boot)
    run = fresh(run)
    assert (run.status, run.error["code"], run.deadline_at) == ("failed", "run_deadline", None)
    assert statuses(run) == {"w": "cancelled"}


def test_a_run_that_ends_in_time_has_no_deadline_any_more(start, time, boot):
    run = start([t("a")], contract={"run_deadline": "1h"})
    work_all(boot)
    assert (fresh(run).status, fresh(run).deadline_at) == ("succeeded", None)


def test_what_runs_at_the_deadline_settles_first(start, time, boot):
    run = start([x("a", timeout="3h"), WAITS], contract={"run_deadline": "1h"})
    claim = claim_next(boot, ("default",), alone=True)
    time.move(hours=1, seconds=1)
    upkeep(boot)
    assert fresh(run).status == "running" and fresh(run).error["code"] == "run_deadline"
    with StepContext(claim).owned() as tx:
        tx.complete_step(claim.path, 1)
    assert fresh(run).status == "failed"


def test_a_pause_does_not_count_towards_any_deadline(start, owner, time, boot):
    waits = {**WAITS, "deadline": "90m"}
    run = start([waits], contract={"run_deadline": "1h"})
    work_all(boot)
    time.move(minutes=30)
    services.pause_run(owner, run.id)
    time.move(hours=20)
    work_all(boot)
    assert fresh(run).status == "paused"
    services.resume_run(owner, run.id)
    time.move(minutes=29)
    work_all(boot)
    assert fresh(run).status == "waiting"
    step = run.steps.get()
    assert step.expires_at == fresh(run).created_at + timedelta(hours=21, minutes=30)
    time.move(minutes=2)
    work_all(boot)
    assert fresh(run).error["code"] == "run_deadline"


def test_a_fork_has_the_whole_time_again(start, owner, time, boot):
    run = start([t("a"), WAITS], [{"from": "a", "to": "w"}], contract={"run_deadline": "1h"})
    work_all(boot)
    time.move(minutes=61)
    work_all(boot)
    fork = Run.objects.get(id=fork_run(owner, run.id, reason="more time")["fork"])
    assert fork.deadline_at == now() + timedelta(hours=1)


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_run_that_stops_already_is_not_looked_at_for_its_deadline(start, owner, time, boot, how):
    nodes = [x("a", timeout="5h"), t("b", "{{ 1 / 0 }}")]
    run = start(nodes[: 1 if how == "cancelled" else 2], contract={"run_deadline": "1h"})
    claim_next(boot, ("default",), alone=True)
    if how == "cancelled":
        services.cancel_run(owner, run.id)
    else:
        claim_next(boot, ("default",), alone=True)
    time.move(hours=2)
    upkeep(boot)
    assert fresh(run).ended_at is None
    assert not anything_due(boot, ())


# --- a step over all its tries ------------------------------------------------------------------------------


def test_a_step_past_its_deadline_fails_by_its_own_edge(start, time, boot):
    run = start([{**WAITS, "deadline": "10m"}, t("late")], [{"from": "w.failed", "to": "late"}])
    work_all(boot)
    time.move(minutes=11)
    assert anything_due(boot, ("default",))
    work_all(boot)
    assert statuses(run) == {"w": "failed", "late": "succeeded"}
    assert run.steps.get(path="w").error["code"] == "step_deadline"


def test_all_tries_share_the_deadline(start, time, boot, monkeypatch):
    def broken(context):
        raise StepError("not yet", retry_after=300)

    monkeypatch.setitem(ports._handlers, "extract", broken)
    run = start([{"id": "x", "kind": "extract", "output": {}, "deadline": "12m"}])
    for _ in range(4):
        work_all(boot)
        time.move(minutes=5)
    step = run.steps.get()
    assert (step.status, step.error["code"], step.attempt) == ("failed", "step_deadline", 3)


def test_an_attempt_ends_with_the_steps_deadline_and_is_not_tried_again(start, time, boot):
    run = start([x("a", deadline="1m", timeout="5m")])
    claim = claim_next(boot, ("default",), alone=True)
    assert claim.step.deadline_at == now() + timedelta(minutes=1)
    time.move(minutes=1, seconds=1)
    upkeep(boot)
    assert run.steps.get().error["code"] == "step_deadline"
    assert fresh(run).status == "failed"


def test_a_question_past_the_steps_deadline_leaves_the_inbox(start, time, boot):
    run = start([{"id": "ask", "kind": "approval", "with": {"n": 1}, "deadline": "1h"}])
    work_all(boot)
    time.move(hours=2)
    work_all(boot)
    assert fresh(run).status == "failed"
    assert ApprovalRequest.objects.get().state == "cancelled"


def test_a_step_retried_by_hand_has_its_whole_time_again(start, owner, time, boot):
    run = start([{**WAITS, "deadline": "10m"}])
    work_all(boot)
    time.move(minutes=11)
    work_all(boot)
    retry_step(owner, run.id, "w", reason="it takes longer today")
    assert run.steps.get().expires_at == now() + timedelta(minutes=10)


# --- progress -----------------------------------------------------------------------------------------------


@pytest.fixture
def slow(start):
    """A claimed step that may show no progress for a minute, and takes ten at most."""
    run = start([x("a", progress="1m", timeout="10m")])
    boot = register_worker(lease_seconds=10**6)
    context = StepContext(claim_next(boot, ("default",), alone=True))
    return run, boot, context


def test_an_attempt_without_progress_is_taken_back(time, slow):
    run, boot, _context = slow
    time.move(seconds=61)
    upkeep(boot)
    step = run.steps.get()
    assert (step.status, step.reason, step.error["code"]) == ("waiting", "retry", "no_progress")


def test_progress_keeps_the_attempt_alive_until_its_own_end(time, slow):
    run, boot, context = slow
    for _ in range(11):
        time.move(seconds=50)
        context.progress("half way")
        upkeep(boot)
        assert run.steps.get().status == "running"
    time.move(seconds=55)
    context.progress("nearly there")
    upkeep(boot)
    assert run.steps.get().error["code"] == "attempt_timeout"


def test_progress_is_cheap(time, slow):
    _run, _boot, context = slow
    with CaptureQueriesContext(connection) as queries:
        for _ in range(100):
            time.move(seconds=0.1)
            context.progress()
    assert len(queries) == 0
    time.move(seconds=20)
    with CaptureQueriesContext(connection) as queries:
        for _ in range(100):
            context.progress()
    assert len([q for q in queries if "UPDATE" in q["sql"]]) == 1


def test_the_next_thing_may_take_longer_than_progress_allows(time, slow):
    run, boot, context = slow
    context.progress(at_least=300)
    time.move(seconds=200)
    upkeep(boot)
    assert run.steps.get().status == "running"
    assert context.seconds_left() == pytest.approx(400)


def test_a_worker_that_lost_its_step_hears_of_it_when_it_shows_progress(time, slow):
    run, boot, context = slow
    time.move(seconds=61)
    upkeep(boot)
    with pytest.raises(StaleStep):
        context.progress()
    assert Step.objects.get(run=run).status == "waiting"


def test_a_step_without_any_of_these_costs_nothing_more(start, time, boot):
    start([x("a")])
    context = StepContext(claim_next(boot, ("default",), alone=True))
    with CaptureQueriesContext(connection) as queries:
        context.progress("well")
    assert len(queries) == 0
    assert context.claim.step.expires_at is None
