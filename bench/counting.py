"""Counting at the connections of this process, where the database itself cannot be asked.

A commit is counted when its transaction wrote something, or when a statement outside a transaction did.
Queries by which the benchmark looks at runs carry `LOOK` in their text and are left out.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LOOK = "bench_look"
"""Stands in the text of every query by which the benchmark itself looks at runs."""
LOOKING = f"WITH {LOOK} AS (SELECT 1) "
"""Begins such a query. PostgreSQL keeps the name of a common table expression apart from queries of the same
shape; an alias it would not."""
_WRITES = re.compile(
    r"\s*(?:INSERT|UPDATE|DELETE|REPLACE)\b|\s*WITH\b.*\b(?:INSERT|UPDATE|DELETE)\b", re.I | re.S
)


@dataclass
class Counter:
    statements: int = 0
    commits: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, statements: int = 0, commits: int = 0) -> None:
        with self._lock:
            self.statements += statements
            self.commits += commits

    def taken(self) -> dict[str, int]:
        """What was counted since the last time this was asked."""
        with self._lock:
            found = {"statements": self.statements, "commits": self.commits}
            self.statements = self.commits = 0
        return found


class Transaction:
    """Follows the statements of one connection."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._is_open = self._wrote = False

    def saw(self, statement: str) -> None:
        if LOOK in statement:
            return
        word = statement.lstrip()[:8].upper()
        commits = 0
        if word.startswith("BEGIN"):
            self._is_open, self._wrote = True, False
        elif word.startswith(("COMMIT", "END")):
            commits = int(self._wrote)
            self._is_open = self._wrote = False
        elif word == "ROLLBACK" and " TO " not in statement.upper():
            self._is_open = self._wrote = False
        elif _WRITES.match(statement):
            self._wrote = self._is_open
            commits = int(not self._is_open)
        self._counter.add(statements=1, commits=commits)


def count_sqlite(counter: Counter) -> None:
    """Count on every SQLite connection Django opens from now on."""
    from django.db.backends.signals import connection_created

    def follow(connection: Any, **_: Any) -> None:
        if connection.vendor == "sqlite":
            connection.connection.set_trace_callback(Transaction(counter).saw)

    connection_created.connect(follow, weak=False, dispatch_uid="bench-counting")


def count_psycopg(counter: Counter) -> None:
    """Count on every psycopg connection of this process from now on."""
    import psycopg

    followed: dict[int, Transaction] = {}

    def of(connection: Any) -> Transaction:
        return followed.setdefault(id(connection), Transaction(counter))

    def wrapped(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
            connection, text = cursor.connection, query if isinstance(query, str) else str(query)
            if not connection.autocommit and connection.info.transaction_status == 0:
                of(connection).saw("BEGIN")  # psycopg sends it by itself
            of(connection).saw(text)
            return original(cursor, query, *args, **kwargs)

        return execute

    for name in ("execute", "executemany"):
        setattr(psycopg.Cursor, name, wrapped(name, getattr(psycopg.Cursor, name)))

    def ending(word: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def end(connection: Any) -> None:
            if connection.info.transaction_status != 0:
                of(connection).saw(word)
            original(connection)

        return end

    psycopg.Connection.commit = ending("COMMIT", psycopg.Connection.commit)  # type: ignore[method-assign]
    psycopg.Connection.rollback = ending("ROLLBACK", psycopg.Connection.rollback)  # type: ignore[method-assign]
