"""Scenarios 13 and 44 to 51: tools that answer oddly, lie, or fail for long. Most need no process to die."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from apps.ledger.models import Effect, Evidence
from apps.runs import ports, services, upkeep
from apps.runs.claims import claim_next
from apps.runs.errors import StepError
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Worker
from apps.runs.ports import Answer, Done, EffectCall
from mirrorneuron.base.clock import clock, now
from tests.fake_remote import FakeRemote
from tests.faults import mixed
from tests.faults.harness import Forking, assert_nothing_ran_twice
from tests.faults.mixed import effect, line, value
from tests.runs.engine import register_worker, statuses, version_of, work_all

Start = Callable[..., Run]


@pytest.fixture
def start(workspace: Any, alice: Any, principal: Any) -> Start:
    def start(nodes: list, edges: list = (), inputs: dict | None = None, **document: Any) -> Run:  # type: ignore
        version = version_of(workspace, nodes, edges, **document)
        return services.start_run(principal(alice), version, inputs or {})

    return start


class World:
    """A tool in this process: what it was sent, and what it does with it."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.does: Callable[[str], Any] = lambda key: {"ok": True}
        self.knows: Callable[[str], Answer] | None = None
        self.arguments: Callable[[], dict] = dict
        self.kind = "opaque"
        self.timeout = 1.0
        self._lock = threading.Lock()

    def handler(self, context: Any) -> Done:
        def execute(key: str) -> Any:
            with self._lock:
                self.sent.append(key)
            return self.does(key)

        call = EffectCall(
            tool="pay", effect_class=self.kind, arguments=self.arguments(), timeout_seconds=self.timeout,
            execute=execute, probe=self.knows,
        )  # fmt: skip
        return Done(context.effect(call))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setitem(ports._handlers, "tool", world.handler)
    return world


PAY = {"id": "pay", "kind": "tool", "tool": "pay"}


# --- 13: reaper and sender, interleaved at every statement --------------------------------------------------


class Interleaving:
    """Lets another party act between two statements of this connection."""

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.at, self.act, self.seen, self.acted = at, act, 0, False

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.seen += 1
        if self.seen == self.at:
            self.acted = True
            other = threading.Thread(target=self._aside)
            other.start()
            # It may have to wait for a lock that this connection holds: then it acts after the commit.
            other.join(0.5)
            self.other = other
        return execute(sql, params, many, context)

    def _aside(self) -> None:
        try:
            self.act()
        finally:
            connections.close_all()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", range(1, 25))
