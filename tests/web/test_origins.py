"""A page of somebody else opens no socket with a person's cookie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from mirrorneuron.same_origin import is_ours, same_origin


@pytest.fixture(autouse=True)
def hosts(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]", ".team.example"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://flows.team.example"]


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:8000", "localhost:8000"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("https://flows.team.example", "flows.team.example"),
        ("https://flows.team.example", "inner:8000"),  # behind a proxy that asks under another name
    ],
)
def test_our_own_pages_may(origin: str, host: str) -> None:
    assert is_ours(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:3000", "localhost:8000"),  # another program of the same laptop
        ("http://127.0.0.1:8000", "localhost:8000"),
        ("http://evil.example", "localhost:8000"),
        ("http://evil.example", "evil.example"),  # a name made to point here
        ("https://other.team.example", "flows.team.example"),
        ("https://flows.team.example.evil.example", "flows.team.example"),
        ("http://user@localhost:8000", "localhost:8000"),
        ("null", "localhost:8000"),
        ("", ""),
        ("", "localhost:8000"),
        ("http://[", "["),
        ("file://localhost:8000", "localhost:8000"),
    ],
)
def test_other_pages_may_not(origin: str, host: str) -> None:
    assert not is_ours(origin, host)


def test_a_foreign_page_never_reaches_the_socket() -> None:
    reached: list[Any] = []
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope)

    said: Iterator[dict[str, Any]] = iter(
        [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    )

    async def receive() -> dict[str, Any]:
        return next(said)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    def opened_by(origin: bytes) -> None:
        headers = [(b"host", b"localhost:8000"), (b"origin", origin)]
        async_to_sync(same_origin(application))({"type": "websocket", "headers": headers}, receive, send)

    opened_by(b"http://localhost:3000")
    assert not reached and sent[-1]["type"] == "websocket.close"
    opened_by(b"http://localhost:8000")
    assert len(reached) == 1
