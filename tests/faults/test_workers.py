"""Zombies, doubled and missing doorbells, decisions and deaths while nothing runs."""

from __future__ import annotations

import signal
import time
import uuid

import pytest

from tests.fake_remote import FakeRemote
from tests.faults import plans
from tests.faults.harness import Installation, Run, Server, assert_nothing_ran_twice, until

pytestmark = [pytest.mark.faults]


@pytest.fixture
def reference() -> str:
    return f"order-{uuid.uuid4().hex[:8]}"


def test_a_zombie_worker_may_not_write_and_the_key_protects_the_world(
    server: Server, remote: FakeRemote, reference: str
) -> None:
    path = "/keyed/zombie"
    server.driver.ask(
        "import_blueprint",
        text=plans.one_effect("fault_zombie", remote.url + path, "keyed", more="    timeout: 20s\n"),
    )
    remote.script(path, "held", "ok")
    server.kill_all()
    try:
        zombie = server.start_worker(MN_LEASE_SECONDS="30")
        run = server.start("fault_zombie", reference=reference)
        until(lambda: remote.executions(path, reference=reference), "the first call")
        zombie.send(signal.SIGSTOP)
        remote.release(path)
        _expire_lease(server)
        server.start_worker()

        state = run.until_status("succeeded", "failed")
        assert state["status"] == "succeeded", state["error"]
        fence = state["steps"]["charge"]["fence"]
        zombie.send(signal.SIGCONT)
        # Its next heartbeat shows that it is awake and has had its chance to write.
        zombie.stop()

        state = run.look()
        assert state["status"] == "succeeded"
        assert state["steps"]["charge"]["fence"] == fence
        assert len(remote.executions(path, reference=reference)) == 1
        assert_nothing_ran_twice(run, remote)
    finally:
        server.kill_all()


def test_a_zombies_late_answer_is_evidence_that_ends_the_doubt(
    server: Server, remote: FakeRemote, reference: str
) -> None:
    path = "/plain/late"
    server.driver.ask(
        "import_blueprint",
        text=plans.one_effect("fault_late_evidence", remote.url + path, "opaque", more="    timeout: 20s\n"),
    )
    remote.script(path, "held", "ok")
    server.kill_all()
    try:
        zombie = server.start_worker(MN_LEASE_SECONDS="30")
        run = server.start("fault_late_evidence", reference=reference)
        until(lambda: remote.executions(path, reference=reference), "the call")
        zombie.send(signal.SIGSTOP)
        remote.release(path)
        _expire_lease(server)
        server.start_worker()
        run.until_step("charge", "in_doubt")
        zombie.send(signal.SIGCONT)

        state = run.until_status("succeeded", "failed")
        assert state["status"] == "succeeded", state["error"]
        assert len(remote.received(path, reference=reference)) == 1
        assert any(e["source"] == "worker" for e in state["effects"][0]["evidence"])
        assert_nothing_ran_twice(run, remote)
    finally:
        server.kill_all()


def _expire_lease(server: Server) -> None:
    """Let the lease of the stopped worker run out without waiting for it."""
    server.driver.ask("expire_leases")


