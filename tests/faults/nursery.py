"""Workers by the dozen: a template process that has imported everything and forks one worker per order.

    nursery = Nursery(env, folder)
    worker = nursery.fork(slots=4, env={"MN_CRASH_AT": "after_call"})
    worker.kill()

Starting Python and importing the product costs a second and a half; a fork costs some milliseconds, so a
test may kill ten workers a second. The template has one thread and no connection. A child is what `mn
worker` is: the engine's loop with a boot id and connections of its own, and Celery's doorbell if a broker
is named; with a file as database it takes the data lock first.

The template runs as `python -m tests.faults.nursery`: one JSON order a line on standard input, one answer a
line on standard output. Children die with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
PR_SET_PDEATHSIG = 1
NOT_FOR_WORKERS = ("mirrorneuron.asgi", "mirrorneuron.cli.__main__")
LATER = (
    "celery.apps.worker", "celery.backends.base", "celery.concurrency.thread", "celery.contrib.django.task",
    "celery.worker.strategy", "celery.worker.worker", "celery.worker.consumer.consumer", "httpx", "httpcore",
    "stringprep", "encodings.idna", "cryptography.fernet", "ruamel.yaml", "jsonschema", "pygments.lexers",
    "channels_redis.pubsub", "celery.worker.components", "celery.worker.autoscale", "celery.app.control",
    "celery.app.events", "celery.events.receiver",
)  # fmt: skip
"""What a worker imports once it is needed; a worker that lives for a third of a second has no time for it."""


class Forked:
    """One forked worker, seen from the test."""

    is_armed = False
    """It will die, or lives by other settings; of no use to the next test."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self.exit: int | None = None
        self._handle = os.pidfd_open(pid)
        self._nursery: Nursery | None = None

    @property
    def is_running(self) -> bool:
        return not self._is_over(0)

    def _is_over(self, seconds: float) -> bool:
        if self._handle < 0:
            return True
        if not select.select([self._handle], [], [], seconds)[0]:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def send(self, number: int) -> None:
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send(signal.SIGKILL)
        assert self._is_over(10), f"process {self.pid} survived SIGKILL"

    def stop(self, seconds: float = 30.0) -> int:
        """SIGTERM, as a service manager would, and SIGKILL if that is not heard."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        polite = self._is_over(seconds)
        self.kill()
        return self.wait_exit(5) if polite else -1

    def wait_exit(self, seconds: float = 30.0) -> int:
        """Its exit code as a shell would give it."""
        if not self._is_over(seconds):
            raise AssertionError(f"Process {self.pid} still runs after {seconds:.0f} s.\n{self.tail()}")
        if self.exit is None:
            assert self._nursery is not None
            self.exit = self._nursery.exit_code(self.pid)
        return self.exit

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Nursery:
    """The template process of one installation."""

    def __init__(self, env: dict[str, str], folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._log: IO[bytes] = (folder / "nursery.log").open("ab")
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery"],
            env={k: v for k, v in env.items() if k != "MN_CRASH_AT"},
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        self._count = 0

    def fork(
        self,
        *,
        slots: int = 4,
        env: dict[str, str] | None = None,
        database: tuple[str, int] | None = None,
        skew_seconds: float = 0.0,
        log: Path | None = None,
    ) -> Forked:
        """Start a worker.

        database: another host and port for the same database, such as a proxy's. skew_seconds: how far ahead
        this worker's own wall clock is.
        """
        self._count += 1
        log = log or self.folder / f"worker-{self._count}.log"
        answer = self._ask(
            do="fork", slots=slots, env=env or {}, database=database, skew=skew_seconds, log=str(log)
        )
        log.touch()
        worker = Forked(int(answer["pid"]), log)
        worker._nursery = self
        return worker

    def exit_code(self, pid: int) -> int:
        end = time.monotonic() + 10
        while True:
            code = self._ask(do="reap", pid=pid)["code"]
            if code is not None:
                return int(code)
            assert time.monotonic() < end, f"process {pid} was never reaped"
            time.sleep(0.01)

    def _ask(self, **order: Any) -> dict[str, Any]:
        with self._lock:
            assert self._popen.stdin and self._popen.stdout
            self._popen.stdin.write(json.dumps(order) + "\n")
            self._popen.stdin.flush()
            line = self._popen.stdout.readline()
        assert line, f"the nursery ended: {(self.folder / 'nursery.log').read_text()[-3000:]}"
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the template; its children go with it."""
        if self._popen.stdin:
            with contextlib.suppress(OSError):
                self._popen.stdin.close()
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout:
            self._popen.stdout.close()
        self._log.close()


