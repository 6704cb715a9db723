"""Scenarios 28 to 37: databases that crash, fail over, refuse, fill up or tell another time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.fake_remote import FakeRemote, closed_port
from tests.faults import mixed
from tests.faults.cluster import Cluster
from tests.faults.harness import File, Forking, Redis, Server, assert_nothing_ran_twice, until
from tests.faults.mixed import effect, line, value
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.faults]


@pytest.fixture(scope="module")
def own(
    tmp_path_factory: pytest.TempPathFactory, own_postgres: Cluster, redis_server: Redis
) -> Iterator[Server]:
    """An installation on a PostgreSQL server that may be crashed, behind a proxy that can be re-aimed."""
    own_postgres.sql("CREATE DATABASE own")
    with Proxy("127.0.0.1", own_postgres.port) as proxy:
        installation = Server(
            tmp_path_factory.mktemp("own"), own_postgres.url("own", proxy.port), redis_server
        )
        installation.proxy = proxy  # type: ignore[attr-defined]
        yield installation
        installation.close()


@pytest.fixture
def own_server(own: Server) -> Iterator[Server]:
    own.kill_all()
    yield own
    own.kill_all()


def import_all(crew: Forking, remote: FakeRemote) -> None:
    crew.driver.ask("import_blueprint", text=mixed.text("classes", remote.url, **mixed.classes()))
    crew.driver.ask("import_blueprint", text=mixed.text("timers", remote.url, **mixed.timers()))


def start(crew: Forking, blueprint: str, reference: str, count: int) -> None:
    references = [f"{reference}-{blueprint}-{i}" for i in range(count)]
    crew.driver.ask("start_many", blueprint=blueprint, references=references)


def test_28_a_database_that_crashes_again_and_again_loses_nothing(
    own_server: Server, own_postgres: Cluster, remote: FakeRemote, reference: str
) -> None:
    import_all(own_server, remote)
    for _ in range(3):
        own_server.start_worker()
    crashes = int(os.environ.get("MN_TEST_CRASHES", "3"))
    for i in range(crashes):
        start(own_server, "classes", f"{reference}-{i}", 6)
        before = len(remote.times)
        until(lambda before=before: len(remote.times) >= before + 4, "some effects before the crash")
        own_postgres.restart("immediate")

    assert own_server.settle(remote, reference, seconds=90) == {"succeeded": 6 * crashes}
    own_server.assert_world_matches(remote, reference)


def test_29_a_failover_to_a_synchronous_standby_keeps_every_effect(
    redis_server: Redis, remote: FakeRemote, reference: str, tmp_path: Path, own_postgres: Cluster
) -> None:
    primary = Cluster.create()
    standby: Cluster | None = None
    installation: Server | None = None
    try:
        standby = primary.standby("second")
        primary.sql("ALTER SYSTEM SET synchronous_standby_names TO 'second'")
        primary.sql("SELECT pg_reload_conf()")
        until(
            lambda: primary.sql("SELECT sync_state FROM pg_stat_replication") == [("sync",)],
            "the standby to be synchronous",
        )
        with Proxy("127.0.0.1", primary.port) as proxy:
            installation = Server(tmp_path / "failover", primary.url(port=proxy.port), redis_server)
            import_all(installation, remote)
            for _ in range(2):
                installation.start_worker()
            start(installation, "classes", reference, 12)
            until(lambda: sum(r.startswith(reference) for r in remote.times) >= 5, "some effects")
            primary.stop("immediate")
            standby.promote()
            proxy.target = ("127.0.0.1", standby.port)
            proxy.reset_all()

            # Nobody confirms for the new primary; it must not wait for one.
            assert installation.settle(remote, reference, seconds=90) == {"succeeded": 12}
            installation.assert_world_matches(remote, reference)
    finally:
        if installation is not None:
            installation.close()
        for cluster in (primary, standby):
            if cluster is not None:
                cluster.remove()


@pytest.mark.parametrize("seed", [1, 2])
def test_30_statements_that_fail_as_after_a_deadlock_are_repeated(
    crew: Forking, remote: FakeRemote, reference: str, seed: int
) -> None:
    import_all(crew, remote)
    start(crew, "classes", reference, 8)
    start(crew, "timers", reference, 4)
    for _ in range(1 if crew.shape == "file" else 2):
        crew.start_worker(MN_TEST_DB_ERRORS=f"0.03:{seed}")

    assert crew.settle(remote, reference, seconds=90) == {"succeeded": 12}
    crew.assert_world_matches(remote, reference)


def test_31_a_server_without_free_connections_is_waited_for(
    own_server: Server, own_postgres: Cluster, remote: FakeRemote, reference: str
) -> None:
    import_all(own_server, remote)
    start(own_server, "classes", reference, 3)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            try:
                hog = psycopg.connect(own_postgres.url("own", own_server.proxy.port))  # type: ignore[attr-defined]
            except psycopg.OperationalError:
                break
            stack.enter_context(contextlib.closing(hog))
        worker = own_server.start_worker()
        refused = ("free connection", "too many")
        until(
            lambda: any(words in worker.tail() for words in refused) or not worker.is_running,
            "the worker to be refused",
        )
    if not worker.is_running:
        # A service manager starts it again, as it would a worker that comes before its database.
        own_server.processes.remove(worker)
        own_server.start_worker()
    assert own_server.settle(remote, reference) == {"succeeded": 3}
    own_server.assert_world_matches(remote, reference)


def test_32_an_old_open_transaction_does_not_make_claims_slow(
    own_server: Server, own_postgres: Cluster, remote: FakeRemote, reference: str
) -> None:
    """While a snapshot is held nothing can be vacuumed; what matters is what a claim has to look at then."""
    import_all(own_server, remote)
    nodes = [value(f"n{i}", i) for i in range(10)]
    ids = [node["id"] for node in nodes]
    own_server.driver.ask("import_blueprint", text=mixed.text("ten", remote.url, nodes, line(*ids)))
    for _ in range(2):
        own_server.start_worker()

    def seconds_for(prefix: str) -> float:
        began = time.monotonic()
        start(own_server, "ten", prefix, 30)
        assert own_server.settle(remote, prefix) == {"succeeded": 30}
        return time.monotonic() - began

    seconds_for(f"{reference}-warm")
    before = seconds_for(f"{reference}-a")
    with psycopg.connect(own_postgres.url("own", own_server.proxy.port)) as idle:  # type: ignore[attr-defined]
        idle.execute("SELECT count(*) FROM runs_step")
        for i in range(4):
            seconds_for(f"{reference}-b{i}")
        after = seconds_for(f"{reference}-c")
    assert after < 5 * before + 1, f"{before:.2f} s before, {after:.2f} s behind an old transaction"
    own_server.assert_sound()


def test_33_a_full_disk_stops_the_work_and_what_was_done_stays_done(
    file: File, remote: FakeRemote, reference: str
) -> None:
    file.kill_all()
    import_all(file, remote)
    start(file, "classes", reference, 10)
    worker = file.start_worker(MN_TEST_FULL="6")
    try:
        until(lambda: "full" in worker.log.read_text() or not worker.is_running, "the disk to be full")
    finally:
        file.kill_all()
    file.assert_sound()
    file.driver.ask("expire_leases")
    file.start_worker()

    assert file.settle(remote, reference, seconds=90) == {"succeeded": 10}
    file.assert_world_matches(remote, reference)
    file.kill_all()


def test_34_workers_whose_clocks_are_wrong_agree_with_the_database(
    servers: Server, remote: FakeRemote, reference: str
) -> None:
    import_all(servers, remote)
    workers = [servers.start_worker(skew_seconds=skew) for skew in (600.0, -600.0)]
    for worker in workers:
        servers.wait_ready(worker)
    start(servers, "timers", reference, 10)
    start(servers, "classes", reference, 5)

    assert servers.settle(remote, reference) == {"succeeded": 15}
    assert all(a["losses"] == 0 for a in servers.driver.ask("attempts", prefix=reference))
    for waited in servers.driver.ask("timer_waits", prefix=reference):
        assert -0.2 <= waited["late"] < 10, f"a timer fired {waited['late']:.1f} s after its time"
    servers.assert_world_matches(remote, reference)


def test_34_a_database_whose_clock_is_put_back_an_hour_loses_nothing(
    own_server: Server, own_postgres: Cluster, remote: FakeRemote, reference: str
) -> None:
    """clock_timestamp() is put before PostgreSQL's own, so that the server seems to tell another time."""
    own_postgres.sql(
        """
        CREATE SCHEMA IF NOT EXISTS skewed;
        CREATE TABLE IF NOT EXISTS skewed.by (seconds float);
        DELETE FROM skewed.by; INSERT INTO skewed.by VALUES (0);
        CREATE OR REPLACE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
          'SELECT pg_catalog.clock_timestamp() + (SELECT seconds FROM skewed.by) * interval ''1 second''';
        ALTER DATABASE own SET search_path = skewed, pg_catalog, public;
        """,
        "own",
    )
    own_server.proxy.reset_all()  # type: ignore[attr-defined]
    try:
        import_all(own_server, remote)
        own_postgres.sql("UPDATE skewed.by SET seconds = 3600", "own")
        for _ in range(2):
            own_server.start_worker()
        start(own_server, "classes", reference, 6)
        until(lambda: any(r.startswith(reference) for r in remote.times), "an effect")
        own_postgres.sql("UPDATE skewed.by SET seconds = 0", "own")
        start(own_server, "classes", f"{reference}-after", 6)
        # What was to be looked into at a time that is an hour away again, a person may look into now.
        own_server.driver.ask("bring_forward", seconds=3600)
        assert own_server.settle(remote, reference, seconds=90) == {"succeeded": 12}
        own_server.assert_world_matches(remote, reference)
    finally:
        own_postgres.sql("ALTER DATABASE own RESET search_path", "own")
        own_server.proxy.reset_all()  # type: ignore[attr-defined]


