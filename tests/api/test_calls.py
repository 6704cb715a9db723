"""What the API does when one is allowed to: runs, decisions, keys, cursors."""

from __future__ import annotations

import base64
import threading
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from apps.api import idempotency
from apps.api.models import IdempotencyRecord
from apps.approvals.models import Decision
from apps.runs.models import Run, Signal
from apps.workspaces.models import ApiToken, User
from mirrorneuron.base.clock import clock, now
from tests.api.conftest import BASE, SOURCE, Caller, CallerOf, Things
from tests.runs.engine import work_all


@pytest.fixture
def api(alice: User, caller: CallerOf) -> Caller:
    return caller(alice)


@pytest.fixture
def greet(api: Caller) -> str:
    made = api.call("POST", "/blueprints", SOURCE.encode(), **{"Content-Type": "application/yaml"})
    assert made.status_code == 201, made.content
    return "greet"


def start(api: Caller, name: str = "Ada", **headers: str) -> Any:
    return api.post("/runs", {"blueprint": "greet", "inputs": {"name": name}}, **headers)


# --- the whole path -----------------------------------------------------------------------------------------


def test_from_a_blueprint_to_an_approved_run(api: Caller, greet: str) -> None:
    answer = start(api)
    assert answer.status_code == 202 and answer["Location"].endswith(answer.json()["id"])
    run = answer.json()
    assert run["blueprint"] == "greet" and run["version"] == 1 and run["class"] == "general"
    work_all()
    waiting = api.get(f"/runs/{run['id']}").json()
    assert waiting["status"] == "waiting" and waiting["waiting_for"][0]["step"] == "ask"
    assert "person" in api.get(f"/runs/{run['id']}/explain").json()["why"]

    item = api.get("/approvals").json()["items"][0]
    card = api.get(f"/approvals/{item['id']}")
    assert card["ETag"] == '"1"' and card.json()["may_decide"] is True
    assert card.json()["title"] == "Greet Ada?" and card.json()["leads_to"]["approve"] == ["bye"]
    decided = api.post(
        f"/approvals/{item['id']}/decision",
        {"verb": "approve", "edits": {"text": "Good day, Ada"}},
        If_Match=card["ETag"],
    )
    assert decided.status_code == 200 and decided["ETag"] == '"2"'
    assert decided.json()["state"] == "approved" and decided.json()["decisions"][0]["channel"] == "api"
    work_all()
    done = api.get(f"/runs/{run['id']}").json()
    assert done["status"] == "succeeded" and done["output"] == {"said": {"text": "Good day, Ada"}}
    assert api.get("/approvals").json()["items"] == []
    export = api.get(f"/runs/{run['id']}/export").json()
    assert [e["seq"] for e in export["events"]] == list(range(1, done["seq"] + 1))
    assert export["approvals"][0]["proposal"] == {"text": "Hello Ada"} and export["source"] == SOURCE


def test_a_late_or_stale_decision_says_so(things: Things, api: Caller, bob: User, caller: CallerOf) -> None:
    path = f"/approvals/{things.request.id}/decision"
    stale = api.post(path, {"verb": "approve"}, If_Match='"9"')
    assert stale.status_code == 412 and stale.json()["code"] == "stale_revision"
    assert api.post(path, {"verb": "approve"}, If_Match="soon").status_code == 422
    no_reason = api.post(path, {"verb": "reject"})
    assert no_reason.status_code == 422 and "reason" in no_reason.json()["fields"]
    assert api.post(path, {"verb": "approve"}, If_Match='W/"1"').status_code == 200
    late = caller(bob).post(path, {"verb": "reject", "reason": "No"})
    assert late.status_code == 409 and late.json()["code"] == "already_decided"
    assert late.json()["details"]["winner"]["by"].startswith("alice@example.com")