# --- the template -----------------------------------------------------------------------------------------


def _import_everything() -> None:
    """What a worker would import in its first seconds."""
    import django

    django.setup()
    import apps
    import mirrorneuron

    for package in (apps, mirrorneuron):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if ".migrations" not in module.name and module.name not in NOT_FOR_WORKERS:
                importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)
    from mirrorneuron.celery import app
    from mirrorneuron.config import config

    if config().broker_url:
        app.finalize()
        app.loader.import_default_modules()
        importlib.import_module("kombu.transport.redis")


def _become_worker(order: dict[str, Any]) -> None:
    """In the child: settings of its own, then what `mn worker` does until SIGTERM."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, target in ((0, nothing), (1, log), (2, log)):
        os.dup2(target, number)
    random.seed()
    os.environ.update(order["env"])
    _skew(float(order["skew"]))

    from django.db import connections

    from mirrorneuron.base import crash
    from mirrorneuron.config import config

    config.cache_clear()
    if config().crash_at:
        crash.arm(config().crash_at)
    if order["database"]:
        host, port = order["database"]
        connections.settings["default"].update(HOST=host, PORT=str(port))
    _break(os.environ)
    from mirrorneuron import datalock
    from mirrorneuron.workers import work_with_threads

    queues = [name for name in os.environ.get("MN_TEST_QUEUES", "default").split(",") if name]
    if not config().is_sqlite:
        work_with_threads(queues, order["slots"], sole=False)
        return
    lock = datalock.acquire(config().data, command="a forked worker")
    try:
        work_with_threads(queues, order["slots"], sole=True)
    finally:
        lock.release()


def _break(environ: Mapping[str, str]) -> None:
    """What a test wants to go wrong inside this worker, and nothing outside could bring about.

    MN_TEST_DEADLY: a node kind whose handler kills the process, as a native library might.
    MN_TEST_DB_ERRORS: `<share>:<seed>`, that share of the statements fails as after a deadlock.
    MN_TEST_FULL: every database connection finds the disk full after so many more pages.
    """
    from django.db import OperationalError
    from django.db.backends.signals import connection_created

    if kind := environ.get("MN_TEST_DEADLY"):
        from apps.runs import ports

        ports._handlers[kind] = lambda context: os.kill(os.getpid(), signal.SIGSEGV)  # type: ignore
    if errors := environ.get("MN_TEST_DB_ERRORS"):
        share, _, seed = errors.partition(":")
        rng = random.Random(int(seed))

        def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            if rng.random() < float(share):
                raise OperationalError("deadlock detected")
            return execute(sql, params, many, context)

        connection_created.connect(
            lambda connection, **_: connection.execute_wrappers.__setitem__(slice(None), [wrapper]),
            weak=False,
        )
    if pages := environ.get("MN_TEST_FULL"):

        def full(connection: Any, **_: Any) -> None:
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA page_count")
                (now_used,) = cursor.fetchone()
                cursor.execute(f"PRAGMA max_page_count={now_used + int(pages)}")

        connection_created.connect(full, weak=False)


def _skew(seconds: float) -> None:
    """Put this process's wall clock wrong, as an operating system without NTP would."""
    if not seconds:
        return
    import datetime as module

    real_time, real_datetime = time.time, module.datetime

    class Skewed(real_datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.now(tz) + module.timedelta(seconds=seconds)

    time.time = lambda: real_time() + seconds
    for name, loaded in list(sys.modules.items()):
        if name.startswith(("apps.", "mirrorneuron.")) and getattr(loaded, "datetime", None) is real_datetime:
            loaded.datetime = Skewed  # type: ignore[attr-defined]
    from mirrorneuron.base.clock import clock

    # As a clock that was wrong from the start of the process.
    clock._base += seconds


def _serve() -> None:
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    _import_everything()
    assert threading.active_count() == 1, threading.enumerate()
    codes: dict[int, int] = {}
    for line in sys.stdin:
        order = json.loads(line)
        _reap(codes)
        if order["do"] == "fork":
            pid = os.fork()
            if pid == 0:
                answers.close()
                code = 1
                try:
                    _become_worker(order)
                    code = 0
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(code)
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = {"code": codes.pop(order["pid"], None)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _reap(codes: dict[int, int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            codes[pid] = 128 - code if code < 0 else code


if __name__ == "__main__":
    _serve()
