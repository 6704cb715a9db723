"""What the database can do without an engine, in the same run: the least a recorded step can cost.

One "step commit" updates a step, inserts an event and inserts the next step; on PostgreSQL as one statement
on a connection of its own, by several processes at the same time.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import time
from pathlib import Path
from typing import Any

import psycopg

from bench import measure
from bench.stage import Stage

TABLES = (
    "CREATE TABLE floor_step (id bigserial PRIMARY KEY, run bigint NOT NULL, path text NOT NULL, "
    "status text NOT NULL, fence int NOT NULL, output jsonb, at timestamptz, UNIQUE (run, path))",
    "CREATE TABLE floor_event (run bigint NOT NULL, seq int NOT NULL, kind text NOT NULL, at timestamptz, "
    "data jsonb, PRIMARY KEY (run, seq))",
)
STEP = (
    "WITH done AS (UPDATE floor_step SET status = 'succeeded', output = %(output)s, at = now() "
    "WHERE run = %(run)s AND path = %(path)s AND fence = 1 RETURNING run), "
    "told AS (INSERT INTO floor_event SELECT run, %(seq)s, 'step.succeeded', now(), %(output)s FROM done) "
    "INSERT INTO floor_step (run, path, status, fence) SELECT run, %(next)s, 'running', 1 FROM done"
)
TEN = (
    "WITH done AS (INSERT INTO floor_step (run, path, status, fence, output, at) "
    "SELECT %(run)s, %(path)s || i, 'succeeded', 1, %(output)s, now() FROM generate_series(1, 10) i) "
    "INSERT INTO floor_event SELECT %(run)s, %(seq)s + i, 'step.succeeded', now(), %(output)s "
    "FROM generate_series(1, 10) i"
)
OUTPUT = json.dumps({"i": 1, "ok": True})


def measure_round(stage: Stage) -> dict[str, dict[str, Any]]:
    """Transactions a second and bytes of log, by line."""
    if stage.server is None:
        return _embedded(stage)
    lines = {}
    for line, statement, clients, steps in (
        ("one statement a step, 1 client", STEP, 1, 1),
        ("one statement a step, 4 clients", STEP, 4, 1),
        ("10 steps in one transaction, 1 client", TEN, 1, 10),
    ):
        database = stage.server.database("floor")
        try:
            with psycopg.connect(database.url, autocommit=True) as connection:
                for table in TABLES:
                    connection.execute(table)
            before = database.begin()
            rates = _clients(database.url, statement, clients, stage.scale.floor_seconds)
            spent = measure.cost(before, database.end(), engine_cpu=0.0, peak_rss=0)
        finally:
            database.drop()
        done = sum(count for count, _ in rates)
        lines[line] = {
            "transactions_per_s": round(sum(count / seconds for count, seconds in rates), 1),
            "steps_per_s": round(sum(count * steps / seconds for count, seconds in rates), 1),
            "wal_bytes_per_step": spent.wal_bytes and round(spent.wal_bytes / done / steps),
        }
    return lines


def _clients(url: str, statement: str, clients: int, seconds: float) -> list[tuple[int, float]]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(clients) as pool:
        pool.starmap(_work, [(url, statement, -1 - i, 0.05) for i in range(clients)])  # imports, connects
        return pool.starmap(_work, [(url, statement, i, seconds) for i in range(clients)])


def _work(url: str, statement: str, run: int, seconds: float) -> tuple[int, float]:
    """One client: transactions done, and in how many seconds."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO floor_step (run, path, status, fence) VALUES (%s, 'p0', 'running', 1)", (run,)
        )
        cursor, count = connection.cursor(), 0
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            cursor.execute(
                statement,
                {
                    "run": run,
                    "path": f"p{count}",
                    "next": f"p{count + 1}",
                    "seq": count * 11,
                    "output": OUTPUT,
                },
                prepare=True,
            )
            count += 1
        return count, time.perf_counter() - began


def _embedded(stage: Stage) -> dict[str, dict[str, Any]]:
    """The same rows in a SQLite file with the settings of the product."""
    path = Path(stage.folder) / f"floor-{time.monotonic_ns()}.sqlite3"
    lines = {}
    for line, steps in (("a commit a step, 1 client", 1), ("10 steps in one transaction, 1 client", 10)):
        file = path.with_suffix(f".{steps}")
        connection = sqlite3.connect(file, isolation_level=None)
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE step (id integer PRIMARY KEY, run int, path text, status text, output text, "
            "at text, UNIQUE (run, path));"
            "CREATE TABLE event (run int, seq int, kind text, at text, data text, PRIMARY KEY (run, seq));"
        )
        connection.execute("INSERT INTO step (run, path, status) VALUES (1, 'p0', 'running')")
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < stage.scale.floor_seconds:
            connection.execute("BEGIN IMMEDIATE")
            for _ in range(steps):
                connection.execute(
                    "UPDATE step SET status = 'succeeded', output = ?, at = datetime('now') "
                    "WHERE run = 1 AND path = ?", (OUTPUT, f"p{count}"),
                )  # fmt: skip
                connection.execute(
                    "INSERT INTO event VALUES (1, ?, 'step.succeeded', datetime('now'), ?)", (count, OUTPUT)
                )
                connection.execute(
                    "INSERT INTO step (run, path, status) VALUES (1, ?, 'running')", (f"p{count + 1}",)
                )
                count += 1
            connection.execute("COMMIT")
        seconds = time.perf_counter() - began
        connection.close()
        lines[line] = {
            "transactions_per_s": round(count / steps / seconds, 1),
            "steps_per_s": round(count / seconds, 1),
            "wal_bytes_per_step": None,
        }
    return lines
