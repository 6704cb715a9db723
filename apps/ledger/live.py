"""Live hints: "run R has something new". They carry no content and may be lost.

A page reads what follows its last `seq` when a hint comes, and once a second after one was missed, so a hint
is only about speed. Hints go out after commit and are coalesced per run, never inside a transaction. In the
web process they enter its own event loop. To other processes they go from one background thread: through the
channel layer (Redis, CHANNEL_URL), or without one through PostgreSQL (`notices`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer

from apps.ledger.notices import Listener, Sender
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
HINT = {"type": "hint"}
LAYER_SECONDS = 2.0
"""A channel layer that takes longer than this to answer counts as gone."""
COMPLAINS_SECONDS = 60.0
_server_loop: asyncio.AbstractEventLoop | None = None
_pending: set[str] = set()
_lock = threading.Lock()


def run_group(run_id: UUID) -> str:
    return f"run.{run_id.hex}"


def inbox_group(workspace_id: UUID) -> str:
    return f"inbox.{workspace_id.hex}"


def serve_from(loop: asyncio.AbstractEventLoop) -> None:
    """Tell hints which loop the pages of this process live on."""
    global _server_loop, _listener
    _server_loop = loop
    if _by_database() and _listener is None:
        _listener = Listener(_tell, layer_failed)
        _listener.start()
    logging.getLogger("channels_redis.pubsub").addFilter(_brief)


_listener: Listener | None = None


def _by_database() -> bool:
    """Whether other processes are told through PostgreSQL."""
    return not config().is_sqlite and not config().channel_url


def reach_pages() -> bool:
    """Whether the hints of all processes reach the pages of this one; else pages look by themselves."""
    if _by_database():
        return _listener is not None and _listener.is_sound
    return bool(config().channel_url) or config().embedded


_complained_at = -COMPLAINS_SECONDS


def layer_failed(error: object) -> None:
    """Say that hints do not travel, once a minute however many pages and workers notice it."""
    global _complained_at
    with _lock:
        if time.monotonic() - _complained_at < COMPLAINS_SECONDS:
            return
        _complained_at = time.monotonic()
    log.warning("live.hints_lost", error=str(error) or type(error).__name__, next="Pages poll meanwhile.")


def _brief(record: logging.LogRecord) -> bool:
    """Keep the layer's own traceback of every second out of the log."""
    if record.exc_info:
        layer_failed(record.exc_info[1])
        return False
    return True


def announce(*groups: str) -> None:
    """Hint every page that follows one of these groups. Never raises, never blocks."""
    if _by_database():
        _sender.send(groups)
    _tell(groups)


def _tell(groups: Iterable[str]) -> None:
    loop = _server_loop or _background_loop()
    if loop is None or loop.is_closed():
        return
    with _lock:
        fresh = [g for g in groups if g not in _pending]
        _pending.update(fresh)
    if not fresh:
        return
    try:
        loop.call_soon_threadsafe(_spawn, fresh)
    except RuntimeError:  # The loop was closed meanwhile; pages poll.
        with _lock:
            _pending.difference_update(fresh)


_sender = Sender(layer_failed)
_tasks: set[asyncio.Task[None]] = set()


def _spawn(groups: list[str]) -> None:
    task = asyncio.get_running_loop().create_task(_send(groups))
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)


async def _send(groups: list[str]) -> None:
    with _lock:
        _pending.difference_update(groups)
    layer: Any = get_channel_layer()
    for group in groups:
        try:
            await asyncio.wait_for(layer.group_send(group, HINT), LAYER_SECONDS)
        except Exception as exc:  # a hint: pages poll
            layer_failed(exc)
            return


_background: asyncio.AbstractEventLoop | None = None


def _background_loop() -> asyncio.AbstractEventLoop | None:
    global _background
    if not config().channel_url:
        return None  # No way to reach another process; its pages poll.
    with _lock:
        if _background is None:
            _background = asyncio.new_event_loop()
            threading.Thread(target=_background.run_forever, name="live-hints", daemon=True).start()
    return _background
