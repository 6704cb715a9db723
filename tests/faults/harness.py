"""Real processes for fault tests: start an installation, kill its workers, look at what is left.

Three shapes. `Laptop`: one `mn up` on SQLite with its supervisor. `Server`: forked workers on PostgreSQL
and a Redis of its own. `File`: one forked worker at a time on SQLite. Tests drive all through `driver` and
wait for conditions, never for time.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from tests import services
from tests.fake_remote import FakeRemote, closed_port
from tests.faults.nursery import Forked, Nursery

ROOT = Path(__file__).resolve().parents[2]
MN = [sys.executable, "-m", "mirrorneuron.cli"]
SECONDS = float(os.environ.get("MN_TEST_PATIENCE", "30"))
"""How long any condition may take on a slow, shared machine; a healthy one needs a tenth."""


class TooLate(AssertionError):
    """A condition did not come true in time."""


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS) -> Any:
    """Ask until the answer is truthy, and return it."""
    deadline = time.monotonic() + seconds
    pause = 0.02
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TooLate(f"Waited {seconds:.0f} s for: {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.2)


def environment(data: Path, **more: str) -> dict[str, str]:
    """A clean environment: nothing of the developer's own settings reaches the processes under test."""
    keep = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG", "TMPDIR", "VIRTUAL_ENV")}
    return keep | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "DJANGO_SETTINGS_MODULE": "mirrorneuron.settings",
        "MN_DATA": str(data),
        "MN_SECRET_KEY": "only for fault tests " * 3,
        "MN_EGRESS_ALLOW": "127.0.0.1",
        "MN_LEASE_SECONDS": "2",
        "MN_POLL_SECONDS": "0.2",
        "MN_FAULTS": "1",
        **more,
    }


