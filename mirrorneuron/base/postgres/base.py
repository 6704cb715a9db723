"""Django's PostgreSQL backend, reading times faster.

Django reads every `timestamptz` in Python, 7 µs each; a page of 100 steps has 500 of them. The server sends
ISO 8601 in UTC, which `datetime.fromisoformat` reads in C.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db.backends.postgresql import base as django_postgresql
from django.db.backends.postgresql.psycopg_any import BaseTzLoader


class UtcLoader(BaseTzLoader):  # type: ignore[misc]
    """Reads `2026-03-01 09:00:00.25+00`; leaves what is no such time (infinity, BC) to Django's."""

    timezone = UTC
    """Django compares it with the connection's and would put its own loader in place of another."""

    def load(self, data: Any) -> datetime:
        try:
            found = datetime.fromisoformat(str(data, "ascii"))
        except ValueError:
            found = super().load(data)
        return found


class DatabaseWrapper(django_postgresql.DatabaseWrapper):
    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        if self.timezone is UTC:
            connection.adapters.register_loader("timestamptz", UtcLoader)
        return connection
