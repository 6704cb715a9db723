"""Steps copied as text are pasted into another blueprint, and another installation, by the real clipboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.journeys.conftest import Product, Shoot, Watched, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]
HEAD = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {{name: {name}, title: {name}}}
card: {{purpose: Tests, must_never: [lose], business_owner: A, technical_owner: A, model_steward: A}}
contract: {{goal: Paste}}
"""
FROM = (
    HEAD.format(name="source")
    + """\
models:
  cheap: {use: "offline:extractive"}
agents:
  writer: {model: cheap, instructions: Write.}
graph:
  nodes:
    - {id: find, kind: transform, output: "found"}
    # Says it in words.
    - {id: write, kind: agent, agent: writer, prompt: "About {{ steps.find.output }}"}
    - {id: tell, kind: transform, output: "{{ steps.write.output }}"}
  edges:
    - {from: find, to: write}
    - {from: write, to: tell}
"""
)
INTO = (
    HEAD.format(name="target")
    + """\
graph:
  nodes:
    - {id: tell, kind: transform, output: 1}
"""
)


def opened(page: Page, name: str) -> None:
    page.goto(f"/blueprints/{name}/edit")
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")


def draft(page: Page, name: str) -> dict[str, Any]:
    asked = "async name => (await (await fetch(`/api/v1/blueprints/${name}/draft`)).json())"
    found: dict[str, Any] = page.evaluate(asked, name)
    return found


def copy(page: Page, *paths: str) -> None:
    opened(page, "source")
    page.get_by_test_id(f"node-{paths[0]}").focus()
    for path in paths:
        page.get_by_test_id(f"node-{path}").focus()
        page.keyboard.press("Space")
    page.keyboard.press("ControlOrMeta+C")
    expect(page.get_by_test_id("graph-voice")).to_have_text(f"Copied {len(paths)} steps as YAML.")


def paste(page: Page) -> None:
    """Pasted in one piece, with a word on what is not here; one undo takes all of it back."""
    opened(page, "target")
    before = draft(page, "target")["source"]
    page.get_by_test_id("node-tell").focus()
    page.keyboard.press("ControlOrMeta+V")
    toast = page.get_by_test_id("graph-toast")
    expect(toast).to_contain_text("Pasted 2 steps.")
    expect(toast).to_contain_text("writer")
    found = draft(page, "target")
    graph = found["document"]["graph"]
    assert [n["id"] for n in graph["nodes"]] == ["tell", "write", "tell_2"]
    assert [(e["from"], e["to"]) for e in graph["edges"]] == [("write", "tell_2")]
    assert graph["nodes"][2]["output"] == "{{ steps.write.output }}"
    messages = " ".join(problem["message"] for problem in found["problems"])
    assert "writer" in messages and "find" in messages
    page.keyboard.press("ControlOrMeta+Z")
    expect(page.get_by_test_id("node-write")).to_have_count(0)
    expect(page.locator("mn-graph")).to_have_attribute("data-idle", "true")
    assert draft(page, "target")["source"] == before


def test_steps_go_from_one_blueprint_and_one_installation_to_another(
    browser: Browser, product: Product, fresh_product: Product, tmp_path: Path, shoot: Shoot
) -> None:
    for where, name, text in (
        (product, "source", FROM), (product, "target", INTO), (fresh_product, "target", INTO),
    ):  # fmt: skip
        file = tmp_path / f"{name}.yaml"
        file.write_text(text)
        where.mn("blueprint", "import", str(file))
    contexts = []
    watched = []
    for where in (product, fresh_product):
        context = browser.new_context(base_url=where.base, reduced_motion="reduce")
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=where.base)
        page = Watched(context.new_page())
        sign_in(page.page, where)
        contexts.append(context)
        watched.append(page)
    here, there = (one.page for one in watched)

    copy(here, "write", "tell")
    paste(here)
    paste(there)

    # What cannot be read is not pasted at all, and said until it is acknowledged.
    before = draft(there, "target")
    there.get_by_test_id("node-tell").focus()
    there.evaluate("navigator.clipboard.writeText('nodes: [{id: a, kind: transform}, 1]')")
    there.keyboard.press("ControlOrMeta+V")
    box = there.get_by_test_id("unsettled")
    expect(box).to_contain_text("Nothing was pasted.")
    assert draft(there, "target")["version"] == before["version"]
    shoot(there, "pasted")
    box.get_by_role("button", name="All right").click()
    expect(box).to_be_hidden()
    watched[0].assert_quiet()
    watched[1].assert_quiet("409")
    for context in contexts:
        context.close()
