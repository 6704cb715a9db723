"""One HTTP request to the outside, to a checked address, with one time-out over everything.

Every redirect is checked like the first address. The total time covers names, connections, TLS and every
byte; a peer that trickles is cut off. Nothing is retried, no proxy is asked.

What a failure means (ENGINE rule 26): until the connection and its TLS stand nothing can have happened
(`DefiniteFailure`); from then on only an answer tells (`AmbiguousOutcome`).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin

import httpcore
import httpx

from apps.agents.egress import EgressRefused, host_matches, is_public, resolve
from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure, StepError

MAX_BYTES = 5_000_000
MAX_REDIRECTS = 5
USER_AGENT = "MirrorNeuron/0.1"

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OURS = frozenset(
    [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "trailer",
        "keep-alive",
        "expect",
    ]
)
_SAFE_ACROSS_HOSTS = frozenset(["accept", "accept-language", "accept-encoding", "user-agent"])


@dataclass(frozen=True)
class Response:
    """An answer as far as it was read.

    headers: names in lower case, the first 200.
    incomplete: why the body is not all there; empty when it is.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    url: str
    incomplete: str = ""


def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    content: bytes = b"",
    seconds: float,
    max_redirects: int = 0,
    hosts: Collection[str] | None = None,
) -> Response:
    """One HTTP request with the rules of this module.

    max_redirects: for GET and HEAD only; any other method gets the redirect as its answer.
    hosts: the only hosts that may see this request, redirects included (it carries a secret); None for any
    public one. Then plain `http` is refused too, except to hosts that are not public.
    Raises EgressRefused, StepError (permanent) for a bad URL or header, DefiniteFailure, AmbiguousOutcome.
    """
    deadline = time.monotonic() + seconds
    sent = _clean_headers(headers or {})
    method = method.upper()
    for hop in range(max_redirects + 1):
        target = _target(url, hosts)
        response = _once(method, target, sent, content, deadline, carries_secret=hosts is not None)
        location = response.headers.get("location")
        is_redirect = response.status in {301, 302, 303, 307, 308} and location
        if not is_redirect or method not in {"GET", "HEAD"} or max_redirects == 0:
            return response
        if hop == max_redirects:
            raise StepError(
                f"{_shown(target)} redirects more than {max_redirects} times.",
                permanent=True,
                code="too_many_redirects",
            )
        url = urljoin(str(target), location)
        following = _target(url, hosts)
        if (following.scheme, following.host, following.port) != (target.scheme, target.host, target.port):
            # Whatever was meant for one host stays with it.
            sent = {k: v for k, v in sent.items() if k.lower() in _SAFE_ACROSS_HOSTS}
    raise AssertionError("unreachable")


def _target(url: str, hosts: Collection[str] | None) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError, TypeError) as exc:
        raise StepError("The URL cannot be read.", permanent=True, code="bad_url") from exc
    problem = ""
    if target.scheme not in {"http", "https"}:
        problem = f'starts with "{target.scheme}:"; only http and https are allowed'
    elif not target.host:
        problem = "names no host"
    elif target.userinfo:
        problem = "carries a user name; give credentials through a connection"
    if problem:
        raise StepError(f"The URL {problem}.", permanent=True, code="bad_url")
    if hosts is not None and not any(host_matches(target.host, h, _port(target)) for h in hosts):
        raise EgressRefused(
            f'"{target.host}" is not among the hosts this connection may be used with '
            f"({', '.join(sorted(hosts)) or 'none'}).",
            permanent=True,
            code="host_not_declared",
            next="Add the host to the connection, or call another one.",
        )
    return target


