"""PostgreSQL: a decision as one statement.

    WITH r AS (UPDATE run SET seq = … WHERE id = … AND seq = … RETURNING 1),
         u0 AS (UPDATE step SET … FROM r WHERE id = … AND status = … AND fence = … RETURNING 1),
         i AS (INSERT INTO step … SELECT … FROM r RETURNING id), …
    SELECT how many runs, the new ids, whether nothing else is ready, 1 / (all steps were found)

Nothing happens unless `r` has its row. All parts see one snapshot, taken before the run's row is locked; that
is safe because whoever changes a step raises the run's `seq`, so a matching `seq` says that the snapshot is
still true. A step that is missing all the same divides by zero, which takes the whole statement back.

The text depends only on the decision's shape (which columns, how many rows), and constants that nearly every
row has are part of it; so a handful of texts is prepared and planned once per connection, and the rest is
parameters in binary form. Many rows of one kind travel as one JSON parameter.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import count
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

import psycopg
from django.db import DEFAULT_DB_ALIAS, DataError, connections
from django.db.models import Model
from psycopg.adapt import Loader
from psycopg.pq import Format
from psycopg.types.numeric import Int8BinaryDumper

from apps.ledger.core.lines import packed
from apps.ledger.models import EntryBatch
from apps.runs.errors import StaleStep
from apps.runs.models import Attempt, Run, Step
from apps.runs.store.rows import (
    Column,
    StepUpdate,
    Table,
    WriteSet,
    as_record,
    as_text,
    from_json,
    from_payload,
    table,
    to_json,
)

SINGLY = 3
"""Up to this many rows of one kind have parameters of their own; more travel as one JSON text."""
PREPARE_AFTER = 2
"""A text is prepared when it comes again this often: preparing costs a round trip of its own."""


def write(ws: WriteSet) -> list[int] | None:
    """See `store.write`."""
    shape, parameters = _shape_of(ws)
    try:
        found, ids, ws.is_quiet, _ = _executed(_text(shape), parameters, _first)
    except DataError as exc:
        if isinstance(exc.__cause__, psycopg.errors.DivisionByZero):
            paths = ", ".join(f'"{u.path}"' for u in (*ws.updates, *ws.lifted))
            raise StaleStep(f"A step of run {ws.run_id} has moved on (one of {paths}).") from exc
        raise
    return (ids or []) if found else None


def select(model: type[Model], names: tuple[str, ...], where: str, values: list[Any]) -> list[list[Any]]:
    """Rows with these columns. where: what follows FROM, with a `{}` for each of the values in turn."""
    return _read(model, names, _executed(_select(model, names, where), values, _rest))


def _read(model: type[Model], names: tuple[str, ...], found: list[Any]) -> list[Any]:
    """Rows as the database gave them, with values in place of JSON texts."""
    readers = _readers(model, names)
    if not readers:
        return found
    rows = []
    for row in found:
        row = list(row)
        for i, read in readers:
            if row[i] is not None:
                row[i] = read(row[i])
        rows.append(row)
    return rows


def joined(
    one: type[Model],
    of_one: tuple[str, ...],
    many: type[Model],
    of_many: tuple[str, ...],
    where: str,
    value: Any,
) -> tuple[list[Any] | None, list[list[Any]]]:
    """A row and all rows that belong to it, in one statement; (None, []) when there is no such row.

    where: what follows FROM, with `o` and `m` for the tables and a `{}` for the value.
    """
    found = _executed(_joined(one, of_one, many, of_many, where), [value], _rest)
    if not found:
        return None, []
    n = len(of_one)
    rows = [row[n:] for row in found if row[n] is not None]
    return _read(one, of_one, found[:1])[0][:n], _read(many, of_many, rows)


@lru_cache(maxsize=8)
def _joined(
    one: type[Model], of_one: tuple[str, ...], many: type[Model], of_many: tuple[str, ...], where: str
) -> str:
    names = ", ".join([*(f'o."{name}"' for name in of_one), *(f'm."{name}"' for name in of_many)])
    return f"SELECT {names} FROM {where.replace('{}', '$1')}"


@lru_cache(maxsize=64)
def _select(model: type[Model], names: tuple[str, ...], where: str) -> str:
    numbers = (f"${i}" for i in count(1))
    text = re.sub(r"\{\}", lambda _: next(numbers), where)
    return f'SELECT {_names(names)} FROM "{table(model).name}" {text}'


@lru_cache(maxsize=64)
def _readers(model: type[Model], names: tuple[str, ...]) -> list[tuple[int, Callable[[Any], Any]]]:
    of = {"json": from_json, "payload": from_payload}
    columns = table(model).columns
    kinds = [(i, columns[name].kind) for i, name in enumerate(names) if name in columns]
    return [(i, of[kind]) for i, kind in kinds if kind in of]


def insert(rows: list[tuple[type[Model], dict[str, Any]]]) -> None:
    """See `store.insert`."""
    parameters: list[Any] = []
    shape = tuple([(model, _full_row(table(model), values, parameters)) for model, values in rows])
    _executed(_insert(shape), parameters, _first)


@lru_cache(maxsize=64)
def _insert(shape: Any) -> str:
    numbers, parts = count(1), []
    for i, (model, cells) in enumerate(shape):
        of = table(model)
        values = [
            f"{constant if constant is not None else f'${next(numbers)}'}::{column.cast}"
            for column, constant in zip(of.columns.values(), cells, strict=True)
        ]
        parts.append(f'i{i} AS (INSERT INTO "{of.name}" ({_names(of.columns)}) VALUES ({", ".join(values)}))')
    return f"WITH {', '.join(parts)} SELECT 1"


def change_if(model: type[Model], id: UUID, changes: dict[str, Any], column: str, among: list[str]) -> bool:
    """See `store.change_if`."""
    parameters: list[Any] = [id, among]
    cells = _cells(table(model), changes, parameters)
    return bool(_executed(_change(model, cells, column), parameters, _first)[0])


@lru_cache(maxsize=64)
def _change(model: type[Model], cells: Any, column: str) -> str:
    of, numbers = table(model), count(3)
    changed = {
        name: f"{constant if constant is not None else f'${next(numbers)}'}::{of.columns[name].cast}"
        for name, constant in cells
    }
    where = f'WHERE id = $1::uuid AND "{column}" = ANY($2::text[])'
    return (
        f'WITH u AS (UPDATE "{of.name}" SET {_assigned(changed)} {where} RETURNING 1) SELECT count(*) FROM u'
    )


# --- the shape and its parameters -------------------------------------------------------------------------


def _shape_of(ws: WriteSet) -> tuple[Any, list[Any]]:
    """(what the text depends on, its parameters in order)."""
    runs, steps = table(Run), table(Step)
    parameters: list[Any] = [ws.run_id, ws.to_seq]
    if ws.new_run is not None:
        row = runs.row({**ws.new_run, **ws.run_fields, "id": ws.run_id, "seq": ws.to_seq})
        run: Any = ("new", _cells(runs, row, parameters))
    else:
        run = ("at" if ws.from_seq is not None else "held", _cells(runs, ws.run_fields, parameters))
        if ws.from_seq is not None:
            parameters.append(ws.from_seq)
    updates: list[Any] = []
    if len(ws.updates) <= SINGLY:
        for update in ws.updates:
            updates.append(_cells(steps, update.fields, parameters))
            parameters += (update.id, update.status, update.fence)
    else:
        for group in _by_columns(ws.updates):
            cells, varying, records = _split(steps, [u.fields for u in group], parameters)
            for record, u in zip(records, group, strict=True):
                record |= {"id": u.id, "was_status": u.status, "was_fence": u.fence}
            updates.append(("many", cells, varying))
            parameters += (to_json(records), len(records))
    for step in ws.lifted:
        parameters += (step.id, step.status, step.fence)
    inserts: Any
    if len(ws.inserts) <= SINGLY:
        inserts = tuple([_full_row(steps, row, parameters) for row in ws.inserts])
    else:
        cells, varying, records = _split(steps, [steps.row(row) for row in ws.inserts], parameters)
        inserts = ("many", cells, varying)
        parameters.append(to_json(records))
    if ws.attempts:
        parameters.append(to_json([as_record(table(Attempt), row) for row in ws.attempts]))
    if ws.lines:
        parameters += (ws.workspace_id, ws.at, packed(ws.lines))
    if ws.asks:
        parameters += (list(ws.asks), [u.id for u in (*ws.updates, *ws.lifted)])
    shape = (
        run, tuple(updates), len(ws.lifted), inserts, bool(ws.attempts), bool(ws.lines), bool(ws.asks)
    )  # fmt: skip
    return shape, parameters


def _cells(of: Table, values: dict[str, Any], parameters: list[Any]) -> tuple[tuple[str, Any], ...]:
    """(column, constant or None) for each value; what is no constant is added to the parameters."""
    columns = of.columns
    return tuple([(name, _cell(columns[name], value, parameters)) for name, value in values.items()])


def _full_row(of: Table, values: dict[str, Any], parameters: list[Any]) -> tuple[str | None, ...]:
    """The constant, or None, of every column in the table's order. Raises KeyError for an unknown name."""
    cells: list[str | None] = [*of.constants]
    for name in values:
        cells[of.places[name]] = None
    return tuple(
        [
            cell if cell is not None else _cell(column, values[name], parameters)
            for cell, (name, column) in zip(cells, of.columns.items(), strict=True)
        ]
    )


