"""Who a process is beyond its number, which the system gives again to others.

    place   where process numbers mean the same: one boot of one machine, and in it one container
    birth   when the process with a number began

Together with the number they name one process for ever, so that another process of the same place can say for
certain that it is gone. Where nobody can say, it counts as alive: then its lease decides.
"""

from __future__ import annotations

import os
import socket
import subprocess
from functools import cache
from pathlib import Path

_PROC = Path("/proc")


@cache
def place() -> str:
    """This machine since it was started, and this container."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def birth(pid: int) -> str:
    """When the process began, as a text to compare; empty when there is none or nobody can say."""
    if not (_PROC / "self/stat").exists():
        return _asked(pid)
    try:
        # The name in brackets may hold anything, also brackets; the state follows the last one.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _asked(pid: int) -> str:
    """On systems without /proc."""
    try:
        said = subprocess.run(  # noqa: S603 - a number, as an argument
            ["/bin/ps", "-o", "lstart=", "-p", str(int(pid))], capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()


def is_gone(pid: int, born: str) -> bool:
    """Whether the process of this place that had this number and began then has certainly ended."""
    if not born:
        return False
    found = birth(pid)
    if found:
        return found != born
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    # It answers, yet cannot be seen: ended and not collected by its parent, or hidden from us.
    return (_PROC / str(pid)).exists()