def _once(
    method: str,
    target: httpx.URL,
    headers: Mapping[str, str],
    content: bytes,
    deadline: float,
    *,
    carries_secret: bool,
) -> Response:
    backend = _Checked(deadline, _shown(target), public_needs_tls=carries_secret and target.scheme == "http")
    request = httpx.Request(
        method,
        target,
        headers=[
            (k.encode(), v.encode("latin-1"))
            for k, v in {
                "User-Agent": USER_AGENT,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
                **headers,
            }.items()
        ],
        content=content or None,
    )
    with httpcore.ConnectionPool(
        ssl_context=_tls(), max_connections=1, max_keepalive_connections=0, retries=0, network_backend=backend
    ) as pool:
        try:
            answer = pool.handle_request(
                httpcore.Request(
                    method=request.method,
                    url=httpcore.URL(
                        scheme=target.raw_scheme,
                        host=target.raw_host,
                        port=target.port,
                        target=target.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=content or None,
                )
            )
        except StepError:
            raise
        except (httpcore.LocalProtocolError, httpcore.UnsupportedProtocol) as exc:
            raise StepError(
                f"The request to {_shown(target)} is not valid HTTP.", permanent=True, code="bad_request"
            ) from exc
        except Exception as exc:
            backend.stop()
            late = time.monotonic() >= deadline
            what = "did not answer in time" if late else "ended the connection without an answer"
            raise AmbiguousOutcome(
                f"{_shown(target)} {what}.", code="no_answer_in_time" if late else "connection_lost"
            ) from exc
        try:
            return _read(answer, target, backend, deadline)
        finally:
            backend.stop()


def _read(answer: httpcore.Response, target: httpx.URL, backend: _Checked, deadline: float) -> Response:
    """The body, up to MAX_BYTES after unpacking. A cut body is no error here: the status is known."""
    given = httpx.Headers(answer.headers)
    body, incomplete = bytearray(), ""
    packed = [p for p in (p.strip().lower() for p in given.get("content-encoding", "").split(",")) if p]
    packed = [p for p in packed if p != "identity"]
    if packed and (len(packed) > 1 or packed[0] not in _WINDOWS):
        incomplete = f"The answer is packed as {', '.join(packed)[:60]!r}, which was not asked for."
    else:
        try:
            for piece in _pieces(answer.iter_stream(), packed[0] if packed else ""):
                body += piece
                if len(body) > MAX_BYTES:
                    del body[MAX_BYTES:]
                    incomplete = f"The answer is larger than {MAX_BYTES // 1_000_000} MB and was cut."
                    break
        except Exception:
            late = time.monotonic() >= deadline
            incomplete = "The answer was cut off: " + (
                "no time was left." if late else "the connection ended."
            )
    with contextlib.suppress(Exception):
        answer.close()
    headers = {k.lower(): v for k, v in list(given.items())[:200]}
    return Response(answer.status, headers, bytes(body), str(target), incomplete)


_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""How zlib is told what it reads."""
_PIECE = 65_536


def _pieces(chunks: Iterable[bytes], packed: str) -> Iterator[bytes]:
    """The body piece by piece, unpacked: a few bytes may stand for any number, so never more at once."""
    if not packed:
        yield from chunks
        return
    unpacking = zlib.decompressobj(_WINDOWS[packed])
    is_first = True
    for chunk in chunks:
        try:
            piece = unpacking.decompress(chunk, _PIECE)
        except zlib.error:
            if not is_first or packed != "deflate":
                raise
            unpacking = zlib.decompressobj(-15)  # Some leave the frame out.
            piece = unpacking.decompress(chunk, _PIECE)
        is_first = False
        while piece:
            yield piece
            piece = unpacking.decompress(unpacking.unconsumed_tail, _PIECE)
        if unpacking.eof:
            return
    if not is_first:
        raise EOFError("the packed answer does not end")


class _Checked(httpcore.NetworkBackend):
    """Connects to checked addresses only, and cuts the connection when the call's time is over."""

    def __init__(self, deadline: float, shown: str, *, public_needs_tls: bool) -> None:
        self.deadline = deadline
        self.shown = shown
        self.public_needs_tls = public_needs_tls
        self._cutters: list[tuple[threading.Timer, socket.socket]] = []

    def left(self, asked: float | None = None) -> float:
        return max(0.001, min(self.deadline - time.monotonic(), asked or 3600.0))

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = resolve(host, port, self.left(timeout))
        if self.public_needs_tls and any(is_public(ipaddress.ip_address(one)) for one in addresses):
            raise EgressRefused(
                f"A secret would travel unencrypted to {self.shown}.",
                permanent=True,
                code="secret_needs_tls",
                next="Use https.",
            )
        problem: Exception | None = None
        for n, address in enumerate(addresses):
            share = self.left(timeout) / (len(addresses) - n)
            try:
                stream = httpcore.SyncBackend().connect_tcp(address, port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout, OSError) as exc:
                problem = exc
                continue
            self._cut_at_deadline(stream)
            return _Bounded(stream, self)
        raise DefiniteFailure(
            f"No connection to {self.shown}: {_reason(problem)}.", code="connect_failed"
        ) from problem

    def _cut_at_deadline(self, stream: httpcore.NetworkStream) -> None:
        # Time-outs of sockets start again with every byte; a copy of the socket, shut down, ends them all,
        # the TLS handshake included.
        copy = stream.get_extra_info("socket").dup()

        def cut() -> None:
            with contextlib.suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.left(), cut)
        timer.daemon = True
        timer.start()
        self._cutters.append((timer, copy))

    def stop(self) -> None:
        while self._cutters:
            timer, copy = self._cutters.pop()
            timer.cancel()
            copy.close()

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing is retried here")


class _Bounded(httpcore.NetworkStream):
    """A connection whose every operation ends with the call."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _Checked) -> None:
        self.inner = inner
        self.backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, timeout=self.backend.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if time.monotonic() >= self.backend.deadline:
            # A process that was asleep must not send when everybody takes the call for over.
            raise httpcore.WriteTimeout("no time is left")
        self.inner.write(buffer, timeout=self.backend.left(timeout))

    def close(self) -> None:
        self.inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        try:
            inner = self.inner.start_tls(ssl_context, server_hostname, self.backend.left(timeout))
        except (httpcore.NetworkError, httpcore.TimeoutException, OSError) as exc:
            self.backend.stop()
            raise DefiniteFailure(
                f"No secure connection to {self.backend.shown}: {_reason(exc)}.", code="tls_failed"
            ) from exc
        return _Bounded(inner, self.backend)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _clean_headers(headers: Mapping[str, str]) -> dict[str, str]:
    clean: dict[str, str] = {}
    for name, value in headers.items():
        text = str(value)
        if not _TOKEN.fullmatch(name) or any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in text):
            # The value may be a secret, so only the name is shown.
            raise StepError(
                f"The header {name[:60]!r} holds characters that no header may hold.",
                permanent=True,
                code="bad_header",
            )
        if name.lower() in _OURS:
            raise StepError(f'The header "{name}" cannot be set.', permanent=True, code="bad_header")
        try:
            text.encode("latin-1")
        except UnicodeEncodeError as exc:
            raise StepError(
                f'The header "{name}" holds characters outside Latin-1.', permanent=True, code="bad_header"
            ) from exc
        clean[name] = text.strip()
    return clean


def _port(target: httpx.URL) -> int:
    return target.port or (443 if target.scheme == "https" else 80)


def _shown(target: httpx.URL) -> str:
    """Host only: a path or query may hold what no log should."""
    return f"{target.host}:{target.port}" if target.port else target.host


def _reason(exc: Exception | None) -> str:
    text = str(exc) or type(exc).__name__
    return re.sub(r"^\[[^\]]*\]\s*", "", text)[:200].rstrip(".")
