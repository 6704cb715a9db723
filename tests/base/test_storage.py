"""What a database says when it cannot store is told in words that name no host and no file."""

from __future__ import annotations

import pytest

from mirrorneuron.base.storage import storage_trouble


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ("database or disk is full", "storage_full"),
        ('could not extend file "base/1/2": No space left on device', "storage_full"),
        ("attempt to write a readonly database", "read_only"),
        ("cannot execute INSERT in a read-only transaction", "read_only"),
        ('connection to server at "db.internal" failed', "database"),
    ],
)
def test_each_reason_has_its_words_and_gives_nothing_away(said: str, code: str) -> None:
    found = storage_trouble(said)
    assert (found.code, found.status) == (code, 503)
    assert "internal" not in str(found) and "base/1" not in str(found) and found.next
