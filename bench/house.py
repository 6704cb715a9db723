"""A house for the measured process: Django, tables, somebody who acts, the blueprints, the handlers.

Our engine is measured as it is: `start_run`, the worker with its threads and its doorbell. The benchmark adds
two things only: a handler that stands for recorded work, and an ear at the live hints, so that a caller in
the same process learns at once that its run has ended, as a page would.
"""

from __future__ import annotations

import asyncio
import os
import threading
from functools import cache
from typing import Any
from uuid import UUID

from bench import documents
from bench.counting import LOOKING, Counter, count_psycopg, count_sqlite

COUNTER = Counter()
LAST = frozenset({"s9", "s99", "join", "each", "after"})
"""Nodes whose handler is among the last things a run does; from then on a hint is worth a look."""
LOOK_SECONDS = 0.05
"""How long a caller waits for a hint before it looks anyway."""


def open_house() -> None:
    """Load Django and count from the first connection on."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    import django

    django.setup()
    if os.environ.get("BENCH_COUNT_HERE") == "1":
        from mirrorneuron.config import config

        (count_sqlite if config().is_sqlite else count_psycopg)(COUNTER)


def register_handlers() -> None:
    """Let the recorded kind answer at once."""
    from apps.runs import ports

    def recorded(context: Any) -> Any:
        if context.node.with_ is not None:
            return ports.Done(context.render(context.node.with_)["text"])
        return ports.Done({"i": int(context.node.notes or 0), "ok": True})

    if ports.handler_for(documents.RECORDED) is not None:
        ports._handlers.pop(documents.RECORDED)
    ports.register_handler(documents.RECORDED, recorded)


class House:
    """Somebody who starts runs."""

    def __init__(self) -> None:
        from apps.workspaces.access import principal_for
        from apps.workspaces.models import Membership, User, Workspace
        from mirrorneuron import schema

        schema.migrate()
        user = User.objects.filter(email="bench@mirrorneuron.invalid").first()
        if user is None:
            user = User.objects.create_user("bench@mirrorneuron.invalid")
        self.workspace, is_new = Workspace.objects.get_or_create(slug="bench", defaults={"name": "Benchmark"})
        if is_new:
            Membership.objects.create(workspace=self.workspace, user=user, roles=["owner"])
        self.principal = principal_for(user, self.workspace, "cli")
        self._versions: dict[str, Any] = {}

    def version(self, document: dict[str, Any]) -> Any:
        """The stored version of a document; stored once."""
        from apps.blueprints.models import Blueprint, Version
        from mirrorneuron.base.ids import uuid7

        name = document["metadata"]["name"]
        if name not in self._versions:
            blueprint, _ = Blueprint.objects.get_or_create(
                workspace=self.workspace, name=name, defaults={"title": name}
            )
            self._versions[name], _ = Version.objects.get_or_create(
                blueprint=blueprint,
                number=1,
                defaults={"content_hash": uuid7().hex, "document": document, "source": ""},
            )
        return self._versions[name]

    def start(self, document: dict[str, Any], inputs: dict[str, Any] | None = None) -> UUID:
        from apps.runs.services import start_run

        run: UUID = start_run(self.principal, self.version(document), inputs or {}).id
        return run


# --- seeing a run end -------------------------------------------------------------------------------------


def look(run_id: UUID) -> tuple[str, Any]:
    """Status and output of a run, by a query that is not counted."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(
            LOOKING + "SELECT status, output FROM runs_run WHERE id = %s",
            [run_id if connection.vendor == "postgresql" else run_id.hex],
        )
        status, output = cursor.fetchone()
    return status, output


def ended_since(runs: int) -> int:
    """How many of all runs have ended."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(LOOKING + "SELECT count(*) FROM runs_run WHERE ended_at IS NOT NULL")
        return int(cursor.fetchone()[0]) - runs


class Ear:
    """Wakes a caller when a hint says that something happened to runs near their end."""

    def __init__(self) -> None:
        from apps.ledger import live
        from apps.runs import ports

        self._heard = threading.Event()
        self._near: set[str] = set()
        said = live.announce

        def announce(*groups: str) -> None:
            if not self._near.isdisjoint(groups):
                self._heard.set()
            said(*groups)

        live.announce = announce
        for kind, handler in list(ports._handlers.items()):
            ports._handlers[kind] = self._noting(handler, live.run_group)

    def _noting(self, handler: Any, group: Any) -> Any:
        def noted(context: Any) -> Any:
            if context.node.id in LAST:
                self._near.add(group(context.run_id))
            return handler(context)

        return noted

    def wait(self, run_id: UUID, seconds: float) -> Any:
        """The output of a run that has succeeded. Raises RuntimeError when it did anything else."""
        from time import monotonic

        end = monotonic() + seconds
        while True:
            self._heard.wait(LOOK_SECONDS)
            self._heard.clear()
            status, output = look(run_id)
            if status in _ENDED():
                self._near.clear()
                return _good(run_id, status, output)
            if monotonic() > end:
                raise RuntimeError(f"run {run_id} is still {status} after {seconds:g} s")


class FarEar:
    """The same for runs that other processes work: hints come through the channel layer."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="bench-ear", daemon=True).start()

    def wait(self, run_id: UUID, seconds: float) -> Any:
        return asyncio.run_coroutine_threadsafe(self._follow(run_id, seconds), self._loop).result()

    async def _follow(self, run_id: UUID, seconds: float) -> Any:
        from channels.layers import get_channel_layer

        from apps.ledger.live import run_group

        layer: Any = get_channel_layer()
        channel = await layer.new_channel()
        await layer.group_add(run_group(run_id), channel)
        end = self._loop.time() + seconds
        try:
            while True:
                status, output = await asyncio.to_thread(look, run_id)
                if status in _ENDED():
                    return _good(run_id, status, output)
                if self._loop.time() > end:
                    raise RuntimeError(f"run {run_id} is still {status} after {seconds:g} s")
                try:
                    await asyncio.wait_for(layer.receive(channel), 0.1)
                except TimeoutError:
                    continue
        finally:
            await layer.group_discard(run_group(run_id), channel)


@cache
def _ENDED() -> frozenset[str]:  # noqa: N802
    from apps.runs.core.states import RUN_ENDED

    return frozenset(map(str, RUN_ENDED))


def _good(run_id: UUID, status: str, output: Any) -> Any:
    import json

    if status != "succeeded":
        raise RuntimeError(f"the benchmark's own run {run_id} ended as {status}")
    return json.loads(output) if isinstance(output, str) else output
