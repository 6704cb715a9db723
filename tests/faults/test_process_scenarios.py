"""Scenarios 1 to 19: processes that die, sleep, come back or are replaced. Numbers as in SCENARIOS.md."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.fake_remote import FakeRemote
from tests.faults import mixed
from tests.faults.harness import MN, File, Forking, Process, Run, Server, assert_nothing_ran_twice, until
from tests.faults.mixed import effect, line, value
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.faults]


def import_(crew: Forking, name: str, remote: FakeRemote, nodes: list, edges: list, **more: object) -> str:
    crew.driver.ask("import_blueprint", text=mixed.text(name, remote.url, nodes, edges, **more))
    return name


@pytest.fixture
def short(crew: Forking, remote: FakeRemote) -> str:
    """A value, an effect, a value."""
    nodes = [value("begin", 1), effect("pay", "charge"), value("finish", {"done": True})]
    return import_(crew, "short", remote, nodes, line("begin", "pay", "finish"))


def crash(crew: Forking, point: str, blueprint: str, reference: str) -> Run:
    """Start a run whose only worker dies at a named point."""
    worker = crew.start_worker(point)
    run = crew.start(blueprint, reference=reference)
    assert worker.wait_exit() == 137, worker.tail()
    crew.processes.remove(worker)
    return run


def test_01_a_death_before_the_claim_leaves_the_step_as_it_was(
    crew: Forking, remote: FakeRemote, reference: str, short: str
) -> None:
    run = crash(crew, "before_claim", short, reference)
    begin = run.look()["steps"]["begin"]
    assert (begin["status"], begin["attempt"], begin["fence"], begin["losses"]) == ("ready", 0, 0, 0)

    crew.start_worker()
    run.until_status("succeeded", "failed")
    assert run.look()["steps"]["begin"]["attempt"] == 1
    assert_nothing_ran_twice(run, remote)


def test_02_a_claimed_step_is_claimed_again_soon_after_its_workers_lease(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    # A step whose result is recorded: the claim of a pure one is never written, so nothing of it is lost.
    nodes = [effect("pay", "charge"), value("finish", {"done": True})]
    run = crash(crew, "after_claim", import_(crew, "paid", remote, nodes, line("pay", "finish")), reference)
    died = time.monotonic()
    crew.start_worker()

    state = run.until_status("succeeded", "failed")
    lease = float(crew.env["MN_LEASE_SECONDS"])
    assert time.monotonic() - died < lease + 5
    assert state["steps"]["pay"]["fence"] >= 2
    assert state["steps"]["pay"]["losses"] == 1
    assert_nothing_ran_twice(run, remote)


@pytest.mark.parametrize("nth", range(1, 7))
def test_11_a_commit_whose_answer_is_lost_happened_once_or_not_at_all(
    servers: Server, remote: FakeRemote, reference: str, nth: int
) -> None:
    nodes = [value("begin", 1), effect("pay", "charge"), effect("tell", "note"), value("finish", 1)]
    import_(servers, "answers", remote, nodes, line("begin", "pay", "tell", "finish"))
    with Proxy(*servers.database_address) as proxy:
        worker = servers.start_worker(slots=1, database=("127.0.0.1", proxy.port))
        servers.wait_ready(worker)
        # Each decision of the engine raises the run's seq; that is what is answered by silence here.
        proxy.lose_answer(b"runs_run", nth=nth)
        run = servers.start("answers", reference=reference)

        statuses = servers.settle(remote, reference)
        assert statuses == {"succeeded": 1}, servers.driver.ask("errors", prefix=reference)
        assert proxy.answers_lost == 1
    servers.assert_world_matches(remote, reference)
    assert_nothing_ran_twice(run, remote)


def test_14_a_rolling_restart_loses_no_attempt(
    crew: Forking, remote: FakeRemote, reference: str, short: str
) -> None:
    count = 1 if crew.shape == "file" else 3
    for _ in range(count):
        crew.start_worker()
    crew.driver.ask("start_many", blueprint=short, references=[f"{reference}-{i}" for i in range(40)])
    for worker in list(crew.processes):
        assert worker.stop() == 0, worker.tail()
        crew.processes.remove(worker)
        crew.start_worker()

    assert crew.settle(remote, reference) == {"succeeded": 40}
    for run in crew.driver.ask("attempts", prefix=reference):
        assert run["losses"] == 0 and run["failures"] == 0, run
    crew.assert_world_matches(remote, reference)


def test_15_a_killed_pool_process_is_replaced_and_its_step_goes_on(
    servers: Server, remote: FakeRemote, reference: str
) -> None:
    """As the kernel does for lack of memory: one process of a prefork pool is gone all at once."""
    import_(servers, "pooled", remote, [effect("slow", "charge"), value("after", 1)], line("slow", "after"))
    remote.script("/keyed/charge", "late:20", "ok")
    pool = Process(
        [*MN, "worker", "--pool", "prefork", "-c", "2"], servers.env, servers.folder / f"pool-{reference}.log"
    )
    try:
        run = servers.start("pooled", reference=reference)
        until(lambda: remote.is_present(f"{reference}.slow"), f"the call to be made\n{pool.tail()}")
        boot = run.look()["steps"]["slow"]["worker"]
        (victim,) = [w["pid"] for w in servers.driver.ask("workers") if w["boot"] == boot]
        os.kill(victim, signal.SIGKILL)

        state = run.until_status("succeeded", "failed")
        assert state["status"] == "succeeded", state["error"]
        assert state["steps"]["slow"]["failures"] == 0
        assert pool.is_running, pool.tail()
        until(
            lambda: sum(w["alive"] for w in servers.driver.ask("workers")) >= 2, "a new process in its place"
        )
    finally:
        pool.stop()
    servers.assert_world_matches(remote, reference)


def test_16_a_step_that_kills_every_worker_is_poison_and_others_go_on(
    crew: Forking, remote: FakeRemote, reference: str, short: str
) -> None:
    crew.driver.ask("import_blueprint", text=mixed.text("deadly", remote.url, **mixed.full()))
    deadly = crew.start("deadly", reference=f"{reference}-deadly")
    for death in range(4):
        worker = crew.start_worker(MN_TEST_DEADLY="agent", MN_LEASE_SECONDS="2")
        assert worker.wait_exit() == 128 + signal.SIGSEGV, worker.tail()
        crew.processes.remove(worker)
        crew.driver.ask("expire_leases")
        crew.driver.ask("start_many", blueprint=short, references=[f"{reference}-{death}"])
    crew.start_worker(MN_TEST_DEADLY="agent")

    assert deadly.until_status("failed", "succeeded")["error"]["code"] == "poison"
    assert crew.settle(remote, reference) == {"failed": 1, "succeeded": 4}
    crew.assert_world_matches(remote, reference)


def test_18_everything_dies_at_once_and_goes_on_where_it_was(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    import_(crew, "all_die", remote, **mixed.timers())
    for _ in range(1 if crew.shape == "file" else 3):
        crew.start_worker()
    crew.driver.ask("start_many", blueprint="all_die", references=[f"{reference}-{i}" for i in range(12)])
    until(lambda: len(crew.driver.ask("unfinished", prefix=reference)) < 12 or _waits(crew), "timers to run")
    crew.kill_all()
    time.sleep(1.2)  # The timers' time passes while nobody is there to see it.
    crew.start_worker()

    assert crew.settle(remote, reference) == {"succeeded": 12}
    for count in crew.driver.ask("count_entries", kind="timer.fired", prefix=reference):
        assert count == 2, "each of a run's two timers fires once"
    crew.assert_world_matches(remote, reference)


def _waits(crew: Forking) -> bool:
    return any(s[2] == "timer" for run in crew.driver.ask("unfinished") for s in run["steps"])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_19_a_power_cut_repeats_no_effect(
    file: File, remote: FakeRemote, reference: str, tmp_path: Path, seed: int
) -> None:
    """The files as they are at one moment, with a torn write at the end of the log, are all that is left."""
    import_(file, "power", remote, **mixed.classes())
    rng = random.Random(seed)
    worker = file.start_worker()
    file.wait_ready(worker)
    file.driver.ask("start_many", blueprint="power", references=[f"{reference}-{i}" for i in range(10)])
    wanted = rng.randint(1, 20)
    until(lambda: sum(r.startswith(reference) for r in remote.times) >= wanted, "some effects")
    worker.send(signal.SIGSTOP)
    data = tmp_path / "after" / "data"
    shutil.copytree(file.data, data, ignore=shutil.ignore_patterns("*-shm", "*.lock", "lock"))
    log = data / "mirrorneuron.sqlite3-wal"
    with log.open("ab") as torn:
        torn.write(rng.randbytes(rng.randint(1, 5000)))
    file.kill_all()

    after = File(tmp_path / "after")
    try:
        after.start_worker()
        assert after.settle(remote, reference, seconds=90) == {"succeeded": 10}
        after.assert_world_matches(remote, reference)
    finally:
        after.close()
        file.driver.ask("forget_runs", prefix=reference)
