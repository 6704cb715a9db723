"""One event loop in one thread per process, for clients that are bound to a loop.

A client shared between loops fails in confusing ways, and a worker has many threads. So every call goes to
the one loop of this process. It is made on first use and keyed by process id, so that a forked worker gets
its own.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, TypeVar

T = TypeVar("T")
_lock = threading.Lock()
_current: tuple[int, asyncio.AbstractEventLoop, dict[Any, Any]] | None = None


def _loop() -> tuple[asyncio.AbstractEventLoop, dict[Any, Any]]:
    global _current
    with _lock:
        if _current is None or _current[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="model-requests", daemon=True).start()
            _current = (os.getpid(), loop, {})
        return _current[1], _current[2]


def run(work: Callable[[dict[Any, Any]], Coroutine[Any, Any, T]], seconds: float) -> T:
    """Run a coroutine in the process's loop and wait for it, `seconds` at most.

    work: gets the loop's cache, where clients of this loop are kept.
    Raises TimeoutError when there was no answer; the coroutine is cancelled.
    """
    loop, cache = _loop()
    future = asyncio.run_coroutine_threadsafe(work(cache), loop)
    try:
        return future.result(seconds)
    except NoAnswer:
        future.cancel()
        raise TimeoutError(f"no answer within {seconds:g} s") from None


# A fork may happen while another thread holds the lock; the child starts with a fresh one.
os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.Lock(), _current=None))
