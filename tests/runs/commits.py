"""Commits that go wrong in the one way nobody can see: they happen, and the answer is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError, connections


@contextmanager
def each_commit(then: Callable[[], None]) -> Iterator[None]:
    """Call `then` after every commit: of a transaction, and of a writing statement outside of one."""
    connection = connections["default"]
    real = connection._commit

    def commit() -> None:
        real()
        then()

    def alone(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if not connection.in_atomic_block and sql.startswith("WITH r AS "):
            then()
        return result

    connection._commit = commit
    try:
        with connection.execute_wrapper(alone):
            yield
    finally:
        connection._commit = real


@contextmanager
def answer_lost(nth: int) -> Iterator[None]:
    """The nth commit from now on happens, but reports a broken connection."""
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            raise OperationalError("server closed the connection unexpectedly")

    with each_commit(count):
        yield
