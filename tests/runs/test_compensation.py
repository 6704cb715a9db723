"""Taking back: what a cancelled or failed run undoes, in which order, through crashes, and when it cannot."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from apps.ledger.models import Effect
from apps.ledger.selectors import entries
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.errors import RunConflict
from apps.runs.executor import work
from apps.runs.forks import fork_run
from apps.runs.invariants import check_all
from apps.runs.models import Run, Worker
from apps.runs.recovery import retry_step, skip_step
from apps.runs.selectors import explain
from mirrorneuron.base.clock import clock, now
from mirrorneuron.config import config
from tests.fake_remote import serve
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def remote(monkeypatch):
    monkeypatch.setattr(config(), "egress_allow", "127.0.0.1")
    with serve() as remote:
        yield remote


@pytest.fixture
def owner(alice, principal):
    return principal(alice)


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def tool(remote, name, effect="keyed", **more):
    return {
        "kind": "http", "method": "POST", "url": f"{remote.url}/{effect}/{name}", "effect": effect,
        "parameters": {"type": "object", "properties": {"reference": {"type": "string"}}},
        "output": {"type": "object"}, "open_world": False, **more,
    }  # fmt: skip


@pytest.fixture
def start(workspace, owner, remote):
    """a, b and c book something; then the run waits for an hour. `b` says itself how to take it back."""

    def start(last=None, **run):
        tools = {
            "book": tool(
                remote, "book", undo={"tool": "cancel", "with": {"reference": "{{ args.reference }}"}}
            ),
            "cancel": tool(remote, "cancel"),
            "refund": tool(remote, "refund"),
        }
        retry = {"max_attempts": 1}
        nodes: list[dict[str, Any]] = [
            {"id": "a", "kind": "tool", "tool": "book", "with": {"reference": "A"}, "retry": retry},
            {"id": "b", "kind": "tool", "tool": "book", "with": {"reference": "B"}, "retry": retry,
             "compensate": {"tool": "refund", "with": {"reference": "{{ args.reference + '!' }}"}}},
            {"id": "x", "kind": "transform", "output": 1},
            last or {"id": "w", "kind": "timer", "duration": "1h"},
        ]  # fmt: skip
        edges = [{"from": p["id"], "to": q["id"]} for p, q in pairwise(nodes)]
        contract = {"boundaries": {"allowed_tools": ["book", "refund"]}}
        version = version_of(workspace, nodes, edges, tools=tools, contract=contract)
        return services.start_run(owner, version, {}, **run)

    return start


FAILS = {"id": "w", "kind": "transform", "output": "{{ steps.x.output / 0 }}"}


def did(remote):
    return [(line["path"].rpartition("/")[2], line["body"]["reference"]) for line in remote.executed]


def test_a_cancelled_run_takes_back_what_it_did_the_latest_first(start, owner, remote):
    run = start()
    work_all()
    told = services.cancel_run(owner, run.id, preview=True)
    assert told["compensations"] == [{"step": "b", "tool": "refund"}, {"step": "a", "tool": "cancel"}]
    services.cancel_run(owner, run.id, reason="changed our minds")
    run.refresh_from_db()
    assert run.status == "cancelling"
    work_all()
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert did(remote) == [("book", "A"), ("book", "B"), ("refund", "B!"), ("cancel", "A")]
    assert statuses(run) == {
        "a": "succeeded", "b": "succeeded", "x": "succeeded", "w": "cancelled",
        "b/undo": "succeeded", "a/undo": "succeeded",
    }  # fmt: skip
    assert [e.kind for e in entries(run.id)][-1] == "run.cancelled"


def test_a_failed_run_takes_back_what_it_did_before_it_has_failed(start, owner, remote):
    run = start(FAILS)
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.error["step"] == "w"
    assert did(remote)[2:] == [("refund", "B!"), ("cancel", "A")]
    with pytest.raises(RunConflict) as raised:
        retry_step(owner, run.id, "w", reason="once more")
    assert "take back" in raised.value.message and "Fork" in raised.value.next


def test_nothing_simulated_or_inherited_is_taken_back(start, owner, remote):
    run = start(simulate=True)
    work_all()
    services.cancel_run(owner, run.id)
    run.refresh_from_db()
    assert run.status == "cancelled"
    real = start()
    work_all()
    fork = Run.objects.get(id=fork_run(owner, real.id, from_step="w", reason="again")["fork"])
    work_all()
    services.cancel_run(owner, fork.id)
    fork.refresh_from_db()
    assert fork.status == "cancelled"
    assert did(remote) == [("book", "A"), ("book", "B")]


def test_a_compensation_that_crashes_in_the_middle_resumes_and_sends_nothing_twice(start, owner, remote):
    run = start()
    work_all()
    services.cancel_run(owner, run.id)
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    assert claim.path == "b/undo"
    undo = ports._handlers["undo"]

    def dies(context):
        undo(context)
        raise WorkerDied

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ports._handlers, "undo", dies)
        with pytest.raises(WorkerDied):
            work(claim, boot, ("default",), chain=False)
    Worker.objects.filter(boot=boot).delete()
    assert did(remote)[2:] == [("refund", "B!")]
    with clock.frozen(now()) as time:
        for _ in range(4):
            work_all(register_worker(lease_seconds=9999))
            time.move(seconds=30)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert did(remote)[2:] == [("refund", "B!"), ("cancel", "A")]


class WorkerDied(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def test_one_that_fails_for_good_waits_for_a_person_and_holds_the_rest_back(start, owner, remote):
    remote.script("/keyed/refund", "status:400", "ok")
    run = start()
    work_all()
    services.cancel_run(owner, run.id)
    work_all()
    run.refresh_from_db()
    assert (run.status, run.needs_attention) == ("cancelling", True)
    told = explain(run)
    assert "take back" in told["why"] and told["actions"] == ["retry", "skip"]
    assert statuses(run)["b/undo"] == "waiting" and "a/undo" not in statuses(run)
    assert run.steps.get(path="b/undo").error["message"]
    assert did(remote) == [("book", "A"), ("book", "B")]
    retry_step(owner, run.id, "b/undo", reason="their system is back")
    work_all()
    run.refresh_from_db()
    assert (run.status, run.needs_attention) == ("cancelled", False)
    assert did(remote)[2:] == [("refund", "B!"), ("cancel", "A")]


def test_one_that_cannot_be_done_is_skipped_and_the_rest_goes_on(start, owner, remote):
    remote.script("/keyed/refund", "status:400")
    run = start(FAILS)
    work_all()
    skip_step(owner, run.id, "b/undo", reason="refunded at the counter")
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert did(remote)[2:] == [("cancel", "A")]


def test_a_compensation_whose_outcome_is_unknown_is_looked_into_before_the_run_ends(start, owner, remote):
    run = start()
    work_all()
    remote.script("/keyed/refund", "execute_500", "ok")
    services.cancel_run(owner, run.id)
    work_all()
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert len(remote.received("/keyed/refund")) == 2 and len(remote.executions("/keyed/refund")) == 1
    remote.assert_each_key_once()


def test_a_fork_does_again_what_was_taken_back(start, owner, remote):
    run = start()
    work_all()
    services.cancel_run(owner, run.id)
    work_all()
    told = fork_run(owner, run.id, reason="after all", preview=True)
    assert told["kept"] == [] and told["effects_inherited"] == []
    assert [e["step"] for e in told["effects_repeat"]] == ["a", "b"]


def test_an_item_of_a_map_is_taken_back_in_its_place(workspace, owner, remote):
    tools = {
        "book": tool(remote, "book", undo={"tool": "cancel", "with": {"reference": "{{ args.reference }}"}}),
        "cancel": tool(remote, "cancel"),
    }
    body = {"nodes": [{"id": "one", "kind": "tool", "tool": "book", "with": {"reference": "{{ item }}"}}],
            "edges": []}  # fmt: skip
    nodes = [{"id": "each", "kind": "map", "items": "{{ inputs.all }}", "body": body, "max_parallel": 1},
             {"id": "w", "kind": "timer", "duration": "1h"}]  # fmt: skip
    version = version_of(
        workspace, nodes, [{"from": "each", "to": "w"}], tools=tools,
        contract={"boundaries": {"allowed_tools": ["book"]}},
    )  # fmt: skip
    run = services.start_run(owner, version, {"all": ["x", "y"]})
    work_all()
    services.cancel_run(owner, run.id)
    work_all()
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert did(remote) == [("book", "x"), ("book", "y"), ("cancel", "y"), ("cancel", "x")]
    assert statuses(run)["each[1]/one/undo"] == "succeeded"
    assert Effect.objects.filter(run_id=run.id, state="committed").count() == 4
