"""Commits that go wrong in the one way nobody can see: they happen, and the answer is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import OperationalError, connections


@contextmanager
def answer_lost(nth: int) -> Iterator[None]:
    """The nth commit from now on happens, but reports a broken connection."""
    connection = connections["default"]
    real, seen = connection._commit, 0

    def commit() -> None:
        nonlocal seen
        real()
        seen += 1
        if seen == nth:
            raise OperationalError("server closed the connection unexpectedly")

    connection._commit = commit
    try:
        yield
    finally:
        connection._commit = real
