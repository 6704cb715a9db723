"""The ASGI application: pages and API over HTTP, live pages over websockets of our own hosts only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
_http = get_asgi_application()  # Sets Django up; everything below may import models.

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from apps.ledger import live  # noqa: E402
from apps.web.routing import websocket_urlpatterns  # noqa: E402
from mirrorneuron.bounded import bounded  # noqa: E402
from mirrorneuron.same_origin import same_origin  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_router: Any = ProtocolTypeRouter(
    {
        "http": bounded(_http),
        "websocket": same_origin(AuthMiddlewareStack(URLRouter(websocket_urlpatterns))),
    }
)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """One connection. The server's loop is where live hints of this process are delivered."""
    live.serve_from(asyncio.get_running_loop())
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        await _router(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
