"""The step a run holds: it has no row until it comes to rest, and nobody may notice the difference."""

from __future__ import annotations

import random
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection

from apps.ledger.selectors import entries
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.core.states import RUN_ENDED
from apps.runs.errors import StepError
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Attempt, Call, Run, Step, Worker
from apps.runs.ports import CallRecord, Context, Done, HandBack, Wait
from apps.runs.selectors import explain, run_for, step_for, steps_of
from apps.runs.transact import locked_run
from apps.runs.upkeep import anything_due, reap, take_back, upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.commits import answer_lost, each_commit
from tests.runs.engine import recorded as t
from tests.runs.engine import register_worker, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
IDS = ["a", "b", "c", "d"]


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes=None, edges=None, **document):
        nodes = nodes or [t(i) for i in IDS]
        if edges is None:
            edges = [{"from": a["id"], "to": b["id"]} for a, b in pairwise(nodes)]
        return services.start_run(principal(alice), version_of(workspace, nodes, edges, **document), {})

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


@pytest.fixture
def handler():
    """Let a handler of the test's own work the steps; returns how to set it."""
    before = ports.handler_for("code")

    def use(handle):
        ports._handlers["code"] = handle

    yield use
    ports._handlers["code"] = before


def hold(run, boot=None):
    """Work the first step and go on to the second, which the run then holds; its claim."""
    boot = boot or register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    following = work(claim, boot, ("default",), chain=True)
    run.refresh_from_db()
    assert run.held_path == following.path
    return following


def rows(run):
    return dict(Step.objects.filter(run=run).order_by("id").values_list("path", "status"))


def everything(run):
    return {s["path"]: s["status"] for s in steps_of(Run.objects.get(id=run.id))}


# --- what is stored ---------------------------------------------------------------------------------------


def test_the_step_a_worker_goes_on_to_has_no_row_until_it_ends(start):
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    assert rows(run) == {"a": "succeeded"}
    assert (run.held_worker, run.active, claim.step.id) == (boot, 1, 0)
    claim = work(claim, boot, ("default",), chain=True)
    assert rows(run) == {"a": "succeeded", "b": "succeeded"}
    run.refresh_from_db()
    assert run.held_path == claim.path == "c"
    assert work(work(claim, boot, ("default",), chain=True), boot, ("default",), chain=True) is None
    run.refresh_from_db()
    assert (run.status, run.held_path, run.held_worker, run.held_deadline_at) == ("succeeded",) + (None,) * 3
    assert rows(run) == dict.fromkeys(IDS, "succeeded")


def test_a_ready_step_is_lifted_from_its_row_when_it_is_claimed(start):
    with clock.frozen(now()) as time:
        run, boot = start(), register_worker()
        since = now()
        assert rows(run) == {"a": "ready"}
        time.move(seconds=2)
        claim = claim_next(boot, ("default",), alone=True)
        begun = now()
        assert (rows(run), everything(run)["a"], claim.step.id) == ({}, "running", 0)
        time.move(seconds=3)
        work(claim, boot, ("default",), chain=False)
    row = Step.objects.get(path="a")
    assert (row.ready_at, row.started_at, row.ended_at) == (since, begun, now_at(row))
    assert entries(run.id, kinds=["step.started"])[0].data == {"queued_seconds": 2.0}


def test_a_lifted_step_whose_worker_dies_is_ready_again(start):
    run, boot = start(), register_worker()
    claim_next(boot, ("default",), alone=True)
    Worker.objects.filter(boot=boot).delete()
    assert reap(register_worker()) == 1
    row = Step.objects.get(path="a")
    assert (row.status, row.losses, row.attempt) == ("ready", 1, 1)
    claim = claim_next(register_worker(), ("default",), alone=True)
    assert (claim.path, rows(run)) == ("a", {"a": "running"}), "it has a past, which its row keeps"
    work_all()


def test_of_steps_side_by_side_a_run_holds_one(start):
    run, boot = start([t("a"), t("b")], []), register_worker()
    first, second = (claim_next(boot, ("default",), alone=False) for _ in range(2))
    assert (first.step.id, rows(run)) == (0, {second.path: "running"})
    assert everything(run) == {"a": "running", "b": "running"}
    for claim in (second, first):
        work(claim, boot, ("default",), chain=False)
    assert rows(run) == {"a": "succeeded", "b": "succeeded"}


