"""The databases of one benchmark: made for it, counted by it, dropped after it.

PostgreSQL: every subject gets a database of its own on the server of DATABASE_URL, or on a server started for
the benchmark alone (`OwnServer`), where no other client's work is counted. Commits are the COMMIT records in
the write-ahead log (pg_walinspect), statements the calls in pg_stat_statements. Where the server lacks one of
them, our own engine is counted at its connections instead, and the result says so.
SQLite: a file in a folder of its own, counted at the connections.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from bench import measure
from bench.counting import LOOK

OWN_SETTINGS = {
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_preload_libraries": "pg_stat_statements",
    "track_io_timing": "off",
    "log_min_messages": "warning",
}
SHOWN_SETTINGS = (
    "shared_buffers", "max_wal_size", "checkpoint_timeout", "fsync", "synchronous_commit", "full_page_writes",
    "wal_level", "wal_sync_method", "max_connections", "jit",
)  # fmt: skip


class Database(Protocol):
    """Where one subject stores what it does."""

    vendor: str
    url: str
    """As DATABASE_URL takes it; empty for SQLite in MN_DATA."""

    def begin(self) -> measure.Reading: ...

    def end(self) -> measure.Reading: ...


class Embedded:
    """SQLite inside the subject's data folder: nothing to read from outside."""

    vendor = "sqlite"
    url = ""

    def begin(self) -> measure.Reading:
        return measure.Reading()

    def end(self) -> measure.Reading:
        return measure.Reading()


class Server:
    """A PostgreSQL server and the databases made on it. A context manager that drops them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._token = secrets.token_hex(4)
        self._made: list[str] = []
        self._admin = psycopg.connect(url, autocommit=True)
        name = self._create("meter")
        self._meter = psycopg.connect(self.url_of(name), autocommit=True)
        self.counts_commits = self._has("pg_walinspect")
        self.counts_statements = self._has("pg_stat_statements") and self._answers(
            "SELECT 1 FROM pg_stat_statements LIMIT 1"
        )
        backend = self._one("SELECT pg_backend_pid()")
        self._postmaster = measure.parent_of(backend) if _is_local(backend) else None

    def database(self, purpose: str) -> PostgresDatabase:
        """A new, empty database; `purpose` becomes part of its name."""
        name = self._create(purpose)
        return PostgresDatabase(self, name)

    def url_of(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path="/" + name))

    def drop(self, name: str) -> None:
        self._made = [made for made in self._made if made != name]
        self._admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        self._meter.close()
        for name in list(self._made):
            self.drop(name)
        self._admin.close()

    def facts(self) -> dict[str, Any]:
        return {
            "server": "PostgreSQL " + self._one("SHOW server_version"),
            "settings": {name: self._one(f"SHOW {name}") for name in SHOWN_SETTINGS},
            "commits_counted": "COMMIT records in the write-ahead log (pg_walinspect)"
            if self.counts_commits
            else "at the engine's connections",
            "statements_counted": "pg_stat_statements, BEGIN and COMMIT included"
            if self.counts_statements
            else "at the engine's connections",
        }

    # --- reading

    def read(self, database: str) -> tuple[str, int | None]:
        """The end of the write-ahead log, and the statements this database has executed."""
        calls = None
        if self.counts_statements:
            calls = self._one(
                "SELECT coalesce(sum(calls), 0)::bigint FROM pg_stat_statements WHERE dbid = "
                "(SELECT oid FROM pg_database WHERE datname = %s) AND query NOT LIKE %s",
                (database, f"%{LOOK}%"),
            )
        return str(self._one("SELECT pg_current_wal_insert_lsn()")), calls

    def cpu(self) -> float | None:
        return None if self._postmaster is None else measure.fine_cpu_seconds(self._postmaster)

    def wal_bytes(self, first: str, last: str) -> int:
        return int(self._one("SELECT pg_wal_lsn_diff(%s, %s)", (last, first)))

    def commits(self, first: str, last: str) -> int | None:
        if not self.counts_commits:
            return None
        end = self._one("SELECT least(%s::pg_lsn, pg_current_wal_flush_lsn())", (last,))
        if not self._one("SELECT %s::pg_lsn < %s::pg_lsn", (first, end)):
            return 0
        return int(
            self._one(
                "SELECT count(*) FROM pg_get_wal_records_info(%s, %s) "
                "WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%%'",
                (first, end),
            )
        )

    # --- parts

    def _create(self, purpose: str) -> str:
        name = f"mn_bench_{self._token}_{purpose}"
        self._made.append(name)
        self._admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def _has(self, extension: str) -> bool:
        return self._answers(f"CREATE EXTENSION IF NOT EXISTS {extension}")

    def _answers(self, statement: str) -> bool:
        with contextlib.suppress(psycopg.Error):
            self._meter.execute(statement)
            return True
        return False

    def _one(self, statement: str, parameters: Any = None) -> Any:
        row = self._meter.execute(statement, parameters).fetchone()
        assert row is not None
        return row[0]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PostgresDatabase:
    vendor = "postgresql"

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self.url = server.url_of(name)
        self._from = ""

    def begin(self) -> measure.Reading:
        """Read before a stretch; the CPU last, so that reading is not part of it."""
        self._from, statements = self.server.read(self.name)
        return measure.Reading(
            commits=0 if self.server.counts_commits else None,
            statements=statements,
            wal_bytes=0,
            server_cpu=self.server.cpu(),
        )

    def end(self) -> measure.Reading:
        """Read after a stretch; the CPU first."""
        cpu = self.server.cpu()
        last, statements = self.server.read(self.name)
        return measure.Reading(
            commits=self.server.commits(self._from, last),
            statements=statements,
            wal_bytes=self.server.wal_bytes(self._from, last),
            server_cpu=cpu,
        )

    def drop(self) -> None:
        self.server.drop(self.name)


def _is_local(backend: int) -> bool:
    """Whether the server's processes can be seen here; a backend on another machine has a foreign number."""
    with contextlib.suppress(OSError):
        return "postgres" in (measure.PROC / str(backend) / "comm").read_text()
    return False


