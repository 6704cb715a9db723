"""Two people at one draft: each sees what the other does and has selected, whatever is lost on the way."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.db import database_sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import AnonymousUser

from apps.blueprints import draft_log, draft_texts, drafts
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.core.trial import Aim
from apps.blueprints.models import Draft, DraftPresence
from apps.blueprints.presence import GONE_AFTER, people_at
from apps.blueprints.services import import_blueprint
from apps.runs import trials
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from mirrorneuron.base.clock import now
from tests.api.conftest import SOURCE
from tests.web.test_live import Socket

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def hers(alice: User, principal: Callable[..., Principal]) -> Principal:
    who = principal(alice)
    import_blueprint(who, SOURCE)
    return who


@pytest.fixture
def draft(hers: Principal) -> Draft:
    return drafts.draft_for(hers, "greet")


def rename(who: Principal, draft: Draft, title: str) -> None:
    version = Draft.objects.get(pk=draft.pk).version
    change = {"op_id": str(uuid.uuid4()), "kind": "set_contract", "path": ["contract", "goal"], "new": title}
    old = draft_texts.seen(Draft.objects.get(pk=draft.pk)).source.value(("contract", "goal"))
    draft_log.apply_operations(who, "greet", [operation(change | {"old": old})], seen_version=version)


async def told(socket: Socket, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await socket.text())
        if message["type"] == kind:
            return message


async def hint(draft: Draft) -> None:
    layer: Any = get_channel_layer()
    await layer.group_send(drafts.draft_group(draft.id), {"type": "hint"})


def test_strangers_are_shown_the_door(draft: Draft, charlie: User) -> None:
    async def story() -> None:
        for user, code in ((charlie, 4404), (AnonymousUser(), 4401)):
            socket = Socket(f"/ws/drafts/{draft.id}", user)
            assert await socket.connect()
            assert await socket.closed_with() == code
        assert not await database_sync_to_async(DraftPresence.objects.exists)()

    async_to_sync(story)()


def test_a_private_draft_is_nobody_elses(hers: Principal, draft: Draft, bob: User) -> None:
    mine = drafts.draft_for(hers, "greet", private=True)

    async def story() -> None:
        socket = Socket(f"/ws/drafts/{mine.id}", bob)
        assert await socket.connect()
        assert await socket.closed_with() == 4404

    async_to_sync(story)()


def test_a_page_gets_what_it_missed_and_then_what_happens(hers: Principal, draft: Draft, bob: User) -> None:
    rename(hers, draft, "one")
    rename(hers, draft, "two")

    async def story() -> None:
        socket = Socket(f"/ws/drafts/{draft.id}?after=1", bob)
        assert await socket.connect()
        missed = await told(socket, "ops")
        assert (missed["version"], [op["new"] for op in missed["ops"]]) == (2, ["two"])
        assert missed["actor"]["name"] == "Alice"
        assert (missed["patch"]["from_version"], missed["patch"]["to_version"]) == (1, 2)
        await database_sync_to_async(rename)(hers, draft, "three")
        await hint(draft)
        assert [op["new"] for op in (await told(socket, "ops"))["ops"]] == ["three"]
        await socket.disconnect()

    async_to_sync(story)()


def test_people_see_each_other_and_what_each_has_selected(draft: Draft, alice: User, bob: User) -> None:
    async def story() -> None:
        first, second = Socket(f"/ws/drafts/{draft.id}", alice), Socket(f"/ws/drafts/{draft.id}", bob)
        assert await first.connect()
        assert [p["name"] for p in (await told(first, "presence"))["people"]] == ["Alice"]
        assert await second.connect()
        both = (await told(second, "presence"))["people"]
        assert {p["name"] for p in both} == {"Alice", "Bob"}
        assert len({p["colour"] for p in both}) == 2 and all(0 <= p["colour"] < 8 for p in both)
        await hint(draft)
        assert {p["name"] for p in (await told(first, "presence"))["people"]} == {"Alice", "Bob"}
        await second.say(json.dumps({"type": "select", "nodes": ["ask", 7, "x" * 1000]}))
        chosen = DraftPresence.objects.filter(user=bob).exclude(selected=[])
        async with asyncio.timeout(10):
            while not await database_sync_to_async(chosen.exists)():
                pass
        await hint(draft)
        seen = {p["name"]: p["selected"] for p in (await told(first, "presence"))["people"]}
        assert seen == {"Alice": [], "Bob": ["ask"]}
        await second.disconnect()
        await hint(draft)
        assert [p["name"] for p in (await told(first, "presence"))["people"]] == ["Alice"]
        await first.disconnect()

    async_to_sync(story)()


@pytest.mark.parametrize(
    "said", ["", "[", "[]", '{"type": 1}', '{"type": "select", "nodes": {}}', "x" * 70_000]
)
def test_odd_messages_are_ignored(draft: Draft, bob: User, said: str) -> None:
    async def story() -> None:
        socket = Socket(f"/ws/drafts/{draft.id}?after=²", bob)
        assert await socket.connect()
        await told(socket, "presence")
        await socket.say(said)
        await socket.say('{"type": "ping"}')
        await socket.disconnect()

    async_to_sync(story)()


def test_a_test_that_begins_is_told_once(hers: Principal, draft: Draft, bob: User) -> None:
    async def story() -> None:
        socket = Socket(f"/ws/drafts/{draft.id}", bob)
        await socket.connect()
        await told(socket, "presence")
        run = await database_sync_to_async(trials.start_trial)(hers, "greet", Aim("whole"), {"name": "Ada"})
        assert await told(socket, "test") == {"type": "test", "run": str(run.id)}
        await database_sync_to_async(rename)(hers, draft, "one")
        kinds = []
        while "ops" not in kinds:
            kinds.append(json.loads(await socket.text())["type"])
        assert "test" not in kinds
        await socket.disconnect()

    async_to_sync(story)()


def test_somebody_not_heard_of_for_long_is_not_there(draft: Draft, alice: User, bob: User) -> None:
    DraftPresence.objects.create(connection=uuid.uuid4(), draft=draft, user=alice, at=now())
    DraftPresence.objects.create(
        connection=uuid.uuid4(), draft=draft, user=bob, at=now() - GONE_AFTER - timedelta(seconds=1)
    )
    assert [person["name"] for person in people_at(draft)] == ["Alice"]
