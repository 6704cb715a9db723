"""Whatever is sent, the answer is a problem, never a failure of ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from apps.workspaces.models import User
from tests.api.conftest import BASE, CallerOf, Things
from tests.api.test_doors import OPEN, body_for, operations

ODD = [
    "00000000-0000-0000-0000-000000000000",
    "not-an-id",
    "-1",
    "9" * 40,
    "'; DROP TABLE runs; --",
    "😀é\u200f",
    "a" * 2000,
    "..%2f..",
    "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    "[1]{}",
]
BODIES: list[Any] = [None, [], "text", 0, {"verb": []}, {"edits": {"a": [[[]]]}, "verb": "approve"}, {"": {}}]
QUERIES = [
    "cursor=%ff", "limit=x", "after=99999999999999999999", "state=%27", "label=__=1", "label=a__in=b",
    "label==", "label=a__regex=(", "since=yesterday", "mine=perhaps", "version=0", "status=' or 1=1",
    "blueprint=" + "x" * 500, "preview=maybe", "label=a.b[0]=c", "state=", "cursor=AAAAAAAAAAAAAAAAAAAAAA",
]  # fmt: skip


def refused_well(response: Any, what: Any) -> None:
    assert response.status_code < 500, (what, response.status_code, response.content[:300])
    if response.status_code >= 400:
        assert response["Content-Type"] == "application/problem+json", what


@pytest.mark.parametrize("odd", ODD)
def test_odd_ids_are_not_found(odd: str, things: Things, alice: User, caller: CallerOf) -> None:
    api = caller(alice)
    for method, path, operation in operations(None):
        if "{" not in path:
            continue
        names = [p["name"] for p in operation["parameters"] if p["in"] == "path"]
        filled = path.removeprefix(BASE).format(**dict.fromkeys(names, quote(odd, safe="%")))
        response = api.call(method, filled, body_for(method, path))
        refused_well(response, (method, filled))
        assert response.status_code in (400, 403, 404, 405, 422), (method, filled, response.status_code)


@pytest.mark.parametrize("query", QUERIES)
def test_odd_queries_are_answered(query: str, things: Things, alice: User, caller: CallerOf) -> None:
    api = caller(alice)
    for method, path, operation in operations(None):
        takes = any(p["in"] == "query" for p in operation.get("parameters", ()))
        if method == "GET" and takes and path not in OPEN:
            refused_well(api.get(f"{things.fill(path)}?{query}"), (path, query))


@pytest.mark.parametrize("body", BODIES, ids=repr)
def test_odd_bodies_are_answered(body: Any, things: Things, alice: User, caller: CallerOf) -> None:
    api = caller(alice)
    for method, path, _ in operations(None):
        if method == "POST":
            raw = b"" if body is None else body
            refused_well(api.call("POST", things.fill(path), raw), (path, body))


HALF = {
    "/runs/{run_id}/fork": [{"redo": ["\ud800"], "reason": "r"}, {"edit": {"\ud800": 1}, "reason": "r"}],
    "/approvals/{approval_id}/assign": [{"users": ["\ud800"]}, {"groups": ["\ud800"]}],
    "/hooks": [{"name": "mine", "target": "signal", "mapping": {"\ud800": 1}}],
}


@pytest.mark.parametrize("path", HALF)
def test_a_refusal_can_say_half_a_character_again(
    path: str, things: Things, alice: User, caller: CallerOf
) -> None:
    for body in HALF[path]:
        response = caller(alice).post(things.fill(BASE + path), body)
        refused_well(response, (path, body))
        assert "\\ud800" in response.json()["detail"] + str(response.json()["fields"]), response.json()
