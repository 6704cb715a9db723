"""Leases: renewed while a worker finishes, ended early only where a process has certainly ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from apps.ledger.models import Effect
from apps.runs import at_work, ports, services, transact, worker
from apps.runs.claims import claim_next
from apps.runs.handing_back import hand_back_all
from apps.runs.invariants import check_all
from apps.runs.lease import Lease, expire_gone
from apps.runs.models import Run, Worker
from apps.runs.ports import Done
from apps.runs.worker import WorkerProcess
from mirrorneuron.base import process as identity
from mirrorneuron.base.clock import now
from mirrorneuron.base.process import birth, is_gone, place
from mirrorneuron.config import config
from tests.processes import eventually
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sleeper() -> Any:
    """Another process of this machine."""
    started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield started
    started.kill()
    started.wait()


def row(pid: int, born: str, where: str | None = None, seconds: float = 60) -> Worker:
    return Worker.objects.create(
        boot=uuid4(), host="here", pid=pid, place=place() if where is None else where, birth=born,
        started_at=now(), lease_until=now() + timedelta(seconds=seconds),
    )  # fmt: skip


def is_live(worker: Worker) -> bool:
    worker.refresh_from_db()
    return worker.lease_until >= now()


# --- who a process is -------------------------------------------------------------------------------------


def test_a_living_process_is_not_gone_and_a_killed_one_is_even_before_it_is_collected(sleeper: Any) -> None:
    born = birth(sleeper.pid)
    assert born and not is_gone(sleeper.pid, born)
    sleeper.send_signal(signal.SIGKILL)
    eventually(lambda: is_gone(sleeper.pid, born), pause=0.01)
    sleeper.wait()
    assert is_gone(sleeper.pid, born)


def test_a_number_that_is_somebody_elses_by_now_is_gone(sleeper: Any) -> None:
    assert is_gone(sleeper.pid, "1")
    assert not is_gone(sleeper.pid, ""), "nobody can say"


def test_without_proc_the_system_is_asked(sleeper: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_PROC", Path("/nowhere"))
    born = birth(sleeper.pid)
    assert born and not is_gone(sleeper.pid, born)
    sleeper.kill()
    sleeper.wait()
    assert is_gone(sleeper.pid, born)


# --- leases of the dead -----------------------------------------------------------------------------------


def test_only_leases_of_ended_processes_of_this_place_end_early(sleeper: Any) -> None:
    alive = row(sleeper.pid, birth(sleeper.pid))
    own = row(os.getpid(), birth(os.getpid()))
    elsewhere = row(1, "1", where="another machine")
    unknown = row(sleeper.pid, "")
    reused = row(sleeper.pid, "1")
    assert expire_gone() == 1
    assert not is_live(reused)
    assert all(map(is_live, [alive, own, elsewhere, unknown]))


def test_a_worker_that_starts_again_on_its_machine_goes_on_at_once(
    sleeper: Any, workspace: Any, alice: Any, principal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config(), "poll_seconds", 0.05)
    monkeypatch.setitem(ports._handlers, "tool", lambda context: Done(1))
    node = {"id": "a", "kind": "tool", "tool": "x"}
    run = services.start_run(principal(alice), version_of(workspace, [node]), {})
    dead = row(sleeper.pid, birth(sleeper.pid), seconds=600)
    assert claim_next(dead.boot, ("default",), alone=True)
    sleeper.kill()
    sleeper.wait()
    process = WorkerProcess()
    process.start()
    try:
        eventually(lambda: Run.objects.get(id=run.id).status == "succeeded", seconds=10)
    finally:
        process.stop(5)
    assert check_all() == []


def test_a_lease_is_renewed_until_the_last_step_has_ended(
    workspace: Any, alice: Any, principal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config(), "poll_seconds", 0.05)
    monkeypatch.setattr(config(), "lease_seconds", 1)
    entered, go = threading.Event(), threading.Event()

    def slow(context: Any) -> Done:
        entered.set()
        assert go.wait(20)
        return Done(1)

    monkeypatch.setitem(ports._handlers, "tool", slow)
    node = {"id": "p", "kind": "tool", "tool": "x"}
    run = services.start_run(principal(alice), version_of(workspace, [node]), {})
    process = WorkerProcess()
    process.start()
    assert entered.wait(10)
    stopping = threading.Thread(target=process.stop, args=(20,))
    stopping.start()
    began = now()
    mine = Worker.objects.filter(boot=process.boot)
    eventually(lambda: mine.get().lease_until > began + timedelta(seconds=1.5), seconds=10)
    go.set()
    stopping.join(20)
    step = run.steps.get()
    assert (step.status, step.attempt, step.losses) == ("succeeded", 1, 0)
    assert mine.get().stopped_at is not None


# --- handing back -----------------------------------------------------------------------------------------


def test_a_hurried_stop_hands_back_what_has_not_gone_out(
    workspace: Any, alice: Any, principal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config(), "poll_seconds", 0.05)
    entered, go = threading.Event(), threading.Event()

    def slow(context: Any) -> Done:
        entered.set()
        go.wait(20)
        return Done("late")

    monkeypatch.setitem(ports._handlers, "tool", slow)
    node = {"id": "p", "kind": "tool", "tool": "x", "retry": {"max_attempts": 1}}
    run = services.start_run(principal(alice), version_of(workspace, [node]), {})
    process = WorkerProcess()
    process.start()
    assert entered.wait(10)
    process.stop(600, hurry=lambda: True)
    step = run.steps.get()
    assert (step.status, step.losses, step.failures) == ("ready", 0, 0)
    go.set()
    eventually(lambda: not process.is_busy)
    monkeypatch.setitem(ports._handlers, "tool", lambda context: Done("in time"))
    work_all()
    assert run.steps.get().output == "in time", "who was told to stop writes no more"
    assert check_all() == []


def test_a_call_on_its_way_is_not_handed_back(workspace: Any, alice: Any, principal: Any) -> None:
    node = {"id": "p", "kind": "tool", "tool": "x"}
    run = services.start_run(principal(alice), version_of(workspace, [node]), {})
    claim = claim_next(register_worker(), ("default",), alone=True)
    assert claim is not None
    effect = Effect.objects.create(
        workspace_id=workspace.id, run_id=run.id, step_path="p", key=b"k", tool="x", state="in_flight",
        effect_class="opaque", fingerprint="f", arguments={},
    )  # fmt: skip
    with at_work.at_work(claim):
        assert hand_back_all(at_work.claims()) == [claim]
        assert statuses(run) == {"p": "running"}
        Effect.objects.filter(pk=effect.pk).update(state="committed")
        assert hand_back_all(at_work.claims()) == []
        assert run.steps.get().status == "ready"
        assert hand_back_all(at_work.claims()) == [], "once is enough"
    work_all()


# --- health -----------------------------------------------------------------------------------------------


def test_a_process_that_neither_looks_nor_works_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.01)
    process = WorkerProcess()

    def leave(code: int) -> None:
        exits.append(code)
        process._stopping.set()

    monkeypatch.setattr(worker.os, "_exit", leave)
    process._alive_at -= worker.SILENT_SECONDS + config().poll_seconds + 1
    process._watch_loop()
    assert exits == [worker.EXIT_UNWELL]


@pytest.mark.skipif(not hasattr(time, "pthread_getcpuclockid"), reason="the system does not tell")
@pytest.mark.parametrize(("computes", "ends"), [(True, False), (False, True)])
def test_a_process_whose_poll_thread_computes_for_long_does_not_hang(
    monkeypatch: pytest.MonkeyPatch, computes: bool, ends: bool
) -> None:
    """A run's outputs of 160 heavy expressions behind a timer took 25 s, over and over."""
    exits: list[int] = []
    is_over, process = threading.Event(), WorkerProcess()

    def polls(*_: object) -> bool:
        while computes and not is_over.is_set():
            sum(range(1000))
        is_over.wait(20)
        return False

    def leave(code: int) -> None:
        exits.append(code)
        is_over.set()

    monkeypatch.setattr(worker, "anything_due", polls)
    monkeypatch.setattr(worker, "upkeep", polls)
    monkeypatch.setattr(worker, "TICK_SECONDS", 0.05)
    monkeypatch.setattr(worker, "SILENT_SECONDS", 0.5)
    monkeypatch.setattr(config(), "poll_seconds", 0.0)
    monkeypatch.setattr(worker.os, "_exit", leave)
    monkeypatch.setattr(process, "_exit_if_stuck", lambda: None)
    monkeypatch.setattr(worker, "expire_gone", lambda: 0)
    threads = [threading.Thread(target=loop) for loop in (process._poll_loop, process._watch_loop)]
    for thread in threads:
        thread.start()
    is_over.wait(20 if ends else 1.5)
    process._stopping.set()
    is_over.set()
    for thread in threads:
        thread.join(20)
    assert bool(exits) is ends


