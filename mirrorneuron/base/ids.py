"""Identifiers: time-ordered UUIDs for rows, random secrets for people and machines."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
import uuid


def uuid7() -> uuid.UUID:
    """A time-ordered UUID, so that new rows land at the end of an index. Source: RFC 9562, section 5.7."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & ((1 << 48) - 1)) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def secret(prefix: str = "") -> str:
    """A fresh 256-bit secret in URL-safe text, shown once and stored only as `digest(secret)`."""
    return prefix + secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """SHA-256 in hex: enough for secrets that already carry 256 random bits."""
    return hashlib.sha256(text.encode()).hexdigest()


def as_uuid(text: str | uuid.UUID) -> uuid.UUID | None:
    """Read an id from a URL or a command; None when it is not one."""
    if isinstance(text, uuid.UUID):
        return text
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None
