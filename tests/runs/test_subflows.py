"""Runs inside runs: started once, waited for, stopped with their parent or left alone."""

from __future__ import annotations

import pytest

from apps.blueprints.models import Blueprint, Version
from apps.ledger.models import Effect
from apps.ledger.selectors import entries
from apps.runs import ports, recovery, services, subflows
from apps.runs.claims import claim_next
from apps.runs.errors import StepError
from apps.runs.executor import work_chain
from apps.runs.invariants import check_all
from apps.runs.models import Run, Signal, Step
from apps.runs.ports import Done, EffectCall
from apps.runs.upkeep import fire_due
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def child(workspace):
    def child(nodes, edges=(), **document):
        version = version_of(workspace, nodes, edges, **document)
        return version.blueprint.name, version

    return child


@pytest.fixture
def start(workspace, alice, principal):
    def start(name, then=(), inputs=None, **node):
        sub = {"id": "sub", "kind": "subflow", "blueprint": name, **node}
        version = version_of(workspace, [sub, *then], [{"from": "sub", "to": t["id"]} for t in then])
        return services.start_run(principal(alice), version, inputs or {})

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def child_of(run):
    return Run.objects.get(parent_id=run.id)


def test_a_subflow_gives_its_childs_output_to_what_follows(start, child):
    name, _ = child([recorded("a", "{{ inputs.n * 2 }}")], outputs={"twice": "{{ steps.a.output }}"})
    run = start(f"{name}@1", then=[recorded("z", "{{ steps.sub.output.twice + 1 }}")], **{"with": {"n": 4}})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert Step.objects.get(run=run, path="z").output == 9
    kid = child_of(run)
    assert (kid.status, kid.root_id, kid.parent_path, kid.root_path) == ("succeeded", run.id, "sub", "sub")
    assert [e.kind for e in entries(run.id, path="sub") if e.kind.startswith("child")] == [
        "child.started", "child.ended",
    ]  # fmt: skip


def test_without_a_version_the_newest_is_run_and_stays(start, child, workspace):
    name, first = child([recorded("a", 1)], outputs={"v": "{{ steps.a.output }}"})
    Version.objects.create(
        blueprint=Blueprint.objects.get(name=name), number=2, content_hash="2" * 32, source="",
        document=first.document | {"outputs": {"v": 2}},
    )  # fmt: skip
    run = start(name)
    work_all()
    assert child_of(run).version.number == 2


def test_a_child_that_fails_fails_the_step_with_its_words(start, child):
    name, _ = child([recorded("a", "{{ 1 / 0 }}")])
    run = start(name)
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.error["code"] == "child_failed"
    assert run.error["child"] == str(child_of(run).id)


def test_a_retry_takes_up_the_result_of_a_child_that_was_mended(start, child, alice, principal, monkeypatch):
    answers = iter([StepError("not today", permanent=True), Done("paid")])

    def moody(context):
        answer = next(answers)
        if isinstance(answer, StepError):
            raise answer
        return answer

    monkeypatch.setitem(ports._handlers, "tool", moody)
    name, _ = child([{"id": "pay", "kind": "tool", "tool": "pay"}])
    run = start(name)
    work_all()
    run.refresh_from_db()
    below = child_of(run)
    assert (run.status, below.status) == ("failed", "failed")
    recovery.retry_step(principal(alice), below.id, "pay", reason="it is tomorrow")
    work_all()
    run.refresh_from_db()
    assert run.status == "failed", "what has ended goes on only when somebody says so"
    recovery.retry_step(principal(alice), run.id, "sub", reason="its run was mended")
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert child_of(run) == below, "no second one was started"
    assert Step.objects.get(run=run, path="sub").output == child_of(run).output


@pytest.mark.parametrize(
    ("node", "code"),
    [({"name": "nobody@1"}, "unknown_blueprint"), ({"name": "x" * 3}, "unknown_blueprint")],
)
def test_a_blueprint_that_is_not_there_is_said(start, node, code):
    run = start(node["name"])
    work_all()
    run.refresh_from_db()
    assert run.error["code"] == code
    assert not Run.objects.filter(parent_id=run.id).exists()


def test_inputs_that_do_not_fit_the_child_are_said(start, child):
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    name, _ = child([recorded("a")], contract={"inputs": schema})
    run = start(name, **{"with": {"n": "four"}})
    work_all()
    run.refresh_from_db()
    assert run.error["code"] == "bad_inputs"


def test_a_blueprint_of_another_workspace_is_not_found(start, elsewhere):
    other = version_of(elsewhere, [recorded("a")])
    run = start(f"{other.blueprint.name}@1")
    work_all()
    run.refresh_from_db()
    assert run.error["code"] == "unknown_blueprint"


WAITING = [{"id": "nap", "kind": "timer", "duration": "1h"}]


def test_stopping_the_parent_stops_the_child_first(start, child, alice, principal):
    name, _ = child(WAITING)
    run = start(name)
    work_all()
    services.cancel_run(principal(alice), run.id)
    assert Run.objects.get(id=run.id).status == "cancelling"
    work_all()
    assert child_of(run).status == "cancelled"
    assert Run.objects.get(id=run.id).status == "cancelled"
    # The step ended as its child did: it was stopped.
    assert statuses(run)["sub"] in ("failed", "cancelled")


def test_a_child_may_be_left_alone(start, child, alice, principal):
    name, _ = child(WAITING)
    run = start(name, on_cancel="abandon")
    work_all()
    services.cancel_run(principal(alice), run.id)
    work_all()
    assert Run.objects.get(id=run.id).status == "cancelled"
    assert child_of(run).status == "waiting"


