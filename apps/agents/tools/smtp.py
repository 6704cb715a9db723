"""Handing one message to a mail server, and knowing at every moment what a failure means.

Until the content has begun to leave, nothing can have happened. Once it has, only the server's answer to the
final dot tells: 2xx it has the message, 5xx it has refused it, anything else or silence nobody knows.
"""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure


def deliver(url: str, sender: str, recipients: Sequence[str], data: bytes, seconds: float) -> str:
    """Deliver to all recipients or to none; returns what the server said.

    url: `smtp://user:password@host:587` (STARTTLS when offered, required before a password) or `smtps://…`.
    seconds: for everything together.
    Raises DefiniteFailure (permanent where the server says so), AmbiguousOutcome.
    """
    parts = urlsplit(url)
    host = parts.hostname or "localhost"
    deadline = time.monotonic() + seconds
    with _definite(host), _connected(parts.scheme, host, parts.port, seconds, deadline) as server:
        _secure_and_log_in(
            server, parts.scheme, host, unquote(parts.username or ""), unquote(parts.password or "")
        )
        _expect(server.mail(sender), {250}, f"the sender {sender}")
        for recipient in recipients:
            # One refused recipient stops the whole message: nobody could say later who has got it.
            _expect(server.rcpt(recipient), {250, 251}, f"the recipient {recipient}")
        _expect(server.docmd("DATA"), {354}, "the message")
        return _send_content(server, host, data)


def _send_content(server: smtplib.SMTP, host: str, data: bytes) -> str:
    body = re.sub(rb"\r?\n", b"\r\n", data)
    body = re.sub(rb"(?m)^\.", b"..", body)
    body = body if body.endswith(b"\r\n") else body + b"\r\n"
    try:
        server.send(body + b".\r\n")
        code, said = server.getreply()
    except (OSError, smtplib.SMTPException) as exc:
        raise AmbiguousOutcome(
            f"The mail server {host} got the message but its answer was lost.", code="no_answer_in_time"
        ) from exc
    answer = f"{code} {_text(said)}"
    if 200 <= code < 300:
        return answer
    if 500 <= code < 600:
        raise DefiniteFailure(f"The mail server {host} refused the message: {answer}.", permanent=True)
    raise AmbiguousOutcome(f"The mail server {host} answered the message with {answer}.")


def _secure_and_log_in(server: smtplib.SMTP, scheme: str, host: str, user: str, password: str) -> None:
    server.ehlo_or_helo_if_needed()
    encrypted = scheme == "smtps"
    if not encrypted and server.has_extn("starttls"):
        _expect(server.starttls(context=ssl.create_default_context()), {220}, "STARTTLS")
        server.ehlo()
        encrypted = True
    if not user:
        return
    if not encrypted and host not in {"localhost", "127.0.0.1", "::1"}:
        raise DefiniteFailure(
            f"The mail server {host} offers no encryption, and a password is not sent without.",
            permanent=True,
            code="smtp_not_encrypted",
            next="Use smtps:// in MN_SMTP_URL, or a server with STARTTLS.",
        )
    server.login(user, password)


@contextlib.contextmanager
def _connected(
    scheme: str, host: str, port: int | None, seconds: float, deadline: float
) -> Iterator[smtplib.SMTP]:
    if scheme == "smtps":
        context = ssl.create_default_context()
        server: smtplib.SMTP = smtplib.SMTP_SSL(host, port or 465, timeout=seconds, context=context)
    else:
        server = smtplib.SMTP(host, port or 587, timeout=seconds)
    # A socket's time-out starts again with every byte; this ends the connection when the call's time is over.
    assert server.sock is not None
    copy = server.sock.dup() if not isinstance(server.sock, ssl.SSLSocket) else None
    target = copy or server.sock

    def cut() -> None:
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(max(0.01, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield server
        with contextlib.suppress(OSError, smtplib.SMTPException):
            server.quit()
    finally:
        timer.cancel()
        # An error of closing must not hide that the message was taken.
        with contextlib.suppress(OSError):
            server.close()
        if copy is not None:
            copy.close()


@contextlib.contextmanager
def _definite(host: str) -> Iterator[None]:
    """Everything that fails inside, before the content leaves, is a definite failure in plain words."""
    try:
        yield
    except smtplib.SMTPAuthenticationError as exc:
        raise DefiniteFailure(
            f"The mail server {host} did not accept the user name and password ({exc.smtp_code}).",
            permanent=500 <= exc.smtp_code < 600,
            code="smtp_login_refused",
            next="Check MN_SMTP_URL.",
        ) from exc
    except smtplib.SMTPResponseException as exc:
        raise DefiniteFailure(
            f"The mail server {host} answered {exc.smtp_code} {_text(exc.smtp_error)}.",
            permanent=500 <= exc.smtp_code < 600,
            code="smtp_refused",
        ) from exc
    except ssl.SSLError as exc:
        raise DefiniteFailure(
            f"No secure connection to the mail server {host}: {exc.reason or exc}.", code="tls_failed"
        ) from exc
    except socket.gaierror as exc:
        raise DefiniteFailure(f'There is no mail server "{host}".', code="dns_failed") from exc
    except (OSError, smtplib.SMTPException) as exc:
        raise DefiniteFailure(
            f"No connection to the mail server {host}: {exc or type(exc).__name__}.", code="connect_failed"
        ) from exc


def _expect(reply: tuple[int, bytes], good: set[int], what: str) -> None:
    code, said = reply
    if code not in good:
        raise DefiniteFailure(
            f"The mail server refused {what}: {code} {_text(said)}.",
            permanent=500 <= code < 600,
            code="smtp_refused",
        )


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:300]
