"""Bounds the body of a request before anything keeps it.

The framework writes a body to the disk before it looks at who sends it, so that a stranger could fill the
disk. Here a body is counted as it arrives; announced or not, too much of it is answered at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

MAX_BODY = 512 * 1024 * 1024
"""Of one request: a form with a few hundred documents fits; each single file has a bound of its own."""
_ANSWER = b"The request is larger than this installation takes. Send fewer or smaller files at once.\n"

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Application = Callable[..., Awaitable[None]]


class _TooMuch(Exception):
    """More has arrived than is taken."""


def bounded(application: Application, max_body: int = MAX_BODY) -> Application:
    """The application, with 413 for a request whose body is larger than max_body."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if _announced(scope) > max_body:
            await _refuse(send)
            return
        arrived, answered = 0, False

        async def counted() -> dict[str, Any]:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body") or b"")
            if arrived > max_body:
                raise _TooMuch
            return message

        async def noted(message: dict[str, Any]) -> None:
            nonlocal answered
            answered = True
            await send(message)

        try:
            await application(scope, counted, noted)
        except _TooMuch:
            if not answered:
                await _refuse(send)

    return call


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:18])
    return 0


async def _refuse(send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(_ANSWER)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 413, "headers": headers})
    await send({"type": "http.response.body", "body": _ANSWER})
