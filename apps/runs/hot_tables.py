"""How PostgreSQL keeps house in the tables that every step writes; the one place that says so.

The server's defaults wait until a fifth of a table is dead, which for a table of ten million steps is two
million rows, and pack pages full, so that an updated row never finds room beside its old self. These tables
are vacuumed early and in small pieces; pages of rows that are updated often keep some room, so that an update
touches no index. SQLite has nothing of this and needs none.
"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.db import connection

Settings = dict[str, str]

_UPDATED: Settings = {
    "autovacuum_vacuum_scale_factor": "0.02",
    "autovacuum_vacuum_threshold": "500",
    "autovacuum_analyze_scale_factor": "0.05",
    "autovacuum_vacuum_cost_delay": "1",
}
"""Rows that change a few times: dead versions come with every step."""
_APPENDED: Settings = {
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "autovacuum_vacuum_scale_factor": "0.05",
    "autovacuum_analyze_scale_factor": "0.05",
}
"""Rows that are only added, and go together in the end: vacuum marks pages all-visible, so that reading and
deleting them stays cheap."""
_TINY: Settings = {
    "fillfactor": "40",
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "100",
    "autovacuum_vacuum_cost_delay": "0",
}
"""A handful of rows that change all the time."""

HOT_TABLES: dict[str, Settings] = {
    "runs.Run": {"fillfactor": "70", **_UPDATED},
    "runs.Step": {"fillfactor": "85", **_UPDATED},
    "ledger.Effect": {"fillfactor": "80", **_UPDATED},
    "approvals.ApprovalRequest": {"fillfactor": "85", **_UPDATED},
    "ledger.EntryBatch": _APPENDED,
    "runs.Call": _APPENDED,
    "ledger.Evidence": _APPENDED,
    "ledger.PayloadUse": _APPENDED,
    "runs.Worker": _TINY,
    "runs.Slot": _TINY,
    "governance.Bucket": _TINY,
    "governance.Breaker": _TINY,
}
UNCOMPRESSED = (("ledger.Payload", "data"),)
"""Columns whose bytes are compressed already, or cannot be: the database need not try."""


def tables() -> tuple[str, ...]:
    """Their names in the database."""
    return tuple(apps.get_model(label)._meta.db_table for label in HOT_TABLES)


def differences() -> list[str]:
    """What is set otherwise in this database, one short text per table; empty when all is as it should be, or
    when this is not PostgreSQL."""
    return [f"{table}: {', '.join(sorted(changes))}" for table, changes in _missing().items() if changes]


def apply() -> None:
    """Set what is not as it should be. Locks out no reader and no writer, and is done in an instant."""
    for table, changes in _missing().items():
        options = ", ".join(f"{name} = {value}" for name, value in changes.items() if name not in _COLUMNS)
        with connection.cursor() as cursor:
            if options:
                cursor.execute(f'ALTER TABLE "{table}" SET ({options})')
            for column in set(changes) & _COLUMNS:
                cursor.execute(f'ALTER TABLE "{table}" ALTER COLUMN "{column}" SET STORAGE EXTERNAL')


_COLUMNS = {column for _, column in UNCOMPRESSED}


def _missing() -> dict[str, Settings]:
    """By table, what is not set yet; tables that do not exist are left out."""
    if connection.vendor != "postgresql":
        return {}
    found: dict[str, Settings] = {}
    with connection.cursor() as cursor:
        for label, wanted in HOT_TABLES.items():
            table = apps.get_model(label)._meta.db_table
            cursor.execute("SELECT reloptions FROM pg_class WHERE oid = to_regclass(%s)", [f'"{table}"'])
            row = cursor.fetchone()
            if row is not None:
                now = dict(option.split("=", 1) for option in row[0] or ())
                found[table] = {name: value for name, value in wanted.items() if now.get(name) != value}
        for label, column in UNCOMPRESSED:
            table = apps.get_model(label)._meta.db_table
            cursor.execute(
                "SELECT attstorage FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = %s",
                [f'"{table}"', column],
            )
            row = cursor.fetchone()
            if row is not None and _text(row[0]) != "e":
                found.setdefault(table, {})[column] = "external"
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
