"""Compare, publish, review, fork and restore through the pages."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from apps.blueprints import reviews, services
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.draft_log import apply_operations, redo, restore, undo
from apps.blueprints.drafts import draft_for
from apps.blueprints.models import Blueprint, Draft, Review, Version
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


def test_an_untouched_draft_that_follows_another_text_is_shown_again_and_not_published(
    gallery: list[str], browser: ClientOf, alice: User, principal: Any
) -> None:
    owner, client = principal(alice), browser(alice)
    first = services.install(owner, DEMO).source
    services.import_blueprint(owner, first.replace("title: ", "title: Seen ", 1), publish=False)
    html = read(client, f"/blueprints/{DEMO}/publish")
    form = dict(re.findall(r'<input type="hidden" name="(draft_\w+)" value="([^"]*)">', html))
    services.import_blueprint(owner, first.replace("title: ", "title: Unseen ", 1), publish=False)
    refused = client.post(f"/blueprints/{DEMO}/publish", form)
    assert refused.status_code == 409 and "It follows another version now" in refused.content.decode()
    assert Version.objects.filter(number__isnull=False).count() == 1
    asked = client.post(f"/blueprints/{DEMO}/reviews", {**form, "people": "nobody"})
    assert asked.headers["Location"] == f"/blueprints/{DEMO}/publish" and not Review.objects.exists()


def test_problems_stand_in_the_way_each_with_its_link(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    seen = change(principal(alice), "kind: approval", "kind: aproval")
    html = read(browser(alice), f"/blueprints/{name}/publish")
    assert 'data-testid="cannot-publish"' in html and "aproval" in html and "disabled" in html
    answer = browser(alice).post(f"/blueprints/{name}/publish", {"draft_version": seen})
    assert answer.status_code == 422


def test_a_problem_leads_to_the_form_it_is_mended_in(browser: ClientOf, alice: User, principal: Any) -> None:
    """The card's led to a line of YAML, and a test's nowhere, with the advice to use the command line."""
    made = services.create_blueprint(principal(alice), "Mail")
    html = unescape(read(browser(alice), f"/blueprints/{made.name}/publish"))
    assert html.count(f'href="/blueprints/{made.name}/edit?tab=card">Open “Card and runbook”') == 5
    draft = "metadata: {name: mail}\ngraph: {nodes: [{id: think, kind: agent}]}\ncontract: {goals: x}\n"
    write(principal(alice), made.name, draft)
    answer = browser(alice).post(f"/blueprints/{made.name}/test", {"kind": "whole", "key": "once"})
    html = unescape(answer.content.decode())
    trouble = html.split('data-testid="trial-problem"')[1].split("</div>")[0]
    assert f'href="/blueprints/{made.name}/edit?node=think"' in trouble and "mn blueprint" not in trouble


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


def rename(who: Any, name: str, node: str, to: str, *, private: bool = False) -> None:
    op = operation({"op_id": str(uuid7()), "kind": "rename", "node": node, "to": to})
    seen = draft_for(who, name, private=private).version
    apply_operations(who, name, [op], seen_version=seen, private=private)


def marked(client: Any, at: str) -> list[str]:
    return sorted(client.get(at).context["comments"])


def test_a_comment_stays_with_its_step_whatever_that_is_called(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    owner = principal(alice)
    node = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    rename(owner, name, node, "before_it")
    review = reviews.ask_review(owner, name, [erin.id], draft_version=draft_for(owner, name).version)
    reviews.comment_on_review(owner, review.id, "Why?", node="before_it")
    draft_for(owner, name, private=True)
    client, here = browser(alice), f"/blueprints/{name}"
    shown_at = (f"{here}/edit", f"{here}/compare?from=1&to=draft&canvas=1")

    rename(owner, name, "before_it", "after_it")
    for at in shown_at:
        assert marked(client, at) == ["after_it"]
    url = client.get(f"{here}/edit").context["comments"]["after_it"]["url"]
    assert url.endswith("#on-before_it") and 'id="on-before_it"' in read(client, url.partition("#")[0])
    news = client.get(f"{here}/edit/news?after={draft_for(owner, name).version}").json()
    assert news["commented"] == ["after_it"]

    undo(owner, name)
    assert marked(client, f"{here}/edit") == ["before_it"]
    redo(owner, name)
    assert marked(client, f"{here}/edit") == ["after_it"]
    undo(owner, name)
    # Its name before the review comes back when the rename that made it is taken back.
    undo(owner, name)
    for at in shown_at:
        assert marked(client, at) == [node]
    # A private draft parted before that, and has its own names.
    assert marked(client, f"{here}/edit?private=1") == ["before_it"]
    rename(owner, name, "before_it", "mine", private=True)
    assert marked(client, f"{here}/edit?private=1") == ["mine"]
    assert marked(client, f"{here}/compare?from=draft&to=private&canvas=1") == ["mine"]


def test_a_comment_is_found_in_a_private_draft_that_parted_before_the_review(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    owner = principal(alice)
    node = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    draft_for(owner, name, private=True)
    rename(owner, name, node, "theirs")
    rename(owner, name, node, "mine", private=True)
    review = reviews.ask_review(owner, name, [erin.id], draft_version=draft_for(owner, name).version)
    reviews.comment_on_review(owner, review.id, "Why?", node="theirs")
    client = browser(alice)
    assert marked(client, f"/blueprints/{name}/edit?private=1") == ["mine"]
    assert marked(client, f"/blueprints/{name}/edit") == ["theirs"]


def test_a_comment_stays_where_an_earlier_text_was_brought_back(
    name: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    owner = principal(alice)
    node = Version.objects.get(number=1).document["graph"]["nodes"][0]["id"]
    review = reviews.ask_review(owner, name, [erin.id], draft_version=draft_for(owner, name).version)
    reviews.comment_on_review(owner, review.id, "Why?", node=node)
    rename(owner, name, node, "other")
    restore(owner, name, version=1)
    assert marked(browser(alice), f"/blueprints/{name}/edit") == [node]


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


def test_the_list_of_versions_of_what_was_never_published_says_so(
    browser: ClientOf, alice: User, workspace: Workspace
) -> None:
    client = browser(alice)
    client.post("/blueprints/new", {"title": "Begun"})
    html = read(client, f"/blueprints/{Blueprint.objects.get().name}/versions")
    assert "Nothing is published yet" in html


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
    rename(owner, name, first, "first_of_all")
    client, at = browser(alice), f"/blueprints/{name}/compare?from=1&to=draft"

    page = read(client, at)
    assert f"renamed from {first} to first_of_all" in page and ">Renamed<" in page
    assert client.get(f"{at}&canvas=1").context["view"]["nodes"]["first_of_all"]["renamed"] == (
        f"renamed from {first} to first_of_all"
    )
    assert ">Gone<" not in page and ">New<" not in page


# --- a draft of one's own ---------------------------------------------------------------------------------


@pytest.fixture
def own(name: str, alice: User, principal: Any) -> str:
    """Alice's private draft, in which the summary is another one than in the shared draft."""
    summarise(principal(alice), name, "My own.", private=True)
    return name


