"""A step whose outcome cannot be applied, for a reason nobody foresaw, fails; nothing else does, and no run
goes on for ever."""

from __future__ import annotations

import pytest
from django.db import DataError, OperationalError

from apps.approvals import services as approvals
from apps.approvals.models import ApprovalRequest
from apps.runs import outcomes, services, upkeep
from apps.runs.claims import claim_next
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step
from apps.runs.ports import Done
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)


def t(id):
    return {"id": id, "kind": "transform", "output": 1}


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, *pairs):
        edges = [{"from": a, "to": b} for a, b in pairs]
        return services.start_run(principal(alice), version_of(workspace, nodes, edges), {})

    return start


@pytest.fixture
def trouble(monkeypatch):
    """What happens when the outcome of the step `bad` is applied: raised as often as it stands here."""
    raised: list[Exception] = [RuntimeError("a bug of ours")] * 100
    apply = outcomes.apply

    def troubled(context, tx, outcome):
        if context.path == "bad" and isinstance(outcome, Done) and raised:
            raise raised.pop()
        apply(context, tx, outcome)

    monkeypatch.setattr(outcomes, "apply", troubled)
    return raised


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def ended(run: Run) -> Run:
    work_all()
    run.refresh_from_db()
    return run


@pytest.mark.parametrize("error", [RuntimeError("a bug of ours"), DataError("the database cannot hold it")])
def test_a_step_that_only_computes_fails_its_run(start, trouble, error):
    trouble[:] = [error] * 100
    run = ended(start([t("a"), t("bad"), t("b")], ("a", "bad"), ("bad", "b")))
    assert (run.status, run.error["step"], run.error["code"]) == ("failed", "bad", "unexpected_error")
    assert statuses(run) == {"a": "succeeded", "bad": "failed"}


def test_its_neighbours_are_worked_all_the_same(start, trouble):
    run = ended(start([t("a"), t("bad"), t("z")]))
    assert run.error["step"] == "bad"
    assert statuses(run)["a"] == "succeeded"


def test_what_it_follows_is_not_blamed(start, trouble):
    run = ended(start([recorded("work"), t("bad")], ("work", "bad")))
    assert run.error["step"] == "bad"
    assert statuses(run) == {"work": "succeeded", "bad": "failed"}


def test_a_database_that_is_away_is_not_the_steps_fault(start, trouble):
    trouble[:] = [OperationalError("the server closed the connection")]
    run = start([t("bad")])
    with pytest.raises(OperationalError):
        claim_next(register_worker(), QUEUES, alone=True)
    assert statuses(run) == {"bad": "ready"}
    assert ended(run).status == "succeeded"


def test_a_step_that_goes_well_by_itself_succeeds(start, trouble):
    trouble[:] = [RuntimeError("only this once")]
    run = start([t("bad")])
    boot = register_worker()
    claim = claim_next(boot, QUEUES, alone=True)
    if claim is not None:
        work(claim, boot, QUEUES, chain=True)
    assert ended(run).status == "succeeded"


WAITS = {
    "a person": ({"id": "wait", "kind": "approval", "with": {}}, "wait.approved"),
    "a signal": ({"id": "wait", "kind": "sensor", "signal": "go"}, "wait"),
    "a time": ({"id": "wait", "kind": "timer", "duration": "1h"}, "wait"),
}


@pytest.mark.parametrize("what", WAITS)
def test_an_answer_is_taken_although_what_follows_cannot_be_done(start, trouble, what, alice, principal):
    node, source = WAITS[what]
    run = start([node, t("bad")], (source, "bad"))
    work_all()
    if what == "a person":
        approvals.decide(principal(alice), ApprovalRequest.objects.get(run=run).id, verb="approve")
    elif what == "a signal":
        services.deliver_signal(principal(alice), run.id, "go")
    else:
        with clock.frozen(now()) as time:
            time.move(seconds=3601)
            assert upkeep.fire_due() == 1
    assert statuses(run) == {"wait": "succeeded", "bad": "ready"}
    assert ended(run).error["step"] == "bad"
    assert Step.objects.get(run=run, path="bad").attempt == 1