def test_35_a_worker_that_cannot_see_the_database_starts_no_effect(
    servers: Server, remote: FakeRemote, reference: str
) -> None:
    nodes = [effect("slow", "charge"), effect("next", "note"), effect("last", "book")]
    text = mixed.text("apart", remote.url, nodes, line("slow", "next", "last"))
    servers.driver.ask("import_blueprint", text=text)
    remote.script("/keyed/charge", "held", "ok")
    with Proxy(*servers.database_address) as proxy:
        apart = servers.start_worker(database=("127.0.0.1", proxy.port))
        servers.wait_ready(apart)
        run = servers.start("apart", reference=reference)
        until(lambda: remote.is_present(f"{reference}.slow"), "the first effect to be under way")
        proxy.freeze()
        remote.release("/keyed/charge")
        servers.start_worker()
        state = run.until_status("succeeded", "failed")
        assert state["status"] == "succeeded", state["error"]
        received = len(remote.lines)
        proxy.thaw()
        # It is back: it finds its step taken, writes nothing, and sends nothing.
        apart.stop()
        assert len(remote.lines) == received
        after = run.look()
        assert (after["seq"], after["steps"]) == (state["seq"], state["steps"])
        assert_nothing_ran_twice(run, remote)
    servers.assert_world_matches(remote, reference)