def summarise(who: Any, name: str, words: str, *, private: bool = False) -> None:
    seen = draft_for(who, name, private=private).version
    old = Version.objects.get(number=1).document["metadata"]["summary"]
    path = ["metadata", "summary"]
    op = {"op_id": str(uuid7()), "kind": "set_contract", "path": path, "old": old, "new": words}
    apply_operations(who, name, [operation(op)], seen_version=seen, private=private)


def test_the_head_of_a_private_draft_leads_to_pages_about_it(
    own: str, browser: ClientOf, alice: User
) -> None:
    html = read(browser(alice), f"/blueprints/{own}/edit?private=1")
    assert f'/blueprints/{own}/compare?to=private"' in html
    assert f'/blueprints/{own}/publish?private=1"' in html
    assert f'/blueprints/{own}/publish"' not in html


def test_a_private_draft_is_compared_itself(own: str, browser: ClientOf, alice: User) -> None:
    client, at = browser(alice), f"/blueprints/{own}/compare"
    html = read(client, f"{at}?to=private")
    assert "Your private draft" in html and 'data-field="summary"' in html
    assert "?from=draft&to=private" in html
    beside = client.get(f"{at}?from=draft&to=private").context["comparison"]
    (changed,) = beside.difference.changes
    assert [one.path for one in changed.fields] == ["summary"]
    assert 'data-field="summary"' not in read(client, f"{at}?from=1&to=draft")


