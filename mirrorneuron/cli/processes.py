"""`mn web`, `mn worker`, `mn migrate`: the parts of `mn up`, each a process of its own on servers."""

from __future__ import annotations

from pathlib import Path

import click

from mirrorneuron import datalock, schema
from mirrorneuron.base.errors import ConfigurationError, Unavailable
from mirrorneuron.cli.frame import Command, emit, say
from mirrorneuron.config import config


@click.command(cls=Command)
def migrate() -> None:
    """Bring the database up to date and take over the gallery from disk; repeating it changes nothing."""
    from django.conf import settings

    from apps.blueprints.services import sync_gallery

    applied = schema.migrate()
    gallery = sync_gallery(Path(settings.GALLERY_DIR))
    emit(
        {"applied": applied, "gallery": gallery},
        f"Applied {len(applied)} migrations." if applied else "The database is up to date.",
    )


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
def web(host: str, port: int) -> None:
    """Serve pages and API only. Start as many as wanted, behind a proxy."""
    from mirrorneuron.serve import page_server, share_connections
    from mirrorneuron.supervisor import address, listen

    _need_schema()
    share_connections()
    listener = listen(host, port)
    emit({"url": address(host, listener)}, f"Serving pages at {address(host, listener)}.")
    page_server(graceful_seconds=10).run(sockets=[listener])


@click.command(cls=Command)
@click.option("-Q", "--queues", default="default", show_default=True, help="Comma-separated names of queues.")
@click.option("-c", "--concurrency", default=4, show_default=True, type=click.IntRange(1, 500))
@click.option("--pool", default="threads", show_default=True, type=click.Choice(["threads", "prefork"]))
def worker(queues: str, concurrency: int, pool: str) -> None:
    """Work on runs only, until told to stop (SIGTERM)."""
    from mirrorneuron.workers import work_with_processes, work_with_threads

    # On a server too: documents are read from it and files written to it.
    datalock.make_folder(config().data)
    _need_schema()
    names = [name.strip() for name in queues.split(",") if name.strip()]
    if pool == "prefork" and (config().is_sqlite or not config().broker_url):
        raise ConfigurationError(
            "The prefork pool needs PostgreSQL (DATABASE_URL) and a broker (BROKER_URL).",
            next="Use --pool threads, or set both.",
        )
    if not config().is_sqlite and not config().broker_url:
        say("BROKER_URL is empty: this worker looks for work by polling only.")
    if not config().is_sqlite:
        if pool == "prefork":
            work_with_processes(names, concurrency)
        else:
            work_with_threads(names, concurrency, sole=False)
        return
    lock = datalock.acquire(config().data, command="mn worker")
    try:
        work_with_threads(names, concurrency, sole=True)
    finally:
        lock.release()


def _need_schema() -> None:
    missing = schema.pending()
    if missing:
        raise Unavailable(
            f"The database lacks {len(missing)} migrations, the first is {missing[0]}.",
            code="not_migrated",
            next="Run `mn migrate` once, then start this again.",
        )
