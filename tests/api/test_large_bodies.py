"""A body that is too large is refused before it is kept, whoever sends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from mirrorneuron.bounded import bounded


def ask(chunks: list[bytes], headers: list[tuple[bytes, bytes]] | None = None) -> tuple[int, int]:
    """(status, bytes that reached the application)."""
    kept = 0
    waiting: Iterator[bytes] = iter(chunks)
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        nonlocal kept
        more = True
        while more:
            message = await receive()
            kept, more = kept + len(message["body"]), message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        body = next(waiting, b"")
        return {"type": "http.request", "body": body, "more_body": bool(body)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async_to_sync(bounded(application, 10))({"type": "http", "headers": headers or []}, receive, send)
    return sent[0]["status"], kept


def test_a_body_that_fits_arrives_whole() -> None:
    assert ask([b"12345", b"67890"]) == (200, 10)


def test_an_announced_body_is_refused_unread() -> None:
    assert ask([b"x" * 20], [(b"content-length", b"20")]) == (413, 0)


@pytest.mark.parametrize("announced", [b"5", b"-1", b"many"])
def test_a_body_that_was_not_announced_is_counted(announced: bytes) -> None:
    status, kept = ask([b"12345"] * 1000, [(b"content-length", announced)])
    assert status == 413 and kept <= 10
