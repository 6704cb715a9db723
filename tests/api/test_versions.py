"""Compare, publish, review and test a draft through the API."""

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints import services
from apps.blueprints.drafts import draft_for
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.base.ids import uuid7
from tests.api.conftest import SOURCE, CallerOf
from tests.blueprints.drafting import write
from tests.runs.engine import work_all

pytestmark = pytest.mark.django_db
AT = "/blueprints/greet"


@pytest.fixture
def erin(workspace: Workspace) -> User:
    user = User.objects.create_user("erin@example.com", name="Erin")
    Membership.objects.create(workspace=workspace, user=user, roles=["editor"])
    return user


@pytest.fixture
def owner(alice: User, principal: Any) -> Any:
    """Version 1 is published; the draft says hello in another way."""
    found = principal(alice)
    services.import_blueprint(found, SOURCE)
    write(found, "greet", SOURCE.replace("Hello {{", "Good day {{"))
    return found


def test_the_difference_names_what_changed_with_both_values(
    owner: Any, alice: User, caller: CallerOf
) -> None:
    found = caller(alice).get(f"{AT}/diff?from=1&to=draft").json()
    (change,) = found["changes"]
    assert (change["section"], change["subject"], change["kind"]) == ("steps", "hello", "changed")
    assert change["fields"] == [
        {
            "path": "output",
            "kind": "changed",
            "before": "Hello {{ inputs.name }}",
            "after": "Good day {{ inputs.name }}",
        }
    ]
    assert found["marks"] == {"nodes": {"hello": "changed"}, "edges": {}} and not found["same"]
    assert caller(alice).get(f"{AT}/diff?from=1&to=1").json()["same"]


@pytest.mark.parametrize(("query", "status"), [("from=7", 404), ("from=x", 422), ("to=gallery", 404)])
def test_a_state_that_is_not_there_is_a_problem(
    query: str, status: int, owner: Any, alice: User, caller: CallerOf
) -> None:
    assert caller(alice).get(f"{AT}/diff?{query}").status_code == status


def test_publishing_takes_the_version_that_was_looked_at(owner: Any, alice: User, caller: CallerOf) -> None:
    client = caller(alice)
    seen = draft_for(owner, "greet").version
    assert client.post(f"{AT}/draft/publish").status_code == 422
    stale = client.post(f"{AT}/draft/publish", If_Match=f'"{seen - 1}"')
    assert stale.status_code == 409 and stale.json()["code"] == "draft_moved"
    assert stale.json()["details"] == {"seen": seen - 1, "version": seen}
    done = client.post(f"{AT}/draft/publish", {"notes": "Politer."}, If_Match=f'"{seen}"')
    assert done.status_code == 201 and (done.json()["version"], done.json()["notes"]) == (2, "Politer.")


def test_a_review_is_asked_answered_and_stands_against_publishing(
    owner: Any, alice: User, erin: User, caller: CallerOf
) -> None:
    hers, mine = caller(erin), caller(alice)
    seen = draft_for(owner, "greet").version
    asked = mine.post(f"{AT}/reviews", {"people": [str(erin.id)]}, If_Match=f'"{seen}"').json()
    review = f"{AT}/reviews/{asked['id']}"
    assert (asked["state"], asked["changed_since"], asked["base_version"]) == ("open", False, 1)
    assert mine.post(f"{review}/answer", {"verdict": "approve"}).status_code == 403
    told = hers.post(f"{review}/comments", {"text": "Too stiff.", "node": "hello"}).json()
    assert told["comments"][0]["node"] == "hello"
    assert hers.post(f"{review}/answer", {"verdict": "changes"}).json()["state"] == "changes"
    refused = mine.post(f"{AT}/draft/publish", If_Match=f'"{seen}"')
    assert refused.status_code == 409 and refused.json()["code"] == "review_stands"
    comment = f"{review}/comments/{told['comments'][0]['id']}"
    assert mine.post(f"{comment}/resolve").json()["comments"][0]["resolved"]
    write(owner, "greet", SOURCE)
    assert mine.get(review).json()["changed_since"]
    assert mine.post(f"{review}/withdraw").json()["state"] == "withdrawn"
    assert [one["state"] for one in mine.get(f"{AT}/reviews").json()["items"]] == ["withdrawn"]