def test_its_row_is_the_same_as_if_it_had_always_had_one(start):
    with clock.frozen(now()) as time:
        run = start()
        boot = register_worker()
        claim = hold(run, boot)
        begun = now()
        time.move(seconds=3)
        work(claim, boot, ("default",), chain=False)
    held, rowed = Step.objects.get(path="b"), Step.objects.get(path="a")
    assert (held.ready_at, held.started_at, held.ended_at) == (begun, begun, now_at(held))
    assert held.ended_at - begun == timedelta(seconds=3)
    for name in ("kind", "round", "scope", "fence", "attempt", "failures", "losses", "queue", "priority",
                 "worker", "deadline_at", "labels", "port", "workspace_id"):  # fmt: skip
        assert getattr(held, name) == getattr(rowed, name), name


def now_at(step):
    return entries(step.run_id, kinds=["step.succeeded"], path=step.path)[0].at


def test_readers_see_it_like_any_running_step(start, alice, principal):
    run = start()
    hold(run)
    assert everything(run) == {"a": "succeeded", "b": "running", "c": "blocked", "d": "blocked"}
    seen = run_for(principal(alice), run.id)
    assert explain(seen)["now"] == ["b"]
    step = step_for(seen, "b")
    assert (step.status, step.attempt, step.fence, step.node_id) == ("running", 1, 1, "b")
    with locked_run(run.id) as tx:
        assert tx.step("b").status == "running"
    preview = services.cancel_run(principal(alice), run.id, preview=True)
    assert preview["finish_first"] == ["b"]
    work_all(run.held_worker and Run.objects.get(id=run.id).held_worker and register_worker())
    Worker.objects.all().delete()
    work_all()


def test_a_branch_that_runs_beside_others_is_held_once(start):
    nodes = [t("a"), t("b"), t("c"), {"id": "j", "kind": "aggregator"}]
    edges = [{"from": "a", "to": x} for x in "bc"] + [{"from": x, "to": "j"} for x in "bc"]
    run = start(nodes, edges)
    hold(run)
    assert rows(run) == {"a": "succeeded", "c": "ready"}
    other = register_worker()
    claim_next(other, ("default",), alone=True)
    assert everything(run)["b"] == everything(run)["c"] == "running"
    Worker.objects.all().delete()
    work_all()
    assert set(rows(run).values()) == {"succeeded"}


def test_a_chain_costs_one_commit_and_one_new_row_per_step(start):
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    count = 0

    def counted():
        nonlocal count
        count += 1

    with each_commit(counted):
        while claim is not None:
            claim = work(claim, boot, ("default",), chain=True)
    assert count == 3


# --- when it gets its row ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "attempts"),
    [
        (Wait("timer", now() + timedelta(days=1)), "waiting", []),
        (StepError("no", permanent=False), "waiting", ["failed"]),
        (StepError("no", permanent=True), "failed", []),
        (HandBack(), "ready", ["cancelled"]),
    ],
    ids=["waits", "tries again", "fails", "is handed back"],
)
def test_it_gets_its_row_whole_when_it_comes_to_rest(start, handler, outcome, status, attempts):
    run, boot = start(), register_worker()
    claim = hold(run, boot)

    def answer(context: Context):
        context.set_input({"seen": True})
        if isinstance(outcome, StepError):
            raise outcome
        return outcome

    handler(answer)
    assert work(claim, boot, ("default",), chain=False) is None
    run.refresh_from_db()
    step = Step.objects.get(path="b")
    assert (step.status, step.input, run.held_path) == (status, {"seen": True}, None)
    assert list(step.attempts.values_list("status", flat=True)) == attempts


def test_a_journal_inside_it_gives_it_a_row_first(start, handler):
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    seen = []

    def journal(context: Context):
        context.record(CallRecord("model", "m", 0, 0, "h", {}, {"r": 1}, now(), 1, cost_microusd=7))
        context.flush()
        run.refresh_from_db()
        seen.append((rows(run)["b"], run.held_path, Call.objects.get().step.path))
        context.record(CallRecord("model", "m", 1, 0, "h", {}, {"r": 2}, now(), 1, cost_microusd=5))
        return Done({"done": True})

    handler(journal)
    work(claim, boot, ("default",), chain=False)
    assert seen == [("running", None, "b")]
    step = Step.objects.get(path="b")
    assert (step.status, step.model_calls, step.cost_microusd, step.calls.count()) == ("succeeded", 2, 12, 2)


