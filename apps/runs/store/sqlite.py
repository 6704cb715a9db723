"""SQLite: a decision as the fewest statements, in one transaction under the house's write lock."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Model

from apps.ledger.core.lines import packed
from apps.ledger.models import EntryBatch
from apps.runs.errors import StaleStep
from apps.runs.models import Attempt, Run, Step
from apps.runs.store.rows import Table, WriteSet, for_sqlite, from_json, from_payload, table

_LIFT = 'DELETE FROM "{}" WHERE id = %s AND status = %s AND fence = %s'


def write(ws: WriteSet) -> list[int] | None:
    """See `store.write`."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not _write_run(cursor, ws):
            return None
        steps = table(Step)
        for update in ws.updates:
            cursor.execute(
                _update(Step, tuple(update.fields), ("id", "status", "fence")),
                [*_values(steps, update.fields), update.id, update.status, update.fence],
            )
            if cursor.rowcount != 1:
                raise StaleStep(f'Step "{update.path}" of run {ws.run_id} has moved on.')
        for step in ws.lifted:
            cursor.execute(_LIFT.format(steps.name), [step.id, step.status, step.fence])
            if cursor.rowcount != 1:
                raise StaleStep(f'Step "{step.path}" of run {ws.run_id} has moved on.')
        ids: dict[str, int] = {}
        for values in ws.inserts:
            row = steps.row(values)
            cursor.execute(_insert(Step), _values(steps, row))
            ids[row["path"]] = cursor.lastrowid
        for values in ws.attempts:
            known = {name: value for name, value in values.items() if name != "path"}
            known.setdefault("step_id", ids.get(values.get("path", "")))
            attempts = table(Attempt)
            cursor.execute(_insert(Attempt), _values(attempts, attempts.row(known)))
        if ws.lines:
            entries = table(EntryBatch)
            batch = {
                "run_id": ws.run_id, "seq": ws.to_seq, "workspace_id": ws.workspace_id, "at": ws.at,
                "lines": packed(ws.lines),
            }  # fmt: skip
            cursor.execute(_insert(EntryBatch), _values(entries, entries.row(batch)))
        return list(ids.values())


def select(model: type[Model], names: tuple[str, ...], where: str, values: list[Any]) -> list[list[Any]]:
    """Rows with these columns. where: what follows FROM, with a `{}` for each of the values in turn; a list
    stands for all of its members."""
    of = table(model)
    marks = [", ".join(["%s"] * len(v)) if isinstance(v, list) else "%s" for v in values]
    flat = [x for v in values for x in (v if isinstance(v, list) else [v])]
    listed = ", ".join(f'"{name}"' for name in names)
    sql = f'SELECT {listed} FROM "{of.name}" {where.format(*marks)}'
    readers = _readers(model, names)
    rows = []
    with connection.cursor() as cursor:
        cursor.execute(sql, [x.hex if isinstance(x, UUID) else x for x in flat])
        for found in cursor.fetchall():
            row = list(found)
            for i, read in readers:
                if row[i] is not None:
                    row[i] = read(row[i])
            rows.append(row)
    return rows


def insert(rows: list[tuple[type[Model], dict[str, Any]]]) -> None:
    """See `store.insert`."""
    with connection.cursor() as cursor:
        for model, values in rows:
            of = table(model)
            cursor.execute(_insert(model), _values(of, of.row(values)))


def change_if(model: type[Model], id: UUID, changes: dict[str, Any], column: str, among: list[str]) -> bool:
    """See `store.change_if`."""
    of = table(model)
    assigned = ", ".join(f'"{name}" = %s' for name in changes)
    where = f'id = %s AND "{column}" IN ({", ".join(["%s"] * len(among))})'
    with connection.cursor() as cursor:
        cursor.execute(
            f'UPDATE "{of.name}" SET {assigned} WHERE {where}', [*_values(of, changes), id.hex, *among]
        )
        return bool(cursor.rowcount == 1)


@lru_cache(maxsize=64)
def _readers(model: type[Model], names: tuple[str, ...]) -> list[tuple[int, Any]]:
    of = {
        "json": from_json, "payload": from_payload, "uuid": UUID, "bool": bool, "time": _moment,
    }  # fmt: skip
    columns = table(model).columns
    kinds = [(i, columns[name].kind) for i, name in enumerate(names) if name in columns]
    return [(i, of[kind]) for i, kind in kinds if kind in of]


def _moment(naive: datetime) -> datetime:
    """Django has the driver read moments already, as it stores them: in UTC without saying so."""
    return naive.replace(tzinfo=UTC)


def _write_run(cursor: Any, ws: WriteSet) -> bool:
    runs = table(Run)
    if ws.new_run is not None:
        row = runs.row({**ws.new_run, **ws.run_fields, "id": ws.run_id, "seq": ws.to_seq})
        cursor.execute(_insert(Run), _values(runs, row))
        return True
    changed = {**ws.run_fields, "seq": ws.to_seq}
    where, values = ("id",), [ws.run_id.hex]
    if ws.from_seq is not None:
        where, values = ("id", "seq"), [ws.run_id.hex, ws.from_seq]  # type: ignore[assignment, list-item]
    cursor.execute(_update(Run, tuple(changed), where), [*_values(runs, changed), *values])
    return bool(cursor.rowcount == 1)


def _values(of: Table, values: dict[str, Any]) -> list[Any]:
    return [for_sqlite(of.columns[name], value) for name, value in values.items()]


@lru_cache(maxsize=16)
def _insert(model: Any) -> str:
    of = table(model)
    names = ", ".join(f'"{name}"' for name in of.columns)
    return f'INSERT INTO "{of.name}" ({names}) VALUES ({", ".join(["%s"] * len(of.columns))})'


@lru_cache(maxsize=512)
def _update(model: Any, names: tuple[str, ...], where: tuple[str, ...]) -> str:
    assigned = ", ".join(f'"{name}" = %s' for name in names) or "fence = fence"
    return f'UPDATE "{table(model).name}" SET {assigned} WHERE ' + " AND ".join(f"{n} = %s" for n in where)
