"""What a decision writes, and how values become columns on each database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import NOT_PROVIDED, Model
from django.db.models.fields import BigAutoField

from apps.ledger.core.lines import Line
from apps.ledger.fields import PayloadField
from mirrorneuron.base.packed import MARK, Packed, encode

to_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True, slots=True)
class StepUpdate:
    """Changed columns of one step that must still have this status and fence."""

    id: int
    path: str
    status: str
    fence: int
    fields: dict[str, Any]


@dataclass(slots=True)
class WriteSet:
    """Everything one decision stores. Values are plain Python; JSON columns hold storable values."""

    workspace_id: UUID
    run_id: UUID
    from_seq: int | None
    """The `seq` the run must still have; None when its row is already locked by this transaction."""
    to_seq: int
    at: datetime
    run_fields: dict[str, Any] = field(default_factory=dict)
    new_run: dict[str, Any] | None = None
    """Columns of a run that starts with this; then there is nothing to compare."""
    updates: list[StepUpdate] = field(default_factory=list)
    lifted: list[StepUpdate] = field(default_factory=list)
    """Steps whose rows go, because the run holds them from now on; nothing refers to them yet."""
    inserts: list[dict[str, Any]] = field(default_factory=list)
    """Columns of new steps; a column that is left out has its default."""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    """Columns of archived attempts; instead of `step_id` a `path` for a step that is inserted with them."""
    lines: Sequence[Line] = ()
    asks: tuple[str, ...] = ()
    """Queues of which the database is to say, on the way, whether any step in them was ready besides those
    written here."""
    is_quiet: bool = False
    """Set by writing: it was asked, and there was none."""


class Column:
    """One column: how a value is written into it."""

    __slots__ = ("cast", "default", "is_json", "kind", "name")

    def __init__(self, field: Any) -> None:
        self.name: str = field.column
        kind = field.target_field if field.is_relation else field
        self.kind = {
            "JSONField": "json", "UUIDField": "uuid", "DateTimeField": "time", "BooleanField": "bool",
            "CharField": "text", "TextField": "text",
        }.get(kind.get_internal_type(), "int")  # fmt: skip
        self.cast: str = kind.rel_db_type(connection).partition("(")[0].replace("varchar", "text")
        if isinstance(field, PayloadField):
            self.kind = "payload"
        self.is_json = self.kind in ("json", "payload")
        default = field.default
        if default is NOT_PROVIDED or self.kind in ("time", "uuid"):
            default = None
        self.default = default() if callable(default) else default

    @property
    def constant(self) -> str:
        """The default as SQL."""
        if self.default is None:
            return "NULL"
        if self.kind == "bool":
            return "true" if self.default else "false"
        text = to_json(self.default) if self.is_json else str(self.default)
        return text if self.kind == "int" else f"'{text}'"


class Table:
    """A model's table as the statements see it."""

    def __init__(self, model: type[Model]) -> None:
        self.name = model._meta.db_table
        fields = [f for f in model._meta.concrete_fields if not isinstance(f, BigAutoField)]
        self.columns = {str(f.column): Column(f) for f in fields}
        self.places = {name: i for i, name in enumerate(self.columns)}
        self.constants = [column.constant for column in self.columns.values()]
        """Of every column its default as SQL."""

    def row(self, values: dict[str, Any]) -> dict[str, Any]:
        """All columns of a new row. Raises KeyError when there is no such column."""
        row: dict[str, Any] = {name: column.default for name, column in self.columns.items()}
        for name in values:
            row[name]
        row.update(values)
        return row


@cache
def table(model: type[Model]) -> Table:
    return Table(model)


def as_text(column: Column, value: Any) -> str:
    """The JSON text of a JSON column's value."""
    if column.kind == "payload":
        return value.text if isinstance(value, Packed) else encode(value)
    return to_json(value)


def as_record(of: Table, values: dict[str, Any]) -> dict[str, Any]:
    """A row as a JSON object whose members the database casts to its columns' types."""
    record = {}
    for name, value in values.items():
        if value is None:
            continue
        column = of.columns.get(name)
        if column is not None and column.is_json:
            value = as_text(column, value)
        elif isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, UUID):
            value = str(value)
        record[name] = value
    return record


def for_sqlite(column: Column, value: Any) -> Any:
    """A value as Django stores it in SQLite."""
    if value is None:
        return None
    match column.kind:
        case "json" | "payload":
            return as_text(column, value)
        case "uuid":
            return value.hex
        case "time":
            return value.astimezone(UTC).replace(tzinfo=None).isoformat(" ")
        case "bool":
            return int(value)
    return value


def from_json(text: str) -> Any:
    return json.loads(text)


def from_payload(text: str) -> Any:
    """As `PayloadField` reads: the value, or a `Packed` one when it may refer to payloads."""
    if MARK not in text:
        return json.loads(text)
    return Packed(text)