def test_claim_release_and_assign(things: Things, api: Caller, bob: User, caller: CallerOf) -> None:
    path = f"/approvals/{things.request.id}"
    assert api.post(f"{path}/claim").json()["claimed_by"] == "alice@example.com"
    refused = caller(bob).post(f"{path}/claim")
    assert refused.status_code == 409 and refused.json()["code"] == "claimed_by_other"
    assert api.post(f"{path}/release").json()["state"] == "open"
    assigned = api.post(f"{path}/assign", {"users": ["bob@example.com"]}).json()
    assert assigned["assign"]["users"] == ["bob@example.com"]
    assert api.get("/approvals?mine=true").json()["items"] == []
    assert len(caller(bob).get("/approvals?mine=true").json()["items"]) == 1
    assert api.get("/approvals?state=strange").status_code == 422


def test_validation_gives_every_problem_and_stores_nothing(api: Caller) -> None:
    broken = SOURCE.replace("kind: transform", "kind: transfrom").replace("to: bye", "to: nowhere")
    yaml = {"Content-Type": "application/yaml"}
    found = api.call("POST", "/blueprints/validate", broken.encode(), **yaml).json()
    assert found["valid"] is False and len(found["problems"]) >= 2
    assert all(p["line"] and p["fix"] for p in found["problems"] if p["level"] == "error")
    refused = api.call("POST", "/blueprints", broken.encode(), **yaml)
    assert refused.status_code == 422 and refused.json()["code"] == "blueprint_invalid"
    assert len(refused.json()["problems"]) >= 2
    assert api.get("/blueprints").json()["items"] == []
    assert api.call("POST", "/blueprints", b"", **yaml).status_code == 422
    assert api.call("POST", "/blueprints", b"\xff\xfe", **yaml).status_code == 422


def test_versions_are_published_once_per_content(api: Caller, greet: str) -> None:
    same = api.post("/blueprints/greet/versions", {"source": SOURCE, "notes": "again"})
    assert same.status_code == 201 and same.json()["version"] == 1
    changed = SOURCE.replace("Hello {{", "Good day {{")
    second = api.post("/blueprints/greet/versions", {"source": changed, "notes": "politer"}).json()
    assert second["version"] == 2 and second["notes"] == "politer"
    heads = api.get("/blueprints/greet/versions").json()["items"]
    assert [h["version"] for h in heads] == [2, 1]
    assert api.get("/blueprints/greet/versions/1").json()["source"] == SOURCE
    assert api.get("/blueprints/greet").json()["latest_version"] == 2
    assert api.get("/blueprints").json()["items"][0]["latest_version"] == 2
    assert api.get("/blueprints/greet/versions/9").status_code == 404
    run = api.post("/runs", {"blueprint": "greet", "version": 1, "inputs": {"name": "Ada"}}).json()
    assert run["version"] == 1


def test_the_picture_is_one_svg_file(api: Caller, greet: str) -> None:
    picture = api.get("/blueprints/greet/svg")
    assert picture["Content-Type"].startswith("image/svg+xml")
    assert b"<svg" in picture.content and b'data-node-id="ask"' in picture.content
    assert "sandbox" in picture["Content-Security-Policy"]


def test_the_format_is_published(api: Caller) -> None:
    schema = Caller().get("/schema/blueprint.json")
    assert schema.status_code == 200 and "properties" in schema.json()


# --- runs ---------------------------------------------------------------------------------------------------


def test_wrong_inputs_are_named_by_field(api: Caller, greet: str) -> None:
    answer = api.post("/runs", {"blueprint": "greet", "inputs": {}})
    assert answer.status_code == 422 and answer.json()["fields"]
    assert api.post("/runs", {"blueprint": "nothing", "inputs": {}}).status_code == 404
    assert Run.objects.count() == 0


def test_lists_are_filtered(api: Caller, greet: str) -> None:
    for label in ("a", "b"):
        body = {"blueprint": "greet", "inputs": {"name": "Ada"}, "labels": {"team": label}}
        assert api.post("/runs", body).status_code == 202
    assert len(api.get("/runs?label=team=a").json()["items"]) == 1
    assert len(api.get("/runs?blueprint=greet").json()["items"]) == 2
    assert api.get("/runs?blueprint=other").json()["items"] == []
    assert api.get("/runs?status=succeeded").json()["items"] == []
    assert api.get("/runs?since=2999-01-01T00:00:00Z").json()["items"] == []
    assert api.get("/runs?since=2999-01-01").status_code == 422
    assert api.get("/runs?blueprint=%00").status_code == 422


