"""Retry, skip and fork through the API."""

from __future__ import annotations

from typing import Any

import pytest

from apps.runs.models import Run
from apps.workspaces.models import User
from tests.api.conftest import Caller, CallerOf
from tests.runs.engine import DIVIDE, work_all


@pytest.fixture
def api(alice: User, caller: CallerOf) -> Caller:
    return caller(alice)


@pytest.fixture
def failed(api: Caller) -> str:
    made = api.call("POST", "/blueprints", DIVIDE.encode(), **{"Content-Type": "application/yaml"})
    assert made.status_code == 201, made.content
    run = api.post("/runs", {"blueprint": "divide", "inputs": {"by": 0}}).json()
    work_all()
    assert api.get(f"/runs/{run['id']}").json()["status"] == "failed"
    return str(run["id"])


def steps(api: Caller, run: str) -> dict[str, Any]:
    return {s["path"]: s for s in api.get(f"/runs/{run}/steps").json()["items"]}


def test_a_preview_changes_nothing_and_takes_no_key(api: Caller, failed: str) -> None:
    seq = api.get(f"/runs/{failed}").json()["seq"]
    said = api.post(f"/runs/{failed}/steps/two/retry?preview=true", {}, Idempotency_Key="k")
    assert said.status_code == 200 and said.json()["tried_again"] == ["two"]
    assert api.get(f"/runs/{failed}").json()["seq"] == seq
    done = api.post(f"/runs/{failed}/steps/two/retry", {"reason": "now"}, Idempotency_Key="k")
    assert done.status_code == 200 and done.json() == said.json()
    again = api.post(f"/runs/{failed}/steps/two/retry", {"reason": "now"}, Idempotency_Key="k")
    assert again.json() == done.json() and again["Idempotent-Replayed"] == "true"


def test_an_act_without_a_reason_names_the_field(api: Caller, failed: str) -> None:
    for path in ("steps/two/retry", "steps/two/skip", "fork"):
        refused = api.post(f"/runs/{failed}/{path}", {})
        assert refused.status_code == 422 and "reason" in refused.json()["fields"], path


def test_a_step_is_skipped_with_a_value(api: Caller, failed: str) -> None:
    said = api.post(f"/runs/{failed}/steps/two/skip", {"value": 5, "reason": "by hand"})
    assert said.status_code == 200 and said.json()["reopened"] is True
    work_all()
    run = api.get(f"/runs/{failed}").json()
    assert (run["status"], run["output"]) == ("succeeded", {"result": 6})


def test_what_cannot_be_recovered_is_a_conflict_in_words(api: Caller, failed: str) -> None:
    refused = api.post(f"/runs/{failed}/steps/one/retry", {"reason": "x"})
    assert refused.status_code == 409
    problem = refused.json()
    assert (
        problem["code"] == "cannot_recover" and "only a failed step" in problem["detail"] and problem["next"]
    )


def test_a_fork_is_a_new_run_with_kept_steps(api: Caller, failed: str) -> None:
    told = api.post(f"/runs/{failed}/fork?preview=true", {"edit": {"two": 4}})
    assert told.json()["fork"] is None and Run.objects.count() == 1
    said = api.post(f"/runs/{failed}/fork", {"edit": {"two": 4}, "reason": "by hand"}, Idempotency_Key="f")
    assert said.status_code == 200
    fork = said.json()["fork"]
    assert said["Location"].endswith(f"/runs/{fork}")
    work_all()
    run = api.get(f"/runs/{fork}").json()
    assert (run["status"], run["output"], run["forked_from"]) == ("succeeded", {"result": 5}, failed)
    assert [s["kept"] for s in steps(api, fork).values()] == [True, True, False]
    api.post(f"/runs/{failed}/fork", {"edit": {"two": 4}, "reason": "by hand"}, Idempotency_Key="f")
    assert Run.objects.count() == 2


def test_a_fork_with_other_inputs_starts_over(api: Caller, failed: str) -> None:
    fork = api.post(f"/runs/{failed}/fork", {"inputs": {"by": 5}, "reason": "not by zero"}).json()["fork"]
    work_all()
    assert api.get(f"/runs/{fork}").json()["output"] == {"result": 3}
    wrong = api.post(f"/runs/{failed}/fork", {"inputs": {"by": "five"}, "reason": "x"})
    assert wrong.status_code == 422 and "by" in wrong.json()["fields"]


def test_a_stranger_finds_nothing_to_recover(charlie: User, caller: CallerOf, failed: str) -> None:
    stranger = caller(charlie)
    for path in ("steps/two/retry", "steps/two/skip", "fork"):
        for query in ("", "?preview=true"):
            assert stranger.post(f"/runs/{failed}/{path}{query}", {"reason": "mine"}).status_code == 404
    assert Run.objects.count() == 1
