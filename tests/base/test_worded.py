"""A question that is worded once finds what Django finds, whatever it is asked with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from apps.workspaces.models import AuditEntry, Workspace
from mirrorneuron.base.worded import Worded

pytestmark = pytest.mark.django_db
SOME_DAY = datetime(1987, 6, 5, 4, 3, 2, tzinfo=UTC)
SOME_ID = UUID("01980000-0000-7000-8000-00006d61726b")
AT = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


@pytest.fixture
def entries():
    here, there = (Workspace.objects.create(slug=slug, name=slug) for slug in ("here", "there"))
    made = [
        AuditEntry.objects.create(workspace=place, at=AT + timedelta(hours=n), action="did", data={"n": n})
        for place in (here, there)
        for n in range(3)
    ]
    return here, there, made


def later(workspace_id, at):
    found = AuditEntry.objects.filter(workspace_id=workspace_id, at__gt=at).order_by("at")
    return found.values_list("workspace_id", "at", "data")


def test_rows_are_as_django_has_them(entries):
    here, there, _ = entries
    question = Worded(later, SOME_ID, SOME_DAY)

    for place in (here, there):
        for at in (AT, AT + timedelta(hours=1)):
            assert [tuple(row) for row in question.rows(place.id, at)] == list(later(place.id, at))


def test_whether_there_is_any(entries):
    here, _, _ = entries
    question = Worded(later, SOME_ID, SOME_DAY, exists=True)

    assert question.is_any(here.id, AT)
    assert not question.is_any(here.id, AT + timedelta(hours=2))
    assert not question.is_any(SOME_ID, AT)


def test_a_value_without_a_place_is_not_asked_for(entries):
    with pytest.raises(AssertionError, match="has a place"):
        Worded(lambda at: AuditEntry.objects.all(), SOME_DAY)
