"""Questions that a process asks again and again: worded once, then asked with other values.

Django takes several times as long to word a question as a database takes to find that there is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import QuerySet


class Worded:
    """A question as SQL, with places for values. Good for the process's own database only.

    ask: makes the question from the values. marks: some to word it with, each like no other value in it; what
    is asked for must not depend on which they are.
    """

    def __init__(self, ask: Callable[..., QuerySet[Any, Any]], *marks: Any, exists: bool = False) -> None:
        query = ask(*marks).query
        compiler = (query.exists() if exists else query).get_compiler(DEFAULT_DB_ALIAS)
        sql, parameters = compiler.as_sql()
        self.sql = str(sql)
        self.parameters: list[Any] = list(parameters)
        self._places = [[i for i, p in enumerate(self.parameters) if p == _stored(mark)] for mark in marks]
        assert all(self._places), "each value has a place in the question"
        # The columns and not how they are read: that would hold on to the connection of this very thread.
        self._columns = [] if exists else [part[0] for part in compiler.select[: compiler.col_count]]

    def rows(self, *values: Any) -> list[list[Any]]:
        """What the question finds, each column as its field has it."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self._with(values))
            found = [list(row) for row in cursor.fetchall()]
        for place, column in enumerate(self._columns):
            for read in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
                for row in found:
                    row[place] = read(row[place], column, connection)
        return found

    def is_any(self, *values: Any) -> bool:
        """Whether it finds anything."""
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self._with(values))
            return cursor.fetchone() is not None

    def _with(self, values: Sequence[Any]) -> list[Any]:
        parameters = self.parameters.copy()
        for places, value in zip(self._places, values, strict=True):
            for place in places:
                parameters[place] = _stored(value)
        return parameters


def _stored(value: Any) -> Any:
    """A value as a parameter of this database."""
    if isinstance(value, datetime):
        return connection.ops.adapt_datetimefield_value(value)
    if isinstance(value, UUID) and not connection.features.has_native_uuid_field:
        return value.hex
    return value
