"""Concurrency keys: as many steps with one key run as may, others wait without spinning, nothing leaks."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection, connections

from apps.ledger.selectors import entries
from apps.runs import services, slots, transact
from apps.runs.claims import claim_next
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import StepStatus
from apps.runs.executor import work, work_chain
from apps.runs.invariants import check_all
from apps.runs.models import Slot, Step, Worker
from apps.runs.selectors import explain, run_for
from apps.runs.upkeep import anything_due, reap, upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)


def keyed(id="a", key="shop", limit=1, **more):
    return {"id": id, "kind": "code", "code": "-", "output": 1,
            "concurrency": {"key": key, "limit": limit}, **more}  # fmt: skip


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, edges=(), inputs=None, **document):
        version = version_of(workspace, nodes, edges, **document)
        return services.start_run(principal(alice), version, inputs or {})

    return start


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


def claim(boot):
    return claim_next(boot, QUEUES, alone=True)


def finish(claimed, boot):
    work(claimed, boot, QUEUES, chain=False)


def test_no_more_than_the_limit_run_at_once(start):
    runs = [start([keyed(limit=2)]) for _ in range(5)]
    boot = register_worker()
    assert claim(boot) and claim(boot)
    assert claim(boot) is None
    found = sorted(statuses(run)["a"] for run in runs)
    assert found == ["running", "running", "waiting", "waiting", "waiting"]
    assert Slot.objects.get().in_use == 2
    work_all()  # Nothing of these two: they are held by a worker that is alive.


def test_a_step_that_ends_lets_exactly_one_other_in(start):
    runs = [start([keyed()]) for _ in range(4)]
    boot = register_worker()
    first = claim(boot)
    assert claim(boot) is None
    finish(first, boot)
    found = sorted(statuses(run)["a"] for run in runs)
    assert found == ["ready", "succeeded", "waiting", "waiting"]


def test_all_get_through_one_after_the_other_and_none_is_asked_twice(start):
    runs = [start([keyed()]) for _ in range(6)]
    work_all()
    assert all(statuses(run) == {"a": "succeeded"} for run in runs)
    for run in runs:
        assert len(entries(run.id, kinds=["step.waiting"])) <= 1
    assert not Slot.objects.exclude(in_use=0).exists()


def test_the_oldest_waits_least(start):
    runs = [start([keyed()]) for _ in range(4)]
    boot, order = register_worker(), []
    holder = claim(boot)
    claim(boot)
    while holder is not None:
        order.append(holder.run.id)
        finish(holder, boot)
        holder = claim(boot)
    assert order == [run.id for run in runs]


def test_keys_come_from_templates_and_do_not_disturb_each_other(start):
    node = keyed(key="customer-{{ inputs.customer }}")
    one, same, other = (start([node], inputs={"customer": c}) for c in ("x", "x", "y"))
    boot = register_worker()
    while claim(boot):
        pass
    assert [statuses(run)["a"] for run in (one, same, other)] == ["running", "waiting", "running"]
    keys = set(Slot.objects.values_list("key", "in_use"))
    assert keys == {("customer-x", 1), ("customer-y", 1)}


def test_a_key_that_gives_nothing_sets_no_limit(start):
    node = keyed(key="{{ inputs.customer }}")
    for _ in range(2):
        start([node], inputs={"customer": None})
    boot = register_worker()
    assert claim(boot) and claim(boot)
    assert not Slot.objects.exists()


def test_a_key_that_cannot_be_evaluated_fails_the_step_in_words(start):
    run = start([keyed(key="{{ steps.nope.output }}")])
    work_all()
    run.refresh_from_db()
    assert run.status == "failed" and "nope" in run.error["message"]


def test_long_keys_stay_apart():
    a, b = slots.key_of("x" * 500), slots.key_of("x" * 499 + "y")
    assert a != b and len(a) <= 200
    assert slots.key_of({"b": 1, "a": 2}) == slots.key_of({"a": 2, "b": 1})


def test_another_workspace_has_slots_of_its_own(start, elsewhere, charlie, principal):
    start([keyed()])
    services.start_run(principal(charlie), version_of(elsewhere, [keyed()]), {})
    boot = register_worker()
    assert claim(boot) and claim(boot)
    assert Slot.objects.filter(in_use=1).count() == 2


def test_a_dead_workers_slot_is_released(start):
    """Scenario 71: a limit of one, and its holder was killed."""
    held, waits = start([keyed()]), start([keyed()])
    dead, boot = register_worker(), register_worker()
    assert claim(dead).run.id == held.id
    assert claim(boot) is None
    Worker.objects.filter(boot=dead).update(lease_until=now() - timedelta(seconds=1))
    reap(boot)
    assert Slot.objects.get().in_use == 0
    work_all(boot)
    assert statuses(held) == statuses(waits) == {"a": "succeeded"}


def test_a_step_that_waits_for_something_else_holds_no_slot(start):
    node = {"id": "a", "kind": "timer", "duration": "1h", "concurrency": {"key": "k", "limit": 1}}
    runs = [start([node]) for _ in range(3)]
    work_all()
    assert [statuses(run) for run in runs] == [{"a": "waiting"}] * 3
    assert not Slot.objects.exclude(in_use=0).exists()


def test_chaining_into_a_keyed_step_passes_the_same_door(start):
    nodes = [recorded("p"), keyed()]
    first, second = (start(nodes, [{"from": "p", "to": "a"}]) for _ in range(2))
    boot = register_worker()
    for _ in range(2):
        work_chain(claim(boot), boot, QUEUES, lambda: True)
    assert statuses(first)["a"] == statuses(second)["a"] == "ready"
    assert claim(boot) and claim(boot) is None
    assert Slot.objects.get().in_use == 1


def test_a_waiting_step_costs_nothing_until_there_is_room(start):
    runs = [start([keyed()]) for _ in range(3)]
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    before = {run.id: seq_of(run) for run in runs}
    with clock.frozen(now()) as time:
        for _ in range(20):
            time.move(seconds=1)
            upkeep(boot)
            assert claim(boot) is None
        assert not anything_due(boot, QUEUES)
    assert {run.id: seq_of(run) for run in runs} == before
    finish(holder, boot)


def seq_of(run):
    run.refresh_from_db()
    return run.seq


def test_a_lost_wake_up_is_made_good_by_upkeep(start, monkeypatch):
    first, second = start([keyed()]), start([keyed()])
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    monkeypatch.setattr(slots, "_admit_all", lambda *a: None)
    finish(holder, boot)
    assert statuses(second) == {"a": "waiting"}
    assert anything_due(boot, QUEUES)
    upkeep(boot)
    assert statuses(second) == {"a": "ready"}
    work_all(boot)
    assert statuses(first) == statuses(second) == {"a": "succeeded"}


def test_who_was_let_in_and_does_not_come_keeps_the_place_only_for_a_while(start):
    runs = [start([keyed(queue="rare" if n == 1 else "")]) for n in range(3)]
    boot = register_worker()
    holder = claim_next(boot, ("default", "rare"), alone=True)
    while claim_next(boot, ("default", "rare"), alone=True):
        pass
    finish(holder, boot)
    assert statuses(runs[1]) == {"a": "ready"}
    assert upkeep(boot) == 0 and claim(boot) is None
    with clock.frozen(now() + timedelta(seconds=11)):
        assert upkeep(boot) == 1
        assert claim(boot).run.id == runs[2].id


def test_a_paused_run_does_not_hold_up_the_others(start, alice, principal):
    _first, second, third = (start([keyed()]) for _ in range(3))
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    services.pause_run(principal(alice), second.id)
    finish(holder, boot)
    assert statuses(third) == {"a": "ready"}
    work_all(boot)
    services.resume_run(principal(alice), second.id)
    work_all(boot)
    assert statuses(second) == statuses(third) == {"a": "succeeded"}


def test_cancelling_a_run_that_waits_for_a_slot_ends_it(start, alice, principal):
    _first, second = start([keyed()]), start([keyed()])
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    services.cancel_run(principal(alice), second.id)
    second.refresh_from_db()
    assert second.status == "cancelled"
    finish(holder, boot)
    slots.reconcile()
    assert not Slot.objects.exists()


def test_a_wrong_count_is_found_and_set_right(start):
    start([keyed(limit=3)])
    boot = register_worker()
    holder = claim(boot)
    Slot.objects.update(in_use=3)
    assert [f.invariant for f in check_all()] == ["I5"]
    assert slots.reconcile() == 1
    assert Slot.objects.get().in_use == 1
    finish(holder, boot)


def test_counting_too_little_never_stops_a_step_from_ending(start):
    run = start([keyed()])
    boot = register_worker()
    holder = claim(boot)
    Slot.objects.update(in_use=0)
    finish(holder, boot)
    assert statuses(run) == {"a": "succeeded"}


def test_other_steps_of_the_run_are_not_held_up(start):
    nodes = [keyed("a"), keyed("b"), keyed("c"), recorded("z")]
    run = start(nodes)
    boot = register_worker()
    # They are equally old: which of a, b and c has the slot, and whether z is before it, is the database's.
    held, other = claim(boot), claim(boot)
    assert "z" in {held.path, other.path} and claim(boot) is None
    found = statuses(run)
    assert found.pop("z") == "running"
    assert sorted(found.values()) == ["running", "waiting", "waiting"]


def test_explain_says_what_it_waits_for(start, alice, principal):
    start([keyed()])
    waits = start([keyed()])
    boot = register_worker()
    claim(boot)
    claim(boot)
    explained = explain(run_for(principal(alice), waits.id))
    assert '"shop"' in explained["why"]
    assert explained["waiting_for"][0]["reason"] == "slot"
    assert "shop" in explained["waiting_for"][0]["detail"]


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time")
def test_many_workers_at_once_keep_to_the_limit_and_end_all(start):
    runs = [start([keyed(limit=2), keyed("b", key="other", limit=1)]) for _ in range(12)]
    boots = [register_worker() for _ in range(4)]
    most, problems = [], []

    def body(boot):
        try:
            for _ in range(400):
                claimed = claim(boot)
                upkeep(boot)
                if claimed is not None:
                    most.append(Step.objects.filter(status=StepStatus.RUNNING, slot="shop").count())
                    finish(claimed, boot)
                elif not Step.objects.filter(status__in=["ready", "waiting", "running"]).exists():
                    return
        except Exception as exc:
            problems.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=body, args=[boot]) for boot in boots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert max(most) <= 2
    assert all(set(statuses(run).values()) == {"succeeded"} for run in runs)


def test_a_run_that_cannot_be_read_does_not_keep_its_place_from_the_others(start, monkeypatch):
    first, broken, third = (start([keyed()]) for _ in range(3))
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    read = transact.state_of

    def state_of(run, *args):
        if run.id == broken.id:
            raise RuntimeError("its rows make no sense")
        return read(run, *args)

    with monkeypatch.context() as patch:
        patch.setattr(transact, "state_of", state_of)
        finish(holder, boot)
        upkeep(boot)
    assert statuses(first) == {"a": "succeeded"}
    assert statuses(third) == {"a": "ready"}
    assert statuses(broken) == {"a": "waiting"}
    work_all(boot)
    assert statuses(broken) == statuses(third) == {"a": "succeeded"}


def test_a_run_that_somebody_holds_just_now_keeps_its_place(start, monkeypatch):
    _first, second, third = (start([keyed()]) for _ in range(3))
    boot = register_worker()
    holder = claim(boot)
    assert claim(boot) is None
    lock = transact.lock_run

    def lock_run(run_id, **named):
        if run_id == second.id and named.get("skip_locked"):
            raise transact.RunBusy
        return lock(run_id, **named)

    with monkeypatch.context() as patch:
        patch.setattr(transact, "lock_run", lock_run)
        finish(holder, boot)
        upkeep(boot)
    assert statuses(second) == statuses(third) == {"a": "waiting"}
    upkeep(boot)
    assert statuses(second) == {"a": "ready"}
    work_all(boot)


def test_slots_of_paused_runs_do_not_keep_upkeep_from_the_others(start, alice, principal, monkeypatch):
    """Somebody waits for each key, there is room for all, and one look at slots is bounded."""
    boot = register_worker()
    node = keyed(key="{{ inputs.k }}")
    waiting = {}
    holders = []
    for k in ("a", "b", "c"):
        start([node], inputs={"k": k})
        holders.append(claim(boot))
        waiting[k] = start([node], inputs={"k": k})
        assert claim(boot) is None
    for k in ("a", "b"):
        services.pause_run(principal(alice), waiting[k].id)
    with monkeypatch.context() as patch:
        patch.setattr(slots, "_admit_all", lambda *a: None)  # Its process died.
        for holder in holders:
            finish(holder, boot)
        patch.setattr(slots, "LIMITS", replace(LIMITS, due_batch=2))
        for _ in range(3):
            upkeep(boot)
        assert statuses(waiting["c"]) == {"a": "ready"}
    for k in ("a", "b"):
        services.resume_run(principal(alice), waiting[k].id)
    work_all(boot)
