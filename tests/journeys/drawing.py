"""What stories of the editor share: a draft is begun, lists and fields are used, a version is published."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page, expect

from tests.faults.harness import until


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


def choose(page: Page, words: str) -> None:
    """Take the first entry that the words find in the open list."""
    field = page.get_by_test_id("pick").get_by_role("combobox")
    expect(field).to_be_focused()
    field.press_sequentially(words)
    expect(page.get_by_test_id("pick").get_by_role("option").first).to_contain_text(words, ignore_case=True)
    page.keyboard.press("Enter")


def allow_tools(page: Page) -> None:
    """The tools are allowed in the contract by the buttons that say so."""
    box = page.get_by_test_id("problems")
    page.get_by_test_id("problems-summary").press("Enter")
    allow = box.get_by_role("button", name="Allow ")
    expect(allow.first).to_be_visible()
    lists = box.locator(".fix-entries")
    assert lists.evaluate("list => list.scrollWidth - list.clientWidth") <= 0, "words are cut off"
    allow.first.focus()
    while count := allow.count():
        # Once: no key is lost, and the keyboard stays in the list, on the fix that comes next.
        page.keyboard.press("Enter")
        until(lambda count=count: allow.count() < count, "the fix to be done")
        expect(box.locator(":focus")).to_have_count(1)


def write(page: Page, label: str, words: str) -> None:
    """Into a field of a form, which saves by itself."""
    page.get_by_label(label, exact=True).first.focus()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(words)
    page.keyboard.press("Tab")
    expect(page.locator("form[data-dirty], form[data-flying]")).to_have_count(0)
    expect(page.get_by_test_id("draft-status")).to_have_attribute("data-state", "saved")


def fill_first_step_and_card(page: Page) -> None:
    """The form of the step the keyboard stands on, then the card, then what the box says."""
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


def try_and_publish(page: Page, name: str) -> None:
    """A simulated run up to the person who decides, then version 1 of what was drawn."""
    page.locator('[data-testid=editor-head] [data-action="test-run"]').press("Enter")
    page.locator('[data-action="run-test"]').press("Enter")
    result = page.get_by_test_id("trial-result")
    expect(result).to_have_attribute("data-state", "waiting", timeout=30_000)
    expect(result.locator('tr[data-node-id="draft_email"]')).to_have_attribute("data-state", "succeeded")

    page.goto(f"/blueprints/{name}/edit")
    page.locator('[data-testid=editor-head] [data-action="publish"]').press("Enter")
    page.locator('button[data-action="publish"]').press("Enter")
    page.wait_for_url(f"**/blueprints/{name}")
    version = page.request.get(f"/api/v1/blueprints/{name}/versions/1").json()
    nodes = [node["id"] for node in version["document"]["graph"]["nodes"]]
    assert nodes == ["draft_email", "approve", "send_email"]