def test_a_journal_written_with_its_end_belongs_to_it(start, handler):
    run, boot = start(), register_worker()
    claim = hold(run, boot)

    def journal(context: Context):
        context.record(CallRecord("tool", "x", 0, 0, "h", {}, {"r": 1}, now(), 1))
        return Done(1)

    handler(journal)
    work(claim, boot, ("default",), chain=True)
    assert Call.objects.get().step == Step.objects.get(path="b")


def test_entries_alone_leave_it_held(start, handler):
    run, boot = start(), register_worker()
    claim = hold(run, boot)

    def tell(context: Context):
        context.entry("note.made", {"n": 1})
        context.flush()
        run.refresh_from_db()
        assert run.held_path == "b"
        return Done(1)

    handler(tell)
    work(claim, boot, ("default",), chain=True)
    assert [e.kind for e in entries(run.id, path="b")][-3:-1] != []
    assert rows(run)["b"] == "succeeded"


def test_a_pause_and_a_resume_do_not_lose_it(start, alice, principal):
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    services.pause_run(principal(alice), run.id)
    services.resume_run(principal(alice), run.id)
    while claim is not None:
        claim = work(claim, boot, ("default",), chain=True)
    assert everything(run) == dict.fromkeys(IDS, "succeeded")


def test_a_cancelled_run_waits_for_it(start, alice, principal):
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    services.cancel_run(principal(alice), run.id)
    run.refresh_from_db()
    assert run.status == "cancelling"
    assert work(claim, boot, ("default",), chain=True) is None
    run.refresh_from_db()
    assert (run.status, run.held_path) == ("cancelled", None)


# --- when its worker is gone ------------------------------------------------------------------------------


def test_a_dead_workers_held_step_is_taken_back(start):
    run = start()
    dead = register_worker()
    hold(run, dead)
    boot = register_worker()
    assert not reap(boot)
    Worker.objects.filter(boot=dead).update(lease_until=now() - timedelta(seconds=1))
    assert anything_due(boot, ("default",))
    assert reap(boot) == 1
    step = Step.objects.get(path="b")
    assert (step.status, step.fence, step.attempt, step.losses) == ("ready", 2, 1, 1)
    assert Attempt.objects.get().status == "lost"
    work_all(boot)
    assert everything(run) == dict.fromkeys(IDS, "succeeded")
    proof = entries(run.id, kinds=["run.recovered"])[0].data
    assert (proof["step"], proof["repeated"], proof["kept"]) == ("b", 0, 1)


def test_a_held_step_past_its_deadline_is_a_failure_of_its_own(start):
    with clock.frozen(now()) as time:
        run = start([t("a"), t("b", timeout=5, retry={"max_attempts": 2})])
        boot = register_worker(lease_seconds=1000)
        hold(run, boot)
        time.move(seconds=6)
        assert reap(boot) == 1
    step = Step.objects.get(path="b")
    assert (step.failures, step.losses) == (1, 0)
    Worker.objects.all().delete()


def test_what_nobody_here_works_on_is_given_back(start):
    with clock.frozen(now()) as time:
        run = start()
        boot = register_worker(lease_seconds=1000)
        hold(run, boot)
        assert take_back(boot) == 0
        time.move(seconds=60)
        assert take_back(boot) == 1
    assert rows(run)["b"] == "ready"
    work_all(boot)


def test_a_worker_that_was_only_asleep_writes_nothing(start, handler):
    run = start()
    zombie = register_worker()
    claim = hold(run, zombie)
    Worker.objects.filter(boot=zombie).update(stopped_at=now())
    reap(register_worker())
    before = len(entries(run.id))
    assert work(claim, zombie, ("default",), chain=True) is None
    assert len(entries(run.id)) == before and rows(run)["b"] == "ready"
    work_all()
    assert work(claim, zombie, ("default",), chain=True) is None
    assert everything(run) == dict.fromkeys(IDS, "succeeded")


def test_a_death_between_two_steps_costs_no_finished_one(start, handler):
    """after_finish: the commit has happened, the successor is held, and the process is gone."""
    calls = []

    def count(context: Context):
        calls.append(context.path)
        return Done(1)

    handler(count)
    run = start()
    for _ in IDS:
        boot = register_worker()
        upkeep(boot)
        claim = claim_next(boot, ("default",), alone=True)
        if claim is not None:
            work(claim, boot, ("default",), chain=True)
        Worker.objects.filter(boot=boot).delete()
    work_all()
    assert sorted(calls) == IDS
    assert everything(run) == dict.fromkeys(IDS, "succeeded")


