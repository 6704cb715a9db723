"""Limits, full queues and dead letters through the API: members, strangers, wrong input."""

from __future__ import annotations

from typing import Any

import pytest

from apps.governance.models import Breaker, Bucket
from apps.runs import services
from apps.runs.models import Run
from apps.workspaces.models import AuditEntry, Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.config import config
from tests.api.conftest import CallerOf
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
BROKEN = [{"id": "a", "kind": "transform", "output": "{{ inputs.nope.x }}"}]


@pytest.fixture
def broken(workspace, alice, principal):
    """Starts runs that fail by their first step."""
    version = version_of(workspace, BROKEN)

    def start(count: int) -> list[Run]:
        runs = [services.start_run(principal(alice), version, {}) for _ in range(count)]
        work_all()
        return runs

    return start


def key_of(found: dict[str, Any], key: str) -> dict[str, Any]:
    return next(x for x in found["items"] if x["key"] == key)


# --- limits -----------------------------------------------------------------------------------------------


def test_a_limit_is_set_read_and_removed(caller: CallerOf, alice, workspace):
    call = caller(alice)
    body = {
        "limits": {
            "tool:fetch": {"calls": 10, "per": "1m"},
            "user:alice@example.com": {"calls": 5, "per": 60},
        }
    }
    found = call.call("PUT", "/limits", body).json()
    assert key_of(found, "tool:fetch")["calls"] == 10
    assert key_of(found, "tool:fetch")["per_seconds"] == 60
    assert key_of(found, "user:alice@example.com")["left"] == 5
    assert Bucket.objects.filter(workspace=workspace, key=f"user:{alice.id}").exists()
    found = call.call("PUT", "/limits", {"limits": {"tool:fetch": None}}).json()
    assert key_of(found, "tool:fetch")["calls"] is None
    actions = set(AuditEntry.objects.values_list("action", flat=True))
    assert {"limit.set", "limit.remove"} <= actions


@pytest.mark.parametrize(
    "limits",
    [
        {"fetch": {"calls": 1, "per": 1}},
        {"tool:": {"calls": 1, "per": 1}},
        {"tool:x": {"calls": 0, "per": 1}},
        {"tool:x": {"calls": 1, "per": "soon"}},
        {"user:nobody@example.com": {"calls": 1, "per": 1}},
        {"tool:fine": {"calls": 1, "per": 1}, "user:charlie@example.com": {"calls": 1, "per": 1}},
    ],
)
def test_wrong_limits_change_nothing(caller: CallerOf, alice, charlie, limits):
    answer = caller(alice).call("PUT", "/limits", {"limits": limits})
    assert answer.status_code == 422 and answer.json()["detail"]
    assert not Bucket.objects.exists()


def test_only_an_admin_sets_limits_and_only_the_installation_a_weight(
    caller: CallerOf, alice, bob, workspace
):
    body = {"limits": {"tool:x": {"calls": 1, "per": 1}}}
    assert caller(bob).call("PUT", "/limits", body).status_code == 403
    assert caller(alice).call("PUT", "/limits", {"weight": 5}).status_code == 403
    alice.is_staff = True
    alice.save()
    assert caller(alice).call("PUT", "/limits", {"weight": 5}).json()["weight"] == 5
    assert Workspace.objects.get(id=workspace.id).weight == 5


def test_a_stranger_sees_nothing_of_it(caller: CallerOf, alice, charlie, workspace):
    Breaker.objects.create(workspace=workspace, key="tool:secret", failures=3, last_error="our host")
    Breaker.objects.create(workspace=None, key="provider:openai", failures=1)
    keys = [x["key"] for x in caller(charlie).get("/limits").json()["items"]]
    assert keys == ["provider:openai"]


def test_an_open_breaker_and_a_rest_are_shown(caller: CallerOf, alice, workspace):
    from datetime import timedelta

    later = now() + timedelta(minutes=5)
    Breaker.objects.create(workspace=workspace, key="tool:a", open_until=later, waiting=7, last_error="500")
    Bucket.objects.create(workspace=workspace, key="tool:b", blocked_until=later)
    found = caller(alice).get("/limits").json()
    assert key_of(found, "tool:a")["breaker"] == "open" and key_of(found, "tool:a")["waiting"] == 7
    assert key_of(found, "tool:b")["rests_until"]