def _cell(column: Column, value: Any, parameters: list[Any]) -> str | None:
    """The text of a value so common that it is part of the statement; None for any other, which becomes a
    parameter."""
    if value is None:
        return "NULL"
    kind = column.kind
    if kind == "int":
        if value == 0 or value == 1:
            return "0" if value == 0 else "1"
    elif kind == "text":
        if value == "":
            return "''"
    elif kind == "bool":
        return "true" if value else "false"
    elif column.is_json:
        if value == [] or value == () or value == {}:
            return "'{}'" if isinstance(value, dict) else "'[]'"
        value = as_text(column, value)
    parameters.append(value)
    return None


def _by_columns(updates: list[StepUpdate]) -> Iterable[list[StepUpdate]]:
    groups: dict[tuple[str, ...], list[StepUpdate]] = {}
    for update in updates:
        groups.setdefault(tuple(sorted(update.fields)), []).append(update)
    return groups.values()


def _split(
    of: Table, rows: list[dict[str, Any]], parameters: list[Any]
) -> tuple[tuple[tuple[str, Any], ...], tuple[str, ...], list[dict[str, Any]]]:
    """What all rows have in common, as `_cells`; the names of the other columns; the rows with only those.

    Steps that come into being or end together differ in a few columns; the rest is said once.
    """
    first, *others = rows
    varying = tuple(
        sorted(
            name
            for name, value in first.items()
            if len({id(row[name]) for row in rows}) > 1
            and any(not _is_same(value, row[name]) for row in others)
        )
    )
    cells = _cells(of, {n: v for n, v in first.items() if n not in varying}, parameters)
    return cells, varying, [as_record(of, {n: row[n] for n in varying}) for row in rows]


