"""Full Python in bubblewrap: a process without network, other processes, or a disk to write to.

Only where `bwrap` is on the PATH and may make namespaces; nowhere else. It sees the interpreter and the
system's libraries, read-only, and nothing of the installation: no data, no environment, no descriptors.
Unlike small Python it has a clock and random numbers, so a result is kept, never computed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from apps.agents.sandbox import child
from apps.agents.sandbox.base import (
    MAX_DEPTH,
    MAX_MEMORY,
    MAX_PRINTED,
    CodeFailed,
    NoSandbox,
    Ran,
    SandboxDied,
    plain,
)
from apps.agents.sandbox.child import MAX_FILE

_OVERHEAD = 128 * 1024 * 1024
"""Address space the interpreter itself takes."""
_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")
_NOBODY = 65534
_START_SECONDS = 5.0
"""For the box and the interpreter, on top of what the code may take."""


def run(code: str, inputs: dict[str, Any], *, seconds: float) -> Ran:
    """Like `small.run`. Raises CodeFailed, NoSandbox, SandboxDied."""
    box = shutil.which("bwrap")
    if box is None:
        raise _none("there is no bwrap on the PATH of this worker")
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as trouble:
        started = subprocess.Popen(  # noqa: S603 - the command is ours; the code goes in as data
            _command(box), stdin=subprocess.PIPE, stdout=answer, stderr=trouble,
            env={"PATH": "/usr/bin:/bin"}, cwd="/", start_new_session=True, **_nobody(),
        )  # fmt: skip
        try:
            given = json.dumps({"code": code, "inputs": inputs}).encode()
            started.communicate(given, timeout=seconds + _START_SECONDS)
        except subprocess.TimeoutExpired:
            raise CodeFailed(
                "TimeoutError", f"it ran longer than {seconds:g} s", None,
                next="Make it do less, or give the node a longer timeout.",
            ) from None  # fmt: skip
        finally:
            _kill(started)
        answer.seek(0)
        trouble.seek(0)
        return _read(answer.read(MAX_FILE + 1), trouble.read(4000), started.returncode)


def _nobody() -> dict[str, Any]:
    """The number of root's processes has no bound; so root starts the box as nobody."""
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}


def _python() -> Path:
    """An interpreter the box may read: ours, unless root keeps it in a folder of its own."""
    ours = Path(sys.executable).resolve()
    if os.geteuid() == 0 and not all(p.stat().st_mode & 0o005 == 0o005 for p in (ours, *ours.parents)):
        return Path("/usr/bin/python3").resolve()
    return ours


def _command(box: str) -> list[str]:
    python = _python()
    seen = [path for path in _SYSTEM if Path(path).exists()]
    base = str(python.parent.parent)
    if not any(base == path or base.startswith(path + "/") for path in seen):
        seen.append(base)
    command = [box, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    for path in seen:
        # A system may have /lib as a link into /usr.
        is_link = Path(path).is_symlink()
        command += ["--symlink", str(Path(path).readlink()), path] if is_link else ["--ro-bind", path, path]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/"]
    limits = [str(MAX_MEMORY + _OVERHEAD), str(MAX_PRINTED), str(MAX_DEPTH)]
    source = Path(child.__file__).read_text()
    interpreter = [str(python), "-I", "-S", "-B", "-X", "utf8", "-c", source]
    return [*command, "--chdir", "/", "--", *interpreter, *limits]


def _kill(started: subprocess.Popen[bytes]) -> None:
    # The box's first process takes all others with it: they live in its process namespace.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def _read(answer: bytes, trouble: bytes, code: int) -> Ran:
    if len(answer) > MAX_FILE:
        raise CodeFailed("ValueError", f"the result has more than {MAX_FILE // 2**20} MB", None)
    if answer:
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            found = None
        if not _is_answer(found):
            # It wrote to the descriptor itself, past what collects its prints.
            raise CodeFailed("ValueError", "it wrote over its own result", None)
        if "error" in found:
            raise _failed(found)
        return Ran(plain(found["value"]), found["printed"], found["left_out"])
    said = trouble.decode(errors="replace").strip()
    if said.startswith("bwrap:"):
        raise _none(said.splitlines()[0].removeprefix("bwrap: ").rstrip("."))
    raise SandboxDied(f"The process that ran the code has ended with {code} and no result.")


def _is_answer(found: Any) -> bool:
    """Whether it is what `child` writes; the code can write there too."""
    if not isinstance(found, dict) or type(found.get("left_out")) is not int:
        return False
    printed = found.get("printed")
    if not isinstance(printed, str) or len(printed) > MAX_PRINTED:
        return False
    if "error" not in found:
        return "value" in found
    line = found.get("line")
    return (
        isinstance(found["error"], str)
        and isinstance(found.get("text"), str)
        and type(line) in (int, type(None))
    )


def _failed(found: dict[str, Any]) -> CodeFailed:
    if found["error"] == "MemoryError":
        return CodeFailed(
            "MemoryError", f"it needs more than {MAX_MEMORY // 2**20} MB", found["line"],
            next="Work on less at once, or keep less.",
        )  # fmt: skip
    return CodeFailed(found["error"], found["text"], found["line"])


def _none(why: str) -> NoSandbox:
    return NoSandbox(
        f"Full Python needs bubblewrap, and {why}.",
        permanent=True,
        next="Install bubblewrap on the workers, send the node to workers that have it (queue), "
        "or write python: small.",
    )
