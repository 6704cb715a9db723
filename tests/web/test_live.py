"""The sockets: rights at the door, nothing missed, only what changed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from channels.routing import URLRouter
from django.contrib.auth.models import AnonymousUser

from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.ledger import live as ledger_live
from apps.ledger.live import inbox_group, run_group
from apps.runs.models import Run
from apps.web import consumers
from apps.web.routing import websocket_urlpatterns
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from tests.approvals.conftest import Ask
from tests.runs.engine import work_all

pytestmark = pytest.mark.django_db(transaction=True)
PrincipalOf = Callable[..., Principal]


class Socket(ApplicationCommunicator):
    """A browser's end of a socket (channels' own needs a server we do not use)."""

    def __init__(self, path: str, user: Any, session: Any = None) -> None:
        address, _, query = path.partition("?")
        scope = {"type": "websocket", "path": address, "query_string": query.encode(), "headers": []}
        super().__init__(
            URLRouter(websocket_urlpatterns),
            scope | {"subprotocols": [], "user": user, "session": session or {}},
        )

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return bool((await self.receive_output(5))["type"] == "websocket.accept")

    async def say(self, text: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text})

    async def text(self, timeout: float = 5) -> str:
        message = await self.receive_output(timeout)
        assert message["type"] == "websocket.send", message
        return str(message["text"])

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)

    async def events(self, upto: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while not found or found[-1]["seq"] < upto:
            found.append(json.loads(await self.text()))
        return found

    async def closed_with(self) -> int:
        message = await self.receive_output(5)
        assert message["type"] == "websocket.close", message
        return int(message["code"])


def live(test: Callable[..., Any]) -> None:
    async_to_sync(test)()


@pytest.fixture
def question(ask: Ask) -> ApprovalRequest:
    return ask()


def test_a_stranger_is_shown_the_door(question: ApprovalRequest, charlie: User) -> None:
    async def story() -> None:
        for user, code in ((charlie, 4404), (AnonymousUser(), 4401)):
            socket = Socket(f"/ws/runs/{question.run_id}?after=0&format=json", user)
            assert await socket.connect()
            assert await socket.closed_with() == code

    live(story)


def test_a_member_who_left_is_told_nothing_more(question: ApprovalRequest, bob: User) -> None:
    seq = Run.objects.get(id=question.run_id).seq
    layer = get_channel_layer()

    async def story() -> None:
        sockets = [
            Socket(f"/ws/runs/{question.run_id}?after={seq}&format=json", bob),
            Socket("/ws/inbox?list=open", bob),
        ]
        for socket in sockets:
            await socket.connect()
        await sockets[1].text()
        await database_sync_to_async(bob.memberships.all().delete)()
        for group in (run_group(question.run_id), inbox_group(question.workspace_id)):
            await layer.group_send(group, {"type": "hint"})
        for socket in sockets:
            assert await socket.closed_with() == 4404

    live(story)


@pytest.mark.parametrize("after", ["²", "9" * 5000, "-1", "x", "%00"])
def test_an_odd_place_to_start_from_is_no_failure(question: ApprovalRequest, bob: User, after: str) -> None:
    async def story() -> None:
        socket = Socket(f"/ws/runs/{question.run_id}?after={after}&format=json", bob)
        assert await socket.connect()
        await socket.disconnect()

    live(story)


def test_events_come_as_json_from_where_the_reader_stopped(question: ApprovalRequest, bob: User) -> None:
    seq = Run.objects.get(id=question.run_id).seq

    async def story() -> None:
        first = Socket(f"/ws/runs/{question.run_id}?format=json", bob)
        await first.connect()
        told = await first.events(seq)
        assert [event["seq"] for event in told] == list(range(1, seq + 1))
        assert set(told[0]) == {"seq", "at", "kind", "step", "attempt", "data"}
        await first.disconnect()
        again = Socket(f"/ws/runs/{question.run_id}?after={seq - 2}&format=json", bob)
        await again.connect()
        assert [event["seq"] for event in await again.events(seq)] == [seq - 1, seq]
        await again.disconnect()

    live(story)


def test_a_long_history_arrives_whole(
    question: ApprovalRequest, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "BATCH", 3)
    seq = Run.objects.get(id=question.run_id).seq

    async def story() -> None:
        socket = Socket(f"/ws/runs/{question.run_id}?after=0&format=json", bob)
        await socket.connect()
        assert [event["seq"] for event in await socket.events(seq)] == list(range(1, seq + 1))
        await socket.disconnect()

    live(story)


def test_a_page_gets_what_changed_and_its_new_cursor(
    question: ApprovalRequest, bob: User, principal: PrincipalOf
) -> None:
    before = Run.objects.get(id=question.run_id).seq

    who = principal(bob)

    async def story() -> None:
        socket = Socket(f"/ws/runs/{question.run_id}?after={before}", bob)
        await socket.connect()
        assert await socket.receive_nothing(0.4)
        await database_sync_to_async(decide)(who, question.id, verb="reject", reason="No.")
        await database_sync_to_async(work_all)()
        await get_channel_layer().group_send(run_group(question.run_id), {"type": "hint"})
        html = await socket.text()
        after = (await database_sync_to_async(Run.objects.get)(id=question.run_id)).seq
        for part in ("run-head", "run-timeline", "run-picture", "run-next"):
            assert f'id="{part}"' in html
        seqs = [int(seq) for seq in re.findall(r'<li id="seq-(\d+)"', html)]
        assert seqs == list(range(before + 1, after + 1))
        assert f'id="run-cursor" data-seq="{after}"' in html
        assert 'hx-swap-oob="beforeend:#run-events"' in html and "{{" not in html
        await socket.disconnect()

    live(story)


def test_nothing_is_missed_without_any_hint(
    question: ApprovalRequest, bob: User, principal: PrincipalOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BUSY_SECONDS", "CALM_SECONDS"):
        monkeypatch.setattr(consumers, name, 0.05)

    who = principal(bob)

    async def story() -> None:
        before = (await database_sync_to_async(Run.objects.get)(id=question.run_id)).seq
        socket = Socket(f"/ws/runs/{question.run_id}?after={before}&format=json", bob)
        await socket.connect()
        await database_sync_to_async(decide)(who, question.id, verb="approve")
        told = json.loads(await socket.text())
        assert told["seq"] == before + 1
        await socket.disconnect()

    live(story)


def test_a_cursor_from_the_future_or_from_nowhere_does_no_harm(question: ApprovalRequest, bob: User) -> None:
    async def story() -> None:
        for after in ("999999", "-1", "x", ""):
            socket = Socket(f"/ws/runs/{question.run_id}?after={after}&format=json", bob)
            assert await socket.connect()
            await socket.say("hello")
            await asyncio.sleep(0.05)
            await socket.disconnect()

    live(story)


def test_the_inbox_socket_counts_and_lists(
    question: ApprovalRequest, bob: User, principal: PrincipalOf
) -> None:
    workspace = question.workspace_id

    who = principal(bob)

    async def story() -> None:
        rail = Socket("/ws/inbox", bob)
        inbox = Socket(f"/ws/inbox?list=open&current={question.id}&asks=yes", bob)
        await rail.connect()
        await inbox.connect()
        first, listed = await rail.text(), await inbox.text()
        assert re.search(r'id="inbox-count"[^>]*>1<', first) and "inbox-list" not in first
        assert f'data-request-id="{question.id}"' in listed and 'aria-current="true"' in listed
        await database_sync_to_async(decide)(who, question.id, verb="reject", reason="No.")
        await get_channel_layer().group_send(inbox_group(workspace), {"type": "hint"})
        assert re.search(r'id="inbox-count"[^>]*></span>', await rail.text())
        # Who has the question open is told, and what they are writing stays where it is.
        assert "card-news" not in listed
        settled = await inbox.text()
        assert 'id="card-news"' in settled and "Rejected" in settled and "approval-card" not in settled
        await rail.disconnect()
        await inbox.disconnect()

    live(story)


def test_charlies_inbox_is_his_own(question: ApprovalRequest, charlie: User) -> None:
    async def story() -> None:
        socket = Socket("/ws/inbox?list=open", charlie)
        await socket.connect()
        assert str(question.id) not in await socket.text()
        await socket.disconnect()

    live(story)


class DeadLayer:
    """A channel layer whose Redis is not there."""

    def __init__(self, *, dies_after_the_door: bool = False) -> None:
        self.opens = dies_after_the_door

    async def new_channel(self) -> str:
        if not self.opens:
            raise ConnectionError("refused")
        return "specific.one"

    async def _gone(self, *_: object) -> None:
        raise ConnectionError("refused")

    receive = group_add = group_discard = group_send = _gone


@pytest.mark.parametrize("later", [False, True])
def test_a_page_stays_live_when_the_channel_layer_is_dead(
    question: ApprovalRequest, bob: User, principal: PrincipalOf, monkeypatch: pytest.MonkeyPatch, later: bool
) -> None:
    layer = DeadLayer(dies_after_the_door=later)
    said: list[str] = []
    monkeypatch.setattr(consumers, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(ledger_live, "get_channel_layer", lambda: layer)
    monkeypatch.setattr(ledger_live, "_complained_at", float("-inf"))
    monkeypatch.setattr(ledger_live.log, "warning", lambda event, **_: said.append(event))
    seq = Run.objects.get(id=question.run_id).seq
    approver = principal(bob)

    async def story() -> None:
        socket = Socket(f"/ws/runs/{question.run_id}?after={seq}&format=json", bob)
        inbox = Socket("/ws/inbox?list=open", bob)
        assert await socket.connect()
        assert await inbox.connect()
        assert str(question.id) in await inbox.text()
        await database_sync_to_async(decide)(approver, question.id, verb="approve")
        await ledger_live._send([run_group(question.run_id)])
        assert (await socket.events(seq + 1))[0]["seq"] == seq + 1
        assert str(question.id) not in await inbox.text()
        await socket.disconnect()
        await inbox.disconnect()

    live(story)
    assert said == ["live.hints_lost"]
