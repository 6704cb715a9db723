"""Every address of the pages, as nobody, as a stranger, as a viewer, and without the token of a form."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern

from apps.blueprints.models import Blueprint
from apps.web.urls import urlpatterns
from apps.workspaces.models import ApiToken, Membership, User, Workspace
from tests.api.conftest import Things, things  # noqa: F401 - a fixture of the other door's tests

OPEN = {"sign-in", "sign-in/<str:secret>"}
OWN = {"sign-out", "settings/time-zone", "settings/tokens", "settings/tokens/<uuid:token_id>/revoke"}
"""About the person who asks; a viewer has them too."""
SHARED = {
    "",
    "gallery",
    "gallery/<str:name>",
    "inbox",
    "runs",
    "schedules",
    "schedules/new",
    "settings",
    "blueprints",
}
"""Of no thing of a workspace, or a list of one's own."""
VERBS = {
    "runs": ("pause", "resume", "cancel"),
    "schedules": ("pause", "resume", "remove", "take-over"),
    "blueprints": ("answer", "comment", "withdraw", "resolve", "reopen"),
}
GIVEN: dict[str, str] = {
    "verb": "approve", "text": "Hm.", "verdict": "approve", "to": "copy", "title": "Mine", "name": "go",
    "reason": "r", "outcome": "happened", "node": "hello", "output": "1", "step": "hello", "notes": "n",
    "draft_version": "0", "source": "x: 1", "path": "contract/goal", "value": "x", "seq": "0",
    "kind": "whole",
}  # fmt: skip


def addresses(things: Things) -> list[tuple[str, str]]:  # noqa: F811
    """(pattern, address with the ids of these things) of every page; one for each verb."""
    ids = {
        "run_id": things.run.id, "effect_id": things.effect.id, "request_id": things.request.id,
        "schedule_id": things.schedule.id, "token_id": things.token.id, "review_id": things.comment.review_id,
        "hash": things.hash, "number": 1, "secret": "x" * 43,
    }  # fmt: skip
    found = []
    for one in urlpatterns:
        assert isinstance(one, URLPattern)
        pattern = str(one.pattern)
        names = {"name": "go" if "signals" in pattern else things.run.blueprint_name, **ids}
        for verb in VERBS[pattern.partition("/")[0]] if "<str:verb>" in pattern else ("",):
            address = pattern
            for name in one.pattern.converters:
                kind = next(k for k in ("str", "uuid", "int") if f"<{k}:{name}>" in pattern)
                address = address.replace(f"<{kind}:{name}>", verb if name == "verb" else str(names[name]))
            found.append((pattern, f"/{address}"))
    return found


def state(things: Things) -> Any:  # noqa: F811
    """All rows of everything that these addresses are about."""
    from django.apps import apps

    skipped = {"session", "draft", "idempotencyrecord"}
    rooms = {"approvals", "blueprints", "runs", "ledger", "workspaces", "governance"}
    return {
        model._meta.label: sorted(map(repr, model._default_manager.values_list()))
        for model in apps.get_models()
        if model._meta.app_label in rooms and model._meta.model_name not in skipped
    }


def asked(client: Client, address: str) -> list[tuple[str, Any]]:
    return [
        ("GET", client.get(address)),
        ("POST", client.post(address, GIVEN)),
        ("HX", client.get(address, headers={"HX-Request": "true"})),
    ]


def test_nobody_gets_anything_without_signing_in(things: Things) -> None:  # noqa: F811
    before = state(things)
    for pattern, address in addresses(things):
        if pattern in OPEN:
            continue
        for how, answer in asked(Client(raise_request_exception=False), address):
            if how == "HX":
                assert answer.status_code == 401, (address, how)
                assert answer.headers["HX-Redirect"].startswith("/sign-in?")
            else:
                assert answer.status_code == 302, (address, how, answer.status_code)
                assert answer.headers["Location"].startswith("/sign-in?"), (address, how)
    assert state(things) == before


def test_a_stranger_finds_nothing_of_ours(things: Things, charlie: User) -> None:  # noqa: F811
    client = Client(raise_request_exception=False)
    client.force_login(charlie)
    before = state(things)
    ours = [str(things.run.id), things.run.blueprint_name, str(things.request.id), "alice@example.com"]
    for pattern, address in addresses(things):
        if pattern == "blueprints/new":
            continue  # Makes one of the stranger's own.
        if pattern in OPEN | OWN - {"settings/tokens/<uuid:token_id>/revoke"}:
            continue
        for how, answer in asked(client, address):
            shown = answer.content.decode()
            if pattern in SHARED:
                assert answer.status_code in (200, 302, 404, 405), (address, how)
                if answer.status_code != 404:  # It says again what was asked for.
                    assert not [one for one in ours if one in shown], (address, how)
            elif answer.status_code in (301, 302):
                # Looking at what only a POST does leads to the thing's own page, which says the rest.
                assert pattern.endswith(("/run", "/run-own", "/decision")) and how != "POST", (address, how)
            else:
                assert answer.status_code in (404, 405), (address, how, answer.status_code)
                assert "alice" not in shown
    assert state(things) == before


def test_a_viewer_changes_nothing(things: Things, workspace: Workspace) -> None:  # noqa: F811
    vera = User.objects.create_user("vera@example.com")
    Membership.objects.create(workspace=workspace, user=vera, roles=["viewer"])
    client = Client(raise_request_exception=False)
    client.force_login(vera)
    before = state(things)
    for pattern, address in addresses(things):
        if pattern in OPEN | OWN - {"settings/tokens/<uuid:token_id>/revoke"}:
            continue
        for how, answer in asked(client, address):
            if how == "POST" and pattern != "schedules/new":  # It asks which blueprint first.
                assert answer.status_code in (403, 404, 405, 409, 422), (address, answer.status_code)
            else:
                assert answer.status_code < 500, (address, how)
    assert state(things) == before
    assert Blueprint.objects.count() == 1 and ApiToken.objects.filter(revoked_at=None).count() == 1


def test_no_form_is_taken_without_its_token(things: Things, alice: User) -> None:  # noqa: F811
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(alice)
    before = state(things)
    for _, address in addresses(things):
        for more in ({}, {"Origin": "https://evil.example"}):
            answer = client.post(address, GIVEN, headers=more)
            assert answer.status_code == 403, (address, answer.status_code)
    assert state(things) == before


def test_no_page_of_a_person_is_kept_or_framed(things: Things, alice: User) -> None:  # noqa: F811
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    for pattern, address in addresses(things):
        if pattern == "sign-out":
            continue
        answer = client.get(address)
        assert answer.headers["X-Frame-Options"] == "DENY", address
        assert answer.headers["X-Content-Type-Options"] == "nosniff", address
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"], address
        if answer.status_code == 200:
            assert "no-store" in answer.headers.get("Cache-Control", ""), address


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "https:evil.example",
        "\t//evil.example",
        "/\t/evil.example",
        "http:///evil.example",
    ],
)
def test_after_signing_in_nobody_is_led_elsewhere(alice: User, target: str) -> None:
    alice.set_password("correct horse battery")
    alice.save()
    answer = Client().post(
        "/sign-in", {"email": alice.email, "password": "correct horse battery", "next": target}
    )
    assert answer.status_code == 302 and answer.headers["Location"] == "/"
