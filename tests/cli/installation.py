"""A server installation for tests: a PostgreSQL database of its own, and `mn` against it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from tests.processes import Background, eventually, run_mn


class Installation:
    def __init__(self, database: str, data: Path, **settings: str) -> None:
        self.data = data
        self.settings = {
            "DATABASE_URL": database,
            "MN_SECRET_KEY": "k" * 40,
            "MN_BASE_URL": "http://mn.example",
            **settings,
        }

    def mn(self, *args: object, **more: str) -> tuple[int, Any]:
        done = run_mn(self.data, *args, "--json", **{**self.settings, **more})
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    def background(self, log: Path, *args: str, **more: str) -> Background:
        return Background(self.data, log, *args, **{**self.settings, **more})

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.settings["DATABASE_URL"]) as link:
            return link.execute(query, values or None).fetchall()

    def workers(self) -> int:
        """How many worker processes hold a lease."""
        rows = self.ask("SELECT count(*) FROM runs_worker WHERE stopped_at IS NULL AND lease_until > now()")
        return int(rows[0][0])

    def until_workers(self, count: int) -> None:
        eventually(lambda: self.workers() == count, seconds=180, pause=0.2)


@dataclass(frozen=True)
class Prepared:
    """A database with the tables and one person, to be copied: that takes a moment, preparing it seconds."""

    name: str
    token: str


@contextmanager
def prepared_database(postgres_url: str, data: Path) -> Iterator[Prepared]:
    with empty_database(postgres_url) as database:
        made = Installation(database, data)
        assert made.mn("migrate")[0] == 0
        assert made.mn("user", "add", "alice@example.com", "--workspace", "acme")[0] == 0
        token = made.mn("token", "create", "tests", "--as", "alice@example.com")[1]["token"]
        yield Prepared(urlsplit(database).path.lstrip("/"), token)


@contextmanager
def empty_database(postgres_url: str, copy_of: str = "template1") -> Iterator[str]:
    name = f"mn_test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres_url.rsplit("/", 1)[0] + "/postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {copy_of}")
        try:
            yield urlsplit(postgres_url)._replace(path="/" + name).geturl()
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
