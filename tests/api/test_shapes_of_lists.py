"""Long lists are written unchecked; here they are held against the shapes the API promises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pydantic import BaseModel

from apps.api.doors import answer
from apps.api.paging import Page
from apps.api.shapes import Run, Step
from apps.runs.services import start_run
from apps.workspaces.models import User, Workspace
from tests.api.conftest import CallerOf, Things
from tests.conftest import PrincipalOf
from tests.runs.engine import version_of, work_all


@pytest.mark.parametrize(("path", "shape"), [("/runs", Page[Run]), ("/runs/{run_id}/steps", Page[Step])])
def test_a_long_list_has_its_shape(
    caller: CallerOf, alice: User, things: Things, path: str, shape: type[BaseModel]
) -> None:
    response = caller(alice).get(things.fill("/api/v1" + path))

    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json; charset=utf-8"
    body = response.json()
    assert body["items"]
    assert shape.model_validate(body).model_dump(by_alias=True) == body


def test_charlie_gets_none_of_it(caller: CallerOf, charlie: User, things: Things) -> None:
    assert caller(charlie).get("/runs").json() == {"items": [], "next": None}
    assert caller(charlie).get(f"/runs/{things.run.id}/steps").status_code == 404


@pytest.mark.parametrize("value", ["plain", "ä€😀", "\ud800 alone", 1.5, None, [1, {"a": True}]])
def test_every_value_arrives(value: Any) -> None:
    assert json.loads(answer({"value": value}).content) == {"value": value}


def test_a_list_costs_as_many_queries_for_many_runs_as_for_one(
    caller: CallerOf, alice: User, workspace: Workspace, principal: PrincipalOf
) -> None:
    ask = version_of(workspace, nodes=[{"id": "ask", "kind": "approval", "with": {"go": True}}])
    who = caller(alice)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            items = who.get("/runs").json()["items"]
        assert all(item["waiting_for"][0]["step"] == "ask" for item in items)
        return len(captured)

    start_run(principal(alice), ask, {})
    work_all()
    queries()  # the first use of a token is noted
    one = queries()
    for _ in range(5):
        start_run(principal(alice), ask, {})
    work_all()

    assert queries() == one
