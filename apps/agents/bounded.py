"""A blocking read under one total time-out.

The tool runs in a thread of its own; what it needs of the step (files, credentials) is fetched by the step's
own thread, so that a database connection never changes hands. A tool that does not return in time is left
behind: it only reads, and its late answer is dropped. Writes are bounded by the effect ledger.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apps.agents.tools.base import ToolRun

_Answer = tuple[bool, Any]


def run_bounded(work: Callable[[ToolRun], Any], call: ToolRun) -> Any:
    """Do the work within `call.timeout_seconds`. Raises TimeoutError, or what the work raised."""
    inbox: queue.Queue[tuple[str, Any, Any]] = queue.Queue()

    def asked(service: Callable[[str], Any]) -> Callable[[str], Any]:
        def ask(name: str) -> Any:
            reply: queue.Queue[_Answer] = queue.Queue(1)
            inbox.put(("ask", (service, name), reply))
            fine, value = reply.get()
            if not fine:
                raise value
            return value

        return ask

    own = replace(call, read_file=asked(call.read_file), connection=asked(call.connection))

    def body() -> None:
        try:
            inbox.put(("done", work(own), None))
        except BaseException as exc:  # handed to the waiting thread
            inbox.put(("failed", exc, None))

    threading.Thread(target=body, name="tool-read", daemon=True).start()
    deadline = time.monotonic() + call.timeout_seconds
    while True:
        try:
            kind, value, reply = inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TimeoutError(f"no answer within {call.timeout_seconds:g} s") from None
        if kind == "done":
            return value
        if kind == "failed":
            raise value
        service, name = value
        reply.put(_served(service, name))


def _served(service: Callable[[str], Any], name: str) -> _Answer:
    try:
        return True, service(name)
    except Exception as exc:
        return False, exc
