"""Scenarios 17, 55 to 75 and what is promised of scale: people, control, many of everything."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.ledger.models import Effect
from apps.runs import ports, services, upkeep
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step
from apps.runs.ports import Done, EffectCall
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import MirrorNeuronError
from tests.fake_remote import FakeRemote
from tests.faults import mixed
from tests.faults.harness import File, Forking, Server, assert_nothing_ran_twice, until
from tests.faults.mixed import body, effect, line, value
from tests.runs.engine import register_worker, statuses, version_of, work_all

Start = Callable[..., Run]


@pytest.fixture
def start(workspace: Any, alice: Any, principal: Any) -> Start:
    def start(nodes: list, edges: list = (), inputs: dict | None = None, **document: Any) -> Run:  # type: ignore
        version = version_of(workspace, nodes, edges, **document)
        return services.start_run(principal(alice), version, inputs or {})

    return start


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the tool `pay` of this process was sent."""
    keys: list[str] = []

    def handler(context: Any) -> Done:
        call = EffectCall(
            tool="pay", effect_class="opaque", arguments={}, timeout_seconds=1,
            execute=lambda key: keys.append(key) or {},
        )  # fmt: skip
        return Done(context.effect(call))

    monkeypatch.setitem(ports._handlers, "tool", handler)
    return keys


PAY = {"id": "pay", "kind": "tool", "tool": "pay"}
ASK = {"id": "ask", "kind": "approval", "title": "Pay?", "with": {}}


def request_of(run: Run) -> Any:
    from apps.approvals.models import ApprovalRequest

    return ApprovalRequest.objects.get(run=run)


# --- 17: the same place, another process --------------------------------------------------------------------


@pytest.mark.faults
def test_17_a_worker_that_comes_back_under_the_same_name_is_another_one(
    servers: Server, remote: FakeRemote, reference: str
) -> None:
    """Same host, and the same process number as it is in every container: only boot ids differ."""
    servers.driver.ask("import_blueprint", text=mixed.text("named", remote.url, **mixed.classes()))
    first = servers.start_worker("after_claim")
    run = servers.start("named", reference=reference)
    first.wait_exit()
    servers.processes.clear()
    servers.start_worker()
    servers.driver.ask("same_place")

    assert servers.settle(remote, reference) == {"succeeded": 1}
    assert max(s["fence"] for s in run.look()["steps"].values()) >= 2
    servers.assert_world_matches(remote, reference)


# --- 55, 56, 58: answers that come too late -----------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_55_an_approval_after_the_time_was_up_starts_nothing(
    start: Start, sent: list[str], principal: Any, alice: Any
) -> None:
    from apps.approvals.services import decide

    nodes = [ASK | {"due": 60}, PAY, value("otherwise", 1)]
    edges = [{"from": "ask.approved", "to": "pay"}, {"from": "ask.expired", "to": "otherwise"}]
    checkpoint = {"human_checkpoints": [{"step": "ask", "timeout_action": "edge"}]}
    with clock.frozen(now()) as time:
        run = start(nodes, edges, contract=checkpoint)
        work_all()
        time.move(seconds=61)
        work_all()
        with pytest.raises(MirrorNeuronError):
            decide(principal(alice), request_of(run).id, verb="approve")
        work_all()
    run.refresh_from_db()
    assert (run.status, statuses(run)["otherwise"]) == ("succeeded", "succeeded")
    assert sent == [] and not Effect.objects.filter(run_id=run.id).exists()
    assert check_all() == []


@pytest.mark.django_db(transaction=True)
def test_56_an_approval_after_a_cancel_starts_nothing(
    start: Start, sent: list[str], principal: Any, alice: Any
) -> None:
    from apps.approvals.services import decide

    run = start([ASK, PAY], [{"from": "ask.approved", "to": "pay"}])
    work_all()
    services.cancel_run(principal(alice), run.id, reason="changed my mind")
    with pytest.raises(MirrorNeuronError):
        decide(principal(alice), request_of(run).id, verb="approve")
    work_all()
    run.refresh_from_db()
    assert (run.status, sent) == ("cancelled", [])
    assert check_all() == []


