"""The small parent of `mn up`: it holds what must survive a crash and starts what does the work again.

    supervisor ── holds the data lock and the listening socket; does nothing else
        └── mirrorneuron.serve ── pages, API and worker in one process, with both passed on

Because the socket stays open while the child is away, a browser that reconnects waits a moment instead of
being refused. Because the lock stays held, no second start slips in between. A pipe ties the two together the
other way round: its end closes with the supervisor, however that dies, and the child then leaves too.

The supervisor never loads Django: it has to be up when everything else is not.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirrorneuron import datalock
from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.signals import Signals

EXIT_CONFIGURATION = 78
"""The child found a wrong setting and has said so; starting again cannot help. EX_CONFIG of sysexits.h."""
EXIT_CRASH_POINT = 137
STOP_SECONDS = 15.0
"""How long a child may take to stop before it is killed."""
STEADY_SECONDS = 30.0
"""A child that lived this long was well; the next death starts the back-off anew."""
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104
BACK_OFF_SECONDS = (0.0, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 5.0, 10.0)
"""Pause before each restart in a row of quick deaths; short at first, so that a drill of a few kills in a row
still sees every recovery within 5 s."""


@dataclass
class Supervisor:
    """One `mn up`: `run()` returns its exit code."""

    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    when_ready: Callable[[dict[str, Any]], None] = lambda facts: None
    """Called once, with `{url, sign_in, boot}`, when pages can be reached."""
    say: Callable[[str], None] = lambda text: None
    """Says one sentence to the person at the terminal."""
    program: tuple[str, ...] = ("-P", "-m", "mirrorneuron.serve")
    """What the child runs, as arguments to Python; tests put something small here."""
    was_ready: bool = False

    def run(self) -> int:
        """Hold the data and the port, keep one child alive until told to stop.

        Raises DataHeld or ConfigurationError, each with what to do, when it cannot start.
        """
        lock = datalock.acquire(self.data, command="mn up")
        try:
            listener = listen(self.host, self.port)
            url = address(self.host, listener)
            lock.describe(command="mn up", url=url)
            with contextlib.closing(listener):
                return self._keep_alive(lock, listener, url, Signals())
        finally:
            lock.release()

    def _keep_alive(
        self, lock: datalock.DataLock, listener: socket.socket, url: str, signals: Signals
    ) -> int:
        environment = self._environment(url)
        quick_deaths = 0
        while not signals.stop:
            started = time.monotonic()
            code = self._one_life(lock, listener, url, environment, signals)
            if signals.stop:
                return 0
            if self._is_hopeless(code):
                return 1
            environment.pop("MN_CRASH_AT", None)
            quick_deaths = 0 if time.monotonic() - started > STEADY_SECONDS else quick_deaths + 1
            pause = BACK_OFF_SECONDS[min(max(quick_deaths - 1, 0), len(BACK_OFF_SECONDS) - 1)]
            self.say(f"The worker process ended ({_ending(code)}); starting it again{_after(pause)}.")
            end = time.monotonic() + pause
            while not signals.stop and (left := end - time.monotonic()) > 0:
                signals.wait(left)
        return 0

    def _one_life(
        self,
        lock: datalock.DataLock,
        listener: socket.socket,
        url: str,
        environment: dict[str, str],
        signals: Signals,
    ) -> int:
        alive_read, alive_write = os.pipe()
        ready_read, ready_write = os.pipe()
        passed = (listener.fileno(), lock.descriptor, alive_read, ready_write)
        command = [sys.executable, *self.program, *map(str, passed), url]
        if self.was_ready:
            command.append("--again")
        try:
            # A group of its own: Ctrl-C in the terminal reaches only the supervisor, which stops the child.
            child = subprocess.Popen(  # noqa: S603
                command, pass_fds=passed, env=environment, process_group=0, stdin=subprocess.DEVNULL
            )
        finally:
            os.close(alive_read)
            os.close(ready_write)
        threading.Thread(target=self._await_ready, args=(ready_read,), daemon=True).start()
        code = self._until_dead(child, signals)
        os.close(alive_write)
        return code

    def _until_dead(self, child: subprocess.Popen[bytes], signals: Signals) -> int:
        """Sleep until the child has ended; when told to stop, pass that on once, and kill it in the end."""
        kill_at: float | None = None
        while (code := child.poll()) is None:
            if signals.stop and kill_at is None:
                child.terminate()
                kill_at = time.monotonic() + STOP_SECONDS
            if kill_at is not None and time.monotonic() >= kill_at:
                child.kill()
                return child.wait()
            signals.wait(None if kill_at is None else max(kill_at - time.monotonic(), 0))
        return code

    def _await_ready(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "rb") as pipe:
            line = pipe.readline()
        if line and not self.was_ready:
            self.was_ready = True
            self.when_ready(json.loads(line))

    def _is_hopeless(self, code: int) -> bool:
        """A first start that ends by itself has said why; only one that was killed may do better."""
        return code == EXIT_CONFIGURATION or (not self.was_ready and 0 <= code != EXIT_CRASH_POINT)

    def _environment(self, url: str) -> dict[str, str]:
        environment = {**os.environ, "MN_DATA": str(self.data), "MN_EMBEDDED": "1"}
        environment["MN_BASE_URL"] = environment.get("MN_BASE_URL") or url
        if self.host not in (*ANY_ADDRESS, "127.0.0.1", "::1", "localhost"):
            hosts = [environment.get("MN_ALLOWED_HOSTS", ""), self.host]
            environment["MN_ALLOWED_HOSTS"] = ",".join(filter(None, hosts))
        return environment


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError that says what is wrong with the address."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio sends at once (TCP_NODELAY) only on sockets that say they are TCP: an answer in two packets
        # would otherwise wait 40 ms for the client's delayed acknowledgement.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
    except OSError as exc:
        reason, advice = _listen_problem(exc, host, port)
        raise ConfigurationError(reason, code="port_unavailable", next=advice) from exc
    return listener


def _listen_problem(exc: OSError, host: str, port: int) -> tuple[str, str]:
    if exc.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is taken by another program.",
            f"Choose another with --port, such as --port {port + 1}, or stop the other program.",
        )
    if exc.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has.", "Choose a port above 1023 with --port."
    return f"MirrorNeuron cannot listen on {host}:{port} ({exc.strerror}).", "Choose another --host."


def address(host: str, listener: socket.socket) -> str:
    """The address to open in a browser on this machine."""
    port = listener.getsockname()[1]
    shown = "127.0.0.1" if host in ANY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _ending(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"


def _after(pause: float) -> str:
    return f" in {pause:g} s" if pause else ""
