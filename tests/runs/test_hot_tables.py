"""Settings of hot tables: applied once, told apart from what they should be, nothing on SQLite."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection

from apps.runs import hot_tables
from mirrorneuron import servers

pytestmark = pytest.mark.django_db(transaction=True)


def test_every_table_that_is_named_exists():
    tables = set(connection.introspection.table_names())
    assert set(hot_tables.tables()) <= tables
    for label, column in hot_tables.UNCOMPRESSED:
        assert apps.get_model(label)._meta.get_field(column)


def test_they_are_applied_and_doctor_sees_what_is_missing():
    if connection.vendor != "postgresql":
        assert hot_tables.differences() == []
        return
    hot_tables.apply()
    assert hot_tables.differences() == []
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE runs_step RESET (fillfactor, autovacuum_vacuum_scale_factor)")
        cursor.execute("ALTER TABLE ledger_payload ALTER COLUMN data SET STORAGE EXTENDED")
    assert sorted(hot_tables.differences()) == [
        "ledger_payload: data",
        "runs_step: autovacuum_vacuum_scale_factor, fillfactor",
    ]
    # A server without autovacuum is worse still.
    assert servers.vacuum().level != "ok"
    hot_tables.apply()
    hot_tables.apply()
    assert hot_tables.differences() == []
