"""Small Python: an interpreter with no way out, in a process of its own that can be killed.

It knows a part of the language and of the standard library, no files, no network, no clock, and no random
numbers but seeded ones, so the same code on the same inputs always gives the same result. Its processes are
kept for the next step; each step gets a session of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import Any

import pydantic_monty as monty

from apps.agents.sandbox.base import (
    MAX_DEPTH,
    MAX_MEMORY,
    CodeFailed,
    NoSandbox,
    Printed,
    Ran,
    SandboxDied,
    plain,
)
from apps.blueprints.core.code import RESULT

_GRACE_SECONDS = 1.0
"""After the time limit, until a process that does not react is killed."""
_lock = threading.Lock()
_pool: tuple[int, Any] | None = None
"""The process it belongs to, and the pool: a forked child must not use its parent's."""


def run(code: str, inputs: dict[str, Any], *, seconds: float) -> Ran:
    """Run code over inputs by name; `result` if it sets that, else its last expression's value.

    Raises CodeFailed, NoSandbox, SandboxDied.
    """
    limits: Any = {
        "max_feed_duration_secs": seconds,
        "max_memory": MAX_MEMORY,
        "max_recursion_depth": MAX_DEPTH,
        "max_suspensions": 1,
    }
    nothing: Any = {"datetime": "call_host", "sleep": "call_host", "random_start": "call_host"}
    printed = Printed()
    try:
        with _processes().checkout(script_name="code", limits=limits, os_policy=nothing) as session:
            value = session.feed_run(code, inputs=inputs, print_callback=printed)
            with contextlib.suppress(monty.MontyRuntimeError):  # a NameError: it sets none
                value = session.feed_run(RESULT)
        return Ran(plain(value), printed.text, printed.left_out)
    except (monty.MontyRuntimeError, monty.MontySyntaxError) as exc:
        raise _failed(exc, seconds) from None
    except monty.MontyCrashedError as exc:
        if exc.timed_out:
            raise _out_of_time(seconds) from None
        raise SandboxDied(f"The process that ran the code has ended ({exc}).") from exc
    except monty.MontyConversionError as exc:
        raise CodeFailed("TypeError", f"an input cannot be passed to code: {exc}", None) from exc
    except ValueError as exc:  # a number with too many digits to leave the sandbox
        raise CodeFailed("ValueError", str(exc).partition(";")[0], None) from exc
    except TimeoutError as exc:
        raise SandboxDied("No process was free to run the code.") from exc


def _processes() -> Any:
    global _pool
    with _lock:
        if _pool is not None and _pool[0] == os.getpid():
            return _pool[1]
        try:
            pool = monty.Monty(
                min_processes=0,
                max_processes=16,
                checkout_timeout=30.0,
                max_checkouts_per_worker=200,
                feed_duration_limit_grace=_GRACE_SECONDS,
            )
            pool.__enter__()
        except (OSError, monty.MontyError) as exc:
            raise NoSandbox(
                f"The interpreter for code steps cannot be started ({exc}).",
                permanent=True,
                next="Install the package pydantic-monty as this release pins it.",
            ) from exc
        _pool = (os.getpid(), pool)
        return pool


@atexit.register
def close() -> None:
    """End the processes that are kept."""
    global _pool
    with _lock:
        if _pool is not None and _pool[0] == os.getpid():
            _pool[1].__exit__(None, None, None)
        _pool = None


def _failed(exc: Any, seconds: float) -> CodeFailed:
    inner = exc.exception()
    frames = exc.traceback()
    line = frames[-1].line if frames else None
    if isinstance(inner, TimeoutError) and "time limit" in str(inner):
        return _out_of_time(seconds)
    if isinstance(inner, MemoryError):
        return CodeFailed(
            "MemoryError",
            f"it needs more than {MAX_MEMORY // 2**20} MB",
            line,
            next="Work on less at once, or keep less.",
        )
    text = str(inner)
    if "is not supported in this environment" in text:
        text += " (code in a blueprint has no files, network, clock or random numbers)"
    return CodeFailed(type(inner).__name__, text, line)


def _out_of_time(seconds: float) -> CodeFailed:
    return CodeFailed(
        "TimeoutError",
        f"it ran longer than {seconds:g} s",
        None,
        next="Make it do less, or give the node a longer timeout.",
    )