def test_a_parent_may_wait_for_its_child_to_finish(start, child, alice, principal):
    name, _ = child(WAITING)
    run = start(name, on_cancel="wait")
    work_all()
    services.cancel_run(principal(alice), run.id)
    work_all()
    assert child_of(run).status == "waiting"
    with clock.frozen(now()) as at:
        at.move(hours=2)
        work_all()
        assert child_of(run).status == "succeeded"
        assert Run.objects.get(id=run.id).status == "cancelled"


def test_an_end_nobody_delivered_is_delivered_by_upkeep(start, child, monkeypatch):
    name, _ = child([recorded("a")])
    monkeypatch.setattr(subflows, "deliver_end", lambda parent, path: 0)
    run = start(name)
    work_all()
    assert Run.objects.get(id=run.id).status == "waiting"
    assert Signal.objects.get(run=run).consumed_by is None
    monkeypatch.undo()
    assert subflows.deliver_ends() == 1
    assert subflows.deliver_ends() == 0
    assert Run.objects.get(id=run.id).status == "succeeded"


def test_the_same_effect_in_two_children_has_two_keys(workspace, alice, principal, child, monkeypatch):
    def pay(context):
        return Done(
            context.effect(
                EffectCall(tool="pay", effect_class="keyed", arguments={}, timeout_seconds=5,
                           execute=lambda key: {"key": key})
            )
        )  # fmt: skip

    monkeypatch.setitem(ports._handlers, "tool", pay)
    name, _ = child([{"id": "pay", "kind": "tool", "tool": "pay"}])
    each = {"id": "each", "kind": "map", "items": "{{ [1, 2] }}",
            "body": {"nodes": [{"id": "sub", "kind": "subflow", "blueprint": name}]}}  # fmt: skip
    run = services.start_run(principal(alice), version_of(workspace, [each]), {})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert len(set(Effect.objects.values_list("key", flat=True))) == 2
    assert sorted(Run.objects.filter(parent_id=run.id).values_list("root_path", flat=True)) == [
        "each[0]/sub", "each[1]/sub",
    ]  # fmt: skip


def test_a_blueprint_that_runs_itself_without_end_is_stopped(workspace, alice, principal):
    version = version_of(workspace, [{"id": "sub", "kind": "subflow", "blueprint": "self"}])
    Blueprint.objects.filter(id=version.blueprint_id).update(name="self")
    run = services.start_run(principal(alice), version, {})
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert Run.objects.filter(root_id=run.id).count() == 10
    assert Run.objects.filter(error__code="too_deep").count() == 1


@pytest.fixture
def mended(start, child, alice, principal, monkeypatch):
    """A parent whose child failed and is tried again, and stands at its timer; the parent's step as well."""

    def mended(duration="1h", **node):
        name, _ = child([recorded("a", "{{ 1 / 0 }}"), {"id": "nap", "kind": "timer", "duration": duration}],
                        [{"from": "a", "to": "nap"}])  # fmt: skip
        run = start(name, **node)
        work_all()
        below = child_of(run)
        recovery.skip_step(principal(alice), below.id, "a", value=1, reason="good enough")
        recovery.retry_step(principal(alice), run.id, "sub", reason="its run goes on")
        return run, below

    return mended


@pytest.fixture
def about_to_wait(mended, monkeypatch):
    """Lets something happen between the parent's look at its child and the wait that follows from it."""

    def about_to_wait(meanwhile, **node):
        real = ports._handlers["subflow"]

        def slow(context):
            outcome = real(context)
            assert outcome.reason == "child"
            meanwhile(run, below)
            return outcome

        run, below = mended(**node)
        boot = register_worker()
        while (claimed := claim_next(boot, ("default",), alone=True)) and claimed.run.id == below.id:
            work_chain(claimed, boot, ("default",), lambda: True)
        monkeypatch.setitem(ports._handlers, "subflow", slow)
        work_chain(claimed, boot, ("default",), lambda: True)
        return run, below

    return about_to_wait


def test_a_child_that_ends_while_its_parent_is_about_to_wait_for_it_again_is_noticed(about_to_wait):
    def later(run, below):
        with clock.frozen(now()) as at:
            at.move(hours=2)
            assert fire_due() == 1
        assert Run.objects.get(id=below.id).status == "succeeded"

    run, _below = about_to_wait(later)
    assert statuses(run) == {"sub": "succeeded"}


@pytest.mark.parametrize(("policy", "left"), [("cancel", "cancelled"), ("wait", "waiting")])
def test_a_parent_that_is_cancelled_while_about_to_wait_again_leaves_no_child_alone(
    about_to_wait, alice, principal, policy, left
):
    def stop(run, below):
        services.cancel_run(principal(alice), run.id)

    run, below = about_to_wait(stop, on_cancel=policy)
    assert Run.objects.get(id=run.id).status == "cancelling"
    work_all()
    assert Run.objects.get(id=below.id).status == left


def test_a_run_that_is_cancelled_does_not_wait_for_an_end_it_was_told_of_and_missed(
    start, child, alice, principal, monkeypatch
):
    """As older versions left it: the word was taken and nothing came of it."""
    name, _ = child([recorded("a")])
    monkeypatch.setattr(subflows, "deliver_end", lambda parent, path: 0)
    run = start(name)
    work_all()
    Signal.objects.update(consumed_by="sub")
    monkeypatch.undo()
    services.cancel_run(principal(alice), run.id)
    work_all()
    assert Run.objects.get(id=run.id).status == "cancelled"
