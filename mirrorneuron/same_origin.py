"""Lets only our own pages open a websocket.

A browser sends a person's cookie along with a websocket opened by any page of the same site, and every port
of `localhost` is one site. So the origin must be the very host and port that was asked, or one of the
addresses we are known by.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host

Application = Callable[..., Awaitable[None]]


def same_origin(application: Application) -> Application:
    """The application, closed to websockets from pages that are not ours and from what is no page."""

    async def call(scope: dict[str, Any], receive: Any, send: Any) -> None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        if is_ours(headers.get(b"origin", ""), headers.get(b"host", "")):
            await application(scope, receive, send)
        else:
            await WebsocketDenier()(scope, receive, send)

    return call


def is_ours(origin: str, host: str) -> bool:
    """Whether a page of this origin belongs to the host that was asked. Both as the browser sent them."""
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    try:
        page = urlsplit(origin)
    except ValueError:
        return False
    named, _ = split_domain_port(host)
    return (
        page.scheme in ("http", "https")
        and page.netloc.lower() == host.lower()
        and validate_host(named, settings.ALLOWED_HOSTS)
    )