def _is_same(one: Any, other: Any) -> bool:
    """1 and true are two things to a database; what stands inside JSON is not looked at."""
    if one is other or type(one) is not type(other):
        return one is other
    return not one and not other if isinstance(one, dict | list | tuple) else bool(one == other)


# --- the text ---------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _text(shape: Any) -> str:
    """The statement of a shape; its parameters are numbered in the order `_shape_of` gives them."""
    (mode, run), updates, lifted, inserts, attempts, lines, asks = shape
    runs, steps = table(Run), table(Step)
    number = 2

    def parameter(cast: str) -> str:
        nonlocal number
        number += 1
        return f"${number}::{cast}"

    def values(of: Table, cells: Any, known: dict[str, str] | None = None) -> dict[str, str]:
        found = {}
        for name, constant in cells:
            cast = of.columns[name].cast
            found[name] = f"{constant}::{cast}" if constant is not None else parameter(cast)
        return found

    parts = []
    if mode == "new":
        row = values(runs, run)
        parts.append(
            f'r AS (INSERT INTO "{runs.name}" ({_names(row)}) VALUES ({", ".join(row.values())}) RETURNING 1)'
        )
    else:
        changed = {"seq": "$2::integer", **values(runs, run)}
        where = " AND seq = " + parameter("integer") if mode == "at" else ""
        parts.append(
            f'r AS (UPDATE "{runs.name}" SET {_assigned(changed)} WHERE id = $1::uuid{where} RETURNING 1)'
        )
    expected = []
    for i, cells in enumerate(updates):
        if cells and cells[0] == "many":
            changed = values(steps, cells[1])
            parts.append(_many_updates(i, steps, changed, cells[2], parameter("jsonb")))
            expected.append(parameter("bigint"))
            continue
        changed = values(steps, cells)
        parts.append(
            f'u{i} AS (UPDATE "{steps.name}" AS s SET {_assigned(changed)} FROM r'
            f" WHERE s.id = {parameter('bigint')} AND s.status = {parameter('text')}"
            f" AND s.fence = {parameter('bigint')} RETURNING 1)"
        )
        expected.append("1")
    for i in range(lifted):
        parts.append(
            f'd{i} AS (DELETE FROM "{steps.name}" AS s USING r WHERE s.id = {parameter("bigint")}'
            f" AND s.status = {parameter('text')} AND s.fence = {parameter('bigint')} RETURNING 1)"
        )
        expected.append("1")
    if inserts and inserts[0] == "many":
        row = values(steps, inserts[1]) | {name: _field(steps, name) for name in inserts[2]}
        parts.append(
            f'i AS (INSERT INTO "{steps.name}" ({_names(row)}) SELECT {", ".join(row.values())}'
            f" FROM r, jsonb_to_recordset({parameter('jsonb')}) AS x({_typed(steps, inserts[2])})"
            " RETURNING id, path)"
        )
    elif inserts:
        rows = [values(steps, zip(steps.columns, cells, strict=True)) for cells in inserts]
        selects = " UNION ALL ".join(f"SELECT {', '.join(row.values())} FROM r" for row in rows)
        parts.append(f'i AS (INSERT INTO "{steps.name}" ({_names(rows[0])}) {selects} RETURNING id, path)')
    if attempts:
        parts.append(_attempts(bool(inserts), parameter("jsonb")))
    if lines:
        parts.append(
            f'e AS (INSERT INTO "{table(EntryBatch).name}" (run_id, seq, workspace_id, at, lines)'
            f" SELECT $1::uuid, $2::integer, {parameter('uuid')}, {parameter('timestamptz')},"
            f" {parameter('text')} FROM r)"
        )
    changed_rows = [*(f"u{i}" for i in range(len(updates))), *(f"d{i}" for i in range(lifted))]
    counted = " + ".join(f"(SELECT count(*) FROM {rows})" for rows in changed_rows)
    guard = (
        f"1 / (CASE WHEN {counted} = (SELECT count(*) FROM r) * ({' + '.join(expected)}) THEN 1 ELSE 0 END)"
        if changed_rows
        else "1"
    )
    ids = "(SELECT array_agg(id) FROM i)" if inserts else "NULL::bigint[]"
    quiet = "false"
    if asks:
        ready = (
            f"status = 'ready' AND queue = ANY({parameter('text[]')}) AND id <> ALL({parameter('bigint[]')})"
        )
        quiet = f'NOT EXISTS (SELECT FROM "{steps.name}" WHERE {ready})'
    return f"WITH {', '.join(parts)} SELECT (SELECT count(*) FROM r), {ids}, {quiet}, {guard}"


