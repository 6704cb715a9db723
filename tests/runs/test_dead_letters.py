"""Sending failed runs on their way again: what has happened once does not happen again by it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.ledger.core.states import EffectClass
from apps.runs import dead_letters, ports, recovery, services
from apps.runs.claims import claim_next
from apps.runs.dead_letters import redrive
from apps.runs.errors import StepError
from apps.runs.executor import work
from apps.runs.models import Run
from apps.runs.ports import Done, EffectCall
from apps.runs.upkeep import upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import register_worker, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
PAY = {"id": "pay", "kind": "tool", "tool": "pay"}


@pytest.fixture
def owner(alice, principal):
    return principal(alice)


@pytest.fixture
def sent(monkeypatch):
    """What the tool `pay` was sent."""
    sent: list[str] = []

    def handler(context):
        def execute(key):
            sent.append(key)
            return {}

        return Done(
            context.effect(
                EffectCall(tool="pay", effect_class=EffectClass.OPAQUE, arguments={}, execute=execute,
                           timeout_seconds=5)
            )
        )  # fmt: skip

    monkeypatch.setitem(ports._handlers, "tool", handler)
    return sent


def test_a_run_that_has_begun_and_failed_as_a_whole_is_not_started_anew(workspace, owner, sent):
    """Its outputs cannot be formed, but it has paid."""
    version = version_of(workspace, [PAY], outputs={"x": "{{ steps.nope.output }}"})
    run = services.start_run(owner, version, {})
    work_all()
    run.refresh_from_db()
    assert (run.status, run.error["code"], len(sent)) == ("failed", "bad_outputs", 1)
    seen = redrive(owner, preview=True)
    said = redrive(owner, reason="again")
    work_all()
    assert len(sent) == 1
    assert said["redriven"] == seen["redriven"] == []
    assert [r["code"] for r in said["refused"]] == [r["code"] for r in seen["refused"]] == ["has_begun"]
    assert Run.objects.count() == 1


def test_a_run_past_its_deadline_that_has_begun_is_not_started_anew(workspace, owner, sent):
    wait = {"id": "wait", "kind": "sensor", "signal": "go"}
    edges = [{"from": "pay", "to": "wait"}]
    run = services.start_run(
        owner, version_of(workspace, [PAY, wait], edges, contract={"run_deadline": "1h"}), {}
    )
    work_all()
    with clock.frozen(now() + timedelta(hours=2)):
        upkeep(register_worker())
    run.refresh_from_db()
    assert (run.status, len(sent)) == ("failed", 1)
    said = redrive(owner, reason="again")
    work_all()
    assert len(sent) == 1 and said["redriven"] == []


def test_a_child_that_never_began_is_left_to_its_parent(workspace, owner, sent):
    child = version_of(workspace, [PAY], contract={"queue_deadline": "1h"})
    name = child.blueprint.name
    node = {"id": "sub", "kind": "subflow", "blueprint": f"{name}@1"}
    parent = services.start_run(owner, version_of(workspace, [node]), {})
    boot = register_worker()
    work(claim_next(boot, ("default",), alone=True), boot, ("default",), chain=False)
    below = Run.objects.get(parent_id=parent.id)
    Run.objects.filter(id=below.id).update(queue_deadline_at=now() - timedelta(seconds=1))
    for _ in range(3):
        upkeep(boot)
    below.refresh_from_db()
    assert below.status == "failed"
    work_all(boot)
    said = redrive(owner, reason="again")
    work_all(boot)
    assert len(sent) == 1  # By the child that its parent has started instead.
    assert [(r["run"], r["code"]) for r in said["refused"]] == [(str(below.id), "has_parent")]


def test_a_child_and_its_parent_do_not_both_go_on_with_what_failed(workspace, owner, sent, monkeypatch):
    broken = {"id": "broken", "kind": "code", "code": "-", "retry": {"max_attempts": 1}}
    fails = [True]

    def code(context):
        if fails:
            raise StepError("broken", permanent=True)
        return Done(1)

    monkeypatch.setitem(ports._handlers, "code", code)
    child = version_of(workspace, [broken, PAY], [{"from": "broken", "to": "pay"}])
    node = {"id": "sub", "kind": "subflow", "blueprint": f"{child.blueprint.name}@1"}
    services.start_run(owner, version_of(workspace, [node]), {})
    work_all()
    assert set(Run.objects.values_list("status", flat=True)) == {"failed"}
    fails.clear()
    retry = dead_letters.retry_step

    def retried(*args, **named):
        said = retry(*args, **named)
        work_all()  # Other processes are fast.
        return said

    monkeypatch.setattr(dead_letters, "retry_step", retried)
    redrive(owner, reason="mended")
    work_all()
    assert len(sent) == 1
    assert set(Run.objects.values_list("status", flat=True)) == {"succeeded"}


def test_a_run_that_cannot_be_read_keeps_no_other_from_going_on(workspace, owner, sent, monkeypatch):
    def code(context):
        raise StepError("broken", permanent=True)

    monkeypatch.setitem(ports._handlers, "code", code)
    broken = {"id": "broken", "kind": "code", "code": "-", "retry": {"max_attempts": 1}}
    version = version_of(workspace, [broken])
    bad, good = (services.start_run(owner, version, {}) for _ in range(2))
    work_all()
    read = recovery.state_of

    def state_of(run, *args):
        if run.id == bad.id:
            raise RuntimeError("its rows make no sense")
        return read(run, *args)

    monkeypatch.setattr(recovery, "state_of", state_of)
    said = redrive(owner, reason="again")
    assert [r["run"] for r in said["redriven"]] == [str(good.id)]
    assert [(r["run"], r["code"]) for r in said["refused"]] == [(str(bad.id), "unexpected_error")]
