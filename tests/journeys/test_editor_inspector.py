"""Forms, tabs and the YAML view in a browser: what is typed is saved, and nobody's words are lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.faults.harness import until
from tests.journeys.conftest import Product, Shoot, Watched
from tests.journeys.steps import run_from_gallery, wait_status

pytestmark = [pytest.mark.browser]
NAME = "customer_research_to_followup"
PATIENCE = 30_000
TABS = ("", "contract", "agents", "tools", "card", "inputs", "tests", "yaml", "history")
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def installed(product: Product, session: BrowserContext) -> str:
    """A blueprint of the workspace that has run once, so that expressions have values to show."""
    page = session.new_page()
    run_from_gallery(page, NAME)
    wait_status(page, "waiting")
    page.close()
    return NAME


@pytest.fixture
def page(installed: str, watched: Watched) -> Iterator[Page]:
    """A wide page; whatever a test does, no script fails and the content policy holds."""
    watched.page.set_default_timeout(PATIENCE)
    watched.page.set_viewport_size({"width": 1440, "height": 900})
    yield watched.page
    watched.assert_quiet("status of 503", "Status Error Code 503")


def select(page: Page, node: str) -> Locator:
    page.goto(f"/blueprints/{NAME}/edit?node={node}")
    page.locator("mn-graph[data-mounted]").wait_for()
    return page.locator("#inspector")


def draft(page: Page) -> Any:
    return page.request.get(f"/api/v1/blueprints/{NAME}/draft").json()


def node_of(page: Page, node: str) -> Any:
    return next(n for n in draft(page)["document"]["graph"]["nodes"] if n["id"] == node)


def saved(page: Page) -> None:
    expect(page.locator("form[data-dirty], form[data-flying]")).to_have_count(0)
    expect(page.get_by_test_id("draft-status")).to_have_attribute("data-state", "saved")


def somebody_else(page: Page, op: dict[str, Any]) -> None:
    """Another page of the same draft makes one operation."""
    done = page.evaluate(
        """async ([name, op]) => {
          const draft = await (await fetch(`/api/v1/blueprints/${name}/draft`)).json();
          const token = document.querySelector('meta[name=csrf-token]').content;
          const answer = await fetch(`/api/v1/blueprints/${name}/draft/ops`, {
            method: 'POST',
            headers: {
              'Content-Type': 'application/json', 'X-CSRFToken': token, 'If-Match': `"${draft.version}"`,
            },
            body: JSON.stringify({ops: [op]}),
          });
          return [answer.status, await answer.text()];
        }""",
        [NAME, {"op_id": str(uuid4()), **op}],
    )
    assert done[0] == 200, done


def test_typing_saves_and_the_picture_and_the_field_agree(page: Page) -> None:
    form = select(page, "search")
    name = form.get_by_label("Title", exact=True)
    name.fill("Look through the documents")
    expect(page.get_by_test_id("node-search")).to_contain_text("Look through")
    saved(page)
    expect(name).to_be_focused()
    assert node_of(page, "search")["title"] == "Look through the documents"
    page.reload()
    expect(page.locator("#inspector").get_by_label("Title", exact=True)).to_have_value(
        "Look through the documents"
    )


def test_what_is_wrong_is_said_at_its_field(page: Page) -> None:
    form = select(page, "retrieve")
    form.get_by_test_id("advanced").locator("summary").first.click()
    wait = form.get_by_label("Give up a try after")
    wait.fill("soon")
    around = wait.locator("xpath=ancestor::form")
    expect(around).to_contain_text("“soon” is not a duration")
    wait.fill("45s")
    expect(around).not_to_contain_text("not a duration")
    saved(page)
    assert node_of(page, "retrieve")["timeout"] == "45s"


def test_an_expression_completes_by_keyboard_and_shows_its_value(page: Page) -> None:
    form = select(page, "search")
    query = form.get_by_label("Query")
    query.fill("{{ inputs.comp")
    query.press("Control+Space")
    expect(form.get_by_role("listbox", name="Values to use").get_by_role("option").first).to_contain_text(
        "inputs.company"
    )
    query.press("Enter")
    expect(query).to_have_value("{{ inputs.company }}")
    expect(query.locator("xpath=ancestor::form").get_by_test_id("preview")).to_contain_text("Quillfeather")
    saved(page)


def test_what_somebody_else_typed_is_asked_about_and_not_lost(page: Page) -> None:
    form = select(page, "draft")
    notes = form.get_by_label("Notes")
    form.get_by_test_id("advanced").locator("summary").first.click()
    notes.focus()
    somebody_else(page, {"kind": "set_config", "node": "draft", "path": ["notes"], "new": "Theirs"})
    notes.fill("Mine")
    conflict = form.get_by_test_id("conflict")
    expect(conflict).to_contain_text("“Theirs”. Keep yours, “Mine”?")
    assert node_of(page, "draft")["notes"] == "Theirs"
    conflict.get_by_role("button", name="Keep mine").click()
    expect(conflict).to_have_count(0)
    saved(page)
    assert node_of(page, "draft")["notes"] == "Mine"


def test_who_types_in_a_step_that_goes_keeps_the_form_and_the_words(page: Page, watched: Watched) -> None:
    form = select(page, "remarks")
    form.get_by_test_id("advanced").locator("summary").first.click()
    notes = form.get_by_label("Notes", exact=True)
    notes.focus()
    before = draft(page)["document"]
    somebody_else(page, {"kind": "remove_node", "node": "remarks"})
    expect(page.get_by_test_id("node-remarks")).to_have_count(0)
    page.keyboard.press("Control+a")
    page.keyboard.type("Every word")
    expect(page.get_by_test_id("draft-status")).to_contain_text("somebody has removed this step")
    expect(notes).to_be_focused()
    expect(notes).to_have_value("Every word")

    page.get_by_test_id("node-draft").click()
    expect(form.locator("[data-node-path=draft]")).to_be_visible()
    undone = """async (url) => {
      const token = document.querySelector('meta[name=csrf-token]').content;
      const headers = {'Content-Type': 'application/json', 'X-CSRFToken': token};
      return (await fetch(url, {method: 'POST', body: '{}', headers})).status;
    }"""
    assert page.evaluate(undone, f"/api/v1/blueprints/{NAME}/draft/undo") == 200
    page.get_by_test_id("node-remarks").click()
    expect(form.get_by_label("Notes", exact=True)).to_have_value("Every word")
    saved(page)
    assert node_of(page, "remarks")["notes"] == "Every word"
    assert draft(page)["document"]["graph"]["edges"] == before["graph"]["edges"]
    watched.errors = [e for e in watched.errors if "404" not in e]


def test_what_the_server_cannot_store_is_said_and_sent_again(page: Page) -> None:
    form = select(page, "draft")
    form.get_by_test_id("advanced").locator("summary").first.click()
    full = {"status": 503, "headers": {"MN-Problem": "storage_full"}, "body": ""}
    page.route("**/edit/field**", lambda route: route.fulfill(**full))  # type: ignore[arg-type]
    form.get_by_label("Notes").fill("Kept")
    expect(page.get_by_test_id("draft-status")).to_contain_text("the server's disk is full; kept here")
    page.unroute("**/edit/field**")
    saved(page)
    assert node_of(page, "draft")["notes"] == "Kept"


def test_a_field_nobody_is_typing_in_follows_the_others(page: Page) -> None:
    form = select(page, "remarks")
    somebody_else(
        page,
        {
            "kind": "set_config",
            "node": "remarks",
            "path": ["title"],
            "old": "What to know about this draft",
            "new": "Worth knowing",
        },
    )
    expect(form.get_by_label("Title", exact=True)).to_have_value("Worth knowing")


def test_the_outline_brings_the_chosen_step_into_sight(page: Page) -> None:
    select(page, "remarks")
    expect(page.get_by_test_id("outline-remarks").locator(".outline-row")).to_be_in_viewport(ratio=1)
    page.get_by_test_id("outline").locator("[role=treeitem]").first.scroll_into_view_if_needed()
    page.evaluate("document.dispatchEvent(new CustomEvent('mn:select', {detail: {nodes: ['draft']}}))")
    expect(page.get_by_test_id("outline-draft").locator(".outline-row")).to_be_in_viewport(ratio=1)
    assert page.evaluate("scrollY") == 0


def test_what_was_typed_is_saved_before_another_step_is_shown(page: Page) -> None:
    form = select(page, "grounding")
    form.get_by_label("Title", exact=True).fill("Is it all true?")
    page.evaluate("document.dispatchEvent(new CustomEvent('mn:select', {detail: {nodes: ['search']}}))")
    expect(form.locator("[data-node-path=search]")).to_be_visible()
    saved(page)
    assert node_of(page, "grounding")["title"] == "Is it all true?"


def test_entries_of_the_contract_come_and_go_by_keyboard(page: Page) -> None:
    page.goto(f"/blueprints/{NAME}/edit?tab=contract")
    entries = page.get_by_test_id("entry")
    before = entries.count()
    page.get_by_role("button", name="Add criterion").press("Enter")
    expect(entries).to_have_count(before + 1)
    expect(page.locator("textarea:focus")).to_have_count(1)
    page.keyboard.type("it is polite")
    saved(page)
    assert draft(page)["document"]["contract"]["success_criteria"]["output"][-1] == "it is polite"
    fresh = entries.filter(has=page.locator("textarea:focus"))
    fresh.get_by_label("Checked by").select_option(label="a person")
    expect(
        page.get_by_test_id("entry").filter(has_text="it is polite").get_by_label("Checked by")
    ).to_have_value('"person"')
    page.get_by_role("button", name="Undo").click()
    expect(
        page.get_by_test_id("entry").filter(has_text="it is polite").get_by_label("Checked by")
    ).to_have_value("")


def test_an_input_added_is_in_the_form_people_will_see(page: Page) -> None:
    page.goto(f"/blueprints/{NAME}/edit?tab=inputs")
    page.get_by_role("button", name="Add field").first.click()
    expect(page.locator("input:focus")).to_have_value("field")
    page.keyboard.type("urgency")
    page.keyboard.press("Tab")
    expect(page.get_by_test_id("inputs-preview")).to_contain_text("Urgency")
    assert draft(page)["document"]["contract"]["inputs"]["properties"]["urgency"] == {"type": "string"}


def yaml_text(page: Page) -> str:
    return str(page.evaluate("document.getElementById('yaml').view.state.doc.toString()"))


def test_the_yaml_view_goes_both_ways_and_keeps_what_cannot_be_read(page: Page) -> None:
    page.goto(f"/blueprints/{NAME}/edit?tab=yaml")
    page.locator("mn-yaml[data-mounted]").wait_for()
    yaml = page.get_by_test_id("yaml")
    yaml.get_by_test_id("yaml-content").click()
    page.keyboard.press("Control+Home")
    page.keyboard.insert_text("# mine\n")
    expect(page.get_by_test_id("draft-status")).to_have_attribute("data-state", "saved")
    expect(yaml).to_have_attribute("data-idle", "true")
    assert draft(page)["source"].startswith("# mine\n")

    # Others' changes come in while something is being typed.
    page.keyboard.insert_text("oops: [")
    expect(page.get_by_test_id("yaml-said")).to_contain_text("What you typed is kept here")
    assert "oops" not in draft(page)["source"]
    somebody_else(
        page,
        {
            "kind": "set_contract",
            "path": ["contract", "goal"],
            "old": draft(page)["document"]["contract"]["goal"],
            "new": "Fewer lost hours.",
        },
    )
    expect(yaml.get_by_test_id("yaml-content")).to_contain_text("oops: [")
    until(lambda: "Fewer lost hours." in yaml_text(page), "somebody else's change in the text")
    assert "oops: [" in yaml_text(page)

    # What could not be saved is there again after leaving.
    page.reload()
    expect(yaml.get_by_test_id("yaml-content")).to_contain_text("oops: [")
    yaml.get_by_test_id("yaml-content").click()
    page.keyboard.press("Control+Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+End")
    page.keyboard.insert_text("# fine again\n")
    expect(page.get_by_test_id("yaml-said")).to_be_hidden()
    expect(yaml).to_have_attribute("data-idle", "true")
    assert "# fine again" in draft(page)["source"] and "Fewer lost hours." in draft(page)["source"]


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_accessible_and_never_too_wide(tab: str, page: Page, shoot: Shoot) -> None:
    page.goto(f"/blueprints/{NAME}/edit?tab={tab}&node=search")
    if not tab:
        page.locator("mn-graph[data-mounted]").wait_for()
    if tab == "yaml":
        page.locator("mn-yaml[data-mounted]").wait_for()
    page.evaluate(
        "[...document.querySelectorAll('details.entry')].slice(0, 3).forEach((e) => (e.open = true))"
    )
    shoot(page, f"editor-{tab or 'graph'}")
    for scheme, width in (("light", 1440), ("dark", 390)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 860})
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, f"{tab} is {over} px too wide at {width}"
        found = Axe().run(page).response["violations"]
        serious = [
            f"{v['id']}: {[n['target'] for n in v['nodes']][:4]}"
            for v in found
            if v["impact"] in ("serious", "critical")
        ]
        assert not serious, f"{tab}, {scheme}, {width}: {serious}"


def test_without_scripts_the_editor_is_readable_and_the_text_can_be_saved(
    installed: str, session: BrowserContext, product: Product
) -> None:
    browser = session.browser
    assert browser is not None
    bare = browser.new_context(
        base_url=product.base, java_script_enabled=False, storage_state=session.storage_state()
    )
    page = bare.new_page()
    page.goto(f"/blueprints/{NAME}/edit?node=search")
    expect(page.locator("#inspector")).to_contain_text("Query")
    expect(page.locator("mn-graph svg")).to_be_visible()
    expect(page.get_by_role("heading", name="Outline")).to_be_visible()
    expect(page.get_by_role("heading", name="Add a step")).to_have_count(0)
    expect(page.locator("#key-line")).not_to_be_visible()
    page.goto(f"/blueprints/{NAME}/edit?tab=yaml")
    area = page.get_by_label("The blueprint as YAML")
    area.fill("# without scripts\n" + area.input_value())
    page.get_by_role("button", name="Save").click()
    expect(area).to_have_value(re.compile("^# without scripts"))
    bare.close()