def test_pages_stay_stable_while_others_insert(api: Caller, greet: str) -> None:
    ids = [start(api, f"n{n}").json()["id"] for n in range(5)][::-1]
    first = api.get("/runs?limit=2").json()
    assert [r["id"] for r in first["items"]] == ids[:2] and first["next"]
    start(api, "new")
    second = api.get(f"/runs?limit=2&cursor={first['next']}").json()
    third = api.get(f"/runs?limit=2&cursor={second['next']}").json()
    assert [r["id"] for r in second["items"] + third["items"]] == ids[2:]
    assert third["next"] is None


@pytest.mark.parametrize("cursor", ["nonsense", "%C3%A9", base64.urlsafe_b64encode(b"x" * 15).decode(), "a"])
def test_a_foreign_cursor_is_refused(api: Caller, cursor: str) -> None:
    answer = api.get(f"/runs?cursor={cursor}")
    assert answer.status_code == 422 and "cursor" in answer.json()["fields"]
    assert api.get("/runs?limit=0").status_code == 422
    assert api.get("/runs?limit=201").status_code == 422


def test_events_follow_a_number(things: Things, api: Caller) -> None:
    path = f"/runs/{things.run.id}/events"
    every = api.get(path).json()
    last = every["items"][-1]["seq"]
    assert [e["seq"] for e in every["items"]] == list(range(1, last + 1)) and every["next"] is None
    some = api.get(f"{path}?after=1&limit=2").json()
    assert [e["seq"] for e in some["items"]] == [2, 3] and some["next"] == "3"
    assert api.get(f"{path}?cursor={some['next']}").json()["items"][0]["seq"] == 4
    assert api.get(f"{path}?after={last}").json() == {"items": [], "next": None}
    assert api.get(f"{path}?after=-1").status_code == 422


def test_one_step_is_found_by_its_path(things: Things, api: Caller) -> None:
    assert api.get(f"/runs/{things.run.id}/steps/hello").json()["output"] == "Hello"
    assert api.get(f"/runs/{things.run.id}/steps/outer:inner%5B2%5D").json()["detail"].count("outer/inner[2]")
    statuses = {s["path"]: s["status"] for s in api.get(f"/runs/{things.run.id}/steps").json()["items"]}
    assert statuses == {"hello": "succeeded", "ask": "waiting"}


def test_a_preview_changes_nothing(things: Things, api: Caller) -> None:
    for verb in ("cancel", "pause"):
        preview = api.post(f"/runs/{things.run.id}/{verb}?preview=true", Idempotency_Key="k")
        assert preview.status_code == 200 and preview.json()["stop"] == ["ask"]
    things.run.refresh_from_db()
    assert not things.run.cancel_requested and not things.run.pause_requested
    assert api.post(f"/runs/{things.run.id}/pause", {"reason": "lunch"}).status_code == 200
    assert api.get(f"/runs/{things.run.id}").json()["status"] == "paused"
    assert api.post(f"/runs/{things.run.id}/resume").status_code == 200
    assert api.call("POST", f"/runs/{things.run.id}/cancel").status_code == 200
    work_all()
    assert api.get(f"/runs/{things.run.id}").json()["status"] == "cancelled"
    late = api.post(f"/approvals/{things.request.id}/decision", {"verb": "approve"})
    assert late.status_code == 409 and late.json()["code"] == "approval_closed"


def test_a_signal_is_stored_once_per_key(things: Things, api: Caller) -> None:
    path = f"/runs/{things.run.id}/signals/paid"
    for _ in range(2):
        assert api.post(path, {"body": {"ok": True}, "key": "one"}).status_code == 200
    assert Signal.objects.count() == 1


