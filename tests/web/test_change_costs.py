"""What one change of a large draft costs: counted, because a clock only tells how busy a machine is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.blueprints import draft_texts, drafts
from apps.blueprints.services import create_blueprint
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from tests.blueprints.drafting import write
from tests.blueprints.wide import wide_text
from tests.web.conftest import ClientOf

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = 300


@pytest.fixture
def wide(alice: User, principal: Callable[..., Principal]) -> str:
    name = create_blueprint(principal(alice), "Wide").name
    write(principal(alice), name, wide_text(STEPS))
    return name


class Editor:
    """The requests of one page of the editor."""

    def __init__(self, client: Client, name: str) -> None:
        self.client, self.name, self.version = client, name, 0
        self.told = self.news()

    def news(self) -> dict[str, Any]:
        """What changes on the page; it then shows the draft's version."""
        after = f"?after={self.version}" if self.version else ""
        answer = self.client.get(f"/blueprints/{self.name}/edit/news{after}")
        self.bytes = len(answer.content)
        told: dict[str, Any] = answer.json()
        self.version = told["version"]
        return told

    def change(self, **operation: Any) -> Any:
        answer = self.client.post(
            f"/api/v1/blueprints/{self.name}/draft/ops?problems=false",
            {"ops": [{"op_id": str(uuid4()), **operation}]},
            content_type="application/json",
            headers={"If-Match": f'"{self.version}"'},
        )
        assert answer.status_code == 200, answer.content
        self.bytes = len(answer.content)
        return answer.json()


def title(number: int, new: str) -> dict[str, Any]:
    path = {"node": f"n{number}", "path": ["title"]}
    return {"kind": "set_config", **path, "old": f"Step {number}", "new": new}


def test_a_changed_title_is_a_few_rows_on_every_page(wide: str, browser: ClientOf, alice: User) -> None:
    one, other = Editor(browser(alice), wide), Editor(browser(alice), wide)
    assert len(one.told["rows"]) == STEPS and len(one.told["tree"]) == STEPS

    one.change(**title(24, "Look"))
    assert one.bytes < 4_000

    for page in (one, other):
        told = page.news()
        # The step itself, and the one that leads to it.
        assert set(told["rows"]) == {"n24", "n14"}
        assert (told["tree"], told["list"]) == (None, None)
        assert page.bytes < 5_000
    assert one.news()["rows"] == {}
    assert one.bytes < 300


def test_a_draft_is_validated_and_drawn_once_for_each_change(
    wide: str, browser: ClientOf, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [Editor(browser(alice), wide) for _ in range(3)]
    made: list[str] = []
    for name in ("validate", "view_of", "sketch"):
        real = getattr(draft_texts, name)
        counted = lambda *a, _real=real, _name=name, **k: made.append(_name) or _real(*a, **k)  # noqa: E731
        monkeypatch.setattr(draft_texts, name, counted)

    pages[0].change(**title(24, "Look"))
    for page in pages:
        page.news()
        page.client.get(f"/api/v1/blueprints/{wide}/draft/problems")
        page.client.get(f"/api/v1/blueprints/{wide}/draft/view")

    assert sorted(made) == ["sketch", "validate", "view_of"]


def test_queries_do_not_grow_with_the_draft(wide: str, browser: ClientOf, alice: User) -> None:
    page = Editor(browser(alice), wide)
    with CaptureQueriesContext(connection) as asked:
        page.change(**title(24, "Look"))
    assert len(asked) <= 20
    with CaptureQueriesContext(connection) as asked:
        page.news()
    assert len(asked) <= 10


def test_what_stays_to_be_fixed_keeps_its_name_when_a_step_before_it_goes(
    wide: str, browser: ClientOf, alice: User
) -> None:
    page = Editor(browser(alice), wide)
    before = set(page.told["list"])
    page.change(kind="remove_node", node="n2")
    told = page.news()
    gone = {key for key in before if key.startswith("step n2 ")}
    assert gone and set(told["list"]) >= before - gone
    # Those that read the step that is gone say so; nothing else is told again.
    assert len(told["entries"]) < 6


def test_an_unchanged_form_is_not_sent_again(wide: str, browser: ClientOf, alice: User) -> None:
    page = Editor(browser(alice), wide)
    place = f"/blueprints/{wide}/edit/inspector?node=n40"
    first: Any = page.client.get(place, headers={"HX-Request": "true"})
    assert "csrfmiddlewaretoken" not in first.content.decode()
    known = {"HX-Request": "true", "If-None-Match": first.headers["ETag"]}
    page.change(kind="set_config", node="n5", path=["duration"], old="5m", new="6m")
    again = page.client.get(place, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    page.version += 1
    page.change(**title(40, "Look here"))
    assert page.client.get(place, headers=known).status_code == 200


def test_an_earlier_text_is_right_although_somebody_has_gone_on_since(
    wide: str, alice: User, browser: ClientOf, principal: Callable[..., Principal]
) -> None:
    page = Editor(browser(alice), wide)
    first = drafts.draft_for(principal(alice), wide)
    page.change(**title(24, "Look"))
    read = drafts.draft_for(principal(alice), wide)
    page.version += 1
    page.change(kind="remove_node", node="n5")
    assert draft_texts.source_at(read, first.version) == first.source
    patch = draft_texts.patch_since(read, first.version)
    assert patch is not None and list(patch["nodes"]) == ["n24"]
