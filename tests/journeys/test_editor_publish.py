"""From a draft to a version in a browser: test a step on captured data, compare, publish what was seen."""

from __future__ import annotations

import re
from uuid import uuid4

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import Product, Shoot, Watched
from tests.journeys.steps import run_from_gallery, wait_status

pytestmark = [pytest.mark.browser]
NAME = "invoice_reconciliation"
STEP = "exceptions"


def change(page: Page, node: str, path: list[str], old: object, new: object) -> None:
    """Somebody changes a field of the draft, as the editor does it."""
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
          return answer.status;
        }""",
        [
            NAME,
            {"op_id": str(uuid4()), "kind": "set_config", "node": node, "path": path, "old": old, "new": new},
        ],
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
    page.locator('[data-action="choose-test"]').click()
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
