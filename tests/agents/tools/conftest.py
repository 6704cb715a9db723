"""Tools are called as the gateway calls them, on files made here and servers on the loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID, uuid4

import pytest

from apps.agents.tools.base import FileRef, ToolRun
from mirrorneuron.config import config

CallOf = Callable[..., ToolRun]


def make_call(
    arguments: dict[str, Any],
    files: dict[str, bytes] | None = None,
    *,
    key: str = "key-1",
    workspace_id: UUID | None = None,
    run_id: UUID | None = None,
    seconds: float = 30.0,
    **more: Any,
) -> ToolRun:
    """A call with these files in its run; a file's id is `id-<name>`."""
    content = {f"id-{name}": data for name, data in (files or {}).items()}
    refs = tuple(
        FileRef(id=f"id-{name}", name=name, sha256=sha256(data).hexdigest(), size=len(data))
        for name, data in (files or {}).items()
    )
    return ToolRun(
        arguments,
        workspace_id or uuid4(),
        run_id or uuid4(),
        key=key,
        timeout_seconds=seconds,
        files=refs,
        read_file=content.__getitem__,
        **more,
    )


def make_pdf(*pages: str, encrypted: bool = False) -> bytes:
    """A small PDF with one text line per line of each page."""
    objects: list[bytes] = []
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects.append(b"<< /Type /Catalog /Pages 2 0 R >>")
    objects.append(f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode())
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    for i, text in enumerate(pages):
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents {5 + 2 * i} 0 R "
            f"/Resources << /Font << /F1 3 0 R >> >> >>".encode()
        )
        lines = "".join(f"({line}) Tj 0 -16 Td " for line in text.split("\n"))
        stream = f"BT /F1 12 Tf 40 760 Td {lines}ET".encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
    out, offsets = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, start)
    if not encrypted:
        return bytes(out)
    import io

    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(bytes(out))))
    writer.encrypt("secret", algorithm="RC4-128")
    sink = io.BytesIO()
    writer.write(sink)
    return sink.getvalue()


class Site:
    """A web server on the loopback; `answers[path]`: (status, headers, body), or a function."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self.port = 0

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        body = handler.rfile.read(length)
        path = handler.path
        self.requests.append(
            {"method": handler.command, "path": path, "headers": dict(handler.headers), "body": body}
        )
        answer = self.answers.get(path.split("?")[0], (404, {}, b"no such page"))
        if callable(answer):
            answer(handler)
            return
        status, headers, data = answer
        if not isinstance(data, bytes):
            data, headers = json.dumps(data).encode(), {"Content-Type": "application/json", **headers}
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(data)


def start_site() -> tuple[Site, ThreadingHTTPServer]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.serve(self)

        do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.port = server.server_address[1]
    site.url = f"http://127.0.0.1:{site.port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return site, server


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server that tools may reach although it is on this machine."""
    monkeypatch.setattr(config(), "egress_allow", "127.0.0.1")
    made, server = start_site()
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Host names and the addresses they have; asked for any other name the resolver knows none."""
    known: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolver(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(host, str) and host.replace(".", "").isalpha():
            known.setdefault("asked", []).append(host)
            if not known.get(host):
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [row for address in known[host] for row in real(address, port, *args, **kwargs)]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return known
