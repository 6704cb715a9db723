"""One installation per shape and test process, one counting remote per test process.

`crew` is an installation without any worker: a test forks those it needs and all are gone afterwards.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import services
from tests.fake_remote import FakeRemote, serve
from tests.faults import cluster as clusters
from tests.faults.cluster import Cluster
from tests.faults.harness import (
    File,
    Forking,
    Installation,
    Laptop,
    Redis,
    Server,
    postgres_database,
    services_missing,
)


@pytest.fixture(scope="session")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRemote]:
    with serve(tmp_path_factory.mktemp("remote") / "log.jsonl") as fake:
        yield fake


@pytest.fixture(autouse=True)
def _plain_behaviour(request: pytest.FixtureRequest) -> None:
    if "remote" in request.fixturenames:
        request.getfixturevalue("remote").scripts.clear()


@pytest.fixture
def reference() -> str:
    return f"order-{uuid.uuid4().hex[:8]}"


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


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Iterator[Server]:
    with postgres_database(f"mn_faults_{os.getpid()}") as url:
        installation = Server(tmp_path_factory.mktemp("server"), url, redis_server)
        yield installation
        installation.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[File]:
    installation = File(tmp_path_factory.mktemp("file"))
    yield installation
    installation.close()


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[Cluster]:
    """A PostgreSQL server that a test may crash."""
    missing = clusters.missing()
    if missing:
        if services.required():
            pytest.fail(f"MN_TEST_REQUIRE_SERVICES is set, but {missing}.")
        pytest.skip(f"This test crashes a PostgreSQL server of its own: {missing}.")
    cluster = Cluster.create()
    yield cluster
    cluster.remove()


@pytest.fixture(params=["laptop", "server"])
def installation(request: pytest.FixtureRequest) -> Iterator[Installation]:
    """Both shapes, one after the other. A test finds and leaves no worker, or one that is well."""
    shape: Installation = request.getfixturevalue(request.param)
    yield shape
    shape.tidy()


@pytest.fixture(params=["file", "server"])
def crew(request: pytest.FixtureRequest) -> Iterator[Forking]:
    """An installation on either database, with no worker but those the test forks."""
    shape: Forking = request.getfixturevalue(request.param)
    shape.kill_all()
    yield shape
    shape.kill_all()


@pytest.fixture
def servers(server: Server) -> Iterator[Server]:
    """PostgreSQL and Redis, with no worker but those the test forks."""
    server.kill_all()
    yield server
    server.kill_all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
