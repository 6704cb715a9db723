"""One worker process per data folder, proven by a file lock.

The lock is `flock` on `MN_DATA/lock`: the kernel drops it when the last process that holds it is gone,
however it died, so there is nothing to clean up. `mn up` takes it in the supervisor and passes the open file
on to each child; `mn worker` and `mn run --wait` take it themselves on a laptop. Whoever holds it may take
every step that belongs to another process as lost at once, without waiting for its lease (ENGINE rule 11).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorneuron.base.errors import ConfigurationError, Conflict

try:
    import fcntl
except ImportError:  # Windows: no lock, one process is a promise of the person
    fcntl = None  # type: ignore[assignment]


PATIENCE_SECONDS = 10.0
"""How long a lock is waited for whose taker is dead; longer than its child may take to leave."""


class DataHeld(Conflict):
    """Another process works on this data. Attribute `holder`: what it wrote about itself."""

    code = "data_held"


@dataclass
class DataLock:
    """A held lock; keep it as long as the process works, or hand `descriptor` on to a child."""

    descriptor: int

    def release(self) -> None:
        """Give the lock up in this process; a child that got the descriptor still holds it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def describe(self, **facts: Any) -> None:
        """Write who holds the lock, for the message a second start gets."""
        text = json.dumps({"pid": os.getpid(), **facts}).encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, text, 0)


def acquire(data: Path, **facts: Any) -> DataLock:
    """Take the lock of a data folder, which is made if missing.

    facts: what to tell others about the holder: `command`, `url`.
    Raises DataHeld at once when another process has it, ConfigurationError when the folder cannot be written.
    A holder that is already dead is waited for: only a child of it is left, on its way out.
    """
    make_folder(data)
    descriptor = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + PATIENCE_SECONDS
    while not _locked(descriptor):
        holder = _read(descriptor)
        if not _is_gone(holder) or time.monotonic() > end:
            os.close(descriptor)
            raise DataHeld(_said(data, holder), next=_advice(holder), holder=holder)
        time.sleep(0.05)
    lock = DataLock(descriptor)
    lock.describe(**facts)
    return lock


def make_folder(data: Path) -> None:
    """Make the data folder if it is missing. Raises ConfigurationError when it cannot be written."""
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {data} cannot be written ({exc.strerror}).",
            code="data_unwritable",
            next="Choose another with --data or MN_DATA, or make it writable.",
        ) from exc


def adopt(descriptor: int) -> DataLock:
    """Keep a lock that the supervisor passed on, and keep it from this process's own children."""
    os.set_inheritable(descriptor, False)
    return DataLock(descriptor)


def holder(data: Path) -> dict[str, Any] | None:
    """What the process that holds the data says of itself; None when nobody holds it."""
    try:
        acquire(data).release()
    except DataHeld as held:
        return dict(held.attributes["holder"])
    return None


def _locked(descriptor: int) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_gone(holder: dict[str, Any]) -> bool:
    try:
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (KeyError, ValueError, OSError):
        pass  # unknown, or alive and somebody else's
    return False


def _read(descriptor: int) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(os.pread(descriptor, 4096, 0))
        if isinstance(found, dict):
            return found
    return {}


def _said(data: Path, holder: dict[str, Any]) -> str:
    who = holder.get("command", "another MirrorNeuron")
    process = f" (process {holder['pid']})" if "pid" in holder else ""
    return f"`{who}`{process} already works on the data in {data}."


def _advice(holder: dict[str, Any]) -> str:
    if holder.get("url"):
        return f"Use it at {holder['url']}, stop it first, or choose other data with --data."
    return "Wait until it has ended, stop it, or choose other data with --data."
