"""What an editor asks about a draft, through the door, and who may ask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.blueprints.core.parse import parse
from apps.blueprints.services import import_blueprint
from apps.workspaces.models import Membership, User
from tests.api.conftest import SOURCE, Caller, CallerOf

pytestmark = pytest.mark.django_db
DRAFT = "/blueprints/greet/draft"
SOME = "0192d4c0-0000-7000-8000-00000000000"


@pytest.fixture
def hers(alice: User, principal: Callable[..., Any], caller: CallerOf) -> Caller:
    import_blueprint(principal(alice), SOURCE)
    return caller(alice)


def test_the_picture_comes_with_its_version(hers: Caller) -> None:
    answer = hers.get(f"{DRAFT}/view")
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"0"')
    assert set(answer.json()["nodes"]) == {"hello", "ask", "bye"}


def test_every_node_is_a_target_or_says_why_not(hers: Caller) -> None:
    found = {t["node"]: t for t in hers.get(f"{DRAFT}/connect?from=ask.changes").json()["targets"]}
    assert found["hello"]["edge"] == {"from": "ask.changes", "to": "hello", "max_rounds": 3}
    done = {t["node"]: t for t in hers.get(f"{DRAFT}/connect?from=hello").json()["targets"]}
    assert (done["ask"]["allowed"], done["ask"]["reason"]) == (
        False,
        "“Hello” leads there by “done” already.",
    )


def test_the_palette_is_searched_and_offers_other_blueprints(
    hers: Caller, alice: User, principal: Callable[..., Any]
) -> None:
    other = SOURCE.replace("name: greet, title: Greet", "name: part, title: Part of it")
    import_blueprint(principal(alice), other)
    import_blueprint(principal(alice), other.replace("Say hello.", "Say it again."))

    items = hers.get(f"{DRAFT}/palette?from=hello&q=part").json()["items"]

    assert items[0]["template"] == {
        "id": "part",
        "kind": "subflow",
        "blueprint": "part@2",
        "with": {"name": "{{ inputs.name }}"},
    }
    assert "greet" not in {
        item["name"].partition("@")[0] for item in hers.get(f"{DRAFT}/palette").json()["items"]
    }


def test_nodes_are_copied_as_yaml(hers: Caller) -> None:
    answer = hers.get(f"{DRAFT}/fragment?nodes=hello&nodes=ask")
    assert answer.status_code == 200, answer.content
    text = answer.json()["text"]
    assert [n["id"] for n in parse(text).data["nodes"]] == ["hello", "ask"]
    assert hers.get(f"{DRAFT}/fragment").status_code == 422


def test_what_is_to_fix_comes_with_what_mends_it(hers: Caller) -> None:
    edge = {"from": "ask.approved", "to": "bye"}
    change = {"path": ["from"], "old": "ask.approved", "new": "ask.aproved"}
    spoil = {"op_id": f"{SOME}1", "kind": "set_edge", "edge": edge, **change}
    assert hers.post(f"{DRAFT}/ops", {"ops": [spoil]}, If_Match='"0"').status_code == 200

    items = hers.get(f"{DRAFT}/problems").json()["items"]

    item = next(i for i in items if i["code"] == "missing_port")
    assert (item["node"], item["mend"]["words"]) == ("ask", "Write ask.approved")
    mend = [{"op_id": f"{SOME}2", **op} for op in item["mend"]["ops"]]
    assert hers.post(f"{DRAFT}/ops", {"ops": mend}, If_Match='"1"').status_code == 200
    assert hers.get(f"{DRAFT}/problems").json()["items"] == [i for i in items if i["code"] == "no_runbook"]


@pytest.mark.parametrize(
    "question", ["view", "connect?from=hello", "palette", "fragment?nodes=hello", "problems"]
)
def test_a_stranger_finds_no_draft_and_a_viewer_may_look(
    hers: Caller, bob: User, charlie: User, caller: CallerOf, question: str
) -> None:
    assert caller(charlie).get(f"{DRAFT}/{question}").status_code == 404
    Membership.objects.filter(user=bob).update(roles=["viewer"])
    assert caller(bob).get(f"{DRAFT}/{question}").status_code == 200
