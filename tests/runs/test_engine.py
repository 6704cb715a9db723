"""The engine on a real database: what is stored, in how many commits, and what a second look changes."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.ledger.selectors import entries
from apps.runs import services
from apps.runs.claims import claim_next
from apps.runs.core.states import StepStatus
from apps.runs.errors import RunConflict, RunNotFound
from apps.runs.executor import work, work_chain
from apps.runs.invariants import check_all
from apps.runs.models import Run, Worker
from apps.runs.selectors import explain, run_for, steps_of
from apps.runs.upkeep import reap, upkeep
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import Forbidden, InvalidInput
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


def t(id, output=1, **more):
    return {"id": id, "kind": "transform", "output": output, **more}


def chain(*ids):
    return [{"from": a, "to": b} for a, b in pairwise(ids)]


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, edges=(), inputs=None, **document):
        return services.start_run(
            principal(alice), version_of(workspace, nodes, edges, **document), inputs or {}
        )

    return start


@pytest.fixture(autouse=True)
def invariants_hold(request):
    yield
    assert check_all() == []


def test_a_run_carries_values_from_step_to_step(start):
    run = start(
        [t("a", {"n": "{{ inputs.n + 1 }}"}), t("b", "{{ steps.a.output.n * 2 }}")],
        chain("a", "b"),
        {"n": 20},
        outputs={"answer": "{{ steps.b.output }}"},
    )
    work_all()
    run.refresh_from_db()
    assert (run.status, run.output) == ("succeeded", {"answer": 42})


def test_the_ledger_is_gapless_and_ends_at_the_runs_seq(start):
    run = start([t("a"), t("b")], chain("a", "b"))
    work_all()
    run.refresh_from_db()
    seqs = [e.seq for e in entries(run.id)]
    assert seqs == list(range(1, run.seq + 1))


def test_a_chain_costs_one_commit_per_step(start):
    ids = [f"s{i}" for i in range(10)]
    start([recorded(i) for i in ids], chain(*ids))
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert work_chain(claim, boot, ("default",), lambda: True) == 10
    begins = [q["sql"] for q in queries if q["sql"].upper().startswith("BEGIN")]
    assert len(begins) <= 10


def test_an_expression_that_cannot_be_evaluated_fails_the_step_in_words(start):
    run = start([t("a", "{{ steps.nope.output }}")])
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert "nope" in run.error["message"]


def test_a_router_takes_one_way_and_skips_the_other(start):
    run = start(
        [
            {"id": "r", "kind": "router", "routes": [{"name": "big", "when": "inputs.n > 5"}]},
            t("yes"),
            t("no"),
        ],
        [{"from": "r.big", "to": "yes"}, {"from": "r.else", "to": "no"}],
        {"n": 9},
    )
    work_all()
    assert statuses(run) == {"r": "succeeded", "yes": "succeeded", "no": "skipped"}


def test_a_router_that_matches_all_leaves_by_several_ports(start):
    run = start(
        [
            {"id": "r", "kind": "router", "match": "all",
             "routes": [{"name": "a", "when": "true"}, {"name": "b", "when": "true"}]},
            t("x"), t("y"), t("z"),
        ],
        [{"from": "r.a", "to": "x"}, {"from": "r.b", "to": "y"}, {"from": "r.else", "to": "z"}],
    )  # fmt: skip
    work_all()
    assert statuses(run) == {"r": "succeeded", "x": "succeeded", "y": "succeeded", "z": "skipped"}


def test_an_aggregator_merges_what_arrived(start):
    run = start(
        [t("a", 1), t("b", 2), {"id": "j", "kind": "aggregator", "merge": "results.a + results.b"}],
        [{"from": "a", "to": "j"}, {"from": "b", "to": "j"}],
        outputs={"sum": "{{ steps.j.output }}"},
    )
    work_all()
    run.refresh_from_db()
    assert run.output == {"sum": 3}


def test_a_timer_holds_no_worker_and_fires_once(start):
    run = start([{"id": "w", "kind": "timer", "duration": "1h"}, t("b")], chain("w", "b"))
    with clock.frozen(now()) as time:
        boot = register_worker()
        assert work_all(boot) == 1
        assert statuses(run) == {"w": "waiting"}
        run.refresh_from_db()
        assert run.status == "waiting"
        time.move(hours=1)
        work_all(register_worker())
    assert statuses(run) == {"w": "succeeded", "b": "succeeded"}
    assert len(entries(run.id, kinds=["timer.fired"])) == 1


def test_a_check_reads_what_it_is_given_by_with(start):
    limit = {"check": "expression", "args": {"that": "args.sum < 10"}}
    run = start([{"id": "c", "kind": "check", "with": {"sum": "{{ 2 + 3 }}"}, "checks": [limit]}])
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded", run.error


def test_a_check_that_fails_with_nowhere_to_go_fails_the_run(start):
    run = start(
        [{"id": "c", "kind": "check", "checks": [{"check": "expression", "args": {"that": "1 > 2"}}]}]
    )
    work_all()
    run.refresh_from_db()
    assert (run.status, run.error["code"]) == ("failed", "check_failed")


def test_a_check_leaves_by_fail_when_there_is_an_edge(start):
    run = start(
        [
            {"id": "c", "kind": "check", "checks": [{"check": "expression", "args": {"that": "false"}}]},
            t("a"),
        ],
        [{"from": "c.fail", "to": "a"}],
    )
    work_all()
    run.refresh_from_db()
    assert (run.status, statuses(run)["a"]) == ("succeeded", "succeeded")


def test_a_dead_workers_step_is_taken_back_and_no_retry_is_consumed(start):
    run = start([recorded("a")])
    dead = register_worker(lease_seconds=-1)
    assert claim_next(dead, ("default",), alone=True)
    work_all()
    step = run.steps.get()
    assert (step.status, step.failures, step.losses, step.attempt) == ("succeeded", 0, 1, 2)
    assert [a.status for a in step.attempts.all()] == ["lost"]
    kinds = {e.kind for e in entries(run.id)}
    assert {"attempt.lost", "run.recovered"} <= kinds


def test_a_worker_without_a_row_is_dead(start):
    run = start([t("a")])
    gone = register_worker()
    claim_next(gone, ("default",), alone=True)
    Worker.objects.filter(boot=gone).delete()
    work_all()
    assert statuses(run) == {"a": "succeeded"}


def test_a_process_never_reaps_its_own_lease(start):
    start([t("a")])
    boot = register_worker(lease_seconds=-1)
    claim_next(boot, ("default",), alone=True)
    assert reap(boot) == 0


def test_a_late_worker_may_not_write(start):
    run = start([recorded("a", "first"), recorded("b")], chain("a", "b"))
    zombie = register_worker(lease_seconds=-1)
    claim = claim_next(zombie, ("default",), alone=True)
    work_all()
    before = len(entries(run.id))
    assert work(claim, zombie, ("default",), chain=True) is None
    assert len(entries(run.id)) == before
    assert statuses(run) == {"a": "succeeded", "b": "succeeded"}


def test_an_attempt_past_its_deadline_counts_as_a_failure_when_its_worker_lives(start):
    run = start([recorded("a", timeout="1s")])
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=1000)
        claim_next(boot, ("default",), alone=True)
        time.move(seconds=5)
        assert reap(boot) == 1
    step = run.steps.get()
    assert (step.status, step.reason, step.failures, step.losses) == ("waiting", "retry", 1, 0)


def test_two_workers_never_claim_the_same_step(start):
    start([recorded("a")])
    assert claim_next(register_worker(), ("default",), alone=True)
    assert claim_next(register_worker(), ("default",), alone=True) is None


def test_a_step_that_lost_a_worker_is_claimed_only_by_an_empty_process(start):
    run = start([t("a")])
    run.steps.update(losses=1)
    boot = register_worker()
    assert claim_next(boot, ("default",), alone=False) is None
    assert claim_next(boot, ("default",), alone=True)


def test_pause_holds_the_run_and_resume_lets_it_go_on(start, principal, alice):
    run = start([t("a"), t("b")], chain("a", "b"))
    services.pause_run(principal(alice), run.id, reason="look")
    assert work_all() == 0
    assert explain(run_for(principal(alice), run.id))["status"] == "paused"
    services.resume_run(principal(alice), run.id)
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"


def test_a_paused_timer_fires_that_much_later(start, principal, alice):
    run = start([{"id": "w", "kind": "timer", "duration": "60s"}])
    with clock.frozen(now()) as time:
        work_all(register_worker())
        due = run.steps.get().due_at
        services.pause_run(principal(alice), run.id)
        time.move(seconds=600)
        upkeep(register_worker())
        assert run.steps.get().status == "waiting"
        services.resume_run(principal(alice), run.id)
        assert run.steps.get().due_at == due + timedelta(seconds=600)


def test_cancel_says_first_what_it_would_do(start, principal, alice):
    run = start([t("a"), t("b")], chain("a", "b"))
    preview = services.cancel_run(principal(alice), run.id, preview=True)
    assert preview["stop"] == ["a"] and preview["never_start"] == ["b"]
    assert Run.objects.get(id=run.id).status == "queued"
    services.cancel_run(principal(alice), run.id, reason="mistake")
    assert Run.objects.get(id=run.id).status == "cancelled"
    services.cancel_run(principal(alice), run.id)  # twice is once


def test_a_finished_run_cannot_be_cancelled(start, principal, alice):
    run = start([t("a")])
    work_all()
    with pytest.raises(RunConflict):
        services.cancel_run(principal(alice), run.id)


def test_the_same_idempotency_key_is_the_same_run(workspace, alice, principal):
    version = version_of(workspace, [t("a")])
    first = services.start_run(principal(alice), version, {}, idempotency_key="k")
    assert services.start_run(principal(alice), version, {}, idempotency_key="k").id == first.id
    with pytest.raises(InvalidInput, match="another request"):
        services.start_run(principal(alice), version, {"x": 1}, idempotency_key="k")


def test_inputs_are_checked_before_anything_is_stored(workspace, alice, principal):
    version = version_of(
        workspace, [t("a")],
        contract={"inputs": {"required": ["company"], "properties": {"n": {"type": "integer"}}}},
    )  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        services.start_run(principal(alice), version, {"n": "x"})
    assert set(caught.value.fields) == {"company", "n"}
    assert not Run.objects.exists()


def test_a_stranger_sees_no_run(start, principal, charlie, alice):
    run = start([t("a")])
    with pytest.raises(RunNotFound):
        run_for(principal(charlie), run.id)
    for act in (services.cancel_run, services.pause_run, services.resume_run):
        with pytest.raises(RunNotFound):
            act(principal(charlie), run.id)
    work_all()


def test_an_operator_may_start_and_a_viewer_may_not(workspace, bob, principal):
    version = version_of(workspace, [t("a")])
    assert services.start_run(principal(bob), version, {})
    bob.memberships.update(roles=["viewer"])
    with pytest.raises(Forbidden):
        services.start_run(principal(bob), version, {})
    work_all()


def test_a_signal_is_kept_once_per_key(start, principal, alice):
    run = start([{"id": "w", "kind": "timer", "duration": "1h"}])
    assert services.deliver_signal(principal(alice), run.id, "paid", {"n": 1}, key="a")["duplicate"] is False
    assert services.deliver_signal(principal(alice), run.id, "paid", {"n": 1}, key="a")["duplicate"] is True
    assert run.signals.count() == 1


def test_steps_show_what_is_blocked_and_explain_says_what_is_next(start, principal, alice):
    run = start([{"id": "w", "kind": "timer", "duration": "1h"}, t("b")], chain("w", "b"))
    work_all()
    run = run_for(principal(alice), run.id)
    assert [(s["path"], s["status"]) for s in steps_of(run)] == [("w", "waiting"), ("b", "blocked")]
    story = explain(run)
    assert story["waiting_for"][0]["reason"] == "timer"
    assert story["next"][0]["step"] == "b"


def test_rounds_get_rows_of_their_own(start):
    run = start(
        [
            t("draft", "{{ round }}"),
            {"id": "ok", "kind": "check",
             "checks": [{"check": "expression", "args": {"that": "steps.draft.output >= 3"}}]},
            t("send", "{{ steps.draft.output }}"),
        ],
        [
            {"from": "draft", "to": "ok"},
            {"from": "ok.fail", "to": "draft", "max_rounds": 5},
            {"from": "ok.pass", "to": "send"},
        ],
        outputs={"sent": "{{ steps.send.output }}"},
    )  # fmt: skip
    work_all()
    run.refresh_from_db()
    assert run.output == {"sent": 3}
    assert statuses(run)["draft[3]"] == StepStatus.SUCCEEDED
