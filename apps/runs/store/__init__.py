"""The engine's hot reads and writes as bare SQL: one decision is one statement, no objects are built.

What a decision collected is a `WriteSet`; `write` stores all of it or nothing. Everything hangs on the run's
row: its `seq` is compared and raised first, and every step must still have the status and fence the decision
saw. On PostgreSQL that is one statement of data-modifying CTEs, prepared once per shape, so that a step costs
one round trip and one commit; on SQLite a handful of statements under the house's write lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from types import ModuleType
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection
from django.db.models import Model
from django.db.models.base import ModelState

from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus
from apps.runs.models import Run, Step
from apps.runs.payloads import whole
from apps.runs.store.rows import StepUpdate, WriteSet, table
from mirrorneuron.base.packed import Packed

M = TypeVar("M", bound=Model)
N = TypeVar("N", bound=Model)
__all__ = [
    "StepUpdate", "WriteSet", "change_if", "insert", "read_columns", "read_run", "read_run_and_steps",
    "read_steps", "read_with", "step_rows", "write", "writes_alone",
]  # fmt: skip


def write(ws: WriteSet) -> list[int] | None:
    """Store a decision; the ids of the inserted steps in their order, or None when the run has moved on.

    Inside an open transaction it becomes part of it, else it is committed at once. On None and on an error
    nothing of it is stored. Raises StaleStep when a step is not what the decision saw; IntegrityError when a
    new run's key is taken; OperationalError or InterfaceError when the database does not answer, and then
    nobody knows.
    """
    return _vendor().write(ws)


def read_run(run_id: UUID, *, lock: bool = False, skip_locked: bool = False) -> Run | None:
    """A run's row; None when there is none, or (skip_locked) when another transaction holds it.

    lock: hold it until this transaction ends; on SQLite a transaction holds everything anyway.
    """
    where = "WHERE id = {}"
    if lock and connection.features.has_select_for_update:
        where += " FOR UPDATE SKIP LOCKED" if skip_locked else " FOR UPDATE"
    columns, attributes = _columns(Run)
    rows = _vendor().select(Run, columns, where, [run_id])
    return Run.from_db(connection.alias, attributes, rows[0]) if rows else None


def read_run_and_steps(run_id: UUID) -> tuple[Run | None, list[StepState]]:
    """A run and the steps at the top of its graph, on PostgreSQL in one statement. Each step brings the run's
    columns along: for runs that have few."""
    if not writes_alone():
        run = read_run(run_id)
        return run, read_steps(run_id, [""]) if run is not None else []
    from apps.runs.store.postgres import joined

    columns, attributes = _columns(Run)
    runs, steps = Run._meta.db_table, Step._meta.db_table
    where = (
        f'"{runs}" AS o LEFT JOIN "{steps}" AS m ON m.run_id = o.id AND m.scope = \'\''
        " WHERE o.id = {} ORDER BY m.id"
    )
    row, found = joined(Run, columns, Step, _STATE, where, run_id)
    run = Run.from_db(connection.alias, attributes, row) if row is not None else None
    return run, [_state(list(step), run_id) for step in found]


def read_steps(run_id: UUID, scopes: Iterable[str] | None = None) -> list[StepState]:
    """Steps of a run, or of some of its scopes, as the engine's state holds them: without their payloads."""
    where: str = "WHERE run_id = {}"
    values: list[Any] = [run_id]
    if scopes is not None:
        where += " AND scope = ANY({}::text[])" if writes_alone() else " AND scope IN ({})"
        values.append(list(scopes))
    return [_state(row, run_id) for row in _vendor().select(Step, _STATE, where + " ORDER BY id", values)]


_STATE = tuple(f.name for f in fields(StepState))
_STATUS, _TAKEN, _LABELS, _MEMO = (_STATE.index(n) for n in ("status", "taken", "labels", "memo"))
_STATUSES = {str(status): status for status in StepStatus}


def _state(row: list[Any], run_id: UUID) -> StepState:
    row[_STATUS] = _STATUSES[row[_STATUS]]
    row[_TAKEN] = tuple(row[_TAKEN])
    row[_LABELS] = tuple(row[_LABELS])
    if isinstance(row[_MEMO], Packed):
        (row[_MEMO],) = whole([row[_MEMO]], run_id)
    return StepState(*row)


