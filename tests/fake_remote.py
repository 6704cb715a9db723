"""A remote service that counts: what was received, what was executed, by which key.

It stands behind `http` tools in fault tests, in this process or in its own:

    python -m tests.fake_remote --port 0 --log FILE

Every request becomes one JSON line in the log before anything else happens, `{"event": "received", …}`; every
execution another, `{"event": "executed", …}`. So the log stays true when the caller, or this process, dies.

    POST /keyed/<name>      executes each `Idempotency-Key` once and repeats its answer afterwards
    POST /plain/<name>      executes every request: nothing protects the world but the caller
    POST /put/<name>        writes the body under its `reference`; writing it again changes nothing
    GET  /probe/<reference> {"present": bool}: has a body with `reference` been executed?
    POST /v1/chat/completions  an OpenAI-compatible model: answers with the JSON set by `replies`, counted
    PUT  /_script           {"path": "/keyed/pay", "script": ["execute_500", "ok"]}: what to do with the next
                            requests to a path, the last entry for all later ones; GET /_log reads the log

Scripts: `ok`, `execute_500`, `execute_hang:<seconds>`, `execute_reset`, `late:<seconds>` (executes, then
answers late), `held` (executes, then answers once `release` lets it), `slow_execute:<seconds>` (executes
late, then answers), `reset` (before executing), `429:<seconds>`, `status:<code>`
(nothing is executed); on probe paths `absent` and `unknown`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

MOST_HELD = 120.0


class FakeRemote:
    """State and log of one fake service; `serve()` gives it a port."""

    def __init__(self, log: Path | None = None) -> None:
        self.log_path = log
        self.lines: list[dict[str, Any]] = []
        self.scripts: dict[str, list[str]] = {}
        self.mood: Callable[[str], str] | None = None
        """What to do with a writing request to a path that has no script; None means `ok`."""
        self.replies: dict[str, Any] = {}
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        self.executed: list[dict[str, Any]] = []
        self.times: Counter[str] = Counter()
        """How often a body with this `reference` was executed."""
        self.stopping = threading.Event()
        self._released: dict[str, threading.Event] = {}
        self.url = ""
        self.open: dict[_Handler, int] = {}
        """Connections there are, each with the number of requests it has dealt with."""
        self.accepted = 0
        self._lock = threading.Lock()

    # --- what tests ask --------------------------------------------------------------------------------

    def script(self, path: str, *steps: str) -> None:
        """Set what happens to the next requests to a path; the last entry holds for all later ones."""
        with self._lock:
            self.scripts[path] = list(steps)
            self._released[path] = threading.Event()

    def release(self, path: str) -> None:
        """Let the requests to a path be answered that are held since its script was set."""
        self._released[path].set()

    def hold(self, path: str) -> None:
        """Wait until the path is released. Raises TimeoutError rather than leave a test hanging."""
        if not self._released[path].wait(MOST_HELD):
            raise TimeoutError(f"{path} was held and never released")

    def received(self, path: str = "", **body: Any) -> list[dict[str, Any]]:
        return self._lines("received", path, body)

    def executions(self, path: str = "", **body: Any) -> list[dict[str, Any]]:
        return self._lines("executed", path, body)

    def _lines(self, event: str, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
        with self._lock:
            return [
                line
                for line in self.lines
                if line["event"] == event
                and line["path"].startswith(path)
                and all(isinstance(line["body"], dict) and line["body"].get(k) == v for k, v in body.items())
            ]

    def assert_each_key_once(self) -> None:
        """Every key was executed at most once, and every repeat carried the same body to the same path."""
        executed: dict[str, int] = defaultdict(int)
        seen: dict[str, tuple[str, str, Any]] = {}
        for line in list(self.lines):
            if not line["key"]:
                continue
            if line["event"] == "executed":
                executed[line["key"]] += 1
            request = (line["method"], line["path"], line["body"])
            if line["method"] != "GET":
                first = seen.setdefault(line["key"], request)
                assert first == request, (
                    f"key {line['key']} was sent with two contents: {first} and {request}"
                )
        repeated = {key: count for key, count in executed.items() if count > 1}
        assert not repeated, f"executed more than once: {repeated}"

    def catch_up(self, seconds: float = 10.0) -> bool:
        """Wait until every request sent to this port by now was dealt with; False if that takes long.

        A caller that was killed may have left its request in a buffer or in the queue of new connections.
        """
        end = time.monotonic() + seconds
        before = self.accepted
        # Connections are taken in order: once this one was, all before it were.
        with socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=seconds):
            while self.accepted == before and time.monotonic() < end:
                time.sleep(0.005)
        with self._lock:
            waiting = {h: n for h, n in self.open.items() if h.is_busy or _has_unread(h.connection)}
        while time.monotonic() < end:
            with self._lock:
                if not any(self.open.get(h) == n for h, n in waiting.items()):
                    return True
            time.sleep(0.005)
        return False

    # --- what requests do ------------------------------------------------------------------------------

    def next_step(self, path: str) -> str:
        with self._lock:
            steps = self.scripts.get(path)
            if steps is None and self.mood is not None and not path.startswith("/probe/"):
                return self.mood(path)
            steps = steps or ["ok"]
            return steps.pop(0) if len(steps) > 1 else steps[0]

    def write(self, event: str, method: str, path: str, key: str, body: Any) -> None:
        line = {"event": event, "at": time.time(), "method": method, "path": path, "key": key, "body": body}
        with self._lock:
            self.lines.append(line)
            if self.log_path is not None:
                with self.log_path.open("a") as file:
                    file.write(json.dumps(line) + "\n")
                    file.flush()
                    os.fsync(file.fileno())

    def execute(self, method: str, path: str, key: str, body: Any, *, keyed: bool) -> dict[str, Any]:
        """Do it; with `keyed` a known key gives the stored answer and does nothing."""
        with self._lock:
            stored = self.answers.get((path, key)) if keyed and key else None
            if stored is not None:
                if stored["body"] != body:
                    return {"status": 422, "answer": {"error": "this key was used with another body"}}
                return {"status": 200, "answer": {**stored["answer"], "replayed": True}}
            reference = str(body.get("reference", "")) if isinstance(body, dict) else ""
            if path.startswith("/put/") and self.times[reference]:
                return {"status": 200, "answer": {"path": path, "unchanged": True}}
            number = len(self.executed) + 1
            answer = {"id": f"r{number}", "path": path}
            self.executed.append({"path": path, "key": key, "body": body})
            if reference:
                self.times[reference] += 1
            if keyed and key:
                self.answers[(path, key)] = {"answer": answer, "body": body}
        self.write("executed", method, path, key, body)
        return {"status": 200, "answer": answer}

    def is_present(self, reference: str) -> bool:
        return self.times[reference] > 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    remote: FakeRemote
    is_busy = False

    def setup(self) -> None:
        super().setup()
        with self.remote._lock:
            self.remote.open[self] = 0
            self.remote.accepted += 1

    def finish(self) -> None:
        with self.remote._lock:
            self.remote.open.pop(self, None)
        super().finish()

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.is_busy = False
        with self.remote._lock:
            if self in self.remote.open:
                self.remote.open[self] += 1

    def parse_request(self) -> bool:
        self.is_busy = True
        return super().parse_request()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: the JSON log says it all."""

    def do_GET(self) -> None:
        if self.path == "/_log":
            return self._answer(200, self.remote.lines)
        self._received(None)
        step = self.remote.next_step(self.path)
        if step == "unknown":
            return self._answer(503, {"error": "cannot say"})
        if self.path.startswith("/probe/"):
            present = step != "absent" and self.remote.is_present(unquote(self.path).removeprefix("/probe/"))
            return self._answer(200, {"present": present})
        return self._answer(200, {"path": self.path})

    def do_PUT(self) -> None:
        body = self._body()
        if self.path == "/_script":
            self.remote.script(body["path"], *body["script"])
            return self._answer(200, {})
        return self._write(body)

    def do_POST(self) -> None:
        self._write(self._body())

    do_DELETE = do_PATCH = do_POST  # noqa: N815 - the names the server looks for

    def _write(self, body: Any) -> None:
        remote, key = self.remote, self.headers.get("Idempotency-Key", "")
        self._received(body)
        if self.path.endswith("/chat/completions"):
            return self._complete(body)
        step, _, argument = remote.next_step(self.path).partition(":")
        if step == "reset":
            return self._reset()
        if step == "429":
            return self._answer(429, {"error": "slow down"}, {"Retry-After": argument or "1"})
        if step == "status":
            return self._answer(int(argument), {"error": f"status {argument}"})
        if step == "slow_execute":
            remote.stopping.wait(float(argument))
        done = remote.execute(self.command, self.path, key, body, keyed=self.path.startswith("/keyed/"))
        if step == "execute_500":
            return self._answer(500, {"error": "broke after doing it"})
        if step == "execute_reset":
            return self._reset()
        if step == "execute_hang":
            remote.stopping.wait(float(argument or 30))
            return self._reset()
        if step == "held":
            remote.hold(self.path)
        if step == "late":
            remote.stopping.wait(float(argument))
        return self._answer(done["status"], done["answer"])

    def _complete(self, body: Any) -> None:
        model = body.get("model", "") if isinstance(body, dict) else ""
        text = json.dumps(self.remote.replies.get(model, {"text": "a quiet answer"}))
        message = {"role": "assistant", "content": text}
        self._answer(
            200,
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
            },
        )

    def _body(self) -> Any:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        if len(raw) < length:
            # The caller died while it was sending: no service acts on half a request.
            raise ConnectionAbortedError(f"{len(raw)} of {length} bytes")
        try:
            return json.loads(raw) if raw else None
        except ValueError:
            return raw.decode("utf-8", "replace")

    def _received(self, body: Any) -> None:
        key = self.headers.get("Idempotency-Key", "")
        self.remote.write("received", self.command, self.path, key, body)

    def _answer(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        raw = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)
        except OSError:
            self.close_connection = True  # the caller was killed, which is the point of the test

    def _reset(self) -> None:
        """Close with RST, so that the caller sees a broken connection instead of an end."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _has_unread(connection: socket.socket) -> bool:
    """Whether bytes have arrived that nobody has read yet."""
    try:
        return bool(connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except OSError:
        return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A killed caller is not an error here."""


def _server(remote: FakeRemote, port: int) -> _Server:
    handler = type("Handler", (_Handler,), {"remote": remote})
    server = _Server(("127.0.0.1", port), handler)
    remote.url = f"http://127.0.0.1:{server.server_address[1]}"
    return server


@contextmanager
def serve(log: Path | None = None, port: int = 0) -> Iterator[FakeRemote]:
    """A fake remote on a free port, in threads of this process."""
    remote = FakeRemote(log)
    server = _server(remote, port)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield remote
    finally:
        remote.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join(5)


def closed_port() -> int:
    """A port nobody listens on: a connection to it is refused."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="A remote service that counts.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    remote = FakeRemote(options.log)
    server = _server(remote, options.port)
    sys.stdout.write(remote.url + "\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
