"""Somebody else was faster: the canvas says both values and lets the person choose, also after a reload."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.journeys.conftest import Product, Watched

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]
SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: disputed, title: Disputed}
card: {purpose: Tests, must_never: [lose], business_owner: A, technical_owner: A, model_steward: A}
contract: {goal: Lose nothing.}
graph:
  nodes:
    - {id: ask, kind: transform, title: Ask, output: 1}
    - {id: tell, kind: transform, title: Tell, output: 2}
  edges:
    - {from: ask, to: tell}
"""
TITLE = """async ([old, wanted, id]) => {
  const url = '/api/v1/blueprints/disputed/draft';
  const version = (await (await fetch(url)).json()).version;
  const headers = {'Content-Type': 'application/json', 'If-Match': `"${version}"`,
    'X-CSRFToken': document.querySelector('meta[name=csrf-token]').content};
  const ops = [{op_id: id, kind: 'set_config', node: 'ask', path: ['title'], old, new: wanted}];
  return (await fetch(url + '/ops', {method: 'POST', headers, body: JSON.stringify({ops})})).status;
}"""


def title(page: Page) -> str:
    asked = "async () => (await (await fetch('/api/v1/blueprints/disputed/draft')).json()).document"
    return str(page.evaluate(asked)["graph"]["nodes"][0]["title"])


def ready(page: Page) -> None:
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")


def call_it(page: Page, words: str) -> None:
    page.get_by_test_id("node-ask").focus()
    page.keyboard.press("r")
    page.get_by_role("dialog").get_by_label("Title").fill(words)
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("node-ask")).to_contain_text(words)


def test_the_person_chooses_between_both_values(
    watched: Watched,
    session: BrowserContext,
    product: Product,
    tmp_path: Path,
    shoot: Callable[[Page, str], None],
) -> None:
    file = tmp_path / "disputed.yaml"
    file.write_text(SOURCE)
    product.mn("blueprint", "import", str(file))
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 860})
    page.emulate_media(reduced_motion="reduce")
    other = session.new_page()
    other.goto("/blueprints/disputed/edit")
    page.goto("/blueprints/disputed/edit")
    ready(page)

    # Both at once: this page's change cannot leave before the other's is there.
    page.route("**/draft/ops*", lambda route: route.abort())
    call_it(page, "Mine")
    assert other.evaluate(TITLE, ["Ask", "Theirs", str(uuid4())]) == 200
    page.unroute("**/draft/ops*")
    box = page.get_by_test_id("unsettled")
    expect(box).to_contain_text(re.compile("^(?!Somebody).+ changed the title of “Ask”"))
    expect(box).to_contain_text("changed the title of “Ask” to “Theirs”. Keep yours, “Mine”?")
    expect(page.get_by_test_id("node-ask")).to_contain_text("Theirs")
    shoot(page, "conflict")

    # It waits over a reload, and is reached and answered by keyboard.
    page.reload()
    ready(page)
    expect(box).to_contain_text("Keep yours, “Mine”?")
    page.get_by_role("button", name="All keys").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Keep mine")).to_be_focused()
    page.keyboard.press("Enter")
    expect(box).to_be_hidden()
    expect(page.get_by_test_id("node-ask")).to_contain_text("Mine")
    ready(page)
    assert title(page) == "Mine"

    # Theirs is taken by doing nothing else.
    page.route("**/draft/ops*", lambda route: route.abort())
    call_it(page, "Mine again")
    assert other.evaluate(TITLE, ["Mine", "Theirs again", str(uuid4())]) == 200
    page.unroute("**/draft/ops*")
    page.get_by_role("button", name="Take theirs").click()
    expect(box).to_be_hidden()
    expect(page.get_by_test_id("node-ask")).to_contain_text("Theirs again")
    assert title(page) == "Theirs again"
    other.close()
    watched.assert_quiet("409", "ERR_FAILED")
