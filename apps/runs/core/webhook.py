"""Is a message signed by somebody who knows the secret, and just now? Pure, and in constant time.

standard   Standard Webhooks: `webhook-id`, `webhook-timestamp` (seconds), `webhook-signature` with one or
           more `v1,<base64 of HMAC-SHA256 over "id.timestamp.body">`; a repeat has the same id
github     `x-hub-signature-256: sha256=<hex of HMAC-SHA256 over the body>`; it signs neither a time nor an
           id, so a repeat is known by its body
Source: the Standard Webhooks specification 1.0; GitHub's "Validating webhook deliveries".
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from enum import StrEnum

PREFIX = "whsec_"
LEAST_SECRET = 16
"""Characters of a secret that somebody brings."""
SIGNATURES_AT_MOST = 8
KEY_AT_MOST = 200


class Scheme(StrEnum):
    STANDARD = "standard"
    GITHUB = "github"


class NotGenuine(Exception):
    """The message is not taken. code: missing_header | bad_signature | outside_window."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def new_secret() -> str:
    """A fresh secret in the form libraries for Standard Webhooks take."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def key_of(secret: str, scheme: Scheme) -> bytes:
    """The HMAC key a secret stands for."""
    if scheme is Scheme.STANDARD and secret.startswith(PREFIX):
        try:
            return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def verified(
    scheme: Scheme,
    known: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    at: float,
    tolerance_seconds: int,
) -> str:
    """What names this message among all of its hook's: its id, or the hash of its body.

    known: the secrets that are valid now. headers: by lower-case name. at: seconds since 1970.
    Raises NotGenuine.
    """
    match scheme:
        case Scheme.STANDARD:
            return _standard(known, headers, body, at, tolerance_seconds)
        case Scheme.GITHUB:
            return _github(known, headers, body)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature` for a message."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(key_of(secret, Scheme.STANDARD), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def _standard(
    known: Sequence[str], headers: Mapping[str, str], body: bytes, at: float, tolerance_seconds: int
) -> str:
    message_id = _header(headers, "webhook-id")
    timestamp = _header(headers, "webhook-timestamp")
    given = _header(headers, "webhook-signature").split()[:SIGNATURES_AT_MOST]
    if not timestamp.isascii() or not timestamp.isdecimal() or len(timestamp) > 12:
        raise NotGenuine("missing_header", "webhook-timestamp is not a number of seconds.")
    if len(message_id) > KEY_AT_MOST or not message_id.isprintable():
        raise NotGenuine("missing_header", f"webhook-id has 1 to {KEY_AT_MOST} printable characters.")
    expected = [sign(secret, message_id, int(timestamp), body) for secret in known]
    if not _any_equal(expected, given):
        raise NotGenuine("bad_signature", "The signature is not one of this hook's secrets over this body.")
    # Only a genuine message is told that it is late.
    if abs(at - int(timestamp)) > tolerance_seconds:
        raise NotGenuine(
            "outside_window",
            f"It was signed {abs(at - int(timestamp)):.0f} s from now; {tolerance_seconds} are allowed.",
        )
    return message_id


def _github(known: Sequence[str], headers: Mapping[str, str], body: bytes) -> str:
    given = _header(headers, "x-hub-signature-256")
    expected = [
        "sha256=" + hmac.new(key_of(secret, Scheme.GITHUB), body, hashlib.sha256).hexdigest()
        for secret in known
    ]
    if not _any_equal(expected, [given]):
        raise NotGenuine("bad_signature", "The signature is not one of this hook's secrets over this body.")
    return "sha256:" + hashlib.sha256(body).hexdigest()


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise NotGenuine("missing_header", f"The header {name} is missing.")
    return value


def _any_equal(expected: Sequence[str], given: Sequence[str]) -> bool:
    """Whether any pair is equal; every pair is compared, each in constant time."""
    found = False
    for one in expected:
        for other in given:
            found |= hmac.compare_digest(one.encode(), other.encode())
    return found