def test_a_process_that_was_suspended_is_given_its_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    exits: list[int] = []
    monkeypatch.setattr(worker.os, "_exit", exits.append)
    process = WorkerProcess()
    process._alive_at -= 1000
    ticks = iter([False, True])
    monkeypatch.setattr(process._stopping, "wait", lambda seconds: next(ticks))
    times = iter([0.0, 3600.0, 3600.0, 3600.0, 3600.0, 3600.0])
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(times, 3600.0))
    process._watch_loop()
    assert exits == []


def test_a_lease_says_what_its_process_is(db: None) -> None:
    boot = uuid4()
    lease = Lease(boot, seconds=20, queues=["a", "b"], slots=3, embedded=False)
    lease.take(sole=False)
    found = Worker.objects.get(boot=boot)
    assert (found.queues, found.slots, found.place) == (["a", "b"], 3, place())
    assert found.version and not is_gone(found.pid, found.birth)
    lease.give_up()
    assert Worker.objects.get(boot=boot).stopped_at is not None


def test_a_run_that_cannot_be_read_keeps_no_other_step_from_being_handed_back(
    workspace: Any, alice: Any, principal: Any, monkeypatch: Any
) -> None:
    """Else a process that stops leaves them to its lease, and one that hangs does not end itself."""
    version = version_of(workspace, [recorded("a")])
    bad, good = (services.start_run(principal(alice), version, {}) for _ in range(2))
    boot = register_worker()
    claims = [claim_next(boot, ("default",), alone=True) for _ in range(2)]
    read = transact.state_of

    def state_of(run: Any, *args: Any) -> Any:
        if run.id == bad.id:
            raise RuntimeError("its rows make no sense")
        return read(run, *args)

    with monkeypatch.context() as patch:
        patch.setattr(transact, "state_of", state_of)
        left = hand_back_all(claim for claim in claims if claim)
    assert [claim.run.id for claim in left] == [bad.id]
    assert statuses(good) == {"a": "ready"} and statuses(bad) == {"a": "running"}