def test_13_a_reaper_between_any_two_statements_of_a_sender_repeats_nothing(
    start: Start, world: World, statement: int
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer; these two meet on PostgreSQL")
    run = start([PAY])
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    assert claim is not None

    def reap() -> None:
        Worker.objects.filter(boot=boot).update(lease_until=now() - timedelta(seconds=1))
        upkeep.reap(register_worker())

    between = Interleaving(statement, reap)
    with connection.execute_wrapper(between):
        work(claim, boot, ("default",), chain=False)
    if between.acted:
        between.other.join(20)
    upkeep.reap(register_worker())

    left = Effect.objects.filter(run_id=run.id).first()
    if statuses(run)["pay"] == "in_doubt":
        assert len(world.sent) == 1 and left is not None
    work_all()
    if statuses(run)["pay"] != "in_doubt":
        assert statuses(run)["pay"] == "succeeded"
    assert len(world.sent) == 1, "sent twice, or never"
    assert check_all() == []


@pytest.mark.django_db(transaction=True)
def test_13_a_sender_that_slept_beyond_its_calls_deadline_sends_nothing(
    start: Start, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others hold a call for absent once its deadline has passed; so nothing may leave after it."""
    from apps.runs import effects

    run = start([PAY])
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    assert claim is not None
    with clock.frozen(now()) as time:
        monkeypatch.setattr(
            effects.crash, "reach", lambda point: point == "after_in_flight" and time.move(seconds=5)
        )
        work(claim, boot, ("default",), chain=False)
        assert world.sent == []
        assert statuses(run)["pay"] == "waiting"
        monkeypatch.undo()
    assert Effect.objects.get().state == "failed", "it is certain that nothing happened"
    assert check_all() == []


# --- 44: no retry below ours --------------------------------------------------------------------------------


@pytest.mark.faults
def test_44_a_library_below_us_repeats_nothing(crew: Forking, remote: FakeRemote, reference: str) -> None:
    nodes = [effect("tell", "note")]
    crew.driver.ask("import_blueprint", text=mixed.text("once", remote.url, nodes, []))
    remote.script("/plain/note", "status:503")
    crew.start_worker()
    run = crew.start("once", reference=reference)
    state = run.until_step("tell", "in_doubt")
    assert len(remote.received("/plain/note", reference=f"{reference}.tell")) == 1
    crew.driver.ask("resolve", effect=state["effects"][0]["id"], outcome="abandon", reason="it was refused")
    run.until_status("failed")
    assert_nothing_ran_twice(run, remote)


# --- 45: same key, other arguments --------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_45_a_call_that_would_go_out_again_with_other_arguments_is_refused(
    start: Start, world: World
) -> None:
    amounts = iter([1, 2, 2])
    world.kind = "keyed"
    world.arguments = lambda: {"amount": next(amounts)}

    def break_off(key: str) -> Any:
        raise ConnectionResetError("after it was sent")

    world.does = break_off
    run = start([PAY])
    work_all()
    # The key was sent with amount 1; a model that was asked again now says 2.
    assert len(world.sent) == 1
    assert statuses(run)["pay"] == "in_doubt"
    assert Effect.objects.get().arguments == {"amount": 1}
    assert check_all() == []


# --- 47: a probe that says no, then yes ---------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_47_a_probe_that_says_absent_too_early_causes_no_second_send(start: Start, world: World) -> None:
    world.kind = "probe"
    answers = iter([Answer("absent"), Answer("present", result={"id": "r1"})])
    world.knows = lambda key: next(answers)

    def vanish(key: str) -> Any:
        raise ConnectionResetError("the answer was lost")

    world.does = vanish
    with clock.frozen(now()) as time:
        run = start([PAY])
        work_all()
        for _ in range(4):
            time.move(seconds=7)
            Worker.objects.update(lease_until=now() + timedelta(seconds=60))
            work_all()
    assert statuses(run) == {"pay": "succeeded"}
    assert len(world.sent) == 1
    assert [e.body["state"] for e in Evidence.objects.filter(source="probe").order_by("id")] == [
        "absent",
        "present",
    ]
    assert check_all() == []


# --- 48: results no database likes --------------------------------------------------------------------------


def _deep(levels: int) -> Any:
    found: Any = 1
    for _ in range(levels):
        found = [found]
    return found


ODD: dict[str, Callable[[], Any]] = {
    "NUL": lambda: {"text": "a\x00b"},
    "lone surrogate": lambda: {"text": "\ud800"},
    "NaN": lambda: {"number": float("nan"), "more": float("inf")},
    "fifty megabytes": lambda: {"text": "x" * 50_000_000},
    "invalid UTF-8": lambda: {"bytes": b"\xff\xfe"},
    "very deep": lambda: _deep(100_000),
    "a set": lambda: {"of": {1, 2}},
    "a huge integer": lambda: {"number": 10**400},
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("odd", ODD)
def test_48_whatever_a_tool_answers_the_call_counts_as_made(start: Start, world: World, odd: str) -> None:
    world.does = lambda key: ODD[odd]()
    world.timeout = 30.0
    run = start([PAY, value("after", 1)], line("pay", "after"))
    work_all()
    run.refresh_from_db()
    assert run.status in ("succeeded", "failed"), statuses(run)
    assert len(world.sent) == 1, "never a reason to call again"
    (kept,) = Effect.objects.filter(run_id=run.id)
    assert kept.state == "committed"
    json.dumps(kept.result)[:10]
    assert check_all() == []


# --- 49: a model that answers nonsense ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_49_nonsense_is_mended_a_few_times_and_then_leaves_by_the_failed_edge(start: Start) -> None:
    from apps.agents.providers import scripted

    scripted.register("mad", [{"raw": "{broken"}] * 20, repeat=True)
    try:
        nodes = [
            {"id": "think", "kind": "agent", "agent": "mad", "prompt": "Say yes.",
             "retry": {"max_attempts": 1},
             "output": {"type": "object", "required": ["yes"], "properties": {"yes": {"type": "boolean"}}}},
            value("otherwise", {"asked": "a person"}),
        ]  # fmt: skip
        run = start(
            nodes, [{"from": "think.failed", "to": "otherwise"}],
            models={"mad": {"use": "scripted:mad"}},
            agents={"mad": {"model": "mad", "instructions": "Be brief.", "tools": []}},
        )  # fmt: skip
        work_all()
        run.refresh_from_db()
        assert (run.status, statuses(run)["otherwise"]) == ("succeeded", "succeeded")
        assert 1 < len(scripted.requests("mad")) <= 5
    finally:
        scripted.clear()
    assert check_all() == []


# --- 50: a tool that is down for long -----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_50_a_tool_that_is_down_is_tried_within_the_budget_and_then_drains(
    start: Start, world: World
) -> None:
    def down(key: str) -> Any:
        raise StepError("503, nothing was done", code="tool_down")

    world.does = down
    tries = {"max_attempts": 4, "base": 60, "factor": 2, "max": 600}
    with clock.frozen(now()) as time:
        runs = [start([PAY | {"retry": tries}]) for _ in range(30)]
        for _ in range(2):
            work_all()
            time.move(seconds=200)
        sent_while_down = len(world.sent)
        assert sent_while_down <= len(runs) * 3
        world.does = lambda key: {"ok": True}
        for _ in range(12):
            time.move(seconds=600)
            work_all()
    found = Counter(Run.objects.filter(id__in=[r.id for r in runs]).values_list("status", flat=True))
    assert found == {"succeeded": 30}
    assert len(world.sent) == sent_while_down + 30
    assert check_all() == []
