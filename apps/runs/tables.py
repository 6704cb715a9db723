"""All rows of one run, table by table: what an archive holds, and what is removed with the run.

Found from the models themselves, so that a room above that hangs rows on runs or steps is not forgotten. Rows
are read and written as JSON: times as RFC 3339, ids as text, large values as they are stored, by reference.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Model, QuerySet

from apps.ledger.fields import PayloadField
from apps.ledger.models import Effect, EntryBatch, Evidence, PayloadUse
from apps.runs.models import Run
from mirrorneuron.base.packed import Packed, encode

READ_AT_ONCE = 500


@dataclass(frozen=True)
class Table:
    """One model's rows of a run."""

    model: type[Model]
    path: str
    """How its rows are found from a run's id: `run_id`, `step__run_id`."""
    parent: str = ""
    """Its key to the table above it, when that table counts its own rows: `step_id`."""
    above: type[Model] | None = None

    @property
    def name(self) -> str:
        return str(self.model._meta.label_lower)

    @property
    def counts_rows(self) -> bool:
        """Its key is a number of this database, which another one gives anew."""
        return isinstance(self.model._meta.pk, models.BigAutoField | models.AutoField)

    @property
    def columns(self) -> list[Any]:
        return [f for f in self.model._meta.concrete_fields if not (f.primary_key and self.counts_rows)]

    def rows(self, run_id: UUID) -> QuerySet[Any]:
        return self.model._base_manager.filter(**{self.path: run_id})


@cache
def run_tables() -> tuple[Table, ...]:
    """Tables whose rows belong to a run and go with it, parents before children; the run's own row aside."""
    found: list[Table] = []

    def below(model: type[Model], path: str) -> None:
        for relation in model._meta.related_objects:
            if relation.on_delete is not models.CASCADE:
                continue
            key = relation.field
            child = relation.related_model
            here = f"{key.name}__{path}" if path else f"{key.name}_id"
            above = model if model is not Run else None
            table = Table(child, here, key.attname if above else "", above)
            found.append(table)
            below(child, here)

    below(Run, "")
    return (*found, Table(EntryBatch, "run_id"), Table(PayloadUse, "run_id"))


EFFECTS = (Table(Effect, "run_id"), Table(Evidence, "effect__run_id"))
"""What outlives the run: archived with it, and not removed with it."""


def table_called(name: str) -> Table:
    """Raises KeyError for a table runs have no rows in."""
    known = {table.name: table for table in (Table(Run, "id"), *run_tables(), *EFFECTS)}
    return known[name]


def read(table: Table, run_id: UUID) -> Iterator[dict[str, Any]]:
    """The table's rows of a run as JSON, in the order they were made, with their key as `$id` if it is a
    number of this database."""
    columns = table.columns
    names = [c.attname for c in columns]
    key = [table.model._meta.pk.attname] if table.counts_rows else []
    order = _order(table)
    rows = table.rows(run_id).order_by(*order).values_list(*key, *names)
    for row in rows.iterator(chunk_size=READ_AT_ONCE):
        values = dict(zip(names, row[len(key) :], strict=True))
        said = {c.attname: _out(c, values[c.attname]) for c in columns}
        yield {"$id": row[0], **said} if key else said


def _order(table: Table) -> list[str]:
    if table.model is EntryBatch:
        return ["seq"]
    if table.model is PayloadUse:
        return ["hash", "outlives"]
    return ["pk"]


def made(table: Table, values: dict[str, Any]) -> Model:
    """A row of the table from what `read` gave. Columns that are gone by now are left out."""
    known = {c.attname: c for c in table.columns}
    return table.model(**{n: _in(known[n], v) for n, v in values.items() if n in known})


def _out(column: Any, value: Any) -> Any:
    if isinstance(column, PayloadField) and value is not None:
        return json.loads(value.text if isinstance(value, Packed) else encode(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, bytes | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    return value


def _in(column: Any, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(column, PayloadField):
        return Packed(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    if isinstance(column, models.DateTimeField):
        return datetime.fromisoformat(value)
    if isinstance(column, models.BinaryField):
        return base64.b64decode(value["$bytes"])
    kind = column.target_field if column.is_relation else column
    return UUID(value) if isinstance(kind, models.UUIDField) else value
