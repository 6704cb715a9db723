"""From a draft to a version in a browser: test a step on captured data, compare, publish what was seen."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.faults.harness import until
from tests.journeys.conftest import Product, Shoot, Watched
from tests.journeys.steps import SAMPLE, run_from_gallery, wait_status

pytestmark = [pytest.mark.browser]
NAME = "invoice_reconciliation"
STEP = "exceptions"


def change(page: Page, node: str, path: list[str], old: object, new: object) -> None:
    """Somebody changes a field of the draft, as the editor does it."""
    operate(page, {"kind": "set_config", "node": node, "path": path, "old": old, "new": new})


def operate(page: Page, op: dict[str, object], query: str = "") -> None:
    """Somebody does something to the draft, or with "?private=true" to their own."""
    done = page.evaluate(
        """async ([name, op, query]) => {
          const draft = await (await fetch(`/api/v1/blueprints/${name}/draft${query}`)).json();
          const token = document.querySelector('meta[name=csrf-token]').content;
          const answer = await fetch(`/api/v1/blueprints/${name}/draft/ops${query}`, {
            method: 'POST',
            headers: {
              'Content-Type': 'application/json', 'X-CSRFToken': token, 'If-Match': `"${draft.version}"`,
            },
            body: JSON.stringify({ops: [op]}),
          });
          return answer.status;
        }""",
        [NAME, {"op_id": str(uuid4()), **op}, query],
    )
    assert done == 200


def assert_accessible(page: Page, name: str) -> None:
    """In both colour modes and widths: nothing too wide, nothing serious for axe."""
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 860})
            over = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert over <= 0, f"{name} is {over} px too wide at {width} px"
            found = Axe().run(page).response["violations"]
            serious = [
                f"{v['id']}: {[n['target'] for n in v['nodes']][:5]}"
                for v in found
                if v["impact"] in ("serious", "critical")
            ]
            assert not serious, f"{name}, {scheme}, {width} px: {serious}"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1440, "height": 860})


def test_a_step_is_changed_tested_alone_compared_and_published(
    product: Product, watched: Watched, shoot: Shoot
) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 860})
    run_from_gallery(page, NAME)
    wait_status(page, "waiting")

    # One step alone, on what the run above made.
    page.goto(f"/blueprints/{NAME}/edit?node={STEP}")
    page.get_by_test_id("test-step").locator("summary").click()
    page.locator('[data-action="run-alone"]').click()
    expect(page.get_by_test_id("trial-problem")).to_contain_text("needs what match made")
    page.get_by_label("Data for the steps before it").select_option(index=1)
    # Chosen is chosen: nothing else is started by the button below.
    expect(page.get_by_test_id("trial-label")).to_have_text(f"draft 0, {STEP} alone")
    page.locator('[data-action="run-test"]').click()
    result = page.get_by_test_id("trial-result")
    expect(result).to_have_attribute("data-state", "succeeded", timeout=30_000)
    row = result.locator(f'tr[data-node-id="{STEP}"]')
    expect(row).to_have_attribute("data-state", "succeeded")
    row.locator('[data-action="pin"]').click()
    expect(page.get_by_test_id("pins").locator(f'[data-node-id="{STEP}"]')).to_be_visible()

    # An edit makes the result stale, here and on the canvas.
    change(page, STEP, ["title"], "List what does not fit", "List what is left over")
    page.reload()
    expect(row).to_have_attribute("data-stale", "true")
    shoot(page, "test")
    assert_accessible(page, "test")
    page.goto(f"/blueprints/{NAME}/edit")
    expect(page.get_by_test_id("test-status")).to_contain_text(f"{STEP} alone")
    card = page.get_by_test_id(f"node-{STEP}")
    expect(card).to_have_attribute("data-state", "succeeded")
    expect(card).to_have_attribute("aria-label", re.compile("pinned.*changed since its test"))

    # The comparison says it, and what is published is what was looked at.
    page.locator('[data-action="compare"]').click()
    changed = page.get_by_test_id("changes-steps").locator(f'[data-node-id="{STEP}"]')
    expect(changed).to_contain_text("List what is left over")
    expect(page.get_by_test_id("difference-picture").locator('[data-diff="changed"]')).to_have_count(1)
    shoot(page, "compare")
    assert_accessible(page, "compare")
    page.goto(f"/blueprints/{NAME}/publish")
    shoot(page, "publish")
    assert_accessible(page, "publish")
    page.get_by_label("What is new").fill("A plainer title.")
    change(page, STEP, ["title"], "List what is left over", "List all that is left over")
    page.locator('button[data-action="publish"]').click()
    expect(page.get_by_test_id("draft-moved")).to_contain_text(f"changed title of {STEP}")
    expect(page.get_by_label("What is new")).to_have_value("A plainer title.")
    page.locator('button[data-action="publish"]').click()
    page.wait_for_url(f"**/blueprints/{NAME}")
    page.goto(f"/blueprints/{NAME}/versions")
    expect(page.get_by_test_id("versions").locator('tr[data-version="2"]')).to_contain_text(
        "A plainer title."
    )
    assert_accessible(page, "versions")
    assert "pinned" not in product.mn("blueprint", "export", NAME).get("source", "")
    watched.assert_quiet(r"409", r"422")


def test_what_was_typed_for_a_test_stays_when_another_test_is_chosen(
    watched: Watched, tmp_path: Path
) -> None:
    page = watched.page
    run_from_gallery(page, SAMPLE)
    page.goto(f"/blueprints/{SAMPLE}/test")
    notes = tmp_path / "notes.md"
    notes.write_text("Quillfeather Logistics has an outer yard.")
    page.get_by_label("Company").fill("Quillfeather Logistics")
    page.locator('input[type=file][id$="documents"]').set_input_files(notes)
    page.get_by_label("Up to a step").check()
    expect(page.get_by_test_id("trial-problem")).to_be_visible()
    page.get_by_test_id("trial-choice").get_by_label("Step", exact=True).select_option(index=1)
    expect(page.get_by_test_id("trial-label")).to_contain_text("up to")
    expect(page.get_by_label("Company")).to_have_value("Quillfeather Logistics")
    chosen = page.locator('input[type=file][id$="documents"]').evaluate("input => input.files[0]?.name")
    assert chosen == "notes.md"
    watched.assert_quiet(r"422")


def test_a_colleague_asks_for_changes_at_a_step_and_then_approves(
    product: Product, watched: Watched, browser: Browser, shoot: Shoot
) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 860})
    page.goto(f"/blueprints/{NAME}/edit")
    change(page, STEP, ["notes"], None, "Only what an accountant has to look at.")
    link = product.mn("user", "add", "erin@example.com", "--name", "Erin", "--role", "editor")["sign_in"]
    page.goto(f"/blueprints/{NAME}/publish")
    page.get_by_label("Erin").check()
    page.get_by_label("What to look at").fill("Is the note clear?")
    page.locator('[data-action="ask-review"]').click()
    expect(page.get_by_test_id("answers")).to_contain_text("No answer yet")
    review = page.url

    context = browser.new_context(base_url=product.base)
    context.set_default_timeout(15_000)
    erin = Watched(context.new_page())
    erin.page.goto(f"/sign-in/{link.rpartition('/')[2]}")
    erin.page.get_by_test_id("rail-inbox").wait_for()
    erin.page.goto("/blueprints")
    erin.page.get_by_test_id("reviews-waiting").get_by_role("link").click()
    erin.page.get_by_test_id("changes-steps").get_by_role("link", name="Comment on it").click()
    expect(erin.page.get_by_label("About")).to_have_value(STEP)
    erin.page.get_by_test_id("comment-form").get_by_role("textbox").fill("Say which amounts.")
    erin.page.locator('[data-action="comment"]').click()
    expect(erin.page.get_by_test_id("comments")).to_have_attribute("data-node-id", STEP)
    shoot(erin.page, "review")
    assert_accessible(erin.page, "review")
    erin.page.locator('[data-action="request-changes"]').click()

    # The comment stands at its step, in the draft's picture and outline and in the comparison's.
    page.goto(f"/blueprints/{NAME}/edit")
    page.wait_for_selector("mn-graph[data-mounted]")
    mark = page.get_by_test_id(f"comments-{STEP}")
    expect(mark).to_have_text("1")
    expect(page.get_by_test_id(f"node-{STEP}")).to_have_accessible_name(re.compile("1 comment"))
    expect(page.get_by_test_id(f"outline-{STEP}").get_by_test_id("outline-comments")).to_have_text(
        "1 comment"
    )
    shoot(page, "comments")
    assert_accessible(page, "comments")
    # It stays with the step under another name, on the canvas that is open too, and undo brings both back.
    page.set_viewport_size({"width": 1440, "height": 860})
    operate(page, {"kind": "rename", "node": STEP, "to": "odd_ones"})
    expect(page.get_by_test_id("comments-odd_ones")).to_have_text("1")
    expect(page.get_by_test_id("outline-odd_ones").get_by_test_id("outline-comments")).to_be_visible()
    page.locator('[data-action="undo"]').click()
    expect(mark).to_have_text("1")
    page.goto(f"/blueprints/{NAME}/compare?canvas=1")
    page.wait_for_selector("mn-graph[data-mounted]")
    expect(mark).to_be_visible()
    shoot(page, "comments-compared")
    page.get_by_test_id(f"node-{STEP}").focus()
    page.keyboard.press("m")
    page.wait_for_url(f"{review}#on-{STEP}")

    page.goto(f"/blueprints/{NAME}/publish")
    expect(page.get_by_test_id("review-warning")).to_contain_text("A reviewer asked for changes.")
    page.locator('button[data-action="publish"]').click()
    expect(page.get_by_role("alert")).to_contain_text("Tick the box if you mean it.")
    expect(erin.page.get_by_test_id("answers")).to_contain_text("Wants changes")
    erin.page.locator('[data-action="approve"]').click()
    expect(erin.page.get_by_test_id("answers")).to_contain_text("Approved")
    page.goto(f"/blueprints/{NAME}/publish")
    page.locator('button[data-action="publish"]').click()
    page.wait_for_url(f"**/blueprints/{NAME}")
    page.goto(review)
    expect(page.locator("h1 + .pill")).to_have_attribute("data-state", "published")
    erin.assert_quiet()
    watched.assert_quiet(r"409")
    context.close()


def test_a_draft_of_ones_own_is_tested_and_watched_on_its_canvas(watched: Watched, shoot: Shoot) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 860})
    page.goto(f"/blueprints/{NAME}/edit?private=1&node={STEP}")
    page.get_by_test_id("test-step").locator("summary").click()
    page.locator('[data-action="run-up-to-here"]').click()
    expect(page.get_by_test_id("trial-label")).to_have_text(f"own draft 0, up to {STEP}")
    shoot(page, "test-own")
    assert_accessible(page, "test-own")
    page.locator('[data-action="run-test-on-canvas"]').click()
    page.wait_for_url(re.compile(r"/edit\?private=1&test="))
    card = page.get_by_test_id(f"node-{STEP}")
    expect(card).to_have_attribute("data-state", "succeeded", timeout=30_000)
    expect(page.get_by_test_id("test-status")).to_contain_text("own draft 0")
    page.goto(f"/blueprints/{NAME}/edit")
    expect(page.get_by_test_id("test-status")).not_to_contain_text("own draft")
    watched.assert_quiet()


def test_a_test_is_followed_by_its_socket_and_an_earlier_one_can_be_shown(
    watched: Watched, shoot: Shoot
) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 860})
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/test/overlay" in r.url else None)

    def start(query: str) -> str:
        page.goto(f"/blueprints/{NAME}/test?{query}")
        page.locator('[data-action="run-test-on-canvas"]').click()
        page.wait_for_url(re.compile(r"/edit\?test="))
        return page.url.partition("test=")[2].partition("#")[0]

    first = start(f"kind=upto&node={STEP}")
    card = page.get_by_test_id(f"node-{STEP}")
    expect(card).to_have_attribute("data-state", "succeeded", timeout=30_000)
    # The whole waits for a person: it goes on running, and is heard of instead of asked for.
    second = start("kind=whole")
    waits = page.locator('[data-testid^="node-"][data-state="waiting"]')
    expect(waits).to_have_count(1, timeout=30_000)
    heard_of = f"/ws/runs/{second}?format=json"
    # Asking the page something lets what it told meanwhile in.
    until(lambda: page.evaluate("true") and any(heard_of in url for url in sockets), heard_of)

    choice = page.get_by_test_id("test-choice")
    expect(choice).to_have_value(second)
    shoot(page, "test-choice")
    assert_accessible(page, "test-choice")
    page.set_viewport_size({"width": 1440, "height": 860})
    choice.select_option(first)
    expect(waits).to_have_count(0)
    expect(card).to_have_attribute("data-state", "succeeded")
    assert f"test={first}" in page.url
    choice.select_option("none")
    expect(page.locator('[data-testid^="node-"][data-state]')).to_have_count(0)
    page.reload()
    expect(choice).to_have_value("none")
    choice.select_option("")
    expect(waits).to_have_count(1)

    # One that begins elsewhere is told to whoever looks at the latest.
    elsewhere = page.context.new_page()
    elsewhere.goto(f"/blueprints/{NAME}/test?kind=upto&node={STEP}")
    elsewhere.locator('[data-action="run-test"]').click()
    expect(page.get_by_test_id("test-status")).to_contain_text(f"up to {STEP}")
    expect(card).to_have_attribute("data-state", "succeeded", timeout=30_000)
    elsewhere.close()

    # Without its socket the page asks.
    page.route_web_socket(re.compile("/ws/runs/"), lambda socket: socket.close(code=1011))
    page.goto(f"/blueprints/{NAME}/edit?test={second}")
    expect(waits).to_have_count(1)
    before = len(asked)
    until(lambda: page.evaluate("true") and len(asked) >= before + 3, "the page to ask for the test", 20)
    watched.assert_quiet("WebSocket")


def test_a_draft_of_ones_own_is_compared_itself_and_merged_before_it_is_published(
    watched: Watched, shoot: Shoot
) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 860})
    page.goto(f"/blueprints/{NAME}/edit?private=1")
    path = ["contract", "goal"]
    page.wait_for_selector("mn-graph[data-mounted]")
    old = page.evaluate(
        "async (at) => (await (await fetch(at)).json()).document.contract.goal",
        f"/api/v1/blueprints/{NAME}/draft?private=true",
    )
    operate(
        page,
        {"kind": "set_contract", "path": path, "old": old, "new": f"{old} Nothing else."},
        "?private=true",
    )
    expect(page.get_by_test_id("draft-status")).to_contain_text("private")
    page.locator('[data-testid=editor-head] [data-action="compare"]').click()
    expect(page.get_by_test_id("changes-contract")).to_contain_text("Nothing else")
    shoot(page, "compare-own")
    assert_accessible(page, "compare-own")
    page.locator('[data-action="compare-shared"]').click()
    expect(page.get_by_test_id("compares-private")).to_contain_text("beside the shared one")
    expect(page.get_by_test_id("changes-contract")).to_contain_text("Nothing else")
    shoot(page, "compare-own-shared")

    page.goto(f"/blueprints/{NAME}/edit?private=1")
    page.locator('[data-testid=editor-head] [data-action="publish"]').click()
    expect(page.get_by_test_id("not-published")).to_contain_text("Yours is private.")
    expect(page.get_by_test_id("changes-contract")).to_contain_text("Nothing else")
    shoot(page, "publish-own")
    assert_accessible(page, "publish-own")
    page.locator('[data-action="merge"]').click()
    page.wait_for_url(f"**/blueprints/{NAME}/publish")
    expect(page.get_by_test_id("changes-contract")).to_contain_text("Nothing else")
    page.locator('button[data-action="publish"]').click()
    page.wait_for_url(f"**/blueprints/{NAME}")
    watched.assert_quiet()
