"""Times come back from the database exactly as they were written, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from django.db import connection
from psycopg import DataError

from apps.workspaces.models import Workspace
from mirrorneuron.base.postgres.base import UtcLoader

LOADER = UtcLoader(1184)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"2026-03-01 09:00:00+00", datetime(2026, 3, 1, 9, tzinfo=UTC)),
        (b"2026-03-01 09:00:00.25+00", datetime(2026, 3, 1, 9, 0, 0, 250_000, tzinfo=UTC)),
        (b"2026-03-01 09:00:00.123456+00", datetime(2026, 3, 1, 9, 0, 0, 123_456, tzinfo=UTC)),
        (b"0001-01-01 00:00:00+00", datetime(1, 1, 1, tzinfo=UTC)),
        (b"2026-03-01 14:30:00+05:30", datetime(2026, 3, 1, 9, tzinfo=UTC)),
    ],
)
def test_what_postgresql_sends_is_understood(sent: bytes, expected: datetime) -> None:
    found = LOADER.load(memoryview(sent))

    assert found == expected
    assert found.utcoffset() is not None


@pytest.mark.parametrize("sent", [b"infinity", b"0044-03-15 12:00:00+00 BC"])
def test_what_python_has_no_time_for_is_refused_as_ever(sent: bytes) -> None:
    with pytest.raises(DataError):
        LOADER.load(sent)


def test_a_time_survives_the_database(workspace: Workspace) -> None:
    at = datetime(2026, 3, 1, 10, 30, 0, 123_456, tzinfo=timezone(timedelta(hours=1, minutes=30)))

    Workspace.objects.filter(id=workspace.id).update(created_at=at)

    found = Workspace.objects.get(id=workspace.id).created_at
    assert found == at
    assert found.tzinfo is UTC


@pytest.mark.django_db
def test_the_postgresql_backend_uses_it() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite keeps times as text")
    connection.ensure_connection()

    assert connection.connection.adapters.get_loader(1184, 0) is UtcLoader
    with connection.cursor() as cursor:
        cursor.execute("SELECT '2026-03-01 09:00:00.5+00'::timestamptz")
        assert cursor.fetchone() == (datetime(2026, 3, 1, 9, 0, 0, 500_000, tzinfo=UTC),)
