"""Live pages: a hint wakes the pump, the pump reads what follows its last seq, the page gets what changed.

The channel layer carries no content and may lose anything. The cursor makes it lossless: a page that
reconnects says which seq it has seen. Without hints the pump looks by itself: seldom where hints reach this
process, more often where they may not, every second while the layer is out of reach, and every quarter second
for a while once a look found something that no hint had told of.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.utils import await_many_dispatch
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils import timezone

from apps.approvals import selectors as approvals
from apps.ledger.live import LAYER_SECONDS, inbox_group, layer_failed, reach_pages, run_group
from apps.runs import selectors as runs
from apps.runs.core.states import RUN_ENDED, RunStatus
from apps.runs.views import event_view
from apps.web.middleware import zone_of
from apps.web.run_page import LIVE, RunPage
from apps.web.views.inbox import SHOWN
from apps.workspaces import access, selectors
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import MirrorNeuronError, NotFound
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.logs import logger

log = logger(__name__)

GONE = 4404
SIGNED_OUT = 4401
COALESCE_SECONDS = 0.08
BATCH = 200
BUSY_SECONDS = 1.0
CALM_SECONDS = 5.0
ENDED_SECONDS = 30.0
HINTED_TIMES = 6
"""Where hints arrive (one process, or a channel layer between them) looks are this much rarer."""
UNTOLD_SECONDS = 0.25
UNTOLD_LASTS = 60.0


class LivePage(AsyncWebsocketConsumer, ABC):
    """What both sockets share: rights at the door, one group, one pump."""

    groups: list[str] = []
    hinted = True
    """Whether the channel layer can be reached; without it the pump polls."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As in channels, but a layer out of reach costs the hints and not the page."""
        self.scope, self.base_send = scope, send
        self.channel_layer: Any = get_channel_layer()
        sources = [receive]
        try:
            self.channel_name = await asyncio.wait_for(self.channel_layer.new_channel(), LAYER_SECONDS)
            sources.append(self._hint_received)
        except Exception as error:
            self._unhinted(error)
        with suppress(StopConsumer):
            await await_many_dispatch(sources, self.dispatch)

    async def _hint_received(self) -> Any:
        while True:
            try:
                return await self.channel_layer.receive(self.channel_name)
            except Exception as error:
                self._unhinted(error)
                await asyncio.sleep(BUSY_SECONDS)

    def _unhinted(self, error: Exception) -> None:
        self.hinted = False
        layer_failed(error)

    async def connect(self) -> None:
        # Accepted before it is refused: a browser only learns the code of a socket that was open.
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.close(code=SIGNED_OUT)
            return
        try:
            group = await database_sync_to_async(self.open)()
        except MirrorNeuronError:
            await self.close(code=GONE)
            return
        self.awake = asyncio.Event()
        self.told = False
        self.untold_until = 0.0
        self.group = group
        if self.hinted:
            await self._join(self.channel_layer.group_add)
        self.awake.set()
        self.pumping = asyncio.create_task(self._pump())

    async def disconnect(self, code: int) -> None:
        if hasattr(self, "pumping"):
            self.pumping.cancel()
        if hasattr(self, "group") and hasattr(self, "channel_name"):
            await self._join(self.channel_layer.group_discard)

    async def _join(self, change: Callable[[str, str], Awaitable[None]]) -> None:
        try:
            await asyncio.wait_for(change(self.group, self.channel_name), LAYER_SECONDS)
        except Exception as error:
            self._unhinted(error)

    async def hint(self, event: dict[str, Any]) -> None:
        self.told = self.hinted = True
        self.awake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Pages say nothing here; everything a person does is a POST."""

    async def _pump(self) -> None:
        try:
            while True:
                try:
                    await asyncio.wait_for(self.awake.wait(), self.patience)
                except TimeoutError:
                    self.told = False
                self.awake.clear()
                if not await database_sync_to_async(self._is_signed_in)():
                    await self.close(code=SIGNED_OUT)
                    return
                found = await self.push()
                if found and not self.told:
                    self.untold_until = time.monotonic() + UNTOLD_LASTS
                self.told = False
                await asyncio.sleep(COALESCE_SECONDS)
        except asyncio.CancelledError:
            raise
        except NotFound:
            await self.close(code=GONE)
        except Exception as error:
            log.exception("live.failed", error=str(error))
            await self.close(code=1011)

    def _is_signed_in(self) -> bool:
        """Whether the session that opened this is still one: nobody signed out or changed the password."""
        key = getattr(self.scope.get("session"), "session_key", None)
        if key is None:
            return True
        request = HttpRequest()
        request.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
        return bool(get_user(request).pk == self.scope["user"].pk)

    @property
    def patience(self) -> float:
        """Seconds until a look without a hint."""
        if time.monotonic() < self.untold_until:
            return UNTOLD_SECONDS
        if not self.hinted:
            return BUSY_SECONDS
        return self.calm * HINTED_TIMES if reach_pages() else self.calm

    calm = CALM_SECONDS

    @abstractmethod
    def open(self) -> str:
        """Check the rights and say which group to follow. Raises MirrorNeuronError for a stranger."""

    @abstractmethod
    async def push(self) -> bool:
        """Send what is new; True when there was something."""

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(self.scope["query_string"].decode())


class RunSocket(LivePage):
    """`/ws/runs/<id>?after=SEQ`: fragments of the run page, with `format=json` events, one a message."""

    principal: Principal

    def open(self) -> str:
        run_id = self.scope["url_route"]["kwargs"]["run_id"]
        self.run_id = run_id
        self.principal, run = _in_workspaces(self.scope["user"], run_id)
        after = self.query.get("after", ["0"])[0][:18]
        self.cursor = min(int(after), run.seq) if after.isdecimal() else 0
        self.as_json = self.query.get("format", [""])[0] == "json"
        self.sent: dict[str, str] = {}
        return run_group(run.id)

    async def push(self) -> bool:
        messages = await database_sync_to_async(self._news)()
        for message in messages:
            await self.send(text_data=message)
        return bool(messages)

    def _news(self) -> list[str]:
        self.principal = access.renewed(self.principal)
        run = runs.run_for(self.principal, self.run_id)
        self.calm = (
            ENDED_SECONDS
            if run.status in RUN_ENDED
            else BUSY_SECONDS
            if run.status in (RunStatus.RUNNING, RunStatus.QUEUED, RunStatus.CANCELLING)
            else CALM_SECONDS
        )
        if run.seq <= self.cursor:
            return []
        if self.as_json:
            entries = runs.events_after(run, self.cursor, limit=BATCH)
            if entries:
                self.cursor = entries[-1].seq
            if len(entries) == BATCH:
                self.awake.set()
            return [json.dumps(event_view(entry)) for entry in entries]
        with timezone.override(zone_of(self.principal.user.time_zone)):
            return [self._fragments(RunPage(self.principal, run))]

    def _fragments(self, shown: RunPage) -> str:
        news = shown.events_after(self.cursor)
        drawn = shown.fragments(LIVE)
        parts = [html for name, html in drawn.items() if self.sent.get(name) != html]
        self.sent = drawn
        context = {**shown.context(), "events": news}
        parts.append(render_to_string("runs/_events.html", context))
        # The cursor goes last: a page that dies in between asks for this batch again.
        parts.append(render_to_string("runs/_live.html", context))
        self.cursor = max([self.cursor, *(event["seq"] for event in news)])
        return "".join(parts)


class InboxSocket(LivePage):
    """`/ws/inbox`: the count in the rail; with `list=open` the list too, `current` marked in it.

    With `asks` the page asks for an answer to `current`, and is told when there is nothing more to answer.
    """

    principal: Principal

    def open(self) -> str:
        user = self.scope["user"]
        mine = list(selectors.workspaces_for(user))
        chosen = (self.scope.get("session") or {}).get("workspace")
        workspace = next((w for w in mine if str(w.id) == chosen), mine[0] if mine else None)
        if workspace is None:
            raise NotFound("No workspace.")
        self.principal = access.principal_for(user, workspace, "web")
        self.sent = ""
        self.with_list = "list" in self.query
        self.current = as_uuid(self.query.get("current", [""])[0])
        self.asks = "asks" in self.query
        return inbox_group(workspace.id)

    async def push(self) -> bool:
        html = await database_sync_to_async(self._drawn)()
        if html == self.sent:
            return False
        first, self.sent = not self.sent, html
        await self.send(text_data=html)
        return not first

    def _drawn(self) -> str:
        self.principal = access.renewed(self.principal)
        with timezone.override(zone_of(self.principal.user.time_zone)):
            count = approvals.inbox_count(self.principal)
            if not self.with_list:
                return render_to_string("inbox/_live.html", {"count": count, "oob": True})
            rows = list(approvals.requests_for(self.principal)[:SHOWN])
            context = {"rows": rows, "count": count, "with_list": True, "current": self.current}
            context["closed"] = self._closed()
            return render_to_string("inbox/_live.html", context | {"oob": True})

    def _closed(self) -> Any:
        """The question the page shows, once nobody can answer it any more; None before."""
        if self.current is None or not self.asks:
            return None
        try:
            asked = approvals.request_for(self.principal, self.current)
        except NotFound:
            return None
        return None if asked.is_pending else asked


def _in_workspaces(user: Any, run_id: Any) -> tuple[Principal, Any]:
    for workspace in selectors.workspaces_for(user):
        principal = access.principal_for(user, workspace, "web")
        try:
            return principal, runs.run_for(principal, run_id)
        except NotFound:
            continue
    raise NotFound(f"There is no run {run_id}.")
