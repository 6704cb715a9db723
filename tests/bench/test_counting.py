"""The benchmark counts exactly: a known workload gives known numbers, by the log and at the connection."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bench.counting import LOOKING, Counter, Transaction, count_psycopg
from bench.databases import PostgresDatabase, Server, own_postgres, program
from bench.measure import TICKS
from tests.services import required


def test_sqlite_commits_are_transactions_that_wrote_and_writes_outside_of_one(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.sqlite3", isolation_level=None)
    connection.execute("CREATE TABLE t (n)")
    counter = Counter()
    connection.set_trace_callback(Transaction(counter).saw)

    connection.execute("INSERT INTO t VALUES (1)")
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO t VALUES (2)")
    connection.execute("UPDATE t SET n = 3")
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM t").fetchall()
    connection.execute("COMMIT")
    connection.execute("BEGIN")
    connection.execute("DELETE FROM t")
    connection.execute("ROLLBACK")
    connection.execute(LOOKING + "SELECT count(*) FROM t").fetchall()

    assert counter.taken() == {"statements": 11, "commits": 2}
    assert counter.taken() == {"statements": 0, "commits": 0}


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresDatabase]:
    """A database on a server that nobody else uses, so that counts can be exact."""
    if program("postgres") is None:
        (pytest.fail if required() else pytest.skip)("PostgreSQL's server programs were not found")
    # Not below pytest's own folder: the server runs as another user, who may not enter there.
    with (
        tempfile.TemporaryDirectory(prefix="mn-counting-") as folder,
        own_postgres(Path(folder)) as url,
        Server(url) as server,
    ):
        found = server.database("test")
        with psycopg.connect(found.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (n int)")
        yield found


def known_workload(url: str) -> None:
    """Four durable commits in fourteen statements, and a look that does not count."""
    with psycopg.connect(url, autocommit=True) as connection:
        for n in range(3):
            connection.execute("INSERT INTO t VALUES (%s)", (n,))
        with connection.transaction():
            for n in range(5):
                connection.execute("UPDATE t SET n = n + %s", (n,))
        with connection.transaction():
            connection.execute("SELECT count(*) FROM t")
        connection.execute("SELECT 1")
        connection.execute(LOOKING + "SELECT count(*) FROM t")


@pytest.mark.services
def test_the_log_and_the_statistics_count_a_known_workload_exactly(database: PostgresDatabase) -> None:
    before = database.begin()
    known_workload(database.url)
    after = database.end()

    assert (before.commits, after.commits) == (0, 4)
    assert after.statements is not None and before.statements is not None
    assert after.statements - before.statements == 14
    assert after.wal_bytes is not None and after.wal_bytes > 4 * 30


@pytest.mark.services
def test_the_servers_work_counts_also_after_the_connection_has_ended(database: PostgresDatabase) -> None:
    """Connections end and workers of the server come and go; what they did stays in the account."""
    before = database.begin().server_cpu
    with psycopg.connect(database.url) as connection:
        connection.execute("SELECT sum(sqrt(n)) FROM generate_series(1, 2000000) AS n")
    after = database.end().server_cpu

    assert before is not None and after is not None
    assert after > before + 5 / TICKS


@pytest.mark.services
def test_nothing_done_counts_as_nothing(database: PostgresDatabase) -> None:
    before = database.begin()
    after = database.end()

    assert after.commits == 0
    assert after.statements == before.statements


@pytest.mark.services
def test_the_connection_counts_as_the_log_does(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for owner, name in ((psycopg.Cursor, "execute"), (psycopg.Cursor, "executemany"),
                        (psycopg.Connection, "commit"), (psycopg.Connection, "rollback")):  # fmt: skip
        monkeypatch.setattr(owner, name, getattr(owner, name))
    counter = Counter()
    count_psycopg(counter)

    with psycopg.connect(database.url) as connection:  # as Django's atomic(): BEGIN by itself, then commit()
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("SELECT 1")
        connection.commit()
        connection.execute("SELECT 1")
        connection.commit()
        connection.autocommit = True
        connection.execute("WITH x AS (UPDATE t SET n = 1 RETURNING n) SELECT count(*) FROM x")
        connection.execute(LOOKING + "SELECT 1")

    assert counter.taken() == {"statements": 8, "commits": 2}


@pytest.mark.services
def test_databases_are_dropped_whatever_happens(database: PostgresDatabase) -> None:
    url = database.server.url_of("postgres")

    with pytest.raises(RuntimeError), Server(url) as server:
        made = server.database("gone")
        raise RuntimeError

    with psycopg.connect(url) as connection:
        names = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
    assert made.name not in names
