"""Ids and names of another workspace in bodies and queries are as unknown as in addresses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.approvals.models import ApprovalRequest
from apps.blueprints.models import Blueprint, Review, Version
from apps.blueprints.services import import_blueprint
from apps.runs.models import Run, Schedule
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from tests.api.conftest import SOURCE, Caller, CallerOf, Things
from tests.runs.engine import work_all

FILES = SOURCE.replace("{name: greet,", "{name: reader,").replace(
    "required: [name], properties: {name: {type: string}}",
    "required: [name], properties: {name: {type: string}, paper: {type: string, format: file}}",
)


@pytest.fixture
def theirs(things: Things, alice: User, principal: Callable[..., Principal]) -> Things:
    """Everything of alice's, and a blueprint under the same name as the stranger's own."""
    import_blueprint(principal(alice), SOURCE)
    return things


@pytest.fixture
def stranger(theirs: Things, charlie: User, caller: CallerOf, principal: Callable[..., Principal]) -> Caller:
    """Charlie, with blueprints and a run of his own."""
    who = principal(charlie)
    import_blueprint(who, SOURCE)
    import_blueprint(who, FILES)
    return caller(charlie)


@pytest.fixture
def own_run(stranger: Caller) -> Run:
    made = stranger.post("/runs", {"blueprint": "greet", "inputs": {"name": "Ada"}}).json()
    work_all()
    return Run.objects.get(id=made["id"])


def told(answer: Any, *statuses: int) -> str:
    assert answer.status_code in statuses, (answer.status_code, answer.content[:400])
    return str(answer.content.decode())


def test_a_file_of_others_is_no_input(theirs: Things, stranger: Caller) -> None:
    value = theirs.file.as_value()
    for given in (value["id"], value, {**value, "id": value["sha256"]}, value["sha256"]):
        said = told(
            stranger.post("/runs", {"blueprint": "reader", "inputs": {"name": "a", "paper": given}}), 422
        )
        assert "notes.txt" not in said.replace(str(given), "")
    plan = {
        "name": "mine",
        "blueprint": "reader",
        "cron": "0 9 * * *",
        "inputs": {"name": "a", "paper": value["id"]},
    }
    told(stranger.post("/schedules", plan), 422)
    assert not Schedule.objects.filter(workspace__slug="elsewhere").exists()


def test_a_hash_of_others_brings_no_text(theirs: Things, stranger: Caller, own_run: Run) -> None:
    told(stranger.get(f"/runs/{own_run.id}/payloads/{theirs.hash}"), 404)
    reference = {"$payload": theirs.hash, "size": 10_000, "type": "text", "begins": "x"}
    for value in (reference, {"a": [reference]}):
        answer = stranger.post("/runs", {"blueprint": "greet", "inputs": {"name": value}})
        assert "x" * 100 not in told(answer, 202, 422)
    said = stranger.post(f"/runs/{own_run.id}/signals/hello", {"body": reference, "key": "k"})
    assert "x" * 100 not in told(said, 200, 202, 422)
    told(stranger.post("/blueprints/greet/draft/pins", {"node": "hello", "output": reference}), 200, 201, 204)
    assert "x" * 100 not in told(stranger.get("/blueprints/greet/draft/pins"), 200)
    question = ApprovalRequest.objects.get(run=own_run)
    told(
        stranger.post(
            f"/approvals/{question.id}/decision",
            {"verb": "approve", "edits": {"text": "y"}, "comment": str(reference)},
        ),
        200,
    )
    work_all()
    told(stranger.get(f"/runs/{own_run.id}/payloads/{theirs.hash}"), 404)
    for path in ("", "/steps", "/events", "/export", "/effects"):
        assert "x" * 100 not in told(stranger.get(f"/runs/{own_run.id}{path}"), 200)


def test_a_run_of_others_gives_no_data(theirs: Things, stranger: Caller) -> None:
    run = str(theirs.run.id)
    Run.objects.filter(id=run).update(blueprint_name="greet")
    for kind in ("only", "whole"):
        given = {
            "kind": kind,
            "node": "bye" if kind == "only" else "",
            "data_from": run,
            "inputs": {"name": "a"},
        }
        answer = stranger.post("/blueprints/greet/draft/test", given)
        assert answer.status_code in (404, 422) if kind == "only" else answer.status_code < 500
        assert '"Hello"' not in answer.content.decode()
    told(stranger.post("/blueprints/greet/draft/pins/load", {"run": run}), 404, 422)
    said = told(stranger.get(f"/blueprints/greet/draft/test?run={run}"), 404)
    assert "Hello" not in said


def test_people_of_others_are_asked_for_nothing(
    theirs: Things, stranger: Caller, own_run: Run, alice: User
) -> None:
    version = stranger.get("/blueprints/greet/draft").json()["version"]
    for person in (str(alice.id), alice.email):
        told(
            stranger.post("/blueprints/greet/reviews", {"people": [person]}, If_Match=f'"{version}"'),
            404,
            409,
            422,
        )
    question = ApprovalRequest.objects.get(run=own_run)
    said = told(stranger.post(f"/approvals/{question.id}/assign", {"users": [alice.email]}), 422)
    unknown = told(stranger.post(f"/approvals/{question.id}/assign", {"users": ["nobody@example.com"]}), 422)
    assert said.replace(alice.email, "") == unknown.replace("nobody@example.com", "")
    assert not Review.objects.filter(blueprint__workspace__slug="elsewhere").exists()


def test_a_version_or_blueprint_of_others_is_not_there(
    theirs: Things, stranger: Caller, own_run: Run
) -> None:
    name = theirs.run.blueprint_name
    told(stranger.post("/runs", {"blueprint": name, "inputs": {}}), 404)
    told(stranger.post("/schedules", {"name": "m", "blueprint": name, "cron": "0 9 * * *"}), 404, 422)
    hook = {"name": "m", "target": "start", "mapping": {"blueprint": name, "inputs": {}}}
    told(stranger.post("/hooks", hook), 404, 422)
    ours = Blueprint.objects.get(workspace=theirs.run.workspace, name="greet")
    Version.objects.create(blueprint=ours, number=7, content_hash="7", document=own_run.version.document)
    told(stranger.post(f"/runs/{own_run.id}/fork", {"version": 7, "reason": "r"}), 404)
    told(stranger.post("/blueprints/greet/draft/restore", {"version": 7}), 404, 409, 422)
    told(stranger.get("/blueprints/greet/diff?from=7&to=draft"), 404, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/runs?blueprint={name}",
        "/runs?label=a",
        "/runs?since=2020-01-01T00:00:00Z",
        "/runs?cursor={run}",
        "/approvals?state=all",
        "/approvals?state=all&cursor={request}",
        "/effects",
        "/dead-letters?blueprint={name}",
        "/schedules",
        "/hooks",
        "/tokens",
        "/connections",
    ],
)
def test_lists_have_nothing_of_others(theirs: Things, stranger: Caller, path: str) -> None:
    address = path.format(name=theirs.run.blueprint_name, run=theirs.run.id, request=theirs.request.id)
    said = told(stranger.get(address), 200, 422)
    assert str(theirs.run.id) not in said and "alice" not in said
