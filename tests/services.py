"""Which services stand ready for tests: PostgreSQL, Redis, RabbitMQ and Chromium.

Looked for on their standard ports of this machine; `MN_TEST_POSTGRES`, `MN_TEST_REDIS` and `MN_TEST_AMQP`
name other places. With `MN_TEST_REQUIRE_SERVICES=1` a missing one is a failure, not a skip.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Service:
    name: str
    url: str
    """Where it is, or would be; for Chromium the program's path, empty when there is none."""
    found: bool

    @property
    def missing(self) -> str:
        return f"{self.name} was not found" + (f" at {self.url}" if self.url else "")


def required() -> bool:
    return os.environ.get("MN_TEST_REQUIRE_SERVICES") == "1"


def postgres() -> Service:
    return _port("PostgreSQL", os.environ.get("MN_TEST_POSTGRES", "postgres://postgres@127.0.0.1:5432/test"))


def redis() -> Service:
    return _port("Redis", os.environ.get("MN_TEST_REDIS", "redis://127.0.0.1:6379/0"))


def amqp() -> Service:
    return _port("RabbitMQ", os.environ.get("MN_TEST_AMQP", "amqp://guest:guest@127.0.0.1:5672//"))


def chromium() -> Service:
    path = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), "")
    return Service("Chromium", path, bool(path))


def all_services() -> list[Service]:
    return [postgres(), redis(), amqp(), chromium()]


def _port(name: str, url: str) -> Service:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 0), timeout=1).close()
    except OSError:
        return Service(name, url, False)
    return Service(name, url, True)
