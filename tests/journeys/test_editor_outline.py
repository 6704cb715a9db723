"""A blueprint drawn in the outline alone: by keyboard, and by touch. The server's document decides."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Shoot, Watched
from tests.journeys.drawing import (
    allow_tools,
    begin,
    choose,
    document,
    edges,
    fill_first_step_and_card,
    try_and_publish,
)

pytestmark = [pytest.mark.browser]


def row(page: Page, path: str) -> Locator:
    return page.get_by_test_id(f"outline-{path}")


def added(page: Page, path: str) -> None:
    """A step is there, and the keyboard stands on it."""
    expect(row(page, path)).to_be_focused()


def draw_mail(page: Page) -> None:
    """Write, ask, send: three steps in a row; the keyboard stands on the last."""
    page.get_by_test_id("outline-add").focus()
    page.keyboard.press("Enter")
    choose(page, "Draft email")
    added(page, "draft_email")
    page.keyboard.press("a")
    choose(page, "done")
    choose(page, "Approval")
    added(page, "approve")
    page.keyboard.press("a")
    choose(page, "approved")
    choose(page, "Send email")
    added(page, "send_email")


def test_a_graph_is_drawn_mended_and_undone_by_keyboard_alone(watched: Watched, shoot: Shoot) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    name = begin(page, "Answer mail by keyboard")

    draw_mail(page)
    assert edges(page, name) == [("draft_email", "approve"), ("approve", "send_email")]

    # Back one, and a way back to the draft.
    page.keyboard.press("ArrowUp")
    expect(row(page, "approve")).to_be_focused()
    page.keyboard.press("c")
    choose(page, "changes")
    choose(page, "Draft email")
    expect(row(page, "approve")).to_contain_text("back to Draft email, at most 3 rounds")
    page.keyboard.press("F2")
    title = page.get_by_test_id("ask").get_by_role("textbox")
    title.fill("Send this answer?")
    page.keyboard.press("Enter")
    expect(row(page, "approve")).to_contain_text("Send this answer?")
    expect(row(page, "approve")).to_be_focused()

    # Removed with its edges, and back again.
    page.keyboard.press("Delete")
    expect(row(page, "approve")).to_have_count(0)
    page.keyboard.press("Control+z")
    expect(row(page, "approve")).to_be_visible()
    assert ("approve.changes", "draft_email") in edges(page, name)

    # An edge that was chosen is what Delete removes.
    row(page, "approve").focus()
    page.keyboard.press("e")
    choose(page, "Draft email → Send this answer?")
    expect(page.locator('#inspector [data-subject-kind="edge"]')).to_be_visible()
    expect(row(page, "approve")).to_be_focused()
    page.keyboard.press("Delete")
    expect(row(page, "draft_email")).not_to_contain_text("→")
    expect(row(page, "approve")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(row(page, "draft_email")).to_contain_text("→")

    # Letters that are no command find a row by its title.
    page.keyboard.press("End")
    page.keyboard.press("s")
    expect(page.locator("[role=treeitem]:focus")).to_have_count(1)

    allow_tools(page)
    allowed = document(page, name)["contract"]["boundaries"]["allowed_tools"]
    assert sorted(allowed) == ["draft_email", "send_email"]
    shoot(page, "editor-outline")
    watched.assert_quiet()


def test_a_mail_is_drawn_configured_mended_tested_and_published_by_keyboard(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    name = begin(page, "Answer a customer")
    draw_mail(page)
    page.keyboard.press("Home")
    fill_first_step_and_card(page)
    try_and_publish(page, name)
    watched.assert_quiet()


def test_on_a_phone_the_outline_is_the_editor(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 860})
    name = begin(page, "Answer mail by touch")

    def menu(path: str, words: str) -> None:
        row(page, path).get_by_role("button", name="More for").first.click()
        page.get_by_test_id("outline-menu").get_by_role("menuitem", name=words).click()

    page.get_by_test_id("outline-add").click()
    choose(page, "Wait")
    added(page, "wait")
    menu("wait", "Add a step after it")
    choose(page, "done")
    choose(page, "Transform")
    added(page, "transform")
    menu("transform", "Duplicate")
    expect(row(page, "transform_2")).to_be_visible()
    menu("transform_2", "Remove")
    expect(row(page, "transform_2")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(row(page, "transform_2")).to_be_visible()
    page.get_by_test_id("palette").get_by_role("button", name="Check").click()
    expect(row(page, "check")).to_be_visible()
    menu("check", "Remove")
    expect(row(page, "check")).to_have_count(0)
    menu("wait", "Settings")
    expect(page.get_by_test_id("inspector")).to_be_visible()
    expect(page.get_by_test_id("inspector")).to_contain_text("Wait")
    assert edges(page, name) == [("wait", "transform")]
    page.get_by_role("button", name="Outline").click()
    menu("wait", "Choose one of its edges")
    choose(page, "Wait → Transform")
    expect(page.get_by_test_id("outline-voice")).to_contain_text("Delete removes it")
    expect(page.locator('#inspector [data-subject-kind="edge"]')).to_have_count(1)
    menu("wait", "Remove")
    expect(row(page, "wait")).not_to_contain_text("→")
    assert edges(page, name) == []
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0

    # The picture takes over what the outline kept by itself, and back there nothing has changed.
    page.get_by_role("button", name="Picture").click()
    page.locator("mn-graph[data-mounted]").wait_for()
    page.get_by_role("button", name="Outline").click()
    menu("wait", "Duplicate")
    expect(row(page, "wait_2")).to_be_visible()
    watched.assert_quiet()


def test_the_picture_goes_on_where_the_outline_was_before_its_socket_tells_it(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 860})
    page.route_web_socket("**/ws/drafts/*", lambda _socket: None)  # nothing is ever told
    begin(page, "Taken over in time")
    page.get_by_test_id("outline-add").click()
    choose(page, "Wait")
    added(page, "wait")
    page.get_by_role("button", name="Picture").click()
    page.locator("mn-graph[data-mounted]").wait_for()
    expect(page.locator('mn-graph [data-id="wait"]')).to_be_visible()
    expect(page.get_by_role("application", name="Graph, 1 step")).to_be_visible()
    page.get_by_role("button", name="Outline").click()
    row(page, "wait").focus()
    page.keyboard.press("Control+d")
    expect(row(page, "wait_2")).to_be_visible()
    watched.assert_quiet()


@pytest.mark.usefixtures("built_canvas")
def test_the_outline_goes_along_with_what_is_drawn_by_mouse(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    name = begin(page, "Drawn by mouse")
    page.locator("mn-graph[data-mounted]").wait_for()
    shelf = page.get_by_test_id("palette")
    shelf.get_by_role("button", name="Wait", exact=True).click()
    expect(row(page, "wait")).to_have_attribute("aria-selected", "true")

    # Put somewhere by hand; what follows it stands to its right, and neither picture nor words say "back".
    card = page.get_by_test_id("node-wait").bounding_box()
    assert card
    page.mouse.move(card["x"] + 60, card["y"] + 20)
    page.mouse.down()
    page.mouse.move(card["x"] + 220, card["y"] - 140, steps=6)
    page.mouse.up()
    page.wait_for_selector("mn-graph[data-idle=true]")
    shelf.get_by_role("button", name="Approval", exact=True).click()
    expect(row(page, "approve")).to_have_attribute("aria-selected", "true")
    expect(row(page, "wait")).to_have_attribute("aria-selected", "false")
    places = document(page, name)["layout"]
    assert places["approve"]["x"] == places["wait"]["x"] + 188 + 48
    assert places["approve"]["y"] == places["wait"]["y"]
    expect(row(page, "wait")).to_contain_text("→ Go on?")
    watched.assert_quiet()


def test_what_a_map_holds_is_added_copied_and_folded_by_keyboard(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    name = begin(page, "Go through a list")

    page.get_by_test_id("outline-add").focus()
    page.keyboard.press("Enter")
    choose(page, "For each")
    added(page, "each")
    # An empty map takes the step in.
    page.keyboard.press("/")
    choose(page, "Transform")
    added(page, "each/transform")
    page.keyboard.press("Control+c")
    expect(page.get_by_test_id("outline-voice")).to_contain_text("Copied")
    page.keyboard.press("Control+v")
    expect(row(page, "each/transform_2")).to_be_visible()
    page.keyboard.press("Control+d")
    expect(row(page, "each/transform_3")).to_be_visible()

    row(page, "each").focus()
    page.keyboard.press("ArrowLeft")
    expect(row(page, "each/transform")).to_be_hidden()
    page.keyboard.press("ArrowRight")
    expect(row(page, "each/transform")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(row(page, "each").locator("[role=treeitem]:focus")).to_have_count(1)

    body = document(page, name)["graph"]["nodes"][0]["body"]
    assert sorted(n["id"] for n in body["nodes"]) == ["transform", "transform_2", "transform_3"]
    watched.assert_quiet()


def test_the_tree_can_be_read_by_a_screen_reader(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("/blueprints/customer_research_to_followup/edit")
    page.get_by_test_id("outline-tree").wait_for()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = Axe().run(page, context="#outline, #problems").response["violations"]
        serious = [
            f"{v['id']}: {[n['target'] for n in v['nodes']][:5]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert not serious, (scheme, serious)
    watched.assert_quiet()
