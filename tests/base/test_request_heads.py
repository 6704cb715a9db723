"""A head without end: the connection is closed, and nothing of it kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from mirrorneuron.request_heads import MAX_HEAD, BoundedHeads
from mirrorneuron.serve import page_server


class Wire(asyncio.Transport):
    """What the server writes, and whether it has hung up."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def said(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})


def sent(*pieces: bytes) -> Wire:
    async def talk() -> Wire:
        config = uvicorn.Config(said, log_config=None, access_log=False)
        config.load()
        protocol = BoundedHeads(config, ServerState(), {})
        wire = Wire()
        protocol.connection_made(wire)
        for piece in pieces:
            if wire.closed:
                break
            protocol.data_received(piece)
            for _ in range(9):
                await asyncio.sleep(0)  # The application has its turns.
        protocol.connection_lost(None)
        return wire

    return asyncio.run(talk())


PIECE = b"a" * 32_768
BEGIN = b"POST /x HTTP/1.1\r\nHost: a.example\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        [BEGIN, b"x: ", *[PIECE] * 100],
        [BEGIN, *[b"x: 1\r\n" * 5_000] * 100],
        [BEGIN, *[PIECE] * 100],
        [b"GET /", *[PIECE] * 100],
        [BEGIN, b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: ", *[PIECE] * 100],
    ],
    ids=["value", "many", "name", "address", "trailer"],
)
def test_a_head_without_end_is_refused(pieces: list[bytes]) -> None:
    wire = sent(*pieces)
    assert wire.closed and wire.written.startswith(b"HTTP/1.1 400")
    assert b"too large" in wire.written


def test_a_second_request_is_bounded_too() -> None:
    first = BEGIN + b"Content-Length: 0\r\n\r\n"
    wire = sent(first, BEGIN, b"x: ", *[PIECE] * 10)
    assert wire.closed and wire.written.count(b"HTTP/1.1 200") == 1 and b"too large" in wire.written


def test_a_large_body_and_a_usual_head_pass() -> None:
    size = 20 * len(PIECE)
    head = BEGIN + b"cookie: " + b"c" * 8_000 + f"\r\nContent-Length: {size}\r\n\r\n".encode()
    assert size > MAX_HEAD
    wire = sent(head[:5_000], head[5_000:], *[PIECE] * 20)
    assert b"HTTP/1.1 200" in wire.written and str(size).encode() in wire.written
    assert b"too large" not in wire.written


def test_the_pages_are_served_that_way() -> None:
    assert page_server(graceful_seconds=1).config.http is BoundedHeads
