"""Two people on one draft: each sees who else is there and on which step, in picture and outline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import Product, Watched, second_person

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]
RING = """path => {
  const colour = element => getComputedStyle(element).boxShadow;
  return [document.querySelector(`[data-testid="node-${path}"]`), document.querySelector(
    `[data-testid="outline-${path}"] > .outline-row`)].map(colour);
}"""


@pytest.fixture
def blueprint(product: Product, tmp_path: Path) -> str:
    file = tmp_path / "present.yaml"
    file.write_text(
        "apiVersion: mirrorneuron/v1\nkind: Blueprint\nmetadata: {name: present, title: Present}\n"
        "card: {purpose: T, must_never: [lie], business_owner: A, technical_owner: A, model_steward: A}\n"
        "contract: {goal: Be seen.}\n"
        "graph:\n  nodes:\n    - {id: first, kind: transform, output: 1}\n"
        "    - {id: second, kind: transform, output: 2}\n  edges:\n    - {from: first, to: second}\n"
    )
    product.mn("blueprint", "import", str(file))
    return "present"


@pytest.fixture
def bob(browser: Browser, product: Product) -> Iterator[Watched]:
    context = second_person(browser, product, "bob@example.com", "Bob")
    yield Watched(context.new_page())
    context.close()


def open_editor(page: Page, blueprint: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/blueprints/{blueprint}/edit")
    page.locator("mn-graph[data-mounted=true]").wait_for()


def test_two_people_see_each_other_until_one_leaves(watched: Watched, bob: Watched, blueprint: str) -> None:
    mine, his = watched.page, bob.page
    open_editor(mine, blueprint)
    expect(mine.get_by_test_id("presence")).to_have_text("")
    open_editor(his, blueprint)
    expect(mine.get_by_test_id("presence")).to_have_text("Bob")
    expect(his.get_by_test_id("presence")).to_have_text("Owner")

    # On the canvas, and from there in both.
    his.get_by_test_id("node-second").click()
    row, card = mine.get_by_test_id("outline-second"), mine.get_by_test_id("node-second")
    expect(row).to_have_attribute("data-person", "Bob")
    expect(row).to_contain_text("Bob is here")
    expect(card).to_have_accessible_name("Second, transform, only calculates, Bob is here")
    assert all("2px" in ring for ring in mine.evaluate(RING, "second")), mine.evaluate(RING, "second")
    assert len({ring.split(")")[0] for ring in mine.evaluate(RING, "second")}) == 1, (
        "two colours for one person"
    )

    # In the outline, and from there in both; a change of the row does not take the sign away.
    his.get_by_test_id("outline-first").click()
    expect(mine.get_by_test_id("outline-first")).to_have_attribute("data-person", "Bob")
    expect(mine.get_by_test_id("node-first")).to_have_accessible_name(
        "First, transform, only calculates, Bob is here"
    )
    expect(row).not_to_contain_text("Bob is here")
    expect(his.locator('#inspector [data-node-path="first"]')).to_be_visible()
    title = his.get_by_test_id("inspector").get_by_label("Title", exact=True)
    title.fill("Begin")
    title.press("Tab")
    expect(mine.get_by_test_id("outline-first")).to_contain_text("Begin")
    expect(mine.get_by_test_id("outline-first")).to_contain_text("Bob is here")

    bob.assert_quiet()
    his.close()
    expect(mine.get_by_test_id("presence")).to_have_text("")
    expect(mine.locator("[data-person], .mn-person")).to_have_count(0)
    watched.assert_quiet()


def test_on_a_phone_the_outline_alone_shows_who_is_there_and_what_they_do(
    watched: Watched, bob: Watched, blueprint: str
) -> None:
    mine, his = watched.page, bob.page
    his.set_viewport_size({"width": 390, "height": 860})
    his.goto(f"/blueprints/{blueprint}/edit")
    open_editor(mine, blueprint)
    expect(his.get_by_test_id("presence")).to_have_text("Owner")
    mine.get_by_test_id("outline-second").click()
    expect(his.get_by_test_id("outline-second")).to_have_attribute("data-person", "Owner")
    his.get_by_test_id("outline-second").click()
    expect(mine.get_by_test_id("outline-second")).to_have_attribute("data-person", "Bob")
    mine.get_by_test_id("outline-second").press("Delete")
    expect(his.get_by_test_id("outline-second")).to_have_count(0)
    watched.assert_quiet()
    bob.assert_quiet()
