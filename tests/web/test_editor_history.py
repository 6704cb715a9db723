"""The history of a draft as a page: what was done, moments with a name, a draft of one's own."""

from __future__ import annotations

from html import unescape
from typing import Any
from uuid import uuid4

import pytest

from apps.blueprints import draft_log, drafts
from apps.blueprints.core.editing import operations
from apps.blueprints.models import Draft
from apps.workspaces.models import User
from tests.conftest import PrincipalOf
from tests.web.conftest import ClientOf


@pytest.fixture
def drawn(db: None, alice: User, browser: ClientOf) -> str:
    """The name of a blueprint alice has just begun, and whose editor she has opened."""
    answer: Any = browser(alice).post("/blueprints/new", {"title": "Answer mail"})
    assert browser(alice).get(answer.headers["Location"]).status_code == 200
    return str(answer.headers["Location"].split("/")[2])


@pytest.fixture
def retitle(drawn: str, alice: User, principal: PrincipalOf) -> Any:
    """Change the title, as a field of the editor does."""

    def retitle(old: str, new: str, *, private: bool = False) -> None:
        change = {
            "op_id": uuid4(),
            "kind": "set_contract",
            "path": ["metadata", "title"],
            "old": old,
            "new": new,
        }
        draft = drafts.draft_for(principal(alice), drawn, private=private)
        draft_log.apply_operations(
            principal(alice),
            drawn,
            [operations.operation(change)],
            seen_version=draft.version,
            private=private,
        )

    return retitle


def history(browser: ClientOf, user: User, name: str, more: str = "") -> str:
    return unescape(browser(user).get(f"/blueprints/{name}/edit?tab=history{more}").content.decode())


def source(name: str, **which: Any) -> str:
    return Draft.objects.get(blueprint__name=name, **which).source


def test_a_moment_with_a_name_comes_back_and_undo_takes_that_back(
    drawn: str, retitle: Any, browser: ClientOf, alice: User
) -> None:
    here = f"/blueprints/{drawn}/edit"
    assert browser(alice).post(f"{here}/states", {"title": "Before the rewrite"}).status_code == 302
    kept = source(drawn)
    retitle("Answer mail", "Answer letters")
    state = Draft.objects.get(blueprint__name=drawn).states.get()
    assert browser(alice).post(f"{here}/restore", {"state": str(state.id)}).status_code == 302
    assert source(drawn) == kept
    said = history(browser, alice, drawn)
    assert "Before the rewrite" in said
    assert 'Alice brought back state "Before the rewrite".' in said


def test_what_was_done_is_told_and_any_moment_comes_back(
    drawn: str, retitle: Any, browser: ClientOf, alice: User
) -> None:
    begun = source(drawn)
    retitle("Answer mail", "Answer letters")
    assert "Alice changed metadata.title." in history(browser, alice, drawn)
    assert browser(alice).post(f"/blueprints/{drawn}/edit/restore", {"seq": "0"}).status_code == 302
    assert source(drawn) == begun
    assert "Alice brought back the draft after change 0." in history(browser, alice, drawn)


def test_a_moment_without_a_name_is_refused_in_words(drawn: str, browser: ClientOf, alice: User) -> None:
    answer = browser(alice).post(f"/blueprints/{drawn}/edit/states", {"title": "  "})
    assert answer.status_code == 422 and "A state needs a title" in answer.content.decode()


def test_a_draft_of_ones_own_is_merged_and_gone(
    drawn: str, retitle: Any, browser: ClientOf, alice: User
) -> None:
    retitle("Answer mail", "Mine", private=True)
    assert "Mine" not in source(drawn, owner=None)
    assert "Merge into the shared draft" in history(browser, alice, drawn, "&private=1")
    assert browser(alice).post(f"/blueprints/{drawn}/edit/merge").status_code == 302
    assert "title: Mine" in source(drawn)


def test_what_cannot_be_merged_is_listed_and_nothing_is_done(
    drawn: str, retitle: Any, browser: ClientOf, alice: User
) -> None:
    retitle("Answer mail", "Mine", private=True)
    retitle("Answer mail", "Theirs")
    answer = browser(alice).post(f"/blueprints/{drawn}/edit/merge")
    assert answer.status_code == 409 and "merge-conflicts" in answer.content.decode()
    assert "title: Theirs" in source(drawn, owner=None) and "title: Mine" in source(drawn, owner=alice)
    assert browser(alice).post(f"/blueprints/{drawn}/edit/merge", {"skip": "on"}).status_code == 302
    assert "title: Theirs" in source(drawn)


def test_a_draft_of_ones_own_can_be_thrown_away(
    drawn: str, retitle: Any, browser: ClientOf, alice: User
) -> None:
    retitle("Answer mail", "Mine", private=True)
    html = browser(alice).get(f"/blueprints/{drawn}/edit?tab=history&private=1").content.decode()
    asked = html[html.index('data-testid="throw-away"') :]
    assert "is lost; undo does not bring it back" in asked[: asked.index('data-action="discard"')]
    assert browser(alice).post(f"/blueprints/{drawn}/edit/discard").status_code == 302
    assert "title: Answer mail" in source(drawn)


@pytest.mark.parametrize("verb", ["states", "restore", "merge", "discard"])
def test_a_stranger_finds_nothing_to_act_on(drawn: str, verb: str, browser: ClientOf, charlie: User) -> None:
    answer = browser(charlie).post(f"/blueprints/{drawn}/edit/{verb}", {"title": "x", "seq": "0"})
    assert answer.status_code == 404
