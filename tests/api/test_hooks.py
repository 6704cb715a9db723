"""Webhooks through the door: signed or nothing, no session, no token, bounded, and as the page tells it."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.api.routers import hooks as door
from apps.runs.core.webhook import new_secret, sign
from apps.runs.models import Delivery, Hook, Run
from apps.workspaces.models import AuditEntry, User, Workspace
from tests.api.conftest import Caller, CallerOf
from tests.runs.engine import version_of, work_all

NAMED = {"inputs": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}
PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/webhooks.md"


@pytest.fixture(autouse=True)
def nothing_counted() -> None:
    """No guesses of another test."""
    for throttle in (door.GUESSES, door.MESSAGES, door.TOLD):
        throttle.clear()


@pytest.fixture
def api(caller: CallerOf, alice: User) -> Caller:
    return caller(alice)


@pytest.fixture
def opened(api: Caller, workspace: Workspace) -> dict[str, Any]:
    node = {"id": "say", "kind": "transform", "output": "Hello {{ inputs.name }}"}
    blueprint = version_of(workspace, nodes=[node], contract=NAMED).blueprint.name
    mapping = {"blueprint": blueprint, "inputs": {"name": "{{ body.customer }}"}}
    made = api.post("/hooks", {"name": "orders", "target": "start", "mapping": mapping})
    assert made.status_code == 201
    return made.json()


def deliver(
    opened: dict[str, Any], body: Any, *, id: str = "m1", secret: str = "", at: int = 0, **more: str
) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signed_at = at or int(time.time())
    kind = more.pop("content_type", "application/json")
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(signed_at),
        "webhook-signature": sign(secret or opened["secret"], id, signed_at, raw),
    }
    browser = Client(enforce_csrf_checks=True, raise_request_exception=False)
    return browser.post(opened["address"], raw, content_type=kind, headers=headers | more)


def test_a_signed_message_needs_no_session_and_no_token(opened: dict[str, Any]) -> None:
    first = deliver(opened, {"customer": "Ada"})
    assert first.status_code == 202, first.content
    again = deliver(opened, {"customer": "Ada"})
    assert again.status_code == 200
    assert again.json() == first.json() | {"duplicate": True}
    work_all()
    run = Run.objects.get()
    assert first.json()["runs"] == [str(run.id)] and run.status == "succeeded"


def test_the_page_for_readers_shows_a_call_that_works(
    opened: dict[str, Any], live_server: Any, transactional_db: None
) -> None:
    """The very lines of the page, run by a shell with curl and openssl against a real server."""
    if not shutil.which("curl") or not shutil.which("openssl"):
        pytest.skip("curl and openssl are not installed")
    script = re.search(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    environ = {
        **os.environ, "SECRET": opened["secret"], "ADDRESS": live_server.url + opened["address"],
        "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip
    said = subprocess.run(
        ["bash", "-euc", script.group(1)], env=environ, capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["state"] == "done"
    assert Run.objects.get().inputs == {"name": "Ada"}


def test_a_stranger_with_the_address_alone_gets_nothing(opened: dict[str, Any], api: Caller) -> None:
    answer = deliver(opened, {"customer": "Eve"}, secret=new_secret())
    assert answer.status_code == 401 and answer.json()["code"] == "bad_signature"
    assert deliver(opened, {"customer": "Eve"}, at=int(time.time()) - 400).json()["code"] == "outside_window"
    unsigned = api.http.post(opened["address"], b"{}", content_type="application/json")
    assert unsigned.status_code == 401
    assert Run.objects.count() == 0 and Delivery.objects.count() == 0


def test_an_unknown_address_is_like_any_other_that_is_not_there(opened: dict[str, Any]) -> None:
    for address in (opened["address"][:-1] + "!", "/api/v1/hooks/" + opened["id"], "/api/v1/hooks/mnh_x"):
        answer = deliver({**opened, "address": address}, {"customer": "Eve"})
        assert answer.status_code == 404
        assert answer.json()["detail"] == f"There is no POST {address}."


def test_who_guesses_is_slowed_down_and_the_sender_is_not(opened: dict[str, Any]) -> None:
    for _ in range(door.GUESSES.limit):
        assert deliver({**opened, "address": "/api/v1/hooks/mnh_guess"}, {}).status_code == 404
    slow = deliver({**opened, "address": "/api/v1/hooks/mnh_guess"}, {})
    assert slow.status_code == 429 and int(slow["Retry-After"]) >= 1
    assert deliver(opened, {"customer": "Ada"}).status_code == 202


def test_refusals_are_audited_once_a_minute(opened: dict[str, Any]) -> None:
    for _ in range(5):
        deliver(opened, {"customer": "Eve"}, secret=new_secret())
    (entry,) = AuditEntry.objects.filter(action="hook.refused")
    assert entry.data["code"] == "bad_signature" and entry.target == "orders"


def test_a_flood_is_told_to_come_back(opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.MESSAGES, "limit", 2)
    statuses = [deliver(opened, {"customer": "Ada"}, id=f"m{n}").status_code for n in range(3)]
    assert statuses == [202, 202, 429]


def test_forged_messages_use_up_nothing_of_the_senders_share(
    opened: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.MESSAGES, "limit", 2)
    for _ in range(5):
        assert deliver(opened, {"customer": "Eve"}, secret=new_secret()).status_code == 401
    assert deliver(opened, {"customer": "Ada"}).status_code == 202


def test_what_cannot_be_used_says_why(opened: dict[str, Any]) -> None:
    assert deliver(opened, b"x" * 1_000_001).status_code == 413
    assert deliver(opened, b"{", id="m2").json()["code"] == "unreadable_body"
    wrong = deliver(opened, {"customer": 3}, id="m3")
    assert wrong.status_code == 422 and "name" in wrong.json()["fields"]


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"a=1&" * 2_000, {"content_type": "application/x-www-form-urlencoded"}),
        (b"[" * 50_000, {}),
        (b"9" * 10_000, {}),
        (b"\xff\xfe", {}),
        (gzip.compress(b"0" * 10_000_000), {"Content-Encoding": "gzip"}),
    ],
    ids=["fields", "deep", "digits", "bytes", "packed"],
)
def test_a_genuine_message_that_cannot_be_read_is_refused(
    opened: dict[str, Any], body: bytes, more: dict[str, str]
) -> None:
    answer = deliver(opened, body, **more)
    assert answer.status_code == 422 and answer.json()["code"] == "unreadable_body"


def test_secrets_are_shown_once_and_a_repeat_is_told_so(api: Caller, opened: dict[str, Any]) -> None:
    found = api.get(f"/hooks/{opened['id']}").json()
    assert "secret" not in found and "address" not in found
    assert opened["secret"] not in api.get("/hooks").content.decode()
    rotated = api.post(f"/hooks/{opened['id']}/rotate", {"keep_old_seconds": 0}, Idempotency_Key="r")
    assert rotated.status_code == 200
    again = api.post(f"/hooks/{opened['id']}/rotate", {"keep_old_seconds": 0}, Idempotency_Key="r")
    assert again.status_code == 409 and again.json()["code"] == "already_answered"
    assert deliver(opened, {"customer": "Ada"}).status_code == 401
    fresh = {**opened, "secret": rotated.json()["secret"]}
    assert deliver(fresh, {"customer": "Ada"}).status_code == 202


def test_its_messages_are_listed_and_it_is_closed(api: Caller, opened: dict[str, Any]) -> None:
    deliver(opened, {"customer": "Ada"})
    (message,) = api.get(f"/hooks/{opened['id']}").json()["deliveries"]
    assert message["state"] == "done" and message["key"] == "m1"
    assert api.call("DELETE", f"/hooks/{opened['id']}").status_code == 204
    assert deliver(opened, {"customer": "Ada"}, id="m2").status_code == 404
    assert Hook.objects.count() == 0 and Run.objects.count() == 1
