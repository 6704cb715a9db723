"""`mn` in this process: `mn("runs", "list", as_=bob)`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from apps.workspaces.services import create_token
from mirrorneuron import servers
from mirrorneuron.cli import main
from tests.cli.installation import Prepared, prepared_database


class Said:
    """What a command printed, and how it ended."""

    def __init__(self, result: Any) -> None:
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one document."""
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n--- stderr ---\n{self.err}"


@pytest.fixture
def mn(alice, principal):
    """Runs a command as somebody (alice unless said) by a token, the way of a server."""
    tokens: dict[Any, str] = {}

    def call(*args: Any, as_=None, input: str | None = None, **environ: str) -> Said:
        user = as_ or alice
        if user.id not in tokens:
            tokens[user.id] = create_token(principal(user), "command line")[1]
        env = {"MN_TOKEN": tokens[user.id], **environ}
        return Said(CliRunner().invoke(main, [str(a) for a in args], env=env, input=input))

    return call


@pytest.fixture(scope="session")
def prepared(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    with prepared_database(postgres_url, tmp_path_factory.mktemp("prepared")) as made:
        yield made


@pytest.fixture
def autovacuum(monkeypatch):
    """As on a server that is set up well; servers for tests often have it off."""
    asked = servers._rows

    def rows(query: str, *values: Any) -> Any:
        return [("on",)] if query.endswith("name = 'autovacuum'") else asked(query, *values)

    monkeypatch.setattr(servers, "_rows", rows)
