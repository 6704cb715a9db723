"""Compare, publish, review, fork and restore through the pages."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from apps.blueprints import reviews, services
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.drafts import apply_operations, draft_for
from apps.blueprints.models import Blueprint, Review, Version
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.base.ids import uuid7
from tests.blueprints.drafting import write
from tests.web.conftest import DEMO, ClientOf

pytestmark = pytest.mark.django_db


@pytest.fixture
def erin(workspace: Workspace) -> User:
    user = User.objects.create_user("erin@example.com", name="Erin")
    Membership.objects.create(workspace=workspace, user=user, roles=["editor"])
    return user


@pytest.fixture
def name(gallery: list[str], alice: User, principal: Any) -> str:
    """The demo, installed, with another goal in its draft."""
    owner = principal(alice)
    version = services.install(owner, DEMO)
    assert "title: " in version.source
    change(owner, "title: ", "title: New ")
    return DEMO


def change(owner: Any, old: str, new: str) -> int:
    source = draft_for(owner, DEMO).source
    return write(owner, DEMO, source.replace(old, new, 1))


def read(client: Any, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.content.decode()[:2000]
    return unescape(answer.content.decode())


def test_a_comparison_shows_what_changed_and_both_values(name: str, browser: ClientOf, alice: User) -> None:
    html = read(browser(alice), f"/blueprints/{name}/compare?from=1&to=draft")
    assert 'data-testid="changes-metadata"' in html and 'data-field="title"' in html
    assert 'data-testid="difference-picture"' in html


def test_two_equal_states_say_so(name: str, browser: ClientOf, alice: User) -> None:
    assert 'data-testid="no-difference"' in read(browser(alice), f"/blueprints/{name}/compare?from=1&to=1")


@pytest.mark.parametrize("query", ["from=99", "from=abc", "to=-1", "from=1&to=99999999999999"])
def test_a_state_that_is_not_there_is_not_found(
    query: str, name: str, browser: ClientOf, alice: User
) -> None:
    read(browser(alice), f"/blueprints/{name}/compare?{query}", 404)


def test_the_page_publishes_what_it_showed(name: str, browser: ClientOf, alice: User, principal: Any) -> None:
    client = browser(alice)
    seen = draft_for(principal(alice), name).version
    assert f'name="draft_version" value="{seen}"' in read(client, f"/blueprints/{name}/publish")
    answer: Any = client.post(f"/blueprints/{name}/publish", {"draft_version": seen, "notes": "New title."})
    assert answer.headers["Location"] == f"/blueprints/{name}"
    assert Version.objects.get(number=2).notes == "New title."
    assert 'data-testid="nothing-new"' in read(client, f"/blueprints/{name}/publish")


def test_a_draft_that_moved_is_shown_again_and_not_published(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    seen = draft_for(principal(alice), name).version
    change(principal(alice), "title: New", "title: Newer")
    answer = browser(alice).post(
        f"/blueprints/{name}/publish", {"draft_version": seen, "notes": "Kept words"}
    )
    html = answer.content.decode()
    assert answer.status_code == 409 and 'data-testid="draft-moved"' in html and "Kept words" in html
    assert f'value="{seen + 1}"' in html
    assert not Version.objects.filter(number=2).exists()


def test_problems_stand_in_the_way_each_with_its_link(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    seen = change(principal(alice), "kind: approval", "kind: aproval")
    html = read(browser(alice), f"/blueprints/{name}/publish")
    assert 'data-testid="cannot-publish"' in html and "aproval" in html and "disabled" in html
    answer = browser(alice).post(f"/blueprints/{name}/publish", {"draft_version": seen})
    assert answer.status_code == 422


def test_a_review_goes_from_question_to_publication(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    seen = draft_for(principal(alice), name).version
    asked: Any = browser(alice).post(
        f"/blueprints/{name}/reviews", {"draft_version": seen, "people": [str(erin.id)], "note": "Look <b>"}
    )
    address = asked.headers["Location"]
    hers = browser(erin)
    assert f'href="{address}"' in read(hers, "/blueprints")
    assert 'data-testid="answer-form"' in read(hers, address)
    assert 'data-testid="answer-form"' not in read(browser(alice), address)

    refused = hers.post(f"{address}/answer", {"verdict": "changes", "words": ""})
    assert refused.status_code == 422 and "Say what should change" in refused.content.decode()
    node = Review.objects.get().blueprint.versions.get().document["graph"]["nodes"][0]["id"]
    hers.post(f"{address}/comment", {"node": node, "text": "<script>alert(1)</script>"})
    hers.post(f"{address}/answer", {"verdict": "changes"})
    page = browser(alice).get(address).content.decode()
    assert f'data-testid="comments" data-node-id="{node}"' in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page

    warned = browser(alice).post(f"/blueprints/{name}/publish", {"draft_version": seen})
    assert warned.status_code == 409 and 'data-testid="review-warning"' in warned.content.decode()
    hers.post(f"{address}/answer", {"verdict": "approve"})
    done: Any = browser(alice).post(f"/blueprints/{name}/publish", {"draft_version": seen})
    assert done.headers["Location"] == f"/blueprints/{name}"


def test_comments_that_wait_stand_at_their_steps_in_draft_and_comparison(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    owner = principal(alice)
    review = reviews.ask_review(owner, name, [erin.id], draft_version=draft_for(owner, name).version)
    node = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    said = [reviews.comment_on_review(owner, review.id, words, node=node) for words in ("One.", "Two.")]
    reviews.comment_on_review(owner, review.id, "About the whole.")
    client = browser(alice)
    marked = {node: {"count": 2, "url": f"/blueprints/{name}/reviews/{review.id}#on-{node}"}}
    for at in ("edit", "compare?from=1&to=draft&canvas=1"):
        assert client.get(f"/blueprints/{name}/{at}").context["comments"] == marked
    assert "2 comments</a>" in read(client, f"/blueprints/{name}/edit")
    assert f'id="on-{node}"' in read(client, f"/blueprints/{name}/reviews/{review.id}")

    for one in said:
        reviews.resolve_comment(owner, review.id, one.id)
    assert client.get(f"/blueprints/{name}/edit").context["comments"] == {}
    assert client.get(f"/blueprints/{name}/compare?from=draft&to=1&canvas=1").context["comments"] == {}


def test_a_review_says_when_the_draft_has_moved_on(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    seen = draft_for(principal(alice), name).version
    asked: Any = browser(alice).post(
        f"/blueprints/{name}/reviews", {"draft_version": seen, "people": [str(erin.id)]}
    )
    assert 'data-testid="changed-since"' not in read(browser(erin), asked.headers["Location"])
    change(principal(alice), "title: New", "title: Newer")
    assert 'data-testid="changed-since"' in read(browser(erin), asked.headers["Location"])


def test_a_fork_opens_in_the_editor(name: str, browser: ClientOf, alice: User) -> None:
    answer: Any = browser(alice).post(f"/blueprints/{name}/fork")
    assert answer.headers["Location"] == f"/blueprints/{name}_fork/edit"


def test_a_version_comes_back_into_the_draft(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    assert "Put into the draft" in read(browser(alice), f"/blueprints/{name}/versions")
    browser(alice).post(f"/blueprints/{name}/versions/1/restore")
    assert draft_for(principal(alice), name).source == Version.objects.get(number=1).source


PAGES = ("versions", "compare", "publish")
POSTS = ("publish", "fork", "reviews", "versions/1/restore")


def test_a_stranger_finds_nothing_of_it(name: str, browser: ClientOf, charlie: User) -> None:
    client = browser(charlie)
    assert {client.get(f"/blueprints/{name}/{one}").status_code for one in PAGES} == {404}
    # The gallery is everybody's, so he may fork its blueprint, into his own workspace.
    assert {client.post(f"/blueprints/{name}/{one}").status_code for one in POSTS} <= {404, 302}
    assert Blueprint.objects.filter(workspace__slug="acme").count() == 1
    assert not Version.objects.filter(number=2).exists()


def test_a_viewer_compares_and_changes_nothing(name: str, browser: ClientOf, viewer: User) -> None:
    client = browser(viewer)
    assert client.get(f"/blueprints/{name}/compare").status_code == 200
    assert {client.post(f"/blueprints/{name}/{one}").status_code for one in POSTS} == {403}


def test_both_graphs_come_to_the_canvas_with_their_marks(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    owner = principal(alice)
    source = draft_for(owner, name).source
    first = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    write(owner, name, source.replace(f"{{id: {first},", f"{{id: {first}, notes: Look here,", 1))
    answer = browser(alice).get(f"/blueprints/{name}/compare?from=1&to=draft&canvas=1")
    view = answer.context["view"]
    assert view["mode"] == "diff" and view["nodes"][first]["diff"] == "changed"
    assert "<mn-graph" in answer.content.decode()


def test_a_renamed_step_is_said_in_the_list_and_on_the_canvas(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    owner = principal(alice)
    first = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    op = operation({"op_id": str(uuid7()), "kind": "rename", "node": first, "to": "first_of_all"})
    apply_operations(owner, name, [op], seen_version=draft_for(owner, name).version)
    client, at = browser(alice), f"/blueprints/{name}/compare?from=1&to=draft"

    page = read(client, at)
    assert f"renamed from {first} to first_of_all" in page and ">Renamed<" in page
    assert client.get(f"{at}&canvas=1").context["view"]["nodes"]["first_of_all"]["renamed"] == (
        f"renamed from {first} to first_of_all"
    )
    assert ">Gone<" not in page and ">New<" not in page