def test_a_part_is_tested_and_shown(owner: Any, alice: User, caller: CallerOf) -> None:
    client = caller(alice)
    started = client.post(f"{AT}/draft/test", {"kind": "upto", "node": "hello", "inputs": {"name": "Ada"}})
    assert started.status_code == 202 and started.json()["label"] == "draft 1, up to hello"
    work_all()
    shown = client.get(f"{AT}/draft/test").json()
    assert shown["run"] == started.json()["run"] and shown["nodes"]["hello"]["state"] == "succeeded"
    lacking = client.post(f"{AT}/draft/test", {"kind": "only", "node": "ask"})
    assert lacking.status_code == 422 and lacking.json()["code"] == "data_missing"
    assert lacking.json()["fields"].keys() == {"hello"}
    loaded = client.post(f"{AT}/draft/pins/load", {"run": started.json()["run"]}).json()
    assert [(pin["node"], pin["output"]) for pin in loaded["items"]] == [("hello", "Good day Ada")]
    assert client.call("DELETE", f"{AT}/draft/pins?node=hello").json() == {"items": []}


def test_ones_own_draft_is_tested_apart_from_the_shared_one(
    owner: Any, alice: User, charlie: User, caller: CallerOf
) -> None:
    client, own = caller(alice), f"{AT}/draft/test?private=true"
    started = client.post(own, {"kind": "upto", "node": "hello", "inputs": {"name": "Ada"}})
    assert started.status_code == 202 and started.json()["label"].startswith("own draft ")
    work_all()
    assert client.get(own).json()["run"] == started.json()["run"]
    assert client.get(f"{AT}/draft/test").json()["run"] is None
    assert caller(charlie).get(own).status_code == 404


def test_a_fork_is_a_blueprint_of_its_own(owner: Any, alice: User, caller: CallerOf) -> None:
    made = caller(alice).post(f"{AT}/fork", {"to": "welcome"})
    assert made.status_code == 201 and made["Location"] == "/api/v1/blueprints/welcome"
    assert made.json()["origin"]["fork_of"] == "greet"


def test_only_the_shared_draft_is_published_and_reviewed(
    owner: Any, alice: User, erin: User, caller: CallerOf
) -> None:
    client = caller(alice)
    assert client.get(f"{AT}/diff?to=private").status_code == 404
    draft_for(owner, "greet", private=True)
    seen = f'"{draft_for(owner, "greet").version}"'
    for path, body in (("draft/publish", {}), ("reviews", {"people": [str(erin.id)]})):
        refused = client.post(f"{AT}/{path}?private=true", body, If_Match=seen)
        assert refused.status_code == 409 and refused.json()["code"] == "private_draft"
        assert "draft/merge" in refused.json()["next"]
    assert client.get(f"{AT}/versions").json()["items"][0]["version"] == 1
    assert not client.get(f"{AT}/reviews").json()["items"]


def test_a_private_draft_is_a_side_of_the_difference(owner: Any, alice: User, caller: CallerOf) -> None:
    client = caller(alice)
    mine = draft_for(owner, "greet", private=True)
    op = {"op_id": str(uuid7()), "kind": "set_contract", "path": ["metadata", "summary"], "new": "Mine."}
    client.post(f"{AT}/draft/ops?private=true", {"ops": [op]}, If_Match=f'"{mine.version}"')
    found = client.get(f"{AT}/diff?from=draft&to=private").json()
    assert (found["from"]["label"], found["to"]["label"]) == ("The shared draft", "Your private draft")
    assert [one["section"] for one in found["changes"]] == ["metadata"]