def test_an_effect_in_doubt_is_resolved_once(things: Things, api: Caller) -> None:
    assert [e["id"] for e in api.get("/effects?state=in_doubt").json()["items"]] == [str(things.effect.id)]
    assert api.get("/effects?state=strange").status_code == 422
    path = f"/effects/{things.effect.id}/resolve"
    assert api.post(path, {"outcome": "happened"}).status_code == 422
    body = {"outcome": "happened", "reason": "It is in the mailbox.", "reference": "<1@x>"}
    resolved = api.post(path, body)
    assert resolved.status_code == 200 and resolved.json()["state"] == "committed"
    assert api.post(path, body).status_code == 409
    assert len(api.get(f"/runs/{things.run.id}/effects").json()["items"]) == 1


# --- keys ---------------------------------------------------------------------------------------------------


def test_the_same_key_starts_one_run(api: Caller, greet: str) -> None:
    first, second = start(api, Idempotency_Key="k1"), start(api, Idempotency_Key="k1")
    assert first.status_code == second.status_code == 202
    assert first.json()["id"] == second.json()["id"] and Run.objects.count() == 1
    other = start(api, "Bob", Idempotency_Key="k1")
    assert other.status_code == 422 and other.json()["code"] == "idempotency_mismatch"
    assert start(api, Idempotency_Key="x" * 201).status_code == 422


def test_a_repeated_call_gets_the_first_answer(things: Things, api: Caller) -> None:
    path = f"/approvals/{things.request.id}/decision"
    first = api.post(path, {"verb": "approve"}, Idempotency_Key="k1")
    again = api.post(path, {"verb": "approve"}, Idempotency_Key="k1")
    assert again.status_code == 200 and again.json() == first.json()
    assert again["Idempotent-Replayed"] == "true" and again["ETag"] == first["ETag"]
    assert Decision.objects.count() == 1
    other = api.post(path, {"verb": "reject", "reason": "no"}, Idempotency_Key="k1")
    assert other.status_code == 422 and other.json()["code"] == "idempotency_mismatch"


def test_a_refused_call_leaves_its_key_free(things: Things, api: Caller) -> None:
    path = f"/approvals/{things.request.id}/decision"
    assert api.post(path, {"verb": "reject"}, Idempotency_Key="k1").status_code == 422
    assert api.post(path, {"verb": "reject", "reason": "no"}, Idempotency_Key="k1").status_code == 200


def test_a_call_still_running_says_so_and_a_dead_one_is_taken_over(
    things: Things, api: Caller, workspace: Any
) -> None:
    path = f"/approvals/{things.request.id}/claim"
    with clock.frozen(now()) as time:
        assert api.post(path, Idempotency_Key="k1").status_code == 200
        IdempotencyRecord.objects.update(status=None, body=None)
        running = api.post(path, Idempotency_Key="k1")
        assert running.status_code == 409 and running.json()["code"] == "idempotency_in_progress"
        assert running["Retry-After"] == "1"
        time.move(seconds=61)
        assert api.post(path, Idempotency_Key="k1").status_code == 200


def test_a_key_is_one_persons(things: Things, api: Caller, bob: User, caller: CallerOf) -> None:
    assert api.post(f"/approvals/{things.request.id}/claim", Idempotency_Key="k1").status_code == 200
    other = caller(bob).post(f"/approvals/{things.request.id}/claim", Idempotency_Key="k1")
    assert other.status_code == 422


def test_answers_are_forgotten_after_a_week(things: Things, api: Caller) -> None:
    with clock.frozen(now()) as time:
        assert api.post(f"/approvals/{things.request.id}/claim", Idempotency_Key="k1").status_code == 200
        time.move(days=6)
        assert idempotency.forget_old() == 0
        time.move(days=2)
        assert idempotency.forget_old() == 1


@pytest.mark.django_db(transaction=True)
def test_rival_calls_with_one_key_act_once(things: Things, api: Caller) -> None:
    barrier, answers = threading.Barrier(4), []

    def call() -> None:
        barrier.wait(10)
        answers.append(
            api.post("/tokens", {"name": "robot"}, Idempotency_Key="k1").status_code,
        )
        connection.close()

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [201, 409, 409, 409]
    assert ApiToken.objects.filter(name="robot").count() == 1


# --- files, tokens, tools -----------------------------------------------------------------------------------