@pytest.mark.django_db(transaction=True)
def test_58_an_approval_two_days_later_is_as_good_as_at_once(
    start: Start, sent: list[str], principal: Any, alice: Any
) -> None:
    from apps.approvals.services import decide

    with clock.frozen(now()) as time:
        run = start([ASK, PAY], [{"from": "ask.approved", "to": "pay"}])
        work_all()
        time.move(hours=48)
        work_all()
        decide(principal(alice), request_of(run).id, verb="approve")
        work_all()
    run.refresh_from_db()
    assert (run.status, len(sent)) == ("succeeded", 1)
    assert check_all() == []


# --- 61: cancel at an awkward moment ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_61_a_cancel_during_a_retrys_pause_ends_the_run_at_once(
    start: Start, principal: Any, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.runs.errors import StepError

    def fails(context: Any) -> Done:
        raise StepError("not now", code="later")

    monkeypatch.setitem(ports._handlers, "tool", fails)
    run = start([PAY | {"retry": {"max_attempts": 5, "base": 100}}, value("after", 1)], line("pay", "after"))
    work_all()
    assert statuses(run) == {"pay": "waiting"}
    for _ in range(2):
        services.cancel_run(principal(alice), run.id, reason="twice is as good as once")
    run.refresh_from_db()
    assert (run.status, statuses(run)) == ("cancelled", {"pay": "cancelled"})
    assert check_all() == []