def test_a_hundred_doorbells_are_as_good_as_one(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = "/keyed/bells"
    installation.driver.ask(
        "import_blueprint", text=plans.one_effect("fault_bells", remote.url + path, "keyed")
    )
    installation.ensure_worker()
    if installation.shape == "server":
        installation.ensure_worker()
    run = installation.start("fault_bells", reference=reference)
    installation.driver.ask("ring", times=100)

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


def test_a_dead_broker_only_slows_things_down(server: Server, remote: FakeRemote, reference: str) -> None:
    path = "/keyed/broker"
    server.driver.ask("import_blueprint", text=plans.one_effect("fault_broker", remote.url + path, "keyed"))
    try:
        process = server.ensure_worker()
        server.wait_ready(process)
        server.redis.kill()
        began = time.monotonic()
        run = server.start("fault_broker", reference=reference)

        assert run.until_status("succeeded", "failed")["status"] == "succeeded"
        assert time.monotonic() - began < 20
        assert len(remote.received(path, reference=reference)) == 1
        assert_nothing_ran_twice(run, remote)
    finally:
        server.redis.start()
        server.kill_all()


def test_a_flushed_broker_loses_nothing(server: Server, remote: FakeRemote, reference: str) -> None:
    path = "/keyed/flushed"
    server.driver.ask("import_blueprint", text=plans.one_effect("fault_flushed", remote.url + path, "keyed"))
    server.kill_all()
    try:
        run = server.start("fault_flushed", reference=reference)
        server.redis.flush()
        server.start_worker()

        assert run.until_status("succeeded", "failed")["status"] == "succeeded"
        assert len(remote.received(path, reference=reference)) == 1
        assert_nothing_ran_twice(run, remote)
    finally:
        server.kill_all()


def test_a_kill_while_a_question_is_open_keeps_the_question(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    installation.driver.ask("import_blueprint", text=plans.question_only())
    installation.ensure_worker()
    run = installation.start("fault_question", reference=reference)
    request = run.until_request("ask")

    installation.kill_all()
    installation.start_worker()

    assert run.until_request("ask") == request
    run.decide("ask", "approve")
    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert_nothing_ran_twice(run, remote)


def test_a_decision_made_while_nothing_runs_is_carried_out_later(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    installation.driver.ask("import_blueprint", text=plans.question_only())
    installation.ensure_worker()
    run = installation.start("fault_question", reference=reference)
    run.until_request("ask")
    installation.kill_all()

    run.decide("ask", "approve")
    assert run.look()["status"] != "succeeded"
    installation.start_worker()

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert_nothing_ran_twice(run, remote)


def test_a_timer_that_came_due_while_nothing_ran_fires_after_the_start(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    installation.driver.ask("import_blueprint", text=plans.timers())
    installation.ensure_worker()
    run = installation.start("fault_timer", reference=reference)
    run.until_step("pause", "waiting")
    installation.kill_all()
    installation.start_worker()

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert_nothing_ran_twice(run, remote)


def test_a_polite_stop_lets_the_call_end_and_loses_nothing(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = "/plain/polite"
    installation.driver.ask(
        "import_blueprint",
        text=plans.one_effect("fault_polite", remote.url + path, "opaque", more="    timeout: 10s\n"),
    )
    remote.script(path, "late:0.5", "ok")
    installation.ensure_worker()
    run = installation.start("fault_polite", reference=reference)
    until(lambda: remote.executions(path, reference=reference), "the call")
    installation.stop_all()

    installation.start_worker()
    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


def test_a_paused_run_stays_paused_through_a_restart(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    installation.driver.ask("import_blueprint", text=plans.question_only())
    installation.ensure_worker()
    run = installation.start("fault_question", reference=reference)
    run.until_request("ask")
    installation.driver.ask("control", run=run.id, action="pause")
    run.until_status("paused")
    installation.kill_all()
    installation.start_worker()
    run.decide("ask", "approve")
    assert run.look()["status"] == "paused"

    installation.driver.ask("control", run=run.id, action="resume")

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert_nothing_ran_twice(run, remote)


def test_many_runs_survive_random_kills(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = f"/keyed/storm/{reference}"
    installation.driver.ask(
        "import_blueprint", text=plans.one_effect("fault_storm", remote.url + path, "keyed")
    )
    installation.kill_all()
    runs: list[Run] = []
    for round_ in range(3):
        process = installation.start_worker()
        runs += [installation.start("fault_storm", reference=f"{reference}-{round_}-{i}") for i in range(10)]
        done = len(remote.executions(path))
        until(lambda done=done: len(remote.executions(path)) > done, "some work before the kill")
        process.kill()
        installation.processes.remove(process)
    installation.start_worker()

    for run in runs:
        assert run.until_status("succeeded", "failed", seconds=60)["status"] == "succeeded"
    assert len(remote.executions(path)) == len(runs)
    remote.assert_each_key_once()
    installation.assert_sound()