# --- a full queue -----------------------------------------------------------------------------------------


def test_a_full_queue_answers_429_with_a_time(caller: CallerOf, alice, workspace, principal, monkeypatch):
    """Scenario 73: full is 429, never 500; the key of a refused start can be used again."""
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": 1}])
    services.start_run(principal(alice), version, {})
    monkeypatch.setattr(config(), "max_queued", 1)
    body = {"blueprint": version.blueprint.name}
    version.blueprint.save()
    answers = [caller(alice).post("/runs", body, **{"Idempotency-Key": "same"}) for _ in range(2)]
    for answer in answers:
        assert answer.status_code == 429, answer.content
        assert answer["Content-Type"] == "application/problem+json"
        assert int(answer["Retry-After"]) > 0
        assert answer.json()["code"] == "queue_full"
    work_all()
    answer = caller(alice).post("/runs", body, **{"Idempotency-Key": "same"})
    assert answer.status_code == 202


# --- dead letters -----------------------------------------------------------------------------------------


def test_failed_runs_are_counted_by_error_and_blueprint(caller: CallerOf, alice, broken):
    runs = broken(3)
    (group,) = caller(alice).get("/dead-letters").json()["items"]
    assert (group["count"], group["code"]) == (3, "bad_expression")
    assert group["run"] == str(runs[-1].id)
    assert caller(alice).get("/dead-letters?code=other").json()["items"] == []


def test_a_redrive_retries_the_oldest_and_says_what_is_left(caller: CallerOf, alice, broken):
    runs = broken(3)
    body = {"code": "bad_expression", "limit": 2, "reason": "the input is there now"}
    preview = caller(alice).post("/dead-letters/redrive", {**body, "reason": "", "preview": True}).json()
    assert [x["run"] for x in preview["redriven"]] == [str(r.id) for r in runs[:2]]
    assert Run.objects.filter(status="failed").count() == 3
    said = caller(alice).post("/dead-letters/redrive", body).json()
    assert [x["run"] for x in said["redriven"]] == [str(r.id) for r in runs[:2]]
    assert said["left"] == 1 and said["refused"] == [] and said["stopped"] == ""
    assert AuditEntry.objects.filter(action="run.retry").count() == 2
    assert AuditEntry.objects.filter(action="dead_letters.redrive").count() == 1


def test_a_redrive_needs_a_reason_and_the_right_to_operate(caller: CallerOf, alice, charlie, broken):
    broken(1)
    assert caller(alice).post("/dead-letters/redrive", {}).status_code == 422
    said = caller(charlie).post("/dead-letters/redrive", {"reason": "curious"}).json()
    assert said["redriven"] == [] and caller(charlie).get("/dead-letters").json()["items"] == []
    assert Run.objects.filter(status="failed").count() == 1


def test_a_redrive_stops_where_the_queue_is_full(caller: CallerOf, alice, broken, monkeypatch):
    broken(4)
    monkeypatch.setattr(config(), "max_queued", 2)
    said = caller(alice).post("/dead-letters/redrive", {"reason": "again"}).json()
    assert len(said["redriven"]) == said["left"] == 2
    assert "at most 2" in said["stopped"]


def test_a_run_that_never_began_is_started_again_once(caller: CallerOf, alice, workspace, principal):
    from datetime import timedelta

    from apps.runs.upkeep import upkeep
    from mirrorneuron.base.clock import clock
    from tests.runs.engine import register_worker

    version = version_of(
        workspace, [{"id": "a", "kind": "transform", "output": 1}], contract={"queue_deadline": "1h"}
    )
    run = services.start_run(principal(alice), version, {})
    with clock.frozen(now() + timedelta(hours=2)):
        upkeep(register_worker())
    said = caller(alice).post("/dead-letters/redrive", {"reason": "workers are back"}).json()
    assert said["redriven"][0]["run"] == str(run.id) != said["redriven"][0]["as"]
    assert said["left"] == 0
    again = caller(alice).post("/dead-letters/redrive", {"reason": "once more"}).json()
    assert again["redriven"] == []
    work_all()
    assert Run.objects.get(id=said["redriven"][0]["as"]).status == "succeeded"
