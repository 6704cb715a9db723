"""`/ws/drafts/<id>?after=VERSION`: what others do in a draft, and who they are, as JSON.

Sent: `{type: "ops", version, actor, ops, patch}` for what follows the page's version, and
`{type: "presence", people: [{id, name, colour, selected, at}]}` when it changes, and `{type: "test", run}`
when somebody has begun another test.
Received: `{type: "select", nodes: [path, …]}`, and `{type: "ping"}` every 15 seconds.

A page that reconnects says which version it has and gets what it missed. The hint carries nothing; what is
sent comes from the draft's log, so all web processes say the same.
"""

from __future__ import annotations

import json
from typing import Any

from channels.db import database_sync_to_async

from apps.blueprints import draft_texts, drafts, presence
from apps.blueprints.models import Draft
from apps.web.consumers import LivePage
from apps.workspaces import access, selectors
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.ids import uuid7

MOST_SAID = 65_536
"""Characters of one message of a page."""
LONGEST_PATH = 600
BATCH = 200
"""Operations in one message; who has missed more is told to read the draft again."""


class DraftSocket(LivePage):
    principal: Principal

    def open(self) -> str:
        self.draft_id = self.scope["url_route"]["kwargs"]["draft_id"]
        self.principal, draft = _in_workspaces(self.scope["user"], self.draft_id)
        after = self.query.get("after", [""])[0][:9]
        self.cursor = min(int(after), draft.version) if after.isdecimal() else draft.version
        self.people: Any = None
        self.test = draft.last_test
        self.connection = uuid7()
        presence.here(self.principal, draft, self.connection, [])
        return drafts.draft_group(draft.id)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not hasattr(self, "connection") or text_data is None or len(text_data) > MOST_SAID:
            return
        try:
            said = json.loads(text_data)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict) or said.get("type") not in ("select", "ping"):
            return
        nodes = said.get("nodes") if said["type"] == "select" else None
        chosen = (
            [n for n in nodes if isinstance(n, str) and len(n) <= LONGEST_PATH and n.isprintable()]
            if isinstance(nodes, list)
            else None
        )
        await database_sync_to_async(self._here)(chosen)

    async def disconnect(self, code: int) -> None:
        await super().disconnect(code)
        if hasattr(self, "connection"):
            await database_sync_to_async(presence.gone)(self.draft_id, self.connection)

    async def push(self) -> bool:
        messages = await database_sync_to_async(self._news)()
        for message in messages:
            await self.send(text_data=json.dumps(message, ensure_ascii=False))
        return bool(messages)

    def _here(self, selected: list[str] | None) -> None:
        draft = drafts.draft_by_id(self.principal, self.draft_id)
        if draft is not None:
            presence.here(self.principal, draft, self.connection, selected)

    def _news(self) -> list[dict[str, Any]]:
        self.principal = access.renewed(self.principal)
        draft = drafts.draft_by_id(self.principal, self.draft_id)
        if draft is None:
            raise NotFound(f"There is no draft {self.draft_id}.")
        return [*self._operations(draft), *self._people(draft), *self._test(draft)]

    def _operations(self, draft: Draft) -> list[dict[str, Any]]:
        if draft.version <= self.cursor:
            return []
        rows = drafts.operations_after(draft, self.cursor, BATCH + 1)
        told = len(rows) <= BATCH
        patch = draft_texts.patch_since(draft, self.cursor) if told else None
        self.cursor = draft.version
        lines = [drafts.operation_view(row) for row in rows] if told else []
        actor = lines[-1]["actor"] if lines else None
        return [{"type": "ops", "version": draft.version, "actor": actor, "ops": lines, "patch": patch}]

    def _people(self, draft: Draft) -> list[dict[str, Any]]:
        people = presence.people_at(draft)
        # When somebody was last heard of is no news.
        shown = [{**person, "at": None} for person in people]
        if shown == self.people:
            return []
        self.people = shown
        return [{"type": "presence", "people": people}]

    def _test(self, draft: Draft) -> list[dict[str, Any]]:
        if draft.last_test == self.test:
            return []
        self.test = draft.last_test
        return [{"type": "test", "run": str(draft.last_test)}]


def _in_workspaces(user: Any, draft_id: Any) -> tuple[Principal, Draft]:
    for workspace in selectors.workspaces_for(user):
        principal = access.principal_for(user, workspace, "web")
        found = drafts.draft_by_id(principal, draft_id)
        if found is not None:
            return principal, found
    raise NotFound(f"There is no draft {draft_id}.")