def _many_updates(i: int, steps: Table, changed: dict[str, str], names: tuple[str, ...], rows: str) -> str:
    """changed: to the same in all rows; names: columns that each row has for itself."""
    changed = changed | {name: _field(steps, name) for name in names}
    typed = ", ".join(
        ["id bigint", "was_status text", "was_fence bigint", *([_typed(steps, names)] if names else [])]
    )
    return (
        f'u{i} AS (UPDATE "{steps.name}" AS s SET {_assigned(changed)}'
        f" FROM r, jsonb_to_recordset({rows}) AS x({typed})"
        " WHERE s.id = x.id AND s.status = x.was_status AND s.fence = x.was_fence RETURNING 1)"
    )


def _attempts(with_inserts: bool, rows: str) -> str:
    of = table(Attempt)
    names = [name for name in of.columns if name != "step_id"]
    step = "coalesce(x.step_id, i.id)" if with_inserts else "x.step_id"
    join = " LEFT JOIN i ON i.path = x.path" if with_inserts else ""
    fields = ", ".join(_field(of, name) for name in names)
    return (
        f'a AS (INSERT INTO "{of.name}" (step_id, {_names(names)}) SELECT {step}, {fields}'
        f" FROM r CROSS JOIN jsonb_to_recordset({rows})"
        f" AS x(step_id bigint, path text, {_typed(of, names)}){join})"
    )


