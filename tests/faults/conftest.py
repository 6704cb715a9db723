"""One installation per shape and module, one counting remote per session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.fake_remote import FakeRemote, serve
from tests.faults.harness import Installation, Laptop, Redis, Server, postgres_database, services_missing


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRemote]:
    with serve(tmp_path_factory.mktemp("remote") / "log.jsonl") as fake:
        yield fake


@pytest.fixture(autouse=True)
def _plain_behaviour(remote: FakeRemote) -> None:
    remote.scripts.clear()


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Laptop(tmp_path_factory.mktemp("laptop"))
    yield installation
    installation.close()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    missing = services_missing()
    if missing:
        if services.required():
            pytest.fail(f"MN_TEST_REQUIRE_SERVICES is set, but {missing}.")
        pytest.skip(f"The server shape needs PostgreSQL and Redis: {missing}.")
    server = Redis(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Installation]:
    with postgres_database(f"mn_faults_{os.getpid()}") as url:
        installation = Server(tmp_path_factory.mktemp("server"), url, redis_server)
        yield installation
        installation.close()


@pytest.fixture(
    params=[
        pytest.param("laptop", marks=pytest.mark.xdist_group("laptop")),
        pytest.param("server", marks=pytest.mark.xdist_group("server")),
    ]
)
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Both shapes, one after the other. A test finds and leaves no worker, or one that is well."""
    shape: Installation = request.getfixturevalue(request.param)
    yield shape
    shape.tidy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