@pytest.mark.faults
def test_61_a_cancel_while_a_call_is_under_way_keeps_what_it_did(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    nodes = [effect("slow", "charge"), effect("never", "note")]
    crew.driver.ask("import_blueprint", text=mixed.text("called", remote.url, nodes, line("slow", "never")))
    remote.script("/keyed/charge", "held", "ok")
    crew.start_worker()
    run = crew.start("called", reference=reference)
    until(lambda: remote.is_present(f"{reference}.slow"), "the call to be under way")
    crew.driver.ask("control", run=run.id, action="cancel")
    assert run.look()["status"] == "cancelling"

    remote.release("/keyed/charge")
    state = run.until_status("cancelled", "succeeded", "failed")
    assert state["status"] == "cancelled"
    assert [(e["path"], e["state"]) for e in state["effects"]] == [("slow", "committed")]
    crew.assert_world_matches(remote, reference)
    assert_nothing_ran_twice(run, remote)


@pytest.mark.faults
def test_61_a_cancel_while_a_map_opens_leaves_no_item_behind(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    send = effect("send", "charge", "{{ inputs.reference + '.send' + string(index) }}")
    nodes = [
        value("list", list(range(60))),
        {"id": "each", "kind": "map", "items": "{{ steps.list.output }}", "body": body(send)},
    ]
    crew.driver.ask("import_blueprint", text=mixed.text("opening", remote.url, nodes, line("list", "each")))
    crew.start_worker()
    run = crew.start("opening", reference=reference)
    until(lambda: any(r.startswith(reference) for r in remote.times), "an item to be under way")
    crew.driver.ask("control", run=run.id, action="cancel")

    assert crew.settle(remote, reference) == {"cancelled": 1}
    assert sum(r.startswith(reference) for r in remote.times) < 60
    crew.assert_world_matches(remote, reference)


# --- 62: a long pause ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_62_a_run_resumed_after_a_day_goes_on_as_if_none_had_passed(
    start: Start, principal: Any, alice: Any
) -> None:
    nodes = [{"id": "wait", "kind": "timer", "duration": "10m"}, value("after", 1)]
    with clock.frozen(now()) as time:
        run = start(nodes, line("wait", "after"))
        work_all()
        services.pause_run(principal(alice), run.id, reason="for the night")
        time.move(hours=24)
        work_all()
        assert statuses(run) == {"wait": "waiting"}
        services.resume_run(principal(alice), run.id)
        work_all()
        assert statuses(run) == {"wait": "waiting"}, "its ten minutes have not passed"
        time.move(minutes=11)
        work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert check_all() == []


# --- 63: children -------------------------------------------------------------------------------------------


@pytest.mark.faults
def test_63_a_parent_that_is_cancelled_takes_its_children_with_it(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    count = int(os.environ.get("MN_TEST_CHILDREN", "40"))
    nap = [{"id": "nap", "kind": "timer", "duration": "1h"}]
    crew.driver.ask("import_blueprint", text=mixed.text("napping", remote.url, nap, []))
    child = {
        "id": "child", "kind": "subflow", "blueprint": "napping",
        "with": {"reference": "{{ inputs.reference + '-' + string(index) }}"},
    }  # fmt: skip
    each = {
        "id": "each", "kind": "map", "items": "{{ steps.list.output }}", "max_parallel": count,
        "body": body(child),
    }  # fmt: skip
    nodes = [value("list", list(range(count))), each]
    crew.driver.ask("import_blueprint", text=mixed.text("parents", remote.url, nodes, line("list", "each")))
    crew.start_worker()
    run = crew.start("parents", reference=reference)
    until(
        lambda: crew.driver.ask("statuses", prefix=f"{reference}-").get("waiting") == count,
        f"{count} children to sleep",
    )
    crew.driver.ask("control", run=run.id, action="cancel")

    assert crew.settle(remote, reference, seconds=90) == {"cancelled": count + 1}
    crew.assert_sound()


# --- 64, 65: what a run stands on changes under it ----------------------------------------------------------


@pytest.mark.faults
def test_64_a_run_goes_on_with_the_graph_it_was_started_with(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    ask = {"id": "ask", "kind": "approval", "title": "Go on?", "with": {}}
    before = [ask, effect("old", "note")]
    crew.driver.ask(
        "import_blueprint",
        text=mixed.text("changing", remote.url, before, [{"from": "ask.approved", "to": "old"}]),
    )
    crew.start_worker()
    run = crew.start("changing", reference=reference)
    run.until_request("ask")
    after = [ask, effect("new", "note")]
    crew.driver.ask(
        "import_blueprint",
        text=mixed.text("changing", remote.url, after, [{"from": "ask.approved", "to": "new"}]),
    )
    run.approve()
    run.until_status("succeeded", "failed")
    second = crew.start("changing", reference=f"{reference}-second")
    second.approve()
    second.until_status("succeeded", "failed")

    assert (remote.times[f"{reference}.old"], remote.times[f"{reference}.new"]) == (1, 0)
    assert remote.times[f"{reference}-second.new"] == 1
    crew.assert_world_matches(remote, reference)


@pytest.mark.django_db(transaction=True)
def test_65_a_step_whose_tool_is_gone_fails_in_words_and_nothing_crashes(start: Start) -> None:
    run = start([{"id": "call", "kind": "tool", "tool": "no_longer_there", "retry": {"max_attempts": 2}}])
    other = start([value("fine", 1)])
    work_all()
    run.refresh_from_db()
    other.refresh_from_db()
    assert (run.status, other.status) == ("failed", "succeeded")
    assert "no_longer_there" in run.error["message"]
    assert run.error["message"].strip()
    assert check_all() == []


# --- 66, 67: timers -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_66_timers_due_in_the_same_second_all_fire_once(start: Start) -> None:
    count = int(os.environ.get("MN_TEST_TIMERS", "300"))
    with clock.frozen(now()) as time:
        runs = [
            start(
                [{"id": "wait", "kind": "timer", "duration": "60s"}, value("after", 1)], line("wait", "after")
            )
            for _ in range(count)
        ]
        work_all(limit=count * 3)
        assert Step.objects.filter(status="waiting", reason="timer").count() == count
        time.move(seconds=60)
        boots = [register_worker() for _ in range(3)]
        fired = 0
        while fired < count:
            moved = sum(upkeep.fire_due() for _ in boots)
            assert moved, "timers are due and nobody fires them"
            fired += moved
        assert (fired, upkeep.fire_due()) == (count, 0)
        work_all(limit=count * 3)
    found = Counter(Run.objects.filter(id__in=[r.id for r in runs]).values_list("status", flat=True))
    assert found == {"succeeded": count}
    assert check_all() == []


@pytest.mark.faults
def test_67_sleeping_runs_hold_no_worker_and_cost_nothing(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    """The processor time of an idle worker does not grow with the runs that sleep."""
    nodes = [{"id": "sleep", "kind": "timer", "duration": "2h"}, value("after", 1)]
    crew.driver.ask(
        "import_blueprint", text=mixed.text("sleeping", remote.url, nodes, line("sleep", "after"))
    )
    references = [f"{reference}-{i}" for i in range(200)]
    ids = crew.driver.ask("start_many", blueprint="sleeping", references=references)
    helper = crew.start_worker()
    until(
        lambda: all(
            [s[1] for s in run["steps"]] == ["waiting"]
            for run in crew.driver.ask("unfinished", prefix=reference)
        ),
        "all to sleep",
    )
    helper.stop()
    crew.processes.clear()
    worker = crew.start_worker(MN_POLL_SECONDS="1", MN_LEASE_SECONDS="20")
    crew.wait_ready(worker)
    time.sleep(1)
    before = _cpu_seconds(worker.pid)
    time.sleep(3)
    used = _cpu_seconds(worker.pid) - before
    # A worker that spins would use all three; how little it uses is measured by the sleepers, outside CI.
    assert used < 1.0, f"{used:.2f} s of processor time in 3 s of nothing to do"
    for run in ids:
        crew.driver.ask("control", run=run, action="cancel")
    assert crew.settle(remote, reference) == {"cancelled": 200}
    crew.assert_sound()


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- 68, 69: many items, many rounds ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_68_a_map_with_failing_items_settles_as_it_was_told(start: Start) -> None:
    count = int(os.environ.get("MN_TEST_ITEMS", "200"))
    nodes = [
        value("list", list(range(count))),
        {
            "id": "each", "kind": "map", "items": "{{ steps.list.output }}", "join": "all_settled",
            "max_parallel": 20, "body": body(value("divide", "{{ 100 / (item % 100) }}")),
        },
        value("count", "{{ size(steps.each.output) }}"),
    ]  # fmt: skip
    run = start(nodes, line("list", "each", "count"))
    work_all(limit=count * 4)
    run.refresh_from_db()
    assert run.status == "succeeded", run.error
    ended = Counter(Step.objects.filter(run=run, kind="item").values_list("status", flat=True))
    assert ended == {"succeeded": count - count // 100, "failed": count // 100}
    assert check_all() == []


@pytest.mark.django_db(transaction=True)
def test_68_a_map_that_needs_some_of_many_stops_when_it_has_them(start: Start) -> None:
    nodes = [
        value("list", list(range(100))),
        {
            "id": "each", "kind": "map", "items": "{{ steps.list.output }}", "join": "n_of_m", "n": 30,
            "max_parallel": 5, "body": body(value("divide", "{{ 100 / (item % 10) }}")),
        },
    ]  # fmt: skip
    run = start(nodes, line("list", "each"))
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded", run.error
    ended = Counter(Step.objects.filter(run=run, kind="item").values_list("status", flat=True))
    assert ended["succeeded"] >= 30 and sum(ended.values()) < 45
    assert check_all() == []


@pytest.mark.django_db(transaction=True)
def test_69_a_loop_of_many_rounds_needs_no_more_memory_at_the_end(start: Start) -> None:
    import tracemalloc

    rounds = int(os.environ.get("MN_TEST_ROUNDS", "150"))
    nodes = [
        {
            "id": "again", "kind": "loop", "max_rounds": rounds, "condition": f"round >= {rounds}",
            "body": body(value("count", {"n": "{{ previous == null ? 1 : previous.n + 1 }}"})),
        },
    ]  # fmt: skip
    run = start(nodes)
    boot = register_worker()
    tracemalloc.start()
    try:
        work_all(boot, limit=rounds * 4)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    run.refresh_from_db()
    assert run.status == "succeeded", run.error
    assert Step.objects.filter(run=run, kind="round").count() == rounds
    assert peak < 30_000_000
    assert check_all() == []


# --- 71, 72: one at a time, once for all -------------------------------------------------------------------


@pytest.mark.faults
def test_71_a_slot_whose_holder_was_killed_is_free_again(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    only = effect("only", "charge", concurrency={"key": "only-one", "limit": 1})
    crew.driver.ask("import_blueprint", text=mixed.text("single", remote.url, [only], []))
    remote.script("/keyed/charge", "late:5", "ok")
    holder = crew.start_worker()
    first = crew.start("single", reference=f"{reference}-first")
    until(lambda: remote.is_present(f"{reference}-first.only"), "the holder to be at work")
    crew.driver.ask("start_many", blueprint="single", references=[f"{reference}-{i}" for i in range(5)])
    holder.kill()
    crew.processes.clear()
    crew.start_worker()

    first.until_status("succeeded", "failed")
    assert crew.settle(remote, reference) == {"succeeded": 6}
    crew.assert_world_matches(remote, reference)


@pytest.mark.django_db(transaction=True)
def test_72_a_hundred_starts_with_one_key_start_one_run(workspace: Any, alice: Any, principal: Any) -> None:
    version = version_of(workspace, [value("a", 1)])
    found: list[Any] = []
    errors: list[BaseException] = []
    barrier = threading.Barrier(10)

    def ask() -> None:
        try:
            barrier.wait(20)
            for _ in range(10):
                found.append(services.start_run(principal(alice), version, {}, idempotency_key="one").id)
        except BaseException as exc:
            errors.append(exc)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert (len(found), len(set(found)), Run.objects.count()) == (100, 1, 1)
    work_all()
    assert check_all() == []


# --- 75: names from everywhere -----------------------------------------------------------------------------


@pytest.mark.faults
@pytest.mark.parametrize(
    "name", ["запуск-🚀-走れ", "‮reversed‬", "../../etc/passwd", "a'); DROP TABLE runs_run; --", "😀" * 60]
)
def test_75_any_text_goes_through_unharmed(
    crew: Forking, remote: FakeRemote, reference: str, name: str
) -> None:
    nodes = [value("echo", {"back": "{{ inputs.reference }}"}), effect("tell", "charge")]
    crew.driver.ask("import_blueprint", text=mixed.text("anything", remote.url, nodes, line("echo", "tell")))
    crew.start_worker()
    run = crew.start("anything", reference=f"{reference}{name}")
    state = run.until_status("succeeded", "failed")
    assert state["status"] == "succeeded", state["error"]
    assert state["steps"]["echo"]["output"] == {"back": f"{reference}{name}"}
    assert remote.times[f"{reference}{name}.tell"] == 1
    crew.assert_world_matches(remote, reference)


# --- the same ledger everywhere ----------------------------------------------------------------------------


@pytest.mark.faults
def test_the_same_run_leaves_the_same_ledger_on_a_laptop_and_on_four_workers(
    file: File, servers: Server, remote: FakeRemote, reference: str
) -> None:
    """Key for key: what happened to each step, in its order, with the keys of its effects' places."""
    from tests.faults.ledgers import comparable

    file.kill_all()
    seen: list[Any] = []
    for installation, workers in ((file, 1), (servers, 4)):
        for name in ("chain", "classes", "rounds", "items", "loops"):
            text = mixed.text(f"same_{name}", remote.url, **getattr(mixed, name)())
            installation.driver.ask("import_blueprint", text=text)
        for _ in range(workers):
            installation.start_worker()
        ledgers = {}
        for name in ("chain", "classes", "rounds", "items", "loops"):
            run = installation.start(f"same_{name}", reference=f"{reference}-{installation.shape}-{name}")
            state = run.until_status("succeeded", "failed")
            assert state["status"] == "succeeded", state["error"]
            ledgers[name] = comparable(state, run.id, f"{reference}-{installation.shape}")
        seen.append(ledgers)
        installation.kill_all()
        installation.assert_world_matches(remote, f"{reference}-{installation.shape}")
    for name in seen[0]:
        assert seen[0][name] == seen[1][name], name
