"""A database that cannot store a change of the draft: said in words, nothing half stored, done later once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from apps.blueprints.models import Draft, DraftOperation
from apps.blueprints.services import import_blueprint
from apps.workspaces.models import User
from tests.api.conftest import SOURCE, Caller, CallerOf
from tests.api.test_drafts import ASKED, DRAFT, send, titled

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hers(alice: User, caller: CallerOf, principal: Callable[..., Any]) -> Caller:
    import_blueprint(principal(alice), SOURCE)
    return caller(alice)


@pytest.fixture
def refusing() -> Iterator[Callable[[bool], None]]:
    """`refusing(True)`: this connection's database takes no more, as far as it can be made to."""

    def set_to(refuses: bool) -> None:
        with connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.execute("VACUUM")  # Pages that other tests have left free would be taken first.
                # Never less than there are: the next page that is needed is one too many.
                cursor.execute(f"PRAGMA max_page_count = {1 if refuses else 1 << 30}")
            else:
                cursor.execute(f"SET default_transaction_read_only = {'on' if refuses else 'off'}")

    yield set_to
    set_to(False)


def test_a_change_that_cannot_be_stored_is_refused_whole_and_taken_once_later(
    hers: Caller, refusing: Callable[[bool], None]
) -> None:
    hers.get(DRAFT)
    before = Draft.objects.get().source
    change, large = titled(ASKED, "Hers"), titled(None, "x" * 150_000, node="bye")
    refusing(True)
    refused = send(hers, 0, change, large)
    body = refused.json()
    assert refused.status_code == 503 and body["next"]
    if connection.vendor == "sqlite":
        assert (body["code"], body["detail"]) == (
            "storage_full", "The server's disk is full, so nothing can be stored.",
        )  # fmt: skip
    else:
        assert (body["code"], body["detail"]) == ("read_only", "The database takes no changes just now.")
    refusing(False)
    assert Draft.objects.get().source == before and not DraftOperation.objects.exists()

    for _ in range(2):
        assert send(hers, 0, change, large).status_code == 200
    assert DraftOperation.objects.count() == 2 and "Hers" in Draft.objects.get().source
