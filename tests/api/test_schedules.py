"""Schedules and signals over the API."""

from __future__ import annotations

from typing import Any

import pytest

from apps.runs.models import Run, Schedule
from apps.runs.services import start_run
from apps.workspaces.models import User, Workspace
from tests.api.conftest import Caller, CallerOf
from tests.runs.engine import version_of, work_all

PAID = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}


@pytest.fixture
def api(caller: CallerOf, alice: User) -> Caller:
    return caller(alice)


@pytest.fixture
def blueprint(workspace: Workspace) -> str:
    return version_of(workspace, nodes=[{"id": "say", "kind": "transform", "output": 1}]).blueprint.name


@pytest.fixture
def waiting(workspace: Workspace, alice: User, principal: Any) -> Run:
    nodes = [{"id": "wait", "kind": "sensor", "signal": "paid", "schema": PAID, "due": "2d"}]
    run = start_run(principal(alice), version_of(workspace, nodes=nodes), {})
    work_all()
    return run


def test_a_schedule_is_made_read_changed_and_removed(api: Caller, blueprint: str) -> None:
    given = {"name": "daily", "blueprint": blueprint, "cron": "0 9 * * 1-5", "time_zone": "Europe/Berlin"}
    made = api.post("/schedules", given)
    assert made.status_code == 201
    found = made.json()
    assert found["in_words"] == "At 09:00 on Monday through Friday, Europe/Berlin time"
    assert len(found["next"]) == 5 and found["acts_as"] == "alice@example.com"
    path = f"/schedules/{found['id']}"
    assert api.get(path).json()["name"] == "daily"
    assert [s["id"] for s in api.get("/schedules").json()["items"]] == [found["id"]]

    assert api.call("PATCH", path, {"every": "2h"}).json()["in_words"] == "Every 2 hours"
    assert api.call("PATCH", path, {"paused": True}).json()["next"] == []
    assert api.call("PATCH", path, {"paused": False}).json()["paused"] is False
    assert api.call("DELETE", path).status_code == 204
    assert api.get(path).status_code == 404 and Schedule.objects.count() == 0


def test_what_cannot_be_used_is_named_by_field(api: Caller, blueprint: str) -> None:
    wrong = api.post("/schedules", {"name": "x", "blueprint": blueprint, "cron": "61 * * * *"})
    assert wrong.status_code == 422 and set(wrong.json()["fields"]) == {"cron"}
    wrong = api.post("/schedules", {"name": "x", "blueprint": "nothing", "every": "2s"})
    assert set(wrong.json()["fields"]) == {"every", "blueprint"}
    assert api.post("/schedules", {"name": "x", "blueprint": blueprint, "every": "soon"}).status_code == 422
    assert api.post("/schedules", {"name": "x", "blueprint": blueprint, "catch_up": "x"}).status_code == 422


def test_the_same_name_twice_is_a_conflict(api: Caller, blueprint: str) -> None:
    given = {"name": "daily", "blueprint": blueprint, "every": 3600}
    assert api.post("/schedules", given).status_code == 201
    assert api.post("/schedules", given).json()["code"] == "schedule_exists"


def test_pausing_leaves_it_in_its_makers_name(
    api: Caller, caller: CallerOf, bob: User, blueprint: str
) -> None:
    made = api.post("/schedules", {"name": "d", "blueprint": blueprint, "every": "1d"}).json()
    path = f"/schedules/{made['id']}"
    theirs = caller(bob)

    assert theirs.call("PATCH", path, {"paused": True}).json()["acts_as"] == "alice@example.com"
    assert theirs.call("PATCH", path, {}).json()["acts_as"] == "bob@example.com"


def test_a_run_lists_what_it_waits_for_and_is_told(api: Caller, waiting: Run) -> None:
    path = f"/runs/{waiting.id}/signals"
    (waits,) = api.get(path).json()["waits_for"]
    assert (waits["step"], waits["signal"], waits["schema"]) == ("wait", "paid", PAID)

    wrong = api.post(f"{path}/paid", {"body": {"amount": "many"}})
    assert wrong.status_code == 422 and wrong.json()["code"] == "signal_does_not_fit"
    assert "amount" in wrong.json()["fields"]
    told = api.post(f"{path}/paid?preview=true", {"body": {"amount": 1}}).json()
    assert told == {"stored": False, "duplicate": False, "delivered_to": "wait"}

    assert (
        api.post(f"{path}/paid", {"body": {"amount": 1}}, Idempotency_Key="k").json()["delivered_to"]
        == "wait"
    )
    found = api.get(path).json()
    assert found["waits_for"] == [] and found["items"][0]["taken_by"] == "wait"
    assert found["items"][0]["key"] == "k"
    late = api.post(f"{path}/paid", {"body": {"amount": 2}})
    assert late.status_code == 409 and late.json()["code"] == "run_ended"