def step_rows(run_id: UUID, scopes: Sequence[str] | None = None) -> list[Step]:
    """All steps of a run, or of some scopes, in the order they were made, for those who show them."""
    columns, attributes = _columns(Step)
    where, values = "", list(scopes or ())
    if scopes is not None:
        where = f"AND scope IN ({', '.join(['{}'] * len(values))}) "
    found = _vendor().select(Step, columns, f"WHERE run_id = {{}} {where}ORDER BY id", [run_id, *values])
    return [_loaded(Step, attributes, row) for row in found]


def read_columns(
    model: type[Model], columns: tuple[str, ...], where: str, values: Sequence[Any]
) -> list[list[Any]]:
    """Some columns of any table, for those who read them in every decision: Django takes longer to word such
    a question than the database to answer it.

    where: what follows the table in FROM, with a `{}` for each of the values in turn. Columns of other tables
    that it joins come as the driver gives them.
    """
    found: list[list[Any]] = _vendor().select(model, columns, where, list(values))
    return found


def read_with(one: type[M], many: type[N], by: str, id: UUID) -> tuple[M | None, list[N]]:
    """A row and those that refer to it by this column, the oldest first; on PostgreSQL in one statement.

    Each of them brings the row's columns along: for rows to which few refer.
    """
    (columns, attributes), (of_many, attributes_of_many) = _columns(one), _columns(many)
    row: list[Any] | None
    if writes_alone():
        from apps.runs.store.postgres import joined

        where = (
            f'"{one._meta.db_table}" AS o LEFT JOIN "{many._meta.db_table}" AS m ON m."{by}" = o.id'
            " WHERE o.id = {} ORDER BY m.id"
        )
        row, found = joined(one, columns, many, of_many, where, id)
    else:
        row = next(iter(read_columns(one, columns, "WHERE id = {}", [id])), None)
        found = read_columns(many, of_many, f'WHERE "{by}" = {{}} ORDER BY id', [id]) if row else []
    rows = [_loaded(many, attributes_of_many, values) for values in found]
    return (_loaded(one, attributes, row) if row else None), rows


def insert(*objects: Model) -> None:
    """New rows of any tables, for those who write them in every decision; on PostgreSQL in one statement. The
    objects do not learn their numbers. Raises IntegrityError."""
    rows = []
    for made in objects:
        columns, attributes = _columns(type(made))
        kept = table(type(made)).columns
        values = {c: _plain(getattr(made, a)) for c, a in zip(columns, attributes, strict=True) if c in kept}
        rows.append((type(made), values))
    _vendor().insert(rows)


def change_if(
    model: type[Model], id: UUID, changes: dict[str, Any], column: str, among: Iterable[str]
) -> bool:
    """Change columns of a row if this one still has one of these texts; whether it had."""
    values = {name: _plain(value) for name, value in changes.items()}
    found: bool = _vendor().change_if(model, id, values, column, [str(text) for text in among])
    return found


def _plain(value: Any) -> Any:
    """Drivers take members of an enumeration for something else than the text they are."""
    return str(value) if isinstance(value, str) else value


def _loaded(model: type[M], attributes: tuple[str, ...], values: list[Any]) -> M:
    """An object as `Model.from_db` makes it, without a signal and an assignment per field: five times as
    fast, which a page of a hundred steps notices."""
    made = model.__new__(model)
    made.__dict__.update(zip(attributes, values, strict=True))
    made._state = ModelState()
    made._state.adding, made._state.db = False, connection.alias
    return made


@cache
def _columns(model: type[Model]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(columns, attributes) of a table."""
    found = model._meta.concrete_fields
    return tuple(str(f.column) for f in found), tuple(f.attname for f in found)


@cache
def writes_alone() -> bool:
    """Whether `write` needs no transaction around it, so that opening one would only cost round trips."""
    return connection.vendor == "postgresql"


@cache
def _vendor() -> ModuleType:
    if connection.vendor == "postgresql":
        from apps.runs.store import postgres

        return postgres
    from apps.runs.store import sqlite

    return sqlite
