"""People, a workspace and a data folder for every test.

alice owns the workspace, bob is a member (operator and approver, in the group `sales`), charlie is a stranger
with a workspace of his own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from apps.ledger import live
from apps.workspaces.access import Channel, Principal, principal_for
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.config import config
from tests.dividing import Groups, turn_of
from tests.services import Service, amqp, chromium, postgres, redis, required

PrincipalOf = Callable[..., Principal]

# How long an example takes says how busy the machine is, not whether the promise holds.
hypothesis.settings.register_profile(
    "house", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups | None:
    return Groups(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes long goes first where several test at once.

    MN_TEST_ONLY_DATABASE=1 leaves out what never asks for a database; SQLite's turn has shown it.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn_of(item.nodeid))
    if os.environ.get("MN_TEST_ONLY_DATABASE") != "1":
        return
    asking = [item for item in items if _asks_for_database(item)]
    config.hook.pytest_deselected(items=[item for item in items if not _asks_for_database(item)])
    items[:] = asking


def _asks_for_database(item: pytest.Item) -> bool:
    fixtures = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or bool(
        {"db", "transactional_db"} & set(fixtures)
    )


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """One test database per session, so that people can test side by side on one server."""
    from django.conf import settings

    database = settings.DATABASES["default"]
    if "sqlite" in database["ENGINE"]:
        database["OPTIONS"]["init_command"] = database["OPTIONS"]["init_command"].replace("FULL", "OFF")
        return
    suffix = os.environ.get("MN_TEST_DB_SUFFIX") or str(os.getpid())
    test = database.setdefault("TEST", {})
    test["NAME"] = f"{test.get('NAME') or 'test_' + database['NAME']}_{suffix}"


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Between tests PostgreSQL's tables are emptied row by row, and nobody's permissions are written anew.

    To truncate fifty makes the server write each anew, which takes longer than most tests. Checks of foreign
    keys are off meanwhile: only a superuser may ask for that, and for others it stays as it is.
    Django's own permissions and content types, which it would work out after every flush, are asked for by
    nothing here: what somebody may do is in their membership.
    """
    from django.core.management.commands import flush
    from django.db.backends.postgresql.operations import DatabaseOperations

    truncate = DatabaseOperations.sql_flush

    def sql_flush(
        operations: DatabaseOperations, style: Any, tables: list[str], **options: bool
    ) -> list[str]:
        with operations.connection.cursor() as cursor:
            cursor.execute("SELECT current_setting('is_superuser') = 'on'")
            if not cursor.fetchone()[0]:
                return list(truncate(operations, style, tables, **options))
        quoted = map(operations.quote_name, tables)
        return ["SET LOCAL session_replication_role = replica", *(f"DELETE FROM {name}" for name in quoted)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *args, **options: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def no_side_connections() -> Iterator[None]:
    """Hints of this process stay in it: a connection beside the tests' own would outlive their database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live._sender, "send", lambda groups: None)
        yield


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty MN_DATA per test, for files and the outbox; the database stays the session's."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setattr(config(), "data", folder)
    yield folder


@pytest.fixture
def workspace(db: None) -> Workspace:
    return Workspace.objects.create(slug="acme", name="Acme")


@pytest.fixture
def alice(workspace: Workspace) -> User:
    user = User.objects.create_user("alice@example.com", name="Alice")
    Membership.objects.create(workspace=workspace, user=user, roles=["owner"])
    return user


@pytest.fixture
def bob(workspace: Workspace) -> User:
    user = User.objects.create_user("bob@example.com", name="Bob")
    Membership.objects.create(
        workspace=workspace, user=user, roles=["operator", "approver"], groups=["sales"]
    )
    return user


@pytest.fixture
def elsewhere(db: None) -> Workspace:
    """Charlie's own workspace."""
    return Workspace.objects.create(slug="elsewhere", name="Elsewhere")


@pytest.fixture
def charlie(workspace: Workspace, elsewhere: Workspace) -> User:
    user = User.objects.create_user("charlie@example.com", name="Charlie")
    Membership.objects.create(workspace=elsewhere, user=user, roles=["owner"])
    return user


@pytest.fixture
def principal(workspace: Workspace, elsewhere: Workspace) -> PrincipalOf:
    """`principal(alice)`: somebody acting in the shared workspace, charlie in his own."""

    def of(user: User, channel: Channel = "web", in_: Workspace | None = None) -> Principal:
        home = elsewhere if user.email.startswith("charlie") else workspace
        return principal_for(user, in_ or home, channel)

    return of


def _url(service: Service) -> str:
    if not service.found:
        (pytest.fail if required() else pytest.skip)(service.missing)
    return service.url


@pytest.fixture(scope="session")
def postgres_url() -> str:
    """Where PostgreSQL is; skips (or fails, when services are required) where there is none."""
    return _url(postgres())


@pytest.fixture
def redis_url() -> str:
    return _url(redis())


@pytest.fixture
def amqp_url() -> str:
    return _url(amqp())


@pytest.fixture(scope="session")
def chromium_path() -> str:
    return _url(chromium())
