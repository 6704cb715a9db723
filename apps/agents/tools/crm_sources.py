"""Where customer records lie: CSV files, a SQLite file, a PostgreSQL database. All read-only, all as tables.

A source gives tables with their columns, and rows that may fit. It may give too many: `crm` compares them
again, the same way for every source.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from apps.agents import egress
from apps.agents.documents.decode import decode
from apps.agents.documents.tables import read_table
from apps.agents.tools.base import Connection, DefiniteFailure, StepError
from mirrorneuron.base.safejson import storable

MAX_TABLES = 60
MAX_ROWS = 50_000
"""Rows of one table that are compared; a table with more is searched by the database itself."""
MAX_FOUND = 500
Row = dict[str, Any]


class Source(Protocol):
    tables: dict[str, list[str]]
    """Columns by table name."""
    notes: list[str]

    def rows(self, table: str, columns: Sequence[str], terms: Sequence[str]) -> list[Row]:
        """Rows of which one of these columns may hold one of these terms, in any case."""
        ...


@dataclass
class Memory:
    """Tables already read, from CSV files."""

    tables: dict[str, list[str]]
    notes: list[str]
    content: dict[str, list[Row]]

    def rows(self, table: str, columns: Sequence[str], terms: Sequence[str]) -> list[Row]:
        return self.content[table]


def from_csv(files: Sequence[tuple[str, bytes]]) -> Memory:
    """One table per file. Raises ValueError, in words for a person, when a file holds no table."""
    source = Memory({}, [], {})
    for name, data in files:
        text = decode(data)
        if text is None:
            raise ValueError(f'"{name}" is neither a text file nor a SQLite database.')
        try:
            table = read_table(text, max_rows=MAX_ROWS)
        except ValueError as exc:
            raise ValueError(f'"{name}" cannot be read as a table. {exc}') from exc
        source.tables[name] = [column.name or column.key for column in table.columns]
        source.content[name] = [
            {column.name or column.key: row[column.key] for column in table.columns} for row in table.rows
        ]
        source.notes += [f"{name}: {note}" for note in table.notes if "were read" in note]
    return source


class Sqlite:
    """A copy of the file in memory, so nothing can be written back; only SELECT is let through."""

    def __init__(self, data: bytes, name: str, deadline: float) -> None:
        self.notes: list[str] = []
        if data[18:20] == b"\x02\x02":
            # A file in WAL mode cannot be opened from memory; the mode is two bytes of its header.
            data = data[:18] + b"\x01\x01" + data[20:]
        try:
            self.db = sqlite3.connect(":memory:")
            self.db.deserialize(data)
            self.db.execute("PRAGMA trusted_schema = OFF")
            self.db.execute("PRAGMA cell_size_check = ON")
            self.db.execute("PRAGMA query_only = ON")
            names = [
                row[0]
                for row in self.db.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' "
                    "ORDER BY name"
                )
            ]
            self.tables = {
                table: [row[1] for row in self.db.execute(f"PRAGMA table_info({_quoted(table)})")]
                for table in names[:MAX_TABLES]
            }
            self.db.set_authorizer(_only_reads)
            self.db.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
        except (sqlite3.Error, MemoryError) as exc:
            raise ValueError(
                f'"{name}" is damaged and cannot be opened as a SQLite database ({exc}).'
            ) from exc

    def rows(self, table: str, columns: Sequence[str], terms: Sequence[str]) -> list[Row]:
        names = self.tables[table]
        chosen = ", ".join(_quoted(n) for n in names)
        try:
            found = self.db.execute(
                f"SELECT {chosen} FROM {_quoted(table)} LIMIT ?", (MAX_ROWS + 1,)
            ).fetchall()
        except sqlite3.OperationalError as exc:
            raise StepError(f'Reading the table "{table}" took too long or failed ({exc}).') from exc
        except sqlite3.DatabaseError as exc:
            raise StepError(f'The table "{table}" is damaged ({exc}).', permanent=True) from exc
        if len(found) > MAX_ROWS:
            self.notes.append(f'Only the first {MAX_ROWS} rows of "{table}" were read.')
        return [dict(zip(names, storable(list(row)), strict=True)) for row in found[:MAX_ROWS]]


def _only_reads(action: int, *details: str | None) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Postgres:
    """The tables of one schema, in a read-only transaction with a statement time-out."""

    def __init__(self, db: Any, schema: str) -> None:
        self.db = db
        self.schema = schema
        self.notes: list[str] = []
        rows = db.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = %s "
            "ORDER BY table_name, ordinal_position",
            (schema,),
        ).fetchall()
        self.tables: dict[str, list[str]] = {}
        for table, column in rows:
            if table in self.tables or len(self.tables) < MAX_TABLES:
                self.tables.setdefault(table, []).append(column)

    def rows(self, table: str, columns: Sequence[str], terms: Sequence[str]) -> list[Row]:
        from psycopg import sql

        names = self.tables[table]
        escaped = [t.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") for t in terms]
        likes = [f"%{t}%" for t in escaped]
        conditions = [
            sql.SQL("{}::text ILIKE ANY(%s)").format(sql.Identifier(column)) for column in columns if likes
        ]
        if not conditions:
            return []
        query = sql.SQL("SELECT {} FROM {} WHERE {} LIMIT %s").format(
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.Identifier(self.schema, table),
            sql.SQL(" OR ").join(conditions),
        )
        found = self.db.execute(query, [*([likes] * len(conditions)), MAX_FOUND]).fetchall()
        return [dict(zip(names, storable(list(row)), strict=True)) for row in found]


@contextmanager
def from_postgres(connection: Connection, seconds: float) -> Iterator[Postgres]:
    """A PostgreSQL connection of the workspace.

    Its fields: `url`, or `host port database user password`; and `schema`, `public` unless set.
    Raises EgressRefused when the host is not among the connection's own or not reachable for tools,
    DefiniteFailure when it cannot be reached, StepError when a query fails. No message holds a field.
    """
    import psycopg

    fields = connection.fields
    url = urlsplit(str(fields.get("url") or ""))
    host = str(fields.get("host") or url.hostname or "")
    port = int(fields.get("port") or url.port or 5432)
    if not host or host.startswith("/"):
        raise StepError(f'The connection "{connection.name}" names no host.', permanent=True)
    if not any(egress.host_matches(host, allowed, port) for allowed in connection.hosts):
        raise egress.EgressRefused(
            f'"{host}" is not among the hosts of the connection "{connection.name}".', permanent=True
        )
    address = egress.resolve(host, port, seconds)[0]
    try:
        db = psycopg.connect(
            host=host,
            hostaddr=address,
            port=port,
            dbname=str(fields.get("database") or url.path.lstrip("/") or "postgres"),
            user=str(fields.get("user") or url.username or ""),
            password=str(fields.get("password") or url.password or ""),
            connect_timeout=max(2, int(min(seconds, 10))),
            options=f"-c default_transaction_read_only=on -c statement_timeout={max(1, int(seconds * 1000))}",
        )
    except psycopg.Error as exc:
        raise DefiniteFailure(
            f'The database of the connection "{connection.name}" cannot be reached ({type(exc).__name__}).',
            code="connect_failed",
            next="Check the connection's fields and that the server is up.",
        ) from None
    try:
        db.read_only = True
        yield Postgres(db, str(fields.get("schema") or "public"))
    except psycopg.Error as exc:
        raise StepError(
            f'A query to the connection "{connection.name}" failed ({type(exc).__name__}).',
            code="query_failed",
        ) from None
    finally:
        db.close()