def test_36_a_tool_out_of_reach_is_definite_when_refused_and_in_doubt_when_silent(
    crew: Forking, remote: FakeRemote, reference: str
) -> None:
    nodes = [effect("tell", "note", retry={"max_attempts": 3, "base": 0.1})]
    refused = mixed.text("refused", f"http://127.0.0.1:{closed_port()}", nodes, [])
    with Proxy("127.0.0.1", int(remote.url.rpartition(":")[2])) as silent:
        silent.freeze()
        mute = mixed.text("mute", f"http://127.0.0.1:{silent.port}", nodes, [])
        for text in (refused, mute):
            crew.driver.ask("import_blueprint", text=text)
        crew.start_worker()
        runs = {name: crew.start(name, reference=f"{reference}-{name}") for name in ("refused", "mute")}

        state = runs["refused"].until_status("failed", "succeeded")
        assert [e["state"] for e in state["effects"]] == ["failed"] * 3, "each try is a key of its own"
        assert state["steps"]["tell"]["failures"] == 3
        state = runs["mute"].until_step("tell", "in_doubt")
        assert (len(state["effects"]), state["needs_attention"]) == (1, True)
        crew.driver.ask("resolve", effect=state["effects"][0]["id"], outcome="abandon", reason="out of reach")
        assert runs["mute"].until_status("failed", "succeeded")["status"] == "failed"
    crew.assert_sound()


def test_37_many_workers_that_reap_and_fire_at_once_move_everything_once(
    servers: Server, remote: FakeRemote, reference: str
) -> None:
    import_all(servers, remote)
    doomed = servers.start_worker(slots=8)
    start(servers, "classes", reference, 10)
    start(servers, "timers", reference, 10)
    until(lambda: sum(r.startswith(reference) for r in remote.times) >= 3, "work to be under way")
    doomed.send(signal.SIGSTOP)
    time.sleep(1.0)  # The timers come due meanwhile.
    doomed.kill()
    servers.driver.ask("expire_leases")
    for _ in range(6):
        servers.start_worker(slots=2, MN_POLL_SECONDS="0.02")

    assert servers.settle(remote, reference, seconds=90) == {"succeeded": 20}
    fired = servers.driver.ask("count_entries", kind="timer.fired", prefix=f"{reference}-timers")
    assert fired == [2] * 10
    servers.assert_world_matches(remote, reference)
