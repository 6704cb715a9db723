"""What a person leaves open ends when they sign out, and when their password changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.sessions.backends.db import SessionStore
from django.test import Client

from apps.approvals.models import ApprovalRequest
from apps.ledger.live import inbox_group, run_group
from apps.workspaces.models import User
from apps.workspaces.services import set_password
from tests.approvals.conftest import Ask
from tests.web.test_live import Socket, live

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def question(ask: Ask) -> ApprovalRequest:
    return ask()


@pytest.mark.parametrize("how", ["signed out", "another password", "switched off"])
@pytest.mark.parametrize("what", ["run", "inbox"])
def test_an_open_socket_ends_with_its_session(
    question: ApprovalRequest, bob: User, what: str, how: str
) -> None:
    browser = Client()
    browser.force_login(bob)
    session = SessionStore(browser.cookies["sessionid"].value)
    path, group = (
        ("/ws/inbox?list=open", inbox_group(question.workspace_id))
        if what == "inbox"
        else (f"/ws/runs/{question.run_id}?format=json", run_group(question.run_id))
    )
    ends: dict[str, Callable[[], Any]] = {
        "signed out": lambda: browser.post("/sign-out"),
        "another password": lambda: set_password(bob, "correct horse battery"),
        "switched off": lambda: User.objects.filter(id=bob.id).update(is_active=False),
    }

    async def story() -> None:
        socket = Socket(path, bob, session)
        assert await socket.connect()
        await socket.text()
        await database_sync_to_async(ends[how])()
        await get_channel_layer().group_send(group, {"type": "hint"})
        message: dict[str, Any] = {"type": "websocket.send"}
        while message["type"] == "websocket.send":
            message = await socket.receive_output(5)
        assert (message["type"], message["code"]) == ("websocket.close", 4401)

    live(story)
