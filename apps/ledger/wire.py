"""Bytes to and from PostgreSQL as they are.

Django binds parameters on the client, which writes a megabyte as two megabytes of hexadecimal digits into the
statement, and reads it back the same way; that costs several times what storing it does.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from django.db import connection


def send(sql: str, parameters: list[Any]) -> list[tuple[Any, ...]]:
    """Run one statement with binary parameters; its rows, if it has any. PostgreSQL only.

    Part of the open transaction, and counted and logged like every other query.
    """
    connection.ensure_connection()
    connection.validate_no_broken_transaction()
    run: Any = _send
    for wrapper in reversed(connection.execute_wrappers):
        run = partial(wrapper, run)
    began = time.monotonic()
    try:
        with connection.wrap_database_errors:
            rows: list[tuple[Any, ...]] = run(
                sql, parameters, False, {"connection": connection, "cursor": None}
            )
            return rows
    finally:
        if connection.queries_logged:
            connection.queries_log.append({"sql": sql, "time": f"{time.monotonic() - began:.3f}"})


def _send(sql: str, parameters: Any, many: bool, context: Any) -> list[tuple[Any, ...]]:
    import psycopg

    raw: Any = connection.connection
    with psycopg.Cursor(raw) as cursor:
        cursor.execute(sql, parameters, binary=True, prepare=False)
        return cursor.fetchall() if cursor.description else []
