"""Real `mn` processes for tests: `mn up` with its own data folder and port, and single commands beside it."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MN = (sys.executable, "-P", "-m", "mirrorneuron.cli")


def environment(data: Path, **more: str) -> dict[str, str]:
    """The tests' own environment without what would steer the product, on SQLite unless said otherwise."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MN_") and k != "DATABASE_URL"}
    return {**kept, "MN_DATA": str(data), **more}


def run_mn(data: Path, *args: object, **environ: str) -> subprocess.CompletedProcess[str]:
    """One command to its end."""
    return subprocess.run(
        [*MN, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        env=environment(data, **environ),
    )


@functools.cache
def _with_tables() -> Path:
    """A database in which nothing has happened, made once per test process."""
    folder = Path(tempfile.mkdtemp(prefix="mn-tables-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    done = run_mn(folder, "migrate")
    assert done.returncode == 0, done.stderr
    return folder / "mirrorneuron.sqlite3"


def lay_out(data: Path) -> Path:
    """A data folder with the tables and nothing else: to copy them takes a moment, to make them seconds."""
    data.mkdir(parents=True, exist_ok=True)
    shutil.copy(_with_tables(), data)
    return data


class Up:
    """A running `mn up`. `url` and `sign_in` are known once it is ready."""

    def __init__(self, data: Path, log: Path, *args: str, **environ: str) -> None:
        self.data, self.log = data, log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [*MN, "up", "--port", "0", "--no-browser", "--json", *args],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=ROOT,
                env=environment(data, **environ),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"mn up ended: {log.read_text()}"
        facts = json.loads(line)
        self.url, self.sign_in = facts["url"], facts["sign_in"]

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.url + "/healthz", timeout=20) as answer:
            return dict(json.loads(answer.read()))

    def child(self) -> int:
        """The process that does the work, below the supervisor."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def kill_child(self) -> float:
        """SIGKILL it and return how many seconds passed until pages were answered by another one."""
        before, killed_at = self.health()["boot"], time.monotonic()
        os.kill(self.child(), signal.SIGKILL)
        eventually(lambda: self.boot() not in (None, before), seconds=120)
        return time.monotonic() - killed_at

    def boot(self) -> str | None:
        try:
            return str(self.health()["boot"])
        except (OSError, urllib.error.URLError, ValueError):
            return None

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def eventually(claim: Callable[[], bool], seconds: float = 20.0, pause: float = 0.05) -> None:
    """Wait until a claim about another process holds; fail when it does not in time."""
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(pause)


class Background:
    """Any `mn` process that stays, such as `mn worker`."""

    def __init__(self, data: Path, log: Path, *args: str, **environ: str) -> None:
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [*MN, *args], stdout=output, stderr=output, cwd=ROOT, env=environment(data, **environ),
                start_new_session=True,
            )  # fmt: skip

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(90)

    def kill(self) -> None:
        """With all it has started: a process of its pool would work on for nobody."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