def test_a_death_before_its_end_is_stored_repeats_only_it(start, handler):
    """before_finish: the held step has been worked, nothing of it is stored."""
    calls = []

    def count(context: Context):
        calls.append(context.path)
        return Done(1)

    handler(count)
    run, boot = start(), register_worker()
    claim = hold(run, boot)
    count_in_vain = ports.handler_for("code")
    assert count_in_vain is not None
    from apps.runs.context import StepContext

    count_in_vain(StepContext(claim))
    Worker.objects.filter(boot=boot).delete()
    work_all()
    assert sorted(calls) == ["a", "b", "b", "c", "d"]


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_commit_whose_answer_was_lost_counts(start, nth):
    run, boot = start(), register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    with answer_lost(nth):
        while claim is not None:
            claim = work(claim, boot, ("default",), chain=True)
    assert everything(run) == dict.fromkeys(IDS, "succeeded")
    kinds = [e.kind for e in entries(run.id)]
    assert kinds.count("step.succeeded") == kinds.count("step.started") == len(IDS)


def test_after_a_lost_answer_a_step_with_a_row_is_still_found(start, handler):
    """The lost answer would have told the ids of new rows."""
    run, boot = start(), register_worker()
    claim = hold(run, boot)

    def journal(context: Context):
        context.record(CallRecord("model", "m", 0, 0, "h", {}, {}, now(), 1))
        context.entry("model.requested", {})
        with answer_lost(1), pytest.raises(Exception, match="closed the connection"):
            context.flush()
        return Done(1)

    handler(journal)
    assert work(claim, boot, ("default",), chain=False) is None
    assert rows(run)["b"] == "succeeded"
    assert Call.objects.count() == 1
    Worker.objects.all().delete()
    work_all()


# --- any order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_deaths_and_pauses_ends_well(start, alice, principal, handler, seed):
    chance = random.Random(seed)
    worked: list[str] = []

    def do(context: Context):
        worked.append(context.path)
        if chance.random() < 0.2:
            context.record(CallRecord("tool", "x", len(worked), 0, "h", {}, {}, now(), 1))
            context.flush()
        if chance.random() < 0.15:
            raise StepError("again", permanent=False)
        return Done({"n": len(worked)})

    handler(do)
    ids = [f"s{i}" for i in range(8)]
    run = start([t(i, retry={"max_attempts": 50}) for i in ids])
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=100_000)
        claim, asleep = None, []
        for _ in range(400):
            if Run.objects.get(id=run.id).status in RUN_ENDED:
                break
            time.move(seconds=40)
            match chance.choice(["work", "work", "work", "die", "pause", "look"]):
                case "work" if claim is None:
                    upkeep(boot)
                    claim = claim_next(boot, ("default",), alone=True)
                case "work":
                    claim = work(claim, boot, ("default",), chain=chance.random() < 0.8)
                case "die":
                    Worker.objects.filter(boot=boot).update(stopped_at=now(), kill_requested_at=now())
                    asleep += [(claim, boot)] if claim is not None else []
                    claim, boot = None, register_worker(lease_seconds=100_000)
                    reap(boot)
                case "pause":
                    services.pause_run(principal(alice), run.id)
                    services.resume_run(principal(alice), run.id)
                case "look":
                    assert len(everything(run)) == len(ids)
            for zombie, its in asleep:
                before = Run.objects.get(id=run.id).seq
                assert work(zombie, its, ("default",), chain=True) is None
                assert Run.objects.get(id=run.id).seq == before
            asleep.clear()
    run.refresh_from_db()
    assert run.status == "succeeded", everything(run)
    kinds = [e.step_path for e in entries(run.id, kinds=["step.succeeded"])]
    assert kinds == ids


def test_a_held_step_is_found_by_its_index(start):
    if connection.vendor != "postgresql":
        pytest.skip("the plan of PostgreSQL")
    from apps.runs import held

    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            assert "run_holding" in held.runs().filter(held_worker=register_worker()).explain()
        finally:
            cursor.execute("RESET enable_seqscan")