def test_comparing_a_private_draft_begins_none(
    name: str, browser: ClientOf, alice: User, viewer: User, charlie: User
) -> None:
    assert "You have no private draft" in read(browser(alice), f"/blueprints/{name}/compare?to=private", 404)
    assert not Draft.objects.exclude(owner=None).exists()
    for user, status in ((viewer, 403), (charlie, 404)):
        for page in ("compare?to=private", "publish?private=1"):
            assert browser(user).get(f"/blueprints/{name}/{page}").status_code == status


def test_publishing_from_a_private_draft_says_that_it_is_merged_first(
    own: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    client = browser(alice)
    html = read(client, f"/blueprints/{own}/publish?private=1")
    assert 'data-testid="not-published"' in html and "Merge into the shared draft" in html
    assert 'data-testid="publish-form"' not in html and 'data-testid="ask-review"' not in html
    assert 'data-field="summary"' in html and 'data-field="title"' not in html, "what merging changes"

    for seen in (
        draft_for(principal(alice), own).version,
        draft_for(principal(alice), own, private=True).version,
    ):
        refused = client.post(f"/blueprints/{own}/publish?private=1", {"draft_version": seen})
        assert refused.status_code == 409 and b'data-testid="not-published"' in refused.content
    assert not Version.objects.filter(number=2).exists()

    merged: Any = client.post(f"/blueprints/{own}/edit/merge", {"then": "publish"})
    assert merged.headers["Location"] == f"/blueprints/{own}/publish"
    html = read(client, f"/blueprints/{own}/publish")
    assert 'data-field="summary"' in html and 'data-testid="publish-form"' in html


def test_nobody_is_asked_to_review_a_private_draft(
    own: str, browser: ClientOf, alice: User, erin: User, principal: Any
) -> None:
    seen = draft_for(principal(alice), own).version
    answer: Any = browser(alice).post(
        f"/blueprints/{own}/reviews?private=1", {"draft_version": seen, "people": [str(erin.id)]}
    )
    assert answer.headers["Location"] == f"/blueprints/{own}/publish?private=1"
    assert not Review.objects.exists()


def test_what_cannot_be_merged_is_said_before_it_is_tried(
    own: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    who = principal(alice)
    summarise(who, own, "Theirs.")
    client = browser(alice)
    html = read(client, f"/blueprints/{own}/publish?private=1")
    assert 'data-testid="merge-conflicts"' in html and 'data-testid="merge-form"' not in html
    assert 'name="then" value="publish"' in html
    before = draft_for(who, own).version
    refused = client.post(f"/blueprints/{own}/edit/merge", {"then": "publish"})
    assert refused.status_code == 409 and b'name="then" value="publish"' in refused.content
    assert draft_for(who, own).version == before
    done: Any = client.post(f"/blueprints/{own}/edit/merge", {"then": "publish", "skip": "on"})
    assert done.headers["Location"] == f"/blueprints/{own}/publish"


def test_what_either_draft_renamed_is_no_other_step(
    name: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    who = principal(alice)
    first, second = (node["id"] for node in Version.objects.get(number=1).document["graph"]["nodes"][:2])
    draft_for(who, name, private=True)
    for node, to, private in ((first, "mine", True), (second, "theirs", False)):
        rename(who, name, node, to, private=private)
        seen = draft_for(who, name, private=private).version
        notes = operation(
            {"op_id": str(uuid7()), "kind": "set_config", "node": to, "path": ["notes"], "new": "Look here"}
        )
        apply_operations(who, name, [notes], seen_version=seen, private=private)
    client = browser(alice)
    found = client.get(f"/blueprints/{name}/compare?from=draft&to=private").context["comparison"]
    steps = {one.subject: (one.kind, one.renamed_from) for one in found.difference.of("steps")}
    assert steps["mine"] == ("changed", first) and steps[second] == ("changed", "theirs")
    assert not {"added", "removed"} & {kind for kind, _ in steps.values()}
    html = read(client, f"/blueprints/{name}/publish?private=1")
    assert f"renamed from {first} to mine" in html and ">Gone<" not in html
