"""Browsers of alice, bob, charlie and a stranger, and runs that wait for them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from apps.blueprints.services import sync_gallery
from apps.runs.models import Run
from apps.workspaces.models import Membership, User, Workspace
from tests.approvals.conftest import ask  # noqa: F401 - a fixture of the desk's own tests
from tests.runs.engine import work_all

ClientOf = Callable[[User], Client]
DEMO = "invoice_reconciliation"


@pytest.fixture
def browser(db: None) -> ClientOf:
    """`browser(alice)`: a signed-in client of hers."""

    def of(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return of


@pytest.fixture
def gallery(db: None) -> list[str]:
    return sync_gallery(Path(settings.GALLERY_DIR))


@pytest.fixture
def viewer(workspace: Workspace) -> User:
    user = User.objects.create_user("vera@example.com", name="Vera")
    Membership.objects.create(workspace=workspace, user=user, roles=["viewer"])
    return user


@pytest.fixture
def demo(gallery: list[str], alice: User, browser: ClientOf) -> Run:
    """A demo run as one click starts it, worked until it waits for a person."""
    answer: Any = browser(alice).post(f"/gallery/{DEMO}/run", {"key": "first"})
    work_all()
    return Run.objects.get(id=answer.headers["Location"].rpartition("/")[2])
