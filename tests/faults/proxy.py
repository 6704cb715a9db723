"""A TCP proxy that breaks connections on purpose, in front of PostgreSQL, Redis, RabbitMQ or a tool.

with Proxy("127.0.0.1", 5432) as proxy:
    ... connect to proxy.port ...
    proxy.freeze()      # half open: nothing passes, nobody is told
    proxy.thaw()
    proxy.reset_all()   # every connection gets RST
    proxy.refuse()      # new connections are reset
    proxy.lose_answer(b"COMMIT")  # the request passes, its answer does not, both ends are cut
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import struct
import threading
import time
from types import TracebackType


class Proxy:
    def __init__(self, host: str, port: int, *, listen: int = 0) -> None:
        self.target = (host, port)
        self.delay_seconds = 0.0
        """Added to each piece in each direction."""
        self.accepted = 0
        self.answers_lost = 0
        self._listener = socket.create_server(("127.0.0.1", listen), backlog=200)
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._pattern: bytes | None = None
        self._countdown = 0
        self._chance = 0.0
        self._random = random.Random(0)
        self._closed = False
        threading.Thread(target=self._accept, daemon=True, name="proxy").start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    # --- what a test does to it ---------------------------------------------------------------------------

    def freeze(self) -> None:
        """Half open: connections stand, new ones are taken, and nothing passes."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    def refuse(self) -> None:
        """New connections are reset at once; the ones there are go on."""
        self._refusing = True

    def allow(self) -> None:
        self._refusing = False

    def reset_all(self) -> int:
        """Cut every connection with RST; returns how many there were."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            self._cut(pair)
        return len(pairs)

    def cut_off(self) -> None:
        """Gone: what there was is cut, and nobody gets in."""
        self.refuse()
        self.reset_all()

    def restore(self) -> None:
        self.allow()
        self.thaw()
        self.forget()

    def lose_answer(self, pattern: bytes, *, nth: int = 1) -> None:
        """Let the nth request that contains `pattern` through, swallow its answer, cut both ends."""
        with self._lock:
            self._pattern, self._countdown, self._chance = pattern, nth, 0.0

    def lose_answers(self, pattern: bytes, *, chance: float, seed: int) -> None:
        """Do so to a share of all such requests, until `forget`."""
        with self._lock:
            self._pattern, self._chance, self._random = pattern, chance, random.Random(seed)

    def forget(self) -> None:
        with self._lock:
            self._pattern, self._countdown, self._chance = None, 0, 0.0

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        self._listener.close()
        self.reset_all()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- how it works -------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                _reset(client)
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True, name="proxied").start()

    def _serve(self, client: socket.socket) -> None:
        self._flowing.wait()
        try:
            server = socket.create_connection(self.target, timeout=5)
        except OSError:
            _reset(client)
            return
        server.settimeout(None)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        with self._lock:
            self._pairs.add(pair)
        try:
            self._pump(client, server, pair)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._pairs.discard(pair)
            for end in pair:
                with contextlib.suppress(OSError):
                    end.close()

    def _pump(self, client: socket.socket, server: socket.socket, pair: tuple) -> None:
        doomed = False
        tail = b""
        while True:
            ready, _, _ = select.select([client, server], [], [], 1.0)
            if not ready:
                continue
            self._flowing.wait()
            for end in ready:
                data = end.recv(65536)
                if not data:
                    return
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                if end is client:
                    # A pattern may lie across two pieces.
                    seen, tail = tail + data, data[-64:]
                    doomed = doomed or self._is_hit(seen)
                    server.sendall(data)
                elif doomed:
                    self.answers_lost += 1
                    self._cut(pair)
                    return
                else:
                    tail = b""
                    client.sendall(data)

    def _is_hit(self, data: bytes) -> bool:
        with self._lock:
            if self._pattern is None or self._pattern not in data:
                return False
            if self._chance:
                return self._random.random() < self._chance
            self._countdown -= 1
            return self._countdown == 0

    def _cut(self, pair: tuple[socket.socket, socket.socket]) -> None:
        """Hang up on both; the thread that serves them closes them, so no number is reused too early."""
        for end in pair:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def _reset(end: socket.socket) -> None:
    """Close with RST."""
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with contextlib.suppress(OSError):
        end.close()
