"""Steps inside a map are put where somebody wants them; the map is drawn around them, undo leads back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.journeys.conftest import Product, Watched

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]
SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: holds, title: Holds}
card: {purpose: Tests, must_never: [jump], business_owner: A, technical_owner: A, model_steward: A}
contract: {goal: Stand where they were put.}
graph:
  nodes:
    - {id: begin, kind: transform, output: 1}
    - id: each
      kind: map
      items: "{{ [1, 2, 3] }}"
      body:
        nodes:
          - {id: one, kind: transform, output: "{{ item }}"}
          - {id: two, kind: transform, output: "{{ steps.one.output }}"}
        edges:
          - {from: one, to: two}
    - {id: end, kind: transform, output: 2}
  edges:
    - {from: begin, to: each}
    - {from: each, to: end}
"""


def boxes(page: Page) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = page.evaluate(
        "() => Object.fromEntries(Object.entries(document.querySelector('mn-graph').store.server.nodes)"
        ".map(([path, {x, y, w, h}]) => [path, {x, y, w, h}]))"
    )
    return found


def settled(page: Page, version: int) -> dict[str, dict[str, float]]:
    expect(page.locator("mn-graph")).to_have_attribute("data-version", str(version))
    expect(page.locator("mn-graph")).to_have_attribute("data-idle", "true")
    return boxes(page)


def drag(page: Page, path: str, dx: float, dy: float) -> None:
    """By so many px of the plane."""
    box: Any = page.get_by_test_id(f"node-{path}").bounding_box()
    zoom = box["width"] / boxes(page)[path]["w"]
    dx, dy = dx * zoom, dy * zoom
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx / 2, y + dy / 2, steps=4)
    page.mouse.move(x + dx, y + dy, steps=4)
    page.mouse.up()


def test_steps_in_a_map_are_put_anywhere_and_the_map_goes_with_them(
    watched: Watched, product: Product, tmp_path: Path, shoot: Callable[[Page, str], None]
) -> None:
    file = tmp_path / "holds.yaml"
    file.write_text(SOURCE)
    product.mn("blueprint", "import", str(file))
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(reduced_motion="reduce")
    page.goto("/blueprints/holds/edit")
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    start = boxes(page)

    # By mouse, down and to the right: the map grows, what was there stays.
    drag(page, "each/two", 60, 90)
    now = settled(page, 1)
    assert abs(now["each/two"]["x"] - start["each/two"]["x"] - 60) < 15
    assert abs(now["each/two"]["y"] - start["each/two"]["y"] - 90) < 15
    assert abs(now["each/one"]["y"] - start["each/one"]["y"]) <= 1
    assert now["each"]["h"] > start["each"]["h"] + 60
    assert abs(now["each"]["y"] - start["each"]["y"]) <= 1
    assert now["end"]["x"] >= now["each"]["x"] + now["each"]["w"]
    shown: Any = page.get_by_test_id("node-each").bounding_box()
    inner: Any = page.get_by_test_id("node-each/two").bounding_box()
    assert inner["y"] + inner["height"] < shown["y"] + shown["height"]

    # By keyboard, up past the first step: the map begins higher.
    page.get_by_test_id("node-each/two").focus()
    for _ in range(3):
        page.keyboard.press("Alt+Shift+ArrowUp")
    expect(page.get_by_test_id("graph-voice")).to_have_text("Moved Two.")
    expect(page.locator("mn-graph")).to_have_attribute("data-idle", "true")
    higher = boxes(page)
    assert higher["each/two"]["y"] == now["each/two"]["y"] - 180
    assert abs(higher["each/one"]["y"] - now["each/one"]["y"]) <= 1
    assert higher["each"]["y"] < start["each"]["y"]
    shoot(page, "containers")

    # Tidy of the rest leaves it; tidy of all does not; undo leads back to the first byte.
    page.get_by_test_id("node-each/two").focus()
    page.keyboard.press("Shift+T")
    expect(page.get_by_test_id("graph-voice")).to_have_text("Tidied; what was put by hand stayed.")
    kept = boxes(page)
    assert kept["each/two"]["y"] - kept["each/one"]["y"] == higher["each/two"]["y"] - higher["each/one"]["y"]
    page.keyboard.press("t")
    expect(page.get_by_test_id("graph-voice")).to_have_text("Tidied.")
    assert boxes(page)["each/two"]["y"] == boxes(page)["each/one"]["y"]
    for _ in range(8):
        page.keyboard.press("ControlOrMeta+Z")
        expect(page.locator("mn-graph")).to_have_attribute("data-idle", "true")
    asked = "async () => (await (await fetch('/api/v1/blueprints/holds/draft')).json()).source"
    assert page.evaluate(asked) == SOURCE
    assert boxes(page) == start
    watched.assert_quiet("409")
