"""A blueprint drawn in the outline alone: by keyboard, and by touch. The server's document decides."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from tests.journeys.conftest import Shoot, Watched

pytestmark = [pytest.mark.browser]


def begin(page: Page, title: str) -> str:
    """An empty draft, as a person begins one; its name."""
    page.goto("/blueprints/new")
    page.get_by_label("What").or_(page.locator("input[name=title]")).first.fill(title)
    page.keyboard.press("Enter")
    page.get_by_test_id("outline").wait_for()
    expect(page.get_by_test_id("outline")).to_have_attribute("data-ready", "true")
    return page.url.split("/blueprints/")[1].split("/")[0]


def document(page: Page, name: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        "async (name) => (await (await fetch(`/api/v1/blueprints/${name}/draft`)).json()).document", name
    )
    return found


def edges(page: Page, name: str) -> list[tuple[str, str]]:
    return [(e["from"], e["to"]) for e in document(page, name)["graph"].get("edges", [])]


def row(page: Page, path: str) -> Locator:
    return page.get_by_test_id(f"outline-{path}")


def choose(page: Page, words: str) -> None:
    """Take the first entry that the words find in the open list."""
    field = page.get_by_test_id("pick").get_by_role("combobox")
    expect(field).to_be_focused()
    field.press_sequentially(words)
    expect(page.get_by_test_id("pick").get_by_role("option").first).to_contain_text(words, ignore_case=True)
    page.keyboard.press("Enter")


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


def allow_tools(page: Page) -> None:
    """The tools are allowed in the contract by the buttons that say so."""
    box = page.get_by_test_id("problems")
    page.get_by_test_id("problems-summary").press("Enter")
    allow = box.get_by_role("button", name="Allow ")
    expect(allow.first).to_be_visible()
    while count := allow.count():
        allow.first.press("Enter")
        expect(allow).to_have_count(count - 1)
        # The list is another one; the keyboard stays in it.
        expect(box.locator(":focus")).to_have_count(1)


def write(page: Page, label: str, words: str) -> None:
    """Into a field of a form, which saves by itself."""
    page.get_by_label(label, exact=True).first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(words)
    page.keyboard.press("Tab")
    expect(page.locator("form[data-dirty], form[data-flying]")).to_have_count(0)
    expect(page.get_by_test_id("draft-status")).to_have_attribute("data-state", "saved")


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


def test_a_mail_is_drawn_configured_mended_and_published_by_keyboard(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    name = begin(page, "Answer a customer")
    draw_mail(page)
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    inspector = page.get_by_test_id("inspector")
    expect(inspector.get_by_role("heading", name="Draft email")).to_be_visible()
    expect(inspector.locator(":focus")).to_have_count(1)
    write(page, "To", "ann@customer.example")
    write(page, "Subject (needed)", "Your question")
    write(page, "Body (needed)", "Hello Ann, thank you for asking.")
    allow_tools(page)

    page.locator('[data-tab="card"]').press("Enter")
    write(page, "Purpose", "Answers a customer.")
    write(page, "It must never", "send without approval")
    for who in ("Answers for the result", "Answers for the technique", "Answers for the models"):
        write(page, who, "Customer care")
    page.locator('[data-testid=editor-head] [data-action="publish"]').press("Enter")
    page.locator('button[data-action="publish"]').press("Enter")
    expect(page).not_to_have_url(f"/blueprints/{name}/publish")

    version = page.evaluate(
        "async (name) => (await (await fetch(`/api/v1/blueprints/${name}/versions/1`)).json())", name
    )
    assert [n["id"] for n in version["document"]["graph"]["nodes"]] == [
        "draft_email",
        "approve",
        "send_email",
    ]
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