# --- servers of our own -----------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str | None:
    """Where a program of PostgreSQL or Redis is, also where Debian hides it; None when there is none."""
    newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: int(p.parts[-3]))
    return str(newest[-1]) if newest else shutil.which(name)


@contextlib.contextmanager
def own_postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with `OWN_SETTINGS`, gone afterwards; yields its URL.

    Raises FileNotFoundError when its programs are not installed.
    """
    initdb, postgres = program("initdb"), program("postgres")
    if initdb is None or postgres is None:
        raise FileNotFoundError("initdb and postgres were not found; install PostgreSQL's server programs.")
    # PostgreSQL refuses to run as root; its package makes a user for it.
    user = "postgres" if os.getuid() == 0 else None
    home = folder / "postgres"
    home.mkdir()
    if user is not None:
        account = pwd.getpwnam(user)
        os.chown(home, account.pw_uid, account.pw_gid)
        folder.chmod(folder.stat().st_mode | 0o011)
    data, port = home / "data", free_port()
    subprocess.run(
        [initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True, stdout=subprocess.DEVNULL, user=user, cwd="/",
    )  # fmt: skip
    given = [part for name, value in OWN_SETTINGS.items() for part in ("-c", f"{name}={value}")]
    with (folder / "postgres.log").open("ab") as log:
        server = subprocess.Popen(
            [postgres, "-D", str(data), "-p", str(port), "-k", str(home), "-h", "127.0.0.1", *given],
            stdout=log, stderr=log, user=user, cwd="/",
        )  # fmt: skip
    try:
        url = f"postgres://postgres@127.0.0.1:{port}/postgres"
        _await(lambda: psycopg.connect(url, connect_timeout=1).close(), (psycopg.OperationalError,))
        yield url
    finally:
        server.send_signal(signal.SIGINT)  # fast shutdown: a client that hangs does not hold it
        server.wait(30)


@contextlib.contextmanager
def own_redis(folder: Path) -> Iterator[str | None]:
    """A Redis server that stores nothing, gone afterwards; yields its URL, None when there is no Redis."""
    found = program("redis-server")
    if found is None:
        yield None
        return
    port = free_port()
    with (folder / "redis.log").open("ab") as log:
        server = subprocess.Popen(
            [found, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", str(folder)],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        _await(lambda: socket.create_connection(("127.0.0.1", port), 1).close(), (OSError,))
        yield f"redis://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _await(connect: Any, trouble: tuple[type[Exception], ...], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            connect()
            return
        except trouble:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
