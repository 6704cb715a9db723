"""What the workloads play on: databases, services, subjects; started when asked for, gone afterwards."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import databases
from bench.databases import Database, Embedded, Server
from bench.subject import ROOT, Subject, SubjectFailed, inherited

MN = (sys.executable, "-P", "-m", "mirrorneuron.cli")


@dataclass(frozen=True)
class Scale:
    """How much of everything is run; the names say of what."""

    rounds: int = 3
    one_by_one: int = 10
    all_at_once: int = 200
    fan_outs: int = 3
    payloads: int = 3
    waiting: int = 5000
    woken: int = 1000
    idle_seconds: float = 15.0
    listed: int = 10_000
    requests: int = 30
    floor_seconds: float = 1.5


QUICK = Scale(
    rounds=1, one_by_one=5, all_at_once=40, fan_outs=2, payloads=2, waiting=200, woken=100, idle_seconds=5.0,
    listed=1000, requests=15, floor_seconds=0.5,
)  # fmt: skip


@dataclass
class Stage:
    scale: Scale
    folder: Path
    server: Server | None
    """None: SQLite."""
    redis: str | None
    peers: tuple[str, ...] = ()
    peers_python: str = ""
    say: Callable[[str], None] = lambda text: None
    _serial: int = field(default=0)

    @property
    def vendor(self) -> str:
        return "postgresql" if self.server else "sqlite"

    def environment(self, database: Database, home: Path) -> dict[str, str]:
        """What a process of ours needs to work on that database and no other."""
        given = {
            "MN_DATA": str(home),
            "MN_SECRET_KEY": secrets.token_urlsafe(48),
            "MN_LOG_LEVEL": "warning",
            "DATABASE_URL": database.url,
        }
        counted = self.server is not None and self.server.counts_commits and self.server.counts_statements
        return given if counted else {**given, "BENCH_COUNT_HERE": "1"}

    @contextlib.contextmanager
    def home(self, purpose: str) -> Iterator[tuple[Database, dict[str, str]]]:
        """A new database, and the environment of processes that use it."""
        self._serial += 1
        folder = self.folder / f"{self._serial}-{purpose}"
        folder.mkdir()
        if self.server is None:
            yield Embedded(), self.environment(Embedded(), folder)
            return
        database = self.server.database(f"{purpose}_{self._serial}")
        try:
            yield database, self.environment(database, folder)
        finally:
            database.drop()

    @contextlib.contextmanager
    def engine(
        self, environment: dict[str, str], *, slots: int = 4, workers: int = 0, worker_slots: int = 4
    ) -> Iterator[Subject]:
        """Our engine. slots: workers inside its process; workers: processes beside it, behind Redis."""
        given = dict(environment)
        if slots:
            given["MN_EMBEDDED"] = "1"
        elif self.redis:
            self._serial += 1
            # A number of its own for each: a doorbell left over from another engine must not ring here.
            number = 2 * (self._serial % 8)
            given |= {"BROKER_URL": f"{self.redis}/{number}", "CHANNEL_URL": f"{self.redis}/{number + 1}"}
        log = self.folder / "engine.log"
        helpers: list[subprocess.Popen[bytes]] = []
        with Subject("mirrorneuron", "bench.engine", str(slots), environment=given, log=log) as subject:
            try:
                subject.ask("hello")
                for _ in range(workers):
                    helpers.append(self.spawn(["-m", "bench.worker", str(worker_slots)], given))
                if workers:
                    self.until(lambda: subject.ask("workers")["workers"] >= workers, helpers)
                    time.sleep(1.0)  # their doorbell listens a moment after they have registered
                subject.helpers = [helper.pid for helper in helpers]
                yield subject
            finally:
                for helper in helpers:
                    stop(helper)

    def until(
        self, claim: Callable[[], bool], helpers: list[subprocess.Popen[Any]], seconds: float = 60
    ) -> None:
        """Wait for something that these processes bring about. Raises SubjectFailed when one of them ends."""
        end = time.monotonic() + seconds
        while not claim():
            if time.monotonic() > end or any(helper.poll() is not None for helper in helpers):
                said = (self.folder / "processes.log").read_text(errors="replace").strip().splitlines()
                raise SubjectFailed(f"a process did not do its part: {' / '.join(said[-3:])}")
            time.sleep(0.005)

    def spawn(
        self, arguments: list[str], environment: dict[str, str], **more: Any
    ) -> subprocess.Popen[bytes]:
        """A Python process of ours that stays; what it says goes to a log in the benchmark's folder."""
        with (self.folder / "processes.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, *arguments],
                stderr=log,
                stdout=more.pop("stdout", log),
                cwd=ROOT,
                env={**inherited(), "PYTHONPATH": str(ROOT), **environment},
                **more,
            )

    @contextlib.contextmanager
    def peer(self, name: str, url: str) -> Iterator[Subject]:
        with Subject(
            name, f"bench.peers.{name}_chain", url, environment={}, log=self.folder / f"{name}.log",
            python=self.peers_python,
        ) as subject:  # fmt: skip
            subject.ask("hello")
            yield subject


def stop(process: subprocess.Popen[Any], seconds: float = 20.0) -> None:
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextlib.contextmanager
def set_up(
    scale: Scale,
    *,
    database_url: str,
    own_postgres: bool,
    peers: tuple[str, ...] = (),
    peers_python: str = "",
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[Stage]:
    """Everything a benchmark needs; nothing is left behind, whatever happens."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mn-bench-")))
        url = stack.enter_context(databases.own_postgres(folder)) if own_postgres else database_url
        server = stack.enter_context(Server(url)) if url.startswith("postgres") else None
        redis = stack.enter_context(databases.own_redis(folder)) if server else None
        yield Stage(scale, folder, server, redis, peers, peers_python, say)
