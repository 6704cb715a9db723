"""The outline and the box of things to fix: what they say, and that a fix mends."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
from hypothesis import given

from apps.blueprints import drafts, reviews
from apps.blueprints.core.editing.sketch import sketch
from apps.blueprints.core.editing.view import view_of
from apps.blueprints.models import Draft
from apps.blueprints.services import import_blueprint
from apps.web.core.outline import rows_of
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from tests.blueprints.test_draft_view import DRAFTS, PATIENT, draft
from tests.web.conftest import ClientOf

SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: letters, title: Letters}
card: {purpose: p, must_never: [lie], business_owner: a, technical_owner: b, model_steward: c, runbook: r}
contract:
  inputs: {type: object, required: [names], properties: {names: {type: array, items: {type: string}}}}
graph:
  nodes:
    - id: each
      kind: map
      title: For every <name>
      items: inputs.names
      body: {nodes: [{id: greet, kind: transform, output: "Hello {{ item }}"}]}
    - {id: ask, kind: approval, title: Good so?, verbs: [approve, reject, request_changes]}
    - {id: done, kind: transform, output: "{{ steps.each.output }}"}
  edges:
    - {from: each, to: ask}
    - {from: ask.approved, to: done}
    - {from: ask.changes, to: each, max_rounds: 2}
    - {from: ask.rejected, to: don}
canvas:
  groups: {g1: {title: The end, nodes: [done]}}
"""


@pytest.fixture
def letters(db: None, alice: User, principal: Callable[..., Principal]) -> str:
    import_blueprint(principal(alice), SOURCE.replace("to: don}", "to: done}"))
    drawn = drafts.draft_for(principal(alice), "letters")
    Draft.objects.filter(pk=drawn.pk).update(source=SOURCE)
    return "/blueprints/letters/edit"


BROKEN = "edge |ask.rejected|don|0 to missing_node"
"""What the only thing to fix is called."""
SCRIPT = {"Accept": "application/json"}


def words(html: str) -> str:
    blocks = re.sub(r"</?(?:div|li|ul|p|b|button|summary)\b[^>]*>", " ", html)
    return " ".join(unescape(re.sub(r"<[^>]+>", "", blocks)).split())


def test_the_tree_says_what_each_step_is_and_where_it_leads(
    letters: str, browser: ClientOf, alice: User
) -> None:
    html = "".join(browser(alice).get(f"{letters}/news").json()["rows"].values())
    said = words(html)
    assert "For every <name> For each, only calculates. → Good so?" in said
    assert "approved → Done; changes asked for → back to For every <name>, at most 2 rounds" in said
    assert 'data-node-path="each/greet"' in html and 'aria-level="2"' in html
    assert "rejected → don (" in said
    assert 'data-group-id="g1"' in html


def test_a_step_put_to_the_left_is_not_said_to_lead_back(
    letters: str, browser: ClientOf, alice: User
) -> None:
    Draft.objects.update(source=f"{SOURCE}layout: {{ask: {{x: 600, y: 0}}, done: {{x: 300, y: 200}}}}\n")
    said = words("".join(browser(alice).get(f"{letters}/news").json()["rows"].values()))
    assert "approved → Done; changes asked for → back to For every <name>, at most 2 rounds" in said


def test_the_page_holds_the_tree_before_any_script_runs(letters: str, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(letters).content.decode()
    assert 'role="tree"' in html and 'data-may-edit="true"' in html


def test_the_box_lists_everything_and_a_button_mends_one(
    letters: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    news = client.get(f"{letters}/news").json()
    assert words(news["head"]) == "1 thing to fix"
    assert "Write done" in words(news["entries"][BROKEN])
    form = {"problem": news["list"][0], "after": "0"}

    mended = client.post(f"{letters}/fix", form, headers=SCRIPT).json()

    assert (mended["version"], mended["list"], mended["entries"]) == (1, [], {})
    assert "rejected → Done" in words("".join(mended["rows"].values()))
    assert mended["patch"]["to_version"] == 1
    assert "- {from: ask.rejected, to: done}" in Draft.objects.get().source
    again = client.post(f"{letters}/fix", form, headers=SCRIPT).json()
    assert (again["said"], again["patch"]) == ("That is mended already.", None)


def test_a_fix_works_without_scripts(letters: str, browser: ClientOf, alice: User) -> None:
    form = {"problem": BROKEN}
    answer: Any = browser(alice).post(f"{letters}/fix", form)
    assert (answer.status_code, answer.headers["Location"]) == (302, letters)


def test_a_viewer_reads_and_mends_nothing_and_a_stranger_finds_nothing(
    letters: str, browser: ClientOf, viewer: User, charlie: User
) -> None:
    form = {"problem": BROKEN}
    news = browser(viewer).get(f"{letters}/news").json()
    assert list(news["entries"]) == [BROKEN] and "edit/fix" not in news["entries"][BROKEN]
    assert browser(viewer).post(f"{letters}/fix", form).status_code == 403
    assert browser(charlie).get(f"{letters}/news").status_code == 404
    assert browser(charlie).post(f"{letters}/fix", form).status_code == 404
    assert Draft.objects.get().version == 0


def test_a_comment_is_told_without_a_change_of_its_step(
    letters: str, browser: ClientOf, alice: User, viewer: User, principal: Callable[..., Principal]
) -> None:
    client = browser(alice)
    assert client.get(f"{letters}/news?after=0").json()["commented"] == []
    review = reviews.ask_review(principal(alice), "letters", [viewer.id], draft_version=0)
    comment = reviews.comment_on_review(principal(viewer), review.id, "Is that so?", node="ask")
    told = client.get(f"{letters}/news?after=0").json()
    assert (told["commented"], list(told["rows"])) == (["ask"], ["ask"])
    assert "1 comment" in words(told["rows"]["ask"])
    reviews.resolve_comment(principal(alice), review.id, comment.id)
    told = client.get(f"{letters}/news?after=0").json()
    assert (told["commented"], told["rows"]) == ([], {})


def paths(rows: list[Any]) -> list[str]:
    return [p for row in rows for p in ([] if row.is_group else [row.key]) + paths(row.rows)]


def test_steps_stand_in_the_order_of_the_picture() -> None:
    data = draft(layout={"one": {"x": 900, "y": 0}, "each": {"x": 0, "y": 0}})
    assert paths(rows_of(sketch(data), view_of(data))) == ["each", "each/first", "each/second", "one"]


@PATIENT
@given(DRAFTS)
def test_every_step_stands_in_the_tree_once_whatever_the_draft(data: Any) -> None:
    if isinstance(data, dict) and isinstance(data.get("canvas"), dict):
        data = {**data, "canvas": {**data["canvas"], "collapsed": []}}
    plan = sketch(data)
    assert sorted(paths(rows_of(plan, view_of(data)))) == sorted(plan.nodes)
