"""Every path of the schema, as somebody with no token, as a stranger, and as a viewer."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse
from django.test import Client

from apps.api import doors
from apps.api.build import MirrorNeuronAPI
from apps.workspaces.access import Principal
from apps.workspaces.models import ApiToken, Membership, User, Workspace
from apps.workspaces.services import create_token
from tests.api.conftest import BASE, Caller, CallerOf, Things

OPEN = {f"{BASE}/schema/blueprint.json"}
SIGNED = ("POST", f"{BASE}/hooks/{{hook}}")
"""Takes neither token nor session: who posts there signs what they post."""
SHARED = {f"{BASE}/{name}" for name in ("tools", "tools/{name}", "models", "gallery", "gallery/{name}")}
"""The same for everybody who is signed in; they hold nothing of a workspace."""
BODIES: dict[str, Any] = {
    "/decision": {"verb": "approve"},
    "/assign": {"users": ["alice@example.com"]},
    "/resolve": {"outcome": "happened", "reason": "seen"},
    "/tokens": {"name": "mine"},
    "/connections": {"name": "c", "kind": "bearer", "fields": {"token": "t"}, "hosts": ["a.example"]},
    "/runs": {"blueprint": "greet", "inputs": {"name": "Ada"}},
    "/hooks": {"name": "mine", "target": "signal", "mapping": {}},
    "/draft/ops": {
        "ops": [{"op_id": "5a3c1c1e-0000-4000-8000-000000000001", "kind": "remove_node", "node": "ask"}]
    },
    "/draft/states": {"title": "mine"},
    "/draft/pins": {"node": "hello", "output": 1},
    "/draft/pins/load": {"run": "5a3c1c1e-0000-4000-8000-000000000001"},
    "/reviews": {"people": []},
    "/answer": {"verdict": "approve"},
    "/comments": {"text": "Hm."},
    "/draft/restore": {"seq": 0},
    "/schedules": {"name": "mine", "blueprint": "greet", "cron": "0 9 * * *"},
}


def operations(db: None) -> list[tuple[str, str, dict[str, Any]]]:
    schema = Client().get(f"{BASE}/openapi.json").json()
    return [
        (method.upper(), path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]


def body_for(method: str, path: str) -> Any:
    if method == "PATCH":
        return {}
    if method not in ("POST", "PUT"):
        return None
    return next((body for end, body in BODIES.items() if path.endswith(end)), {})


def assert_problem(response: Any, *statuses: int) -> dict[str, Any]:
    assert response.status_code in statuses, (response.status_code, response.content[:400])
    assert response["Content-Type"] == "application/problem+json"
    found = response.json()
    assert found["status"] == response.status_code
    assert found["code"] and found["detail"] and "fields" in found and "next" in found
    return found


def test_the_schema_names_every_path_of_the_specification(db: None) -> None:
    found = {(method, path.removeprefix(BASE)) for method, path, _ in operations(db)}
    for wanted in """
        GET /blueprints|POST /blueprints|GET /blueprints/{name}|POST /blueprints/validate
        GET /blueprints/{name}/versions|POST /blueprints/{name}/versions
        GET /blueprints/{name}/versions/{number}|GET /blueprints/{name}/svg
        GET /blueprints/{name}/draft|POST /blueprints/{name}/draft/ops|POST /blueprints/{name}/draft/undo
        GET /blueprints/{name}/diff|POST /blueprints/{name}/draft/redo|POST /blueprints/{name}/draft/tidy
        GET /gallery|POST /gallery/{name}/install
        POST /runs|GET /runs|GET /runs/{run_id}|GET /runs/{run_id}/steps|GET /runs/{run_id}/events
        GET /runs/{run_id}/effects|GET /runs/{run_id}/costs|GET /runs/{run_id}/explain
        GET /runs/{run_id}/export|POST /runs/{run_id}/cancel|POST /runs/{run_id}/pause
        POST /runs/{run_id}/resume|POST /runs/{run_id}/signals/{name}
        GET /approvals|GET /approvals/{approval_id}|POST /approvals/{approval_id}/claim
        POST /approvals/{approval_id}/release|POST /approvals/{approval_id}/assign
        POST /approvals/{approval_id}/decision
        GET /effects|POST /effects/{effect_id}/resolve
        GET /tools|GET /models|POST /files|GET /files/{file_id}
        GET /hooks|POST /hooks|GET /hooks/{hook}|POST /hooks/{hook}|DELETE /hooks/{hook}
        POST /hooks/{hook}/rotate
        GET /schedules|POST /schedules|GET /schedules/{schedule_id}|PATCH /schedules/{schedule_id}
        DELETE /schedules/{schedule_id}|GET /runs/{run_id}/signals
        GET /tokens|POST /tokens|DELETE /tokens/{token_id}|GET /schema/blueprint.json
    """.replace("\n", "|").split("|"):
        if wanted.strip():
            assert tuple(wanted.split()) in found


def test_every_operation_announces_what_it_answers(db: None) -> None:
    for method, path, operation in operations(db):
        assert operation["summary"], (method, path)
        if path in OPEN:
            continue
        assert operation.get("security") or (method, path) == SIGNED, (method, path)
        if path.endswith("/svg"):
            continue
        statuses = set(operation["responses"])
        assert {"401", "404"} <= statuses, (method, path)
        assert "application/problem+json" in operation["responses"]["404"]["content"]
        if method == "POST":
            assert any(p["name"] == "Idempotency-Key" for p in operation["parameters"])


def test_nobody_gets_anything_without_signing_in(things: Things, caller: CallerOf) -> None:
    nobody = caller()
    for method, path, _ in operations(None):
        response = nobody.call(method, things.fill(path), body_for(method, path))
        if path in OPEN:
            assert response.status_code == 200
        elif (method, path) == SIGNED:
            assert_problem(response, 404)
        else:
            found = assert_problem(response, 401)
            assert found["code"] == "unauthenticated", (method, path)
            assert response["WWW-Authenticate"] == "Bearer"


def test_a_stranger_finds_nothing_of_ours(things: Things, charlie: User, caller: CallerOf) -> None:
    stranger = caller(charlie)
    before = _state(things)
    for method, path, _ in operations(None):
        if path in OPEN | SHARED:
            continue
        response = stranger.call(method, things.fill(path), body_for(method, path))
        if "{" in path:
            assert_problem(response, 404)
        elif method == "GET":
            assert response.status_code == 200
            assert str(things.run.id) not in response.content.decode()
            items = response.json()["items"]
            assert [i for i in items if i.get("user") != "charlie@example.com"] == [], path
        assert things.run.blueprint_name not in response.content.decode() or "{" in path
    assert _state(things) == before


def test_a_stranger_who_names_our_workspace_gets_404_everywhere(
    things: Things, charlie: User, caller: CallerOf
) -> None:
    token = caller(charlie, MN_Workspace="acme")
    session = Client(raise_request_exception=False)
    session.force_login(charlie)
    for method, path, _ in operations(None):
        if path in OPEN:
            continue
        assert_problem(token.call(method, things.fill(path), body_for(method, path)), 404)
        if method == "GET":
            response = session.get(f"{BASE}{things.fill(path)}", headers={"MN-Workspace": "acme"})
            assert assert_problem(response, 404)["code"] == "workspace_not_found"


def test_a_viewer_reads_and_changes_nothing(things: Things, workspace: Workspace, caller: CallerOf) -> None:
    vera = User.objects.create_user("vera@example.com")
    Membership.objects.create(workspace=workspace, user=vera, roles=["viewer"])
    viewer, before = caller(vera), _state(things)
    for method, path, _ in operations(None):
        if path in OPEN | SHARED or "/tokens" in path or path.endswith("/validate"):
            continue
        if (method, path) == SIGNED:
            continue
        response = viewer.call(method, things.fill(path), body_for(method, path))
        if method == "GET":
            assert response.status_code == 200, (path, response.content[:300])
        elif path.endswith("/files"):
            assert_problem(response, 403, 422)
        elif "/gallery/" in path:
            assert_problem(response, 403, 404)
        elif path.endswith(("/blueprints", "/versions")):
            assert_problem(response, 403, 422)
        else:
            assert_problem(response, 403)
    assert _state(things) == before


def _state(things: Things) -> tuple[Any, ...]:
    for thing in (things.run, things.request, things.effect, things.token):
        thing.refresh_from_db()
    return (
        things.run.seq,
        things.run.status,
        things.request.state,
        things.request.claimed_by_id,
        things.request.assign,
        things.effect.state,
        things.token.revoked_at,
    )


def test_a_session_needs_its_csrf_token(things: Things, alice: User) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(alice)
    path = f"{BASE}/approvals/{things.request.id}/claim"
    assert assert_problem(client.post(path), 403)["code"] == "forbidden"
    assert client.get(f"{BASE}/runs").status_code == 200
    client.cookies["csrftoken"] = "c" * 32
    assert client.post(path, headers={"X-CSRFToken": "c" * 32}).status_code == 200


def test_no_unsafe_call_is_taken_from_a_page_of_somebody_else(things: Things, alice: User) -> None:
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(alice)
    before = _state(things)
    client.cookies["csrftoken"] = "c" * 32
    for method, path, _ in operations(None):
        if method == "GET" or (method, path) == SIGNED:
            continue
        for sent in (
            {},
            {"X-CSRFToken": "d" * 32},
            {"X-CSRFToken": "c" * 32, "Origin": "https://evil.example"},
        ):
            for kind in ("application/json", "text/plain"):
                address, body = f"{BASE}{things.fill(path)}", json.dumps(body_for(method, path))
                answer = client.generic(method, address, body, content_type=kind, headers=sent)
                assert assert_problem(answer, 403)["code"] == "forbidden", (method, path, sent)
    assert _state(things) == before


def test_a_narrow_token_of_the_owner_changes_nothing(
    things: Things, alice: User, principal: Callable[..., Principal]
) -> None:
    narrow = Caller(create_token(principal(alice), "narrow", scopes=["viewer"])[1])
    before = _state(things)
    for method, path, _ in operations(None):
        if method == "GET" or path in OPEN | SHARED or path.endswith(("/validate", "/tokens/{token_id}")):
            continue
        if (method, path) != SIGNED:
            assert_problem(narrow.call(method, things.fill(path), body_for(method, path)), 403, 404, 422)
    assert _state(things) == before
    found = narrow.get("/tokens").json()["items"]
    assert {token["name"] for token in found} == {"hers", "narrow"}


def test_no_answer_is_kept_on_the_way(things: Things, alice: User, caller: CallerOf) -> None:
    who = caller(alice)
    for method, path, _ in operations(None):
        if method == "GET":
            answer = who.get(things.fill(path))
            kept = answer.headers.get("Cache-Control", "")
            assert path in OPEN or "no-store" in kept, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"], path


def test_a_wrong_token_never_falls_back_to_the_session(alice: User) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(alice)
    for header in ("Bearer mn_wrong", "Bearer ", "bearer x"):
        assert_problem(client.get(f"{BASE}/runs", headers={"Authorization": header}), 401)


def test_a_revoked_token_and_a_former_member_are_strangers(alice: User, caller: CallerOf) -> None:
    someone = caller(alice)
    assert someone.get("/runs").status_code == 200
    ApiToken.objects.get().delete()
    assert_problem(someone.get("/runs"), 401)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing/here", 404),
        ("POST", "/nothing", 404),
        ("DELETE", "/runs", 405),
        ("PUT", "/tools", 405),
    ],
)
def test_every_error_is_a_problem(method: str, path: str, status: int, alice: User, caller: CallerOf) -> None:
    response = caller(alice).call(method, path)
    assert_problem(response, status)
    if status == 405:
        assert response["Allow"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        (b'{"blueprint": NaN}', 400),
        (b"[" * 100_000, 400),
        (b'{"blueprint": "a\\u0000b"}', 400),
        (b"{}", 422),
        (b'{"blueprint": "x", "surprise": 1}', 422),
        (b'{"blueprint": 7}', 422),
    ],
)
def test_broken_bodies_are_problems_too(body: bytes, status: int, alice: User, caller: CallerOf) -> None:
    assert_problem(caller(alice).call("POST", "/runs", body), status)


def test_what_is_too_large_is_refused(alice: User, caller: CallerOf) -> None:
    large = b'{"blueprint": "x", "inputs": {"a": "' + b"x" * (13 * 1024 * 1024) + b'"}}'
    assert assert_problem(caller(alice).call("POST", "/runs", large), 413)["next"]


def test_an_unexpected_error_is_a_problem_without_its_text(
    alice: User, caller: CallerOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("apps.runs.selectors.runs_for", fail)
    response = caller(alice).get("/runs")
    assert assert_problem(response, 500)["code"] == "internal_error"
    assert b"secret detail" not in response.content


def test_the_docs_page_needs_nothing_from_elsewhere(db: None) -> None:
    page = Client().get(f"{BASE}/docs")
    text = page.content.decode()
    assert page.status_code == 200 and "swagger" in text
    assert "http://" not in text and "https://" not in text and "//cdn" not in text


def test_a_body_without_a_length_is_measured(settings: Any) -> None:
    """ASGI spools a chunked body before any view runs; it is refused before it is read into memory."""
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 10
    scope = {"type": "http", "method": "POST", "path": "/api/v1/runs", "headers": [], "query_string": b""}
    seen = []
    view = doors.framed(lambda request: seen.append(request.body) or HttpResponse())
    assert view(ASGIRequest(scope, BytesIO(b"x" * 11))).status_code == 413
    assert view(ASGIRequest(scope, BytesIO(b"x" * 10))).status_code == 200 and seen == [b"x" * 10]


def test_health_asks_nothing_of_the_database() -> None:
    # Without the `db` fixture any query raises.
    assert Client().get("/healthz").status_code == 200


def test_health_tells_the_process(db: None) -> None:
    first, second = Client().get("/healthz").json(), Client().get("/healthz").json()
    assert first == second and first["status"] == "ok" and first["boot"] and first["version"]
    assert Client().post("/healthz").status_code == 405


def test_readiness_names_what_is_missing(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Client().get("/readyz")
    assert answer.json()["checks"]["database"] == "ok"


def test_the_schema_is_worked_out_once(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Client().get(f"{BASE}/openapi.json").content
    monkeypatch.setattr(MirrorNeuronAPI, "_worked_out", lambda *_: pytest.fail("worked out again"))
    assert Client().get(f"{BASE}/openapi.json").content == first