class Process:
    """One process of ours, its output in a file."""

    is_armed = False
    """It will die, or lives by other settings; of no use to the next test."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path) -> None:
        self.log = log
        self._file = log.open("ab")
        self._popen = subprocess.Popen(
            command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._file, stderr=self._file,
            start_new_session=True,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_exit(self, seconds: float = SECONDS) -> int:
        try:
            return self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TooLate(f"Process {self.pid} still runs after {seconds:.0f} s.\n{self.tail()}") from None

    def send(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the process and all it has started, as when the power goes."""
        for pid in (self.pid, *self._descendants()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._popen.wait(10)
        until(lambda: not self._descendants(), f"everything that process {self.pid} started to be gone")
        self._file.close()

    def _descendants(self) -> list[int]:
        """Whatever lives in the session this process leads; a supervisor's child has a group of its own."""
        listed = subprocess.run(["ps", "-e", "-o", "pid=,sid=,stat="], capture_output=True, text=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [
            int(pid) for pid, session, state in rows
            if session == str(self.pid) and pid != session and not state.startswith("Z")
        ]  # fmt: skip

    def stop(self) -> int:
        """SIGTERM, as a service manager would, and SIGKILL if that is not heard."""
        if self.is_running:
            self.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(15)
        code = self._popen.poll()
        self.kill()
        return -1 if code is None else code

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Driver:
    """The other end of `tests.faults.driver`."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self._log: IO[bytes] = log.open("ab")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.driver"],
            env={k: v for k, v in env.items() if k != "MN_CRASH_AT"},
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self.log = log

    def ask(self, do: str, **request: Any) -> Any:
        """Raises AssertionError with the refusal's code when the product refuses."""
        assert self._popen.stdin and self._popen.stdout
        self._popen.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self._popen.stdin.flush()
        line = self._popen.stdout.readline()
        assert line, f"The driver died on {do!r}:\n{self.log.read_text(errors='replace')[-4000:]}"
        answer = json.loads(line)
        assert "crashed" not in answer, f"{do} crashed:\n{answer['crashed']}"
        assert "ok" in answer, f"{do} was refused: {answer['refused']}"
        return answer["ok"]

    def close(self) -> None:
        assert self._popen.stdin
        with contextlib.suppress(OSError):
            self._popen.stdin.close()
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()
        self._log.close()


class Installation(ABC):
    """One database with its driver; `start_worker` gives it a process that works."""

    shape = ""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.env = environment(self.data, **env)
        self.processes: list[Process | Forked] = []
        self.started = 0
        self.driver = Driver(self.env, folder / "driver.log")
        self.driver.ask("prepare")

    def script(self, name: str, *lines: dict[str, Any]) -> None:
        """What the model `scripted:<name>` says, turn by turn."""
        folder = self.data / "scripted"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(list(lines)))

    def asked(self, name: str) -> int:
        """How often any process has asked that model."""
        counter = self.data / "scripted" / f"{name}.asked"
        return len(counter.read_text().splitlines()) if counter.exists() else 0

    def ensure_worker(self) -> Process | Forked:
        """A worker without anything special; the one of the test before if it is still there."""
        return self.processes[0] if self.processes else self.start_worker()

    def tidy(self) -> None:
        """Keep one well worker for the next test, and nothing else."""
        well = [p for p in self.processes if p.is_running and not p.is_armed]
        for process in self.processes:
            if process is not next(iter(well), None):
                process.kill()
        self.processes = well[:1]

    def start_armed(self, crash_at: str) -> Process | Forked:
        """One worker that will die at a named point, and no other."""
        self.kill_all()
        return self.start_worker(crash_at)

    @abstractmethod
    def start_worker(self, crash_at: str = "", **env: Any) -> Process | Forked:
        """Start a worker of this shape; crash_at: the named point at which it is to die."""

    def wait_ready(self, process: Process | Forked) -> None:
        """Until the process has a lease in the database."""

        def ready() -> bool:
            assert process.is_running, f"It exited with {process.wait_exit(1)}:\n{process.tail()}"
            return any(w["alive"] for w in self.driver.ask("workers"))

        until(ready, "a worker with a lease")

    @abstractmethod
    def restart_after_crash(self, process: Process | Forked) -> None:
        """What an operator or a service manager does when the worker is gone."""

    def start(self, blueprint: str, **inputs: Any) -> Run:
        return Run(self, self.driver.ask("start", blueprint=blueprint, inputs=inputs)["id"])

    def stop_all(self) -> None:
        for process in self.processes:
            process.stop()
        self.processes.clear()

    def kill_all(self) -> None:
        for process in self.processes:
            process.kill()
        self.processes.clear()

    def close(self) -> None:
        self.kill_all()
        self.driver.close()

    def settle(self, remote: FakeRemote, prefix: str = "", seconds: float = 60.0) -> dict[str, int]:
        """Play the people until every run whose reference begins with `prefix` has ended, and say how."""
        left: list[Any] = []

        def ended() -> bool:
            remote.catch_up()
            self.driver.ask("answer_everything", executed=[r for r, n in list(remote.times.items()) if n])
            left[:] = self.driver.ask("unfinished", prefix=prefix)
            return not left

        try:
            until(ended, "every run to end", seconds)
        except TooLate as late:
            raise TooLate(f"{late}\nleft: {left[:5]}\n{self.logs()}") from None
        return dict(self.driver.ask("statuses", prefix=prefix))

    def assert_world_matches(self, remote: FakeRemote, prefix: str = "") -> None:
        """What the remote did is what the ledger says, once each; and the invariants hold."""
        committed = Counter(
            e["reference"] for e in self.driver.ask("effects", prefix=prefix) if e["state"] == "committed"
        )
        executed = {r: n for r, n in remote.times.items() if r.startswith(prefix)}
        assert executed == dict(committed)
        assert all(times == 1 for times in executed.values()), executed
        remote.assert_each_key_once()
        self.assert_sound()

    def assert_sound(self) -> None:
        """Invariants I1 to I7."""
        violations = self.driver.ask("invariants")
        assert not violations, "\n".join(violations)

    def logs(self) -> str:
        newest = sorted(self.folder.glob("*.log"), key=lambda p: p.stat().st_mtime)[-3:]
        parts = [f"--- {p.name}\n" + p.read_text(errors="replace")[-3000:] for p in newest]
        return "\n".join(parts)


class Laptop(Installation):
    shape = "laptop"

    def __init__(self, folder: Path, **env: str) -> None:
        self.port = closed_port()
        super().__init__(folder, **env)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start_worker(self, crash_at: str = "", **env: Any) -> Process | Forked:
        process = Process(
            [*MN, "up", "--no-browser", "--port", str(self.port)],
            self.env | env | ({"MN_CRASH_AT": crash_at} if crash_at else {}),
            self.folder / f"process-{self.started}.log",
        )
        self.started += 1
        process.is_armed = bool(crash_at or env)
        self.processes.append(process)
        return process

    def wait_ready(self, process: Process | Forked) -> None:
        def ready() -> bool:
            assert process.is_running, f"It exited with {process.wait_exit(1)}:\n{process.tail()}"
            try:
                with urllib.request.urlopen(self.url + "/healthz", timeout=2) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

        until(ready, "`mn up` to answer")

    def restart_after_crash(self, process: Process | Forked) -> None:
        """The supervisor of `mn up` does it by itself."""
        assert process.is_running, f"The supervisor ended too:\n{process.tail()}"
        process.is_armed = False


class Forking(Installation):
    """An installation whose workers are forked from a template, which takes milliseconds."""

    def __init__(self, folder: Path, **env: str) -> None:
        super().__init__(folder, **env)
        self.nursery = Nursery(self.env, folder)

    def start_worker(
        self,
        crash_at: str = "",
        *,
        slots: int = 4,
        database: tuple[str, int] | None = None,
        skew_seconds: float = 0.0,
        **env: str,
    ) -> Forked:
        changed = env | ({"MN_CRASH_AT": crash_at} if crash_at else {})
        worker = self.nursery.fork(slots=slots, env=changed, database=database, skew_seconds=skew_seconds)
        worker.is_armed = bool(changed or database or skew_seconds)
        self.processes.append(worker)
        return worker

    def restart_after_crash(self, process: Process | Forked) -> None:
        code = process.wait_exit()
        assert code == 137, f"It ended with {code} instead of dying at the point:\n{process.tail()}"
        self.processes.remove(process)
        process.kill()
        # Its lease is not waited for: that it is noticed at all is another test's promise.
        self.driver.ask("expire_leases")
        self.start_worker()

    def close(self) -> None:
        super().close()
        self.nursery.close()


class Server(Forking):
    """Workers on PostgreSQL with a doorbell over Redis."""

    shape = "server"

    def __init__(self, folder: Path, database_url: str, redis: Redis, **env: str) -> None:
        self.redis = redis
        super().__init__(
            folder, **{"DATABASE_URL": database_url, "BROKER_URL": redis.url, "CHANNEL_URL": redis.url, **env}
        )
        parts = urlsplit(database_url)
        self.database_address = (parts.hostname or "127.0.0.1", parts.port or 5432)


class File(Forking):
    """One worker at a time on SQLite, as `mn worker` on a laptop: it holds the data lock."""

    shape = "file"


class Run:
    """One run, seen from outside."""

    def __init__(self, installation: Installation, run_id: str) -> None:
        self.installation = installation
        self.id = run_id

    def look(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.installation.driver.ask("look", run=self.id)
        return answer

    def until(self, condition: Callable[[dict[str, Any]], Any], what: str, seconds: float = SECONDS) -> Any:
        seen: dict[str, Any] = {}

        def ask() -> Any:
            seen.clear()
            seen.update(self.look())
            if condition(seen):
                return seen
            processes = self.installation.processes
            if processes and not any(p.is_running for p in processes):
                raise TooLate(f"No process is left to bring about: {what}")
            return None

        try:
            return until(ask, what, seconds)
        except TooLate as late:
            steps = {path: (s["status"], s["reason"], s["error"]) for path, s in seen["steps"].items()}
            raise TooLate(
                f"{late}\nrun {seen['status']} {seen['error']}\nsteps {steps}\n"
                f"effects {[(e['path'], e['state']) for e in seen['effects']]}\n"
                f"entries {[(e['kind'], e['path']) for e in seen['entries']][-25:]}\n"
                f"{self.installation.logs()}"
            ) from None

    def until_status(self, *statuses: str, seconds: float = SECONDS) -> dict[str, Any]:
        return dict(self.until(lambda s: s["status"] in statuses, f"run to be {statuses}", seconds))

    def until_step(self, path: str, *statuses: str, seconds: float = SECONDS) -> dict[str, Any]:
        return dict(
            self.until(
                lambda s: s["steps"].get(path, {}).get("status") in statuses,
                f"step {path} to be {statuses}",
                seconds,
            )
        )

    def approve(self, path: str = "ask") -> None:
        """Answer the question of a step as soon as it is asked."""
        self.until_request(path)
        self.decide(path, "approve")

    def until_request(self, path: str) -> str:
        state = self.until(
            lambda s: any(r["path"] == path and r["state"] == "open" for r in s["requests"]),
            f"a question at {path}",
        )
        return str(next(r["id"] for r in state["requests"] if r["path"] == path and r["state"] == "open"))

    def decide(self, path: str, verb: str, **more: Any) -> None:
        request = self.until_request(path)
        self.installation.driver.ask("decide", request=request, verb=verb, **more)


class Redis:
    """A Redis server of the tests' own, so that a test may flush or kill it."""

    def __init__(self, folder: Path) -> None:
        self.port = closed_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: Process | None = None
        self.start()

    def start(self) -> None:
        self._process = Process(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ],
            dict(os.environ),
            self._folder / "redis.log",
        )
        until(self._answers, "Redis to answer")

    def _answers(self) -> bool:
        import redis

        try:
            return bool(redis.Redis(port=self.port).ping())
        except redis.RedisError:
            return False

    def flush(self) -> None:
        import redis

        redis.Redis(port=self.port).flushall()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process = None


def services_missing() -> str:
    """Why the server shape cannot be tested here; empty when it can."""
    if shutil.which("redis-server") is None:
        return "redis-server is not installed"
    postgres = services.postgres()
    return "" if postgres.found else postgres.missing


@contextlib.contextmanager
def postgres_database(name: str) -> Iterator[str]:
    """A fresh database, dropped afterwards."""
    import psycopg

    base = services.postgres().url
    with psycopg.connect(base, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    url = urlsplit(base)
    try:
        yield url._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(base, autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def assert_nothing_ran_twice(run: Run, remote: FakeRemote) -> None:
    """The promises that hold after any crash, seen in the run's rows and from the outside."""
    state = run.look()
    succeeded = [e["path"] for e in state["entries"] if e["kind"] == "step.succeeded"]
    assert len(succeeded) == len(set(succeeded)), f"a step succeeded twice: {succeeded}"
    assert [e["seq"] for e in state["entries"]] == list(range(1, state["seq"] + 1))
    assert all(s["failures"] == 0 for s in state["steps"].values()), state["steps"]
    remote.assert_each_key_once()
    run.installation.assert_sound()
