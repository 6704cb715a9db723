"""Every blueprint opens in the editor: to change it, or to read it."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from apps.blueprints.models import Blueprint
from apps.workspaces.models import User, Workspace
from tests.api.conftest import SOURCE
from tests.blueprints.drafting import write
from tests.web.conftest import DEMO, ClientOf

TABS = ("", "contract", "agents", "tools", "card", "inputs", "tests", "yaml", "history")


@pytest.fixture
def drawn(db: None, alice: User, browser: ClientOf) -> str:
    """The name of a blueprint alice has just begun."""
    answer: Any = browser(alice).post("/blueprints/new", {"title": "Answer <b>support</b> mail"})
    return str(answer.headers["Location"].split("/")[2])


def test_a_title_is_all_a_new_blueprint_needs(drawn: str, browser: ClientOf, alice: User) -> None:
    assert drawn == "answer_b_support_b_mail"
    html = browser(alice).get(f"/blueprints/{drawn}/edit").content.decode()
    assert "Answer &lt;b&gt;support&lt;/b&gt; mail" in html and "<b>support" not in html
    assert "<mn-graph" in html and "The graph has no node" in unescape(html)


def test_a_second_blueprint_of_the_same_title_gets_a_name_of_its_own(
    drawn: str, browser: ClientOf, alice: User
) -> None:
    again: Any = browser(alice).post("/blueprints/new", {"title": "Answer <b>support</b> mail"})
    assert again.headers["Location"] == f"/blueprints/{drawn}_2/edit"


def test_a_blueprint_without_a_title_is_refused_at_its_field(browser: ClientOf, alice: User) -> None:
    answer = browser(alice).post("/blueprints/new", {"title": "  "})
    assert answer.status_code == 422 and "Write what it does" in answer.content.decode()
    assert not Blueprint.objects.exists()


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_opens(tab: str, drawn: str, browser: ClientOf, alice: User) -> None:
    answer = browser(alice).get(f"/blueprints/{drawn}/edit?tab={tab}")
    assert answer.status_code == 200
    assert f'data-tab="{tab or "graph"}" aria-current="page"' in answer.content.decode()


@pytest.mark.parametrize("tab", TABS)
def test_a_gallery_blueprint_opens_read_only(
    tab: str, gallery: list[str], browser: ClientOf, alice: User
) -> None:
    html = browser(alice).get(f"/blueprints/{DEMO}/edit?tab={tab}").content.decode()
    assert 'data-testid="read-only"' in html and "Fork it to change it" in html
    assert 'data-action="publish"' not in html


def test_a_viewer_reads_and_changes_nothing(drawn: str, browser: ClientOf, viewer: User) -> None:
    html = browser(viewer).get(f"/blueprints/{drawn}/edit").content.decode()
    assert "takes the role of an editor" in html and "hx-patch" not in html
    assert browser(viewer).get("/blueprints/new").status_code == 403
    assert browser(viewer).post("/blueprints/new", {"title": "Mine"}).status_code == 403


def test_a_stranger_finds_nothing(drawn: str, browser: ClientOf, charlie: User, workspace: Workspace) -> None:
    for tab in TABS:
        assert browser(charlie).get(f"/blueprints/{drawn}/edit?tab={tab}").status_code == 404


def test_the_way_to_the_editor_is_on_every_page_of_a_blueprint(
    drawn: str, gallery: list[str], browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    assert f"/blueprints/{drawn}/edit" in client.get("/blueprints").content.decode()
    assert f"/blueprints/{drawn}/edit" in client.get(f"/blueprints/{drawn}").content.decode()
    assert f"/blueprints/{DEMO}/edit" in client.get("/gallery").content.decode()
    assert f"/blueprints/{DEMO}/edit" in client.get(f"/gallery/{DEMO}").content.decode()


def test_a_blueprint_that_was_never_published_shows_its_draft_and_the_way_on(
    drawn: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    """It had shown the empty text it began with, and a button that led to "not found"."""
    write(principal(alice), drawn, SOURCE.replace("name: greet", f"name: {drawn}"))
    html = unescape(browser(alice).get(f"/blueprints/{drawn}").content.decode())
    assert "Not published yet" in html and 'data-node-id="hello"' in html
    assert 'data-action="run"' not in html and html.count("button filled") == 1
    assert f'href="/blueprints/{drawn}/publish"' in html and f'href="/blueprints/{drawn}/test"' in html
    assert "Not published yet" in browser(alice).get("/blueprints").content.decode()


def test_a_draft_that_is_not_whole_still_has_its_page(
    drawn: str, browser: ClientOf, alice: User, principal: Any
) -> None:
    graph = "graph: {nodes: [{id: lonely, kind: transform}]}"
    write(principal(alice), drawn, f"metadata: {{name: {drawn}}}\n{graph}\ncontract: 7\n")
    answer = browser(alice).get(f"/blueprints/{drawn}")
    assert answer.status_code == 200 and "lonely" in answer.content.decode()


def test_two_of_the_same_title_are_told_apart_in_the_list(browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    for _ in range(2):
        client.post("/blueprints/new", {"title": "Twin"})
    client.post("/blueprints/new", {"title": "Single"})
    html = client.get("/blueprints").content.decode()
    assert '<code class="quiet small">twin_2</code>' in html and ">single</code>" not in html