def test_a_file_comes_back_as_it_was_and_never_as_a_page(api: Caller) -> None:
    def upload(**headers: str) -> Any:
        return api.http.post(
            f"{BASE}/files",
            {"file": SimpleUploadedFile("ä note.html", b"<script>1</script>", "text/html")},
            headers=api.headers | headers,
        )

    answer = upload(**{"Idempotency-Key": "f1"})
    assert answer.status_code == 201 and answer.json()["size"] == 18
    assert upload(**{"Idempotency-Key": "f1"}).json() == answer.json()
    path = f"/files/{answer.json()['id']}"
    described = api.get(path, Accept="application/json").json()
    assert described["name"] == "ä note.html" and described["media_type"] == "text/html"
    download = api.get(path)
    assert download.content == b"<script>1</script>"
    assert download["Content-Type"] == "application/octet-stream"
    assert download["Content-Disposition"].startswith("attachment")
    assert "sandbox" in download["Content-Security-Policy"]
    assert api.http.post(f"{BASE}/files", {}, headers=api.headers).status_code == 422


def test_a_token_is_shown_once(api: Caller) -> None:
    made = api.post("/tokens", {"name": "robot", "scopes": ["viewer"]}, Idempotency_Key="t1")
    secret = made.json()["secret"]
    assert made.status_code == 201 and secret.startswith("mn_")
    again = api.post("/tokens", {"name": "robot", "scopes": ["viewer"]}, Idempotency_Key="t1")
    assert again.status_code == 409 and secret not in again.content.decode()
    assert secret not in str(list(IdempotencyRecord.objects.values()))
    assert secret not in api.get("/tokens").content.decode()
    robot = Caller(secret)
    assert robot.get("/runs").status_code == 200
    assert robot.post("/runs", {"blueprint": "x"}).status_code == 403
    token = next(t for t in api.get("/tokens").json()["items"] if t["name"] == "robot")
    assert api.call("DELETE", f"/tokens/{token['id']}").status_code == 204
    assert robot.get("/runs").status_code == 401


def test_a_status_that_does_not_exist_is_named(api: Caller) -> None:
    answer = api.get("/runs?status=bogus")
    assert answer.status_code == 422 and "status" in answer.json()["fields"]
    assert api.get("/runs?status=waiting").status_code == 200


def test_a_connection_goes_in_and_never_comes_out(api: Caller) -> None:
    given = {"name": "shop", "kind": "bearer", "fields": {"token": "tell-nobody"}, "hosts": ["shop.example"]}
    assert api.post("/connections", given).status_code == 201
    assert api.post("/connections", given | {"fields": {"token": "later"}}).json()["rotated_at"]
    listed = api.get("/connections")
    assert [c["hosts"] for c in listed.json()["items"]] == [["shop.example"]]
    assert "tell-nobody" not in listed.content.decode() and "later" not in listed.content.decode()
    assert api.post("/connections", given | {"hosts": []}).status_code == 422


def test_tools_and_models_are_listed(api: Caller) -> None:
    names = {t["name"]: t for t in api.get("/tools").json()["items"]}
    assert names["send_email"]["effect"] != "read" and names["search_documents"]["effect"] == "read"
    assert api.get("/tools/send_email").json()["permission"]
    assert api.get("/tools/nothing").status_code == 404
    assert {m["provider"]: m["ready"] for m in api.get("/models").json()["items"]}["offline"] is True


def test_the_gallery_says_what_a_blueprint_touches(api: Caller, settings: Any) -> None:
    from apps.blueprints.services import sync_gallery

    sync_gallery(settings.GALLERY_DIR)
    items = api.get("/gallery").json()["items"]
    assert {"customer_research_to_followup", "invoice_reconciliation"} <= {i["name"] for i in items}
    assert items[0]["manifest"]
    for _ in range(2):
        installed = api.post(f"/gallery/{items[0]['name']}/install")
        assert installed.status_code == 201 and installed.json()["version"] == 1
    assert api.get("/blueprints").json()["items"][0]["origin"]["gallery"] == items[0]["name"]
    assert api.post("/gallery/nothing/install").status_code == 404
