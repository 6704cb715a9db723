"""The one process behind `mn up`: pages, API and worker together, started and restarted by the supervisor.

Started as `python -m mirrorneuron.serve SOCKET LOCK ALIVE READY URL [--again]` with four inherited
descriptors: the listening socket, the data lock, a pipe that closes with the supervisor, and a pipe to say
"ready" into. After a crash every tenth of a second counts, so what a first start has done (gallery, owner,
link) is not done again, and pages are served before anything else is looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import threading
import warnings
from typing import Any

from mirrorneuron import datalock
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.config import config
from mirrorneuron.supervisor import EXIT_CONFIGURATION

WORK_SECONDS = 5.0
"""How long running steps may take to finish when asked to stop; the rest is recovered by the next start."""
EMBEDDED_CONNECTIONS = 20
"""Eight for pages, the others for the worker's threads."""
LEAVE_SECONDS = 5.0
"""How long work may settle after the supervisor has gone."""


def main(arguments: list[str]) -> int:
    listener_fd, lock_fd, alive_fd, ready_fd = map(int, arguments[:4])
    url, again = arguments[4], "--again" in arguments
    lock = datalock.adopt(lock_fd)
    for descriptor in (listener_fd, alive_fd, ready_fd):
        os.set_inheritable(descriptor, False)
    stop = Stop()
    threading.Thread(target=leave_with_supervisor, args=(alive_fd, stop), daemon=True).start()
    try:
        facts = prepare(url, again=again)
        serve(socket.socket(fileno=listener_fd), stop, ready_fd, facts)
    except MirrorNeuronError as exc:
        sys.stderr.write(f"{exc}\n")
        return EXIT_CONFIGURATION
    except Exception as exc:
        if os.environ.get("MN_DEBUG"):
            raise
        sys.stderr.write(
            f"MirrorNeuron could not go on: {type(exc).__name__}: {exc}. MN_DEBUG=1 shows where.\n"
        )
        return 1
    finally:
        lock.release()
    return 0


class Stop:
    """Asks the server to stop, also before there is one."""

    def __init__(self) -> None:
        self.asked = False
        self.server: Any = None

    def __call__(self, *_: Any) -> None:
        self.asked = True
        if self.server is not None:
            self.server.should_exit = True


def leave_with_supervisor(descriptor: int, stop: Stop) -> None:
    """Block until the supervisor is gone, then stop: cleanly if that is quick, hard if it is not."""
    with contextlib.suppress(OSError):
        os.read(descriptor, 1)
    timer = threading.Timer(LEAVE_SECONDS, os._exit, (1,))
    timer.daemon = True
    timer.start()
    stop()


def prepare(url: str, *, again: bool) -> dict[str, Any]:
    """Load the house and bring the data up to date; what to tell the person at the terminal."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    import django

    django.setup()
    from mirrorneuron import schema

    share_connections(EMBEDDED_CONNECTIONS)
    schema.migrate()
    if again:
        return {"url": url, "sign_in": ""}
    from django.conf import settings
    from django.urls import get_resolver

    from apps.blueprints.services import sync_gallery
    from apps.workspaces.services import create_sign_in_link, ensure_laptop_owner

    _ = get_resolver().url_patterns  # a page that cannot be loaded stops the start, not the first visitor
    owner, _ = ensure_laptop_owner()
    sync_gallery(settings.GALLERY_DIR)
    return {"url": url, "sign_in": create_sign_in_link(owner, url)}


def share_connections(most: int = 8) -> None:
    """Let the requests of this process share a few connections to PostgreSQL. Each request has a thread of
    its own, and what it opened would stay open after it.

    most: connections held at once; a request waits for a free one. A worker in this process needs its own.
    """
    from django.db import connections

    if config().is_sqlite:
        return
    connections.close_all()
    settings = connections.settings["default"]
    settings["CONN_MAX_AGE"] = 0
    settings["OPTIONS"]["pool"] = {"min_size": 1, "max_size": most, "timeout": 10}


def page_server(*, graceful_seconds: int) -> Any:
    """The web server for pages and API. graceful_seconds: what open answers get when it is told to stop."""
    import uvicorn

    from mirrorneuron.request_heads import BoundedHeads

    # Static files come from the source folders here; a collected copy exists only in an image.
    warnings.filterwarnings("ignore", message="No directory at", module="django.core.handlers.base")
    return uvicorn.Server(
        uvicorn.Config(
            "mirrorneuron.asgi:application",
            http=BoundedHeads,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=graceful_seconds,
        )
    )


def serve(listener: socket.socket, stop: Stop, ready_fd: int, facts: dict[str, Any]) -> None:
    """Run worker and pages until asked to stop; the worker stops after the last page is answered."""
    from mirrorneuron.workers import ThreadedWorker

    server = page_server(graceful_seconds=2)
    # uvicorn raises a caught SIGTERM again after serving, which would skip stopping the worker.
    server.capture_signals = contextlib.nullcontext
    stop.server = server
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if stop.asked:
        return
    # Under the data lock nobody else works here; a server's database may have workers elsewhere.
    worker = ThreadedWorker(queues=("default",), slots=4, embedded=True, sole=config().is_sqlite)
    worker.start()
    threading.Thread(target=say_ready, args=(server, ready_fd, facts), daemon=True).start()
    try:
        server.run(sockets=[listener])
    finally:
        worker.stop(WORK_SECONDS)


def say_ready(server: Any, descriptor: int, facts: dict[str, Any]) -> None:
    pause = threading.Event()
    while not server.started and not server.should_exit:
        pause.wait(0.02)
    with contextlib.suppress(OSError), os.fdopen(descriptor, "w") as pipe:
        if server.started:
            pipe.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