def _names(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _field(of: Table, name: str) -> str:
    """A member of a record as its column's value. JSON travels as text inside JSON, so that what it holds is
    not taken apart on the way."""
    return f'x."{name}"::jsonb' if of.columns[name].is_json else f'x."{name}"'


def _assigned(values: dict[str, str]) -> str:
    values = values or {"fence": "s.fence"}  # Nothing changes, but it is still looked at.
    return ", ".join(f'"{name}" = {value}' for name, value in values.items())


def _typed(of: Table, names: Any) -> str:
    casts = ((name, "text" if of.columns[name].is_json else of.columns[name].cast) for name in names)
    return ", ".join(f'"{name}" {cast}' for name, cast in casts)


# --- on the wire ------------------------------------------------------------------------------------------


class JsonText(Loader):
    """jsonb as its text: what holds references is told by looking at it, before it is read."""

    format = Format.BINARY

    def load(self, data: Any) -> str:
        return bytes(data[1:]).decode()  # The first byte is the form's version.


_cursors: WeakKeyDictionary[Any, psycopg.Cursor[Any]] = WeakKeyDictionary()


def _cursor_of(raw: Any) -> psycopg.Cursor[Any]:
    """A cursor that binds on the server and gives every whole number one type, so that a text is prepared
    once and not once per size of its numbers. Kept for the connection's life."""
    cursor = _cursors.get(raw)
    if cursor is None:
        cursor = psycopg.RawCursor(raw)
        cursor.adapters.register_dumper(int, Int8BinaryDumper)
        cursor.adapters.register_loader("jsonb", JsonText)
        _cursors[raw] = cursor
    return cursor


def _first(cursor: psycopg.Cursor[Any]) -> Any:
    return cursor.fetchone()


def _rest(cursor: psycopg.Cursor[Any]) -> Any:
    return cursor.fetchall()


def _executed(sql: str, parameters: list[Any], taken: Callable[[psycopg.Cursor[Any]], Any]) -> Any:
    """Send one statement on Django's connection, past its client-side binding; what `taken` makes of it.

    Counted and logged like every other query. Errors come out as Django's.
    """
    db: Any = connections[DEFAULT_DB_ALIAS]  # Once: each look through Django's proxy costs a microsecond.
    db.close_if_health_check_failed()
    if db.connection is None:
        db.ensure_connection()
    if db.needs_rollback:
        db.validate_no_broken_transaction()
    send: Callable[..., Any] = partial(_send, db.connection, taken)
    for wrapper in reversed(db.execute_wrappers):
        send = partial(wrapper, send)
    with db.wrap_database_errors:
        if not db.queries_logged:
            return send(sql, parameters, False, {"connection": db, "cursor": None})
        began = time.monotonic()
        try:
            return send(sql, parameters, False, {"connection": db, "cursor": None})
        finally:
            db.queries_log.append({"sql": sql, "time": f"{time.monotonic() - began:.3f}"})


def _send(
    raw: Any,
    taken: Callable[[psycopg.Cursor[Any]], Any],
    sql: str,
    parameters: Any,
    many: bool,
    context: Any,
) -> Any:
    cursor = _cursor_of(raw)
    before = raw.prepare_threshold
    # Django switches preparing off for poolers that cannot keep statements; here it is most of the gain.
    raw.prepare_threshold = PREPARE_AFTER
    try:
        cursor.execute(sql, parameters, binary=True)
        return taken(cursor)
    finally:
        raw.prepare_threshold = before
