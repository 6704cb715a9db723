"""What the doctor says of servers, and why a run does not move."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.models import Run, Step, Worker
from apps.runs.ports import Done
from apps.runs.selectors import explain
from mirrorneuron import doctor, servers
from mirrorneuron.base.clock import now
from mirrorneuron.config import config
from tests.runs.engine import register_worker, version_of

pytestmark = pytest.mark.django_db(transaction=True)
TOOL = {"id": "p", "kind": "tool", "tool": "x"}


@pytest.fixture
def start(workspace: Any, alice: Any, principal: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(ports._handlers, "tool", lambda context: Done(1))

    def start(**more: Any) -> Run:
        return services.start_run(principal(alice), version_of(workspace, [{**TOOL, **more}]), {})

    return start


def worker(**fields: Any) -> Worker:
    return Worker.objects.create(
        boot=uuid4(), host="box", pid=7, started_at=now(),
        **{"lease_until": now() + timedelta(seconds=60), "queues": ["default"], **fields},
    )  # fmt: skip


def why(run: Run) -> str:
    run.refresh_from_db()
    return str(explain(run)["why"])


# --- why a run does not move ------------------------------------------------------------------------------


def test_a_queue_nobody_listens_on_is_named(start: Any) -> None:
    run = start(queue="gpu")
    assert why(run) == "p is ready, but no worker is running."
    worker()
    assert why(run) == 'p is ready, but no worker listens on its queue "gpu".'
    (still,) = doctor.still_runs()
    assert still["needs"] == "a worker: mn worker -Q gpu"
    assert (servers.queues().level, servers.queues().next) == ("fail", "Start `mn worker -Q gpu`.")
    worker(queues=["gpu"])
    assert why(run) == "p is ready and waits for a free worker."
    assert servers.queues().level == "ok"


def test_a_step_whose_worker_is_gone_is_not_called_work(start: Any) -> None:
    run = start()
    lost = register_worker()
    assert claim_next(lost, ("default",), alone=True)
    assert why(run) == "Working on p."
    Worker.objects.filter(boot=lost).update(lease_until=now() - timedelta(seconds=1))
    assert "p was with the worker on test (process 1), which is gone; no other is running" in why(run)
    (still,) = doctor.still_runs()
    assert still["run"] == str(run.id) and still["needs"] == "a worker: mn up, or mn worker"
    worker()
    assert "another one takes it back" in why(run)


def test_a_step_that_killed_workers_says_so(start: Any) -> None:
    run = start()
    worker()
    Step.objects.filter(run=run).update(losses=2)
    assert "when 2 workers died" in why(run)


def test_a_kind_this_release_cannot_run_is_said(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start()
    worker()
    monkeypatch.delitem(ports._handlers, "tool")
    assert 'kind "tool", which this release cannot run' in why(run)


# --- servers ----------------------------------------------------------------------------------------------


def test_workers_of_another_release_are_named() -> None:
    worker(version="0.0.9")
    said = servers.versions()
    assert said.level == "warn" and "0.0.9" in said.found


@pytest.mark.parametrize(
    ("policy", "append", "level", "words"),
    [
        ("allkeys-lru", "yes", "warn", "drops keys"),
        ("noeviction", "no", "warn", "appendonly yes"),
        ("noeviction", "yes", "ok", "kept on disk"),
    ],
)
def test_a_broker_that_forgets_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, policy: str, append: str, level: str, words: str
) -> None:
    import redis

    class Fake:
        def info(self) -> dict[str, Any]:
            return {"maxmemory_policy": policy, "aof_enabled": int(append == "yes"), "rdb_last_save_time": 1}

        def close(self) -> None:
            pass

    monkeypatch.setattr(config(), "broker_url", "redis://box:1/0")
    monkeypatch.setattr(redis.Redis, "from_url", lambda *args, **more: Fake())
    said = servers.broker_memory()
    assert said.level == level and words in f"{said.found} {said.next}"


def test_a_broker_that_is_there_answers_what_is_asked(
    monkeypatch: pytest.MonkeyPatch, redis_url: str
) -> None:
    monkeypatch.setattr(config(), "broker_url", redis_url)
    assert servers.broker_memory().level in ("ok", "warn")


@pytest.mark.usefixtures("autovacuum")
class TestOnPostgreSQL:
    @pytest.fixture(autouse=True)
    def only_there(self, db: None) -> None:
        if connection.vendor != "postgresql":
            pytest.skip("the tests run on SQLite")

    def test_its_own_settings_are_read(self) -> None:
        assert servers.durability().level == "ok"
        assert servers.vacuum().level in ("ok", "warn")
        assert servers.old_transactions().level == "ok"

    def test_a_server_that_never_vacuums_is_trouble(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(servers, "_rows", lambda query, *values: [("off",)])
        said = servers.vacuum()
        assert said.level == "fail" and "autovacuum = on" in said.next

    def test_commits_that_do_not_reach_the_disk_are_trouble(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            said = servers.durability()
            cursor.execute("RESET synchronous_commit")
        assert said.level == "fail" and "synchronous_commit is off" in said.found

    def test_asynchronous_standbys_are_warned_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        real = servers._rows
        for state, level in (("async", "warn"), ("sync", "ok")):
            monkeypatch.setattr(
                servers, "_rows",
                lambda q, *v, s=state: [("two", s)] if "pg_stat_replication" in q else real(q, *v),
            )  # fmt: skip
            assert servers.durability().level == level

    def test_tables_that_are_vacuumed_too_rarely_are_named(self) -> None:
        with connection.cursor() as cursor:
            for table in servers._HOT:
                cursor.execute(f"ALTER TABLE {table} SET (autovacuum_vacuum_scale_factor = 0.01)")
            assert servers.vacuum().level == "ok"
            cursor.execute("ALTER TABLE runs_step SET (autovacuum_vacuum_scale_factor = 0.2)")
            said = servers.vacuum()
            cursor.execute("ALTER TABLE runs_step SET (autovacuum_vacuum_scale_factor = 0.01)")
        assert said.level == "warn" and said.found.startswith("runs_step is")

    def test_an_old_idle_transaction_is_named_with_its_process(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from django.db.backends.postgresql.base import DatabaseWrapper

        monkeypatch.setattr(servers, "LONG_SECONDS", 0)
        other = connection.copy()
        assert isinstance(other, DatabaseWrapper)
        try:
            with other.cursor() as cursor:
                cursor.execute("BEGIN")
                cursor.execute("SELECT pg_backend_pid()")
                (pid,) = cursor.fetchone()
                said = servers.old_transactions()
        finally:
            other.close()
        assert said.level == "warn" and f"process {pid}" in said.found and f"({pid})" in said.next

    def test_the_whole_examination_runs(self) -> None:
        names = {check["name"] for check in doctor.examine()["checks"]}
        assert {"durability", "vacuum", "old transactions", "versions", "queues", "sandbox"} <= names
