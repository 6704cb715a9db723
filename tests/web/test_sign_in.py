"""Who comes in, and how."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from apps.runs.models import Run
from apps.web.views import sign_in
from apps.workspaces.models import ApiToken, SignInLink, User
from apps.workspaces.services import create_sign_in_link
from mirrorneuron.base.throttle import Throttle
from tests.web.conftest import ClientOf

PAGES = [
    "/",
    "/inbox",
    "/runs",
    "/blueprints",
    "/gallery",
    "/settings",
    f"/runs/{UUID(int=7)}",
    f"/inbox/{UUID(int=7)}",
]


@pytest.fixture
def link(alice: User) -> str:
    return create_sign_in_link(alice, "http://testserver").removeprefix("http://testserver")


def test_opening_the_link_changes_nothing_however_often(client: Client, link: str) -> None:
    for method in (client.get, client.head, client.get):
        assert method(link).status_code == 200
    assert SignInLink.objects.get().used_at is None
    assert client.get("/gallery").status_code == 302


def test_the_button_of_the_link_signs_in_once(client: Client, link: str, alice: User) -> None:
    answer = client.post(link, {"time_zone": "Europe/Berlin"})
    assert answer.status_code == 302 and answer.headers["Location"] == "/gallery"
    assert client.get("/gallery").status_code == 200
    alice.refresh_from_db()
    assert alice.time_zone == "Europe/Berlin"
    late = Client().post(link)
    assert late.status_code == 409 and b"This link has been used" in late.content


def test_a_link_that_is_none_says_so(client: Client, db: None) -> None:
    answer = client.get("/sign-in/nonsense")
    assert answer.status_code == 410 and b"not a sign-in link" in answer.content


@pytest.fixture
def fresh_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BY_PLACE", "BY_ADDRESS", "BY_ACCOUNT"):
        monkeypatch.setattr(sign_in, name, replace(getattr(sign_in, name), _failures=OrderedDict()))


def test_guessing_passwords_comes_to_a_pause(client: Client, alice: User, fresh_counts: None) -> None:
    alice.set_password("correct horse battery")
    alice.save()
    form = {"email": alice.email, "password": "wrong"}
    assert [client.post("/sign-in", form).status_code for _ in range(11)] == [401] * 10 + [429]
    right = form | {"password": "correct horse battery"}
    assert client.post("/sign-in", right).status_code == 429
    # Somebody else's guesses keep nobody out elsewhere.
    assert Client(REMOTE_ADDR="192.0.2.7").post("/sign-in", right).status_code == 302


def test_failures_are_forgotten_after_a_while() -> None:
    counts = Throttle(2, 60)
    counts.failed("a", 0)
    counts.failed("a", 50)
    assert counts.pause("a", 55) == 5 and counts.pause("b", 55) == 0
    assert counts.pause("a", 61) == 0


def test_the_link_posts_only_with_the_token_of_its_page(link: str) -> None:
    careful = Client(enforce_csrf_checks=True)
    answer = careful.post(link)
    assert answer.status_code == 403 and b"Please try once more" in answer.content
    assert SignInLink.objects.get().used_at is None


def test_a_password_signs_in_and_a_wrong_one_keeps_the_address(client: Client, alice: User) -> None:
    alice.set_password("correct horse battery")
    alice.save()
    wrong = client.post("/sign-in", {"email": "alice@example.com", "password": "x"})
    assert wrong.status_code == 401 and b'value="alice@example.com"' in wrong.content
    right = client.post(
        "/sign-in", {"email": " Alice@Example.com", "password": "correct horse battery", "next": "/runs"}
    )
    assert right.headers["Location"] == "/runs"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_signing_in_never_leads_to_another_site(client: Client, alice: User, target: str) -> None:
    alice.set_password("correct horse battery")
    alice.save()
    answer = client.post(
        "/sign-in", {"email": alice.email, "password": "correct horse battery", "next": target}
    )
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_the_sign_in_and_back(client: Client, db: None, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 302 and answer.headers["Location"].startswith("/sign-in?next=%2F")
    fragment = client.get(path, headers={"HX-Request": "true"})
    assert fragment.status_code == 401 and fragment.headers["HX-Redirect"].startswith("/sign-in")


def test_signing_out_needs_a_post(browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    assert client.get("/sign-out").status_code == 405
    client.post("/sign-out")
    assert client.get("/gallery").status_code == 302


def test_somebody_without_a_workspace_is_told_so(browser: ClientOf, db: None) -> None:
    answer = browser(User.objects.create_user("dora@example.com")).get("/gallery")
    assert answer.status_code == 404 and b"not a member" in answer.content


def test_the_start_is_what_waits_for_a_person(demo: Run, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    assert client.get("/").headers["Location"] == "/inbox"
    client.post(f"/runs/{demo.id}/cancel")
    assert client.get("/").headers["Location"] == "/gallery"


def test_a_reload_makes_no_second_token(browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    form = {"name": "nightly", "key": "one-form"}
    assert 'data-testid="fresh-token"' in client.post("/settings/tokens", form).content.decode()
    again: Any = client.post("/settings/tokens", form)
    assert again.status_code == 302 and ApiToken.objects.filter(name="nightly").count() == 1
    assert 'name="key"' in client.get("/settings").content.decode()
