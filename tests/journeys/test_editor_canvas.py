"""The canvas in a real browser: everything by keyboard, and what only a mouse does by mouse.

The first part talks to a draft in memory, so that offline, refusals and what others do can be staged; the
last part talks to the real server and asserts what the draft has become there.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.journeys.canvas_page import CanvasPage, node, view_of
from tests.journeys.conftest import Product, Watched
from tests.journeys.drawing import begin, choose, fill_first_step_and_card, try_and_publish
from tests.journeys.steps import run_from_gallery, wait_status

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    made = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    page = context.new_page()
    watched = Watched(page)
    yield page
    watched.assert_quiet("ERR_FAILED", "status of 409", "status of 503")
    page.close()


def small() -> dict[str, Any]:
    """read → judge → good, judge → bad, and a step nothing may lead to."""
    nodes = [node("read", 0, 100), node("judge", 260, 100), node("good", 520, 20), node("bad", 520, 180)]
    edges = [("read", "judge"), ("judge", "good"), ("judge", "bad")]
    return view_of([*nodes, node("closed", 520, 340)], edges)


@pytest.fixture
def canvas(page: Page) -> CanvasPage:
    return CanvasPage(page, small()).open()


def enter(canvas: CanvasPage) -> None:
    """By keyboard from the top of the page into the picture."""
    canvas.page.keyboard.press("Tab")
    expect(canvas.step("read")).to_be_focused()


def pick(canvas: CanvasPage, words: str, title: str = "") -> None:
    """Type into the dialog of that title and take the first that fits."""
    canvas.page.get_by_role("dialog", name=title).wait_for()
    canvas.page.keyboard.type(words)
    expect(canvas.page.locator("[role=option][aria-selected=true]")).to_contain_text(
        re.compile(words, re.IGNORECASE)
    )
    canvas.page.keyboard.press("Enter")


def voice(canvas: CanvasPage) -> Any:
    return canvas.page.get_by_test_id("graph-voice")


# --- by keyboard ------------------------------------------------------------------------------------------


def test_the_picture_is_one_stop_and_arrows_follow_the_edges(canvas: CanvasPage) -> None:
    enter(canvas)
    keys = canvas.page.keyboard
    for key, where in (
        ("ArrowRight", "judge"),
        ("ArrowRight", "good"),
        ("ArrowDown", "bad"),
        ("ArrowLeft", "judge"),
        ("End", "closed"),
        ("Home", "read"),
    ):
        keys.press(key)
        expect(canvas.step(where)).to_be_focused()
    keys.press("Tab")
    assert canvas.page.evaluate("!document.activeElement.closest('.mn-step')")


def test_a_step_tells_what_it_is(canvas: CanvasPage) -> None:
    expect(canvas.step("judge")).to_have_accessible_name("Judge, tool · send_email, touches nothing outside")


def test_connect_offers_what_fits_and_says_why_the_rest_does_not(canvas: CanvasPage) -> None:
    enter(canvas)
    keys = canvas.page.keyboard
    keys.press("c")
    pick(canvas, "failed", "Which way out of Read?")
    canvas.page.get_by_role("dialog", name="Connect Read to").wait_for()
    keys.type("closed")
    expect(canvas.page.locator("[role=option]")).to_have_attribute("aria-disabled", "true")
    keys.press("Enter")
    expect(canvas.page.locator(".pick-note")).to_have_text("Nothing may lead to a closed step.")
    assert canvas.sent == []
    keys.press("ControlOrMeta+A")
    pick(canvas, "bad")
    expect(canvas.page.get_by_test_id("edge-read-bad")).to_be_attached()
    canvas.wait_idle()
    assert [(o["kind"], o["edge"]) for o in canvas.operations()] == [
        ("add_edge", {"from": "read", "to": "bad"})
    ]
    expect(canvas.step("read")).to_be_focused()


def test_add_after_puts_a_step_behind_and_goes_there(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("End")
    canvas.page.keyboard.press("a")
    pick(canvas, "done", "After which way out of Closed?")
    pick(canvas, "person", "Add after Closed")
    expect(canvas.step("ask_a_person")).to_be_focused()
    (added,) = canvas.operations()
    assert added["node"] == {"id": "ask_a_person", "kind": "approval", "title": "Ask a person"}
    assert added["edge"] == {"from": "closed", "to": "ask_a_person"}
    expect(voice(canvas)).to_have_text("Added Ask a person after Closed.")


def test_insert_puts_a_step_on_an_edge(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("i")
    pick(canvas, "wait")
    expect(canvas.step("wait")).to_be_focused()
    assert canvas.operations()[0]["split"] == {"from": "read", "to": "judge"}


def test_moves_are_sent_in_whole_pixels_and_lines_follow(canvas: CanvasPage) -> None:
    enter(canvas)
    before = canvas.page.get_by_test_id("edge-read-judge").locator(".mn-edge").get_attribute("d")
    canvas.page.keyboard.press("Alt+ArrowDown")
    canvas.page.keyboard.press("Alt+Shift+ArrowRight")
    canvas.wait_idle()
    assert canvas.view["nodes"]["read"]["x"] == 60 and canvas.view["nodes"]["read"]["y"] == 112
    assert canvas.page.get_by_test_id("edge-read-judge").locator(".mn-edge").get_attribute("d") != before
    expect(canvas.step("read")).to_be_focused()


def test_after_a_removal_the_keyboard_is_upstream(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("ArrowRight")
    canvas.page.keyboard.press("Delete")
    expect(canvas.step("judge")).to_have_count(0)
    expect(canvas.step("read")).to_be_focused()
    expect(voice(canvas)).to_have_text("Removed Judge and 3 edges.")
    canvas.page.keyboard.press("ControlOrMeta+A")
    canvas.page.keyboard.press("Delete")
    expect(canvas.page.get_by_test_id("graph-empty")).to_be_visible()
    assert canvas.page.evaluate("document.activeElement.classList.contains('mn-canvas-frame')")


def test_an_edge_is_chosen_and_removed(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("e")
    pick(canvas, "judge")
    line = canvas.page.get_by_test_id("edge-read-judge")
    expect(line).to_have_class(re.compile("mn-is-selected"))
    expect(canvas.step("read")).to_be_focused()
    canvas.page.keyboard.press("Delete")
    expect(line).to_have_count(0)
    assert canvas.operations()[0]["edge"] == {"from": "read", "to": "judge"}


def test_find_goes_to_a_step_by_a_few_letters(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("f")
    pick(canvas, "bad")
    expect(canvas.step("bad")).to_be_focused()
    expect(canvas.step("bad")).to_have_attribute("aria-pressed", "true")


def test_all_keys_are_listed(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("?")
    expect(canvas.page.get_by_test_id("ask")).to_contain_text("Connect to another step")
    canvas.page.keyboard.press("Escape")
    expect(canvas.step("read")).to_be_focused()


def test_copies_are_text_and_pasted_again(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.page.keyboard.press("ControlOrMeta+C")
    expect(voice(canvas)).to_have_text("Copied Read as YAML.")
    canvas.page.keyboard.press("ControlOrMeta+V")
    canvas.wait_idle()
    pasted = [o for o in canvas.operations() if o["kind"] == "paste"]
    assert [o["text"] for o in pasted] == ["nodes: [read]"]


def test_who_may_only_look_changes_nothing(page: Page) -> None:
    canvas = CanvasPage(page, small(), mode="read").open()
    enter(canvas)
    for key in ("Delete", "a", "c", "t", "Alt+ArrowDown", "ControlOrMeta+Z"):
        page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    expect(canvas.step("judge")).to_be_focused()
    assert canvas.sent == [] and page.locator("dialog").count() == 0


# --- the line to the server -------------------------------------------------------------------------------


def test_a_list_that_cannot_be_fetched_does_not_say_that_nothing_fits(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.offline = True
    canvas.page.keyboard.press("/")
    pick = canvas.page.get_by_test_id("pick")
    expect(pick.get_by_role("status")).to_contain_text("The server cannot be reached just now")
    canvas.offline = False
    canvas.page.keyboard.type("wait")
    expect(pick.get_by_role("option").first).to_contain_text("Wait")


def test_changes_made_offline_are_kept_over_a_reload_and_sent_once(canvas: CanvasPage) -> None:
    enter(canvas)
    canvas.offline = True
    canvas.page.keyboard.press("End")
    canvas.page.keyboard.press("Delete")
    expect(canvas.step("closed")).to_have_count(0)
    expect(canvas.graph).to_have_attribute("data-idle", "false")
    canvas.offline = False
    canvas.page.reload()
    expect(canvas.graph).to_have_attribute("data-idle", "true")
    expect(canvas.step("closed")).to_have_count(0)
    assert "closed" not in canvas.view["nodes"]
    assert len({o["op_id"] for o in canvas.operations()}) == len(canvas.operations()) == 1


def test_keys_go_on_after_a_step_was_added_offline(canvas: CanvasPage) -> None:
    enter(canvas)
    for _ in range(2):
        canvas.page.keyboard.press("/")
        canvas.page.keyboard.type("wait")
        expect(canvas.page.locator("[role=option][aria-selected=true]")).to_contain_text("Wait")
        canvas.offline = True
        canvas.page.keyboard.press("Enter")
        toast = canvas.page.get_by_test_id("graph-toast")
        expect(toast).to_have_text(
            "The server cannot be reached just now. The step is kept and added as soon as it can be."
        )
        expect(canvas.step("read")).to_be_focused()
        canvas.page.keyboard.press("ArrowRight")
        expect(canvas.step("judge")).to_be_focused()
        canvas.page.keyboard.press("ArrowLeft")
        canvas.offline = False
        canvas.hold = True  # The list can be asked for, but nothing can be stored.
    canvas.hold = False
    expect(canvas.graph).to_have_attribute("data-idle", "true")
    added = [o["node"]["id"] for o in canvas.operations()]
    assert added == ["wait", "wait_2"]
    expect(canvas.step("read")).to_be_focused()


def test_undo_offline_says_so_and_is_not_done_later(canvas: CanvasPage) -> None:
    undone: list[str] = []
    canvas.page.on("request", lambda r: undone.append(r.url) if r.url.endswith("/undo") else None)
    enter(canvas)
    canvas.offline = True
    canvas.page.keyboard.press("Alt+ArrowDown")
    expect(canvas.page.get_by_test_id("graph-voice")).to_have_text("Moved Read.")
    # The first try has to fail before anything is known to be offline.
    canvas.page.keyboard.press("Control+z")
    expect(canvas.page.get_by_test_id("graph-toast")).to_have_text(
        "The server cannot be reached just now. Nothing is lost."
    )
    canvas.offline = False
    expect(canvas.graph).to_have_attribute("data-idle", "true")
    assert [o["kind"] for o in canvas.operations()] == ["move_nodes"]
    assert undone == []


def test_what_a_full_disk_cannot_store_is_said_kept_and_sent_when_it_can(canvas: CanvasPage) -> None:
    enter(canvas)
    words = "The server's disk is full, so nothing can be stored."
    canvas.trouble = {"code": "storage_full", "detail": words}
    canvas.page.keyboard.press("End")
    canvas.page.keyboard.press("Delete")
    expect(canvas.page.get_by_test_id("graph-toast")).to_contain_text(words)
    expect(canvas.page.get_by_test_id("graph-toast")).to_contain_text("kept on this page")
    expect(canvas.graph).to_have_attribute("data-idle", "false")
    expect(canvas.step("closed")).to_have_count(0)
    assert canvas.sent == []
    canvas.trouble = None
    expect(canvas.graph).to_have_attribute("data-idle", "true")
    assert [o["kind"] for o in canvas.operations()] == ["remove_node"]


def test_what_others_changed_is_taken_and_the_refusal_said(canvas: CanvasPage) -> None:
    enter(canvas)
    renamed = {**canvas.view["nodes"]["bad"], "title": "Sorry"}
    canvas.refuse = {
        "code": "draft_conflict", "detail": "A colleague changed it.", "version": 2,
        "patch": {"from_version": 1, "to_version": 2, "nodes": {"bad": renamed}},
        "conflict": {"op_id": None, "message": "A colleague changed “Read”. Yours was not done."},
    }  # fmt: skip
    canvas.page.keyboard.press("Delete")
    expect(canvas.page.get_by_test_id("graph-toast")).to_have_text(
        "A colleague changed “Read”. Yours was not done."
    )
    expect(canvas.step("read")).to_be_visible()
    expect(canvas.step("bad")).to_contain_text("Sorry")


# --- by mouse ---------------------------------------------------------------------------------------------


def centre(locator: Any) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, steps=4)
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_a_dragged_step_stays_where_it_is_put(canvas: CanvasPage) -> None:
    x, y = centre(canvas.step("closed"))
    drag(canvas.page, (x, y), (x + 60, y + 40))
    canvas.wait_idle()
    (moved,) = canvas.operations()
    at = moved["positions"]["closed"]
    # The first few pixels only say that it is a drag.
    assert 565 <= at["x"] <= 580 and 365 <= at["y"] <= 380
    assert round(centre(canvas.step("closed"))[0] - x) == at["x"] - 520


def test_an_edge_is_drawn_from_a_port_and_refused_with_the_reason(canvas: CanvasPage) -> None:
    page = canvas.page
    canvas.step("read").hover()
    port = page.locator('.react-flow__node[data-id="read"] [data-port="failed"]')
    drag(page, centre(port), centre(canvas.step("closed")))
    expect(page.get_by_test_id("graph-toast")).to_have_text("Nothing may lead to a closed step.")
    assert canvas.sent == []
    canvas.step("read").hover()
    drag(page, centre(port), centre(canvas.step("good")))
    expect(page.get_by_test_id("edge-read-good")).to_be_attached()


def test_an_edge_taken_at_its_end_is_led_elsewhere(canvas: CanvasPage) -> None:
    line = canvas.page.get_by_test_id("edge-read-judge").locator(".mn-edge").bounding_box()
    canvas.page.mouse.click(line["x"] + line["width"] / 2 - 16, line["y"] + 1)
    end = canvas.page.locator(".react-flow__edgeupdater-target")
    drag(canvas.page, centre(end), centre(canvas.step("good")))
    expect(canvas.page.get_by_test_id("edge-read-good")).to_be_attached()
    canvas.wait_idle()
    assert [(o["kind"], o["edge"]) for o in canvas.operations()] == [
        ("remove_edge", {"from": "read", "to": "judge"}),
        ("add_edge", {"from": "read", "to": "good"}),
    ]


def test_an_edge_dropped_on_nothing_asks_what_to_add_there(canvas: CanvasPage) -> None:
    canvas.step("closed").hover()
    port = canvas.page.locator('.react-flow__node[data-id="closed"] [data-port="done"]')
    x, y = centre(canvas.step("closed"))
    drag(canvas.page, centre(port), (x + 250, y - 100))
    pick(canvas, "wait")
    canvas.wait_idle()
    added = canvas.operations()[0]
    assert added["edge"]["from"] == "closed" and added["position"]["x"] > 600


def test_a_marquee_selects_and_a_drag_of_the_paper_moves_the_picture(canvas: CanvasPage) -> None:
    page = canvas.page
    left, right = canvas.step("good").bounding_box(), canvas.step("bad").bounding_box()
    page.keyboard.down("Shift")
    drag(
        page,
        (left["x"] - 20, left["y"] - 20),
        (right["x"] + right["width"] + 20, right["y"] + right["height"] + 20),
    )
    page.keyboard.up("Shift")
    expect(page.locator("[aria-pressed=true]")).to_have_count(2)
    before = canvas.step("read").bounding_box()
    drag(page, (before["x"] + 20, before["y"] + 300), (before["x"] + 120, before["y"] + 340))
    after = canvas.step("read").bounding_box()
    assert round(after["x"] - before["x"]) == 100 and round(after["y"] - before["y"]) == 40
    assert canvas.sent == []


def test_a_step_focused_out_of_sight_is_shown_and_the_picture_stays_whole(canvas: CanvasPage) -> None:
    page = canvas.page
    box = canvas.step("read").bounding_box()
    for _ in range(2):
        drag(page, (box["x"] + 60, box["y"] + 420), (box["x"] + 60, box["y"] - 60))
    assert canvas.step("read").bounding_box()["y"] < 0
    # As the browser focuses what Tab leads to: it scrolls to it whatever holds the picture.
    canvas.step("read").evaluate("step => step.focus()")
    expect(canvas.step("read")).to_be_focused()
    expect(canvas.step("read")).to_be_in_viewport()
    moved = "one => one.scrollTop || one.scrollLeft"
    scrolled = f"() => [...document.querySelectorAll('mn-graph, mn-graph *')].some({moved})"
    assert not page.evaluate(scrolled)


# --- many steps -------------------------------------------------------------------------------------------


def test_the_keyboard_reaches_what_is_out_of_sight(page: Page) -> None:
    names = [f"step_{n}" for n in range(150)]
    view = view_of([node(name, n * 260, 0) for n, name in enumerate(names)], list(itertools.pairwise(names)))
    canvas = CanvasPage(page, view).open()
    page.keyboard.press("Tab")
    assert page.locator(".mn-step").count() < 150
    page.keyboard.press("End")
    expect(canvas.step("step_149")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    expect(canvas.step("step_148")).to_be_focused()
    page.keyboard.press("Home")
    expect(canvas.step("step_0")).to_be_focused()


# --- the real thing ---------------------------------------------------------------------------------------


def document_of(page: Page, name: str) -> dict[str, Any]:
    answer = page.request.get(f"/api/v1/blueprints/{name}/draft")
    assert answer.ok, answer.text()
    found: dict[str, Any] = answer.json()["document"]
    return found


def edges_of(page: Page, name: str) -> list[tuple[str, str]]:
    return [(e["from"], e["to"]) for e in document_of(page, name)["graph"].get("edges") or []]


def test_a_blueprint_is_drawn_undone_and_drawn_again_by_keyboard(
    product: Product, session: BrowserContext, watched: Watched
) -> None:
    page = watched.page
    page.emulate_media(reduced_motion="reduce")
    page.goto("/blueprints/new")
    page.fill("#title", "Answer mail")
    page.click("[data-action=create]")
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    name = re.search(r"/blueprints/([^/]+)/edit", page.url)[1]  # type: ignore[index]

    def choose(words: str, title: str) -> None:
        page.get_by_role("dialog", name=title).wait_for()
        page.keyboard.type(words)
        expect(page.locator("[role=option][aria-selected=true]")).to_contain_text(re.compile(words, re.I))
        page.keyboard.press("Enter")

    def settled(version: int) -> None:
        expect(page.locator("mn-graph")).to_have_attribute("data-version", str(version))
        expect(page.locator("mn-graph")).to_have_attribute("data-idle", "true")

    page.get_by_role("button", name="Add the first step ( / )").click()
    choose("agent", "Add a step")
    settled(1)
    page.keyboard.press("a")
    choose("done", "After which way out")
    choose("approval", "Add after")
    settled(2)
    first, second = (n["id"] for n in document_of(page, name)["graph"]["nodes"])
    assert [(a.partition(".")[0], b) for a, b in edges_of(page, name)] == [(first, second)]
    expect(page.get_by_test_id(f"node-{second}")).to_be_focused()
    page.keyboard.press("Delete")
    settled(3)
    assert len(document_of(page, name)["graph"]["nodes"]) == 1
    expect(page.get_by_test_id(f"node-{first}")).to_be_focused()
    page.keyboard.press("ControlOrMeta+Z")
    settled(4)
    assert [b for _, b in edges_of(page, name)] == [second]
    page.reload()
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    page.get_by_test_id(f"node-{first}").focus()
    page.keyboard.press("ControlOrMeta+Shift+Z")
    settled(5)
    assert edges_of(page, name) == []
    watched.assert_quiet()


def test_a_group_that_is_collapsed_by_key_stays_in_sight_and_keeps_the_keyboard(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1280, "height": 800})
    page.emulate_media(reduced_motion="reduce")
    begin(page, "Folded away")
    page.locator("mn-graph[data-mounted]").wait_for()
    shelf = page.get_by_test_id("palette")
    for path in ("wait", "wait_2", "wait_3", "wait_4"):
        shelf.get_by_role("button", name="Wait", exact=True).click()
        expect(page.get_by_test_id(f"node-{path}")).to_be_focused()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.press("g")
    page.get_by_role("dialog").get_by_role("textbox").fill("All of it")
    page.keyboard.press("Enter")
    expect(page.locator(".mn-group")).to_contain_text("All of it")
    expect(page.get_by_test_id("node-wait_4")).to_be_focused()
    page.keyboard.press(".")
    expect(page.get_by_test_id("node-wait_4")).to_have_count(0)
    expect(page.locator(".mn-group-closed")).to_be_in_viewport(ratio=1)
    expect(page.get_by_role("application", name="Graph, 4 steps")).to_be_focused()
    page.keyboard.press(".")
    expect(page.get_by_test_id("node-wait")).to_be_visible()
    watched.assert_quiet()


def test_the_keys_named_on_sight_work_before_anything_has_the_focus(watched: Watched) -> None:
    """“Add the first step ( / )” stood there, and the key did nothing on a page that had just come."""
    page = watched.page
    begin(page, "Straight from the keys")
    page.locator("mn-graph[data-mounted]").wait_for()
    page.keyboard.press("/")
    choose(page, "Wait")
    expect(page.get_by_test_id("node-wait")).to_be_visible()
    page.reload()
    page.locator("mn-graph[data-mounted]").wait_for()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Keys of the canvas")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+z")
    expect(page.get_by_test_id("node-wait")).to_have_count(0)
    watched.assert_quiet()


def test_a_mail_is_drawn_configured_mended_tested_and_published_by_keyboard(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(reduced_motion="reduce")
    name = begin(page, "Answer a customer on the canvas")
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    page.get_by_role("button", name="Add the first step ( / )").press("Enter")
    choose(page, "Draft email")
    expect(page.get_by_test_id("node-draft_email")).to_be_focused()
    page.keyboard.press("a")
    choose(page, "done")
    choose(page, "Approval")
    expect(page.get_by_test_id("node-approve")).to_be_focused()
    page.keyboard.press("a")
    choose(page, "approved")
    choose(page, "Send email")
    expect(page.get_by_test_id("node-send_email")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_test_id("node-draft_email")).to_be_focused()
    fill_first_step_and_card(page)
    try_and_publish(page, name)
    watched.assert_quiet()


def test_another_page_of_the_same_draft_follows(
    product: Product, session: BrowserContext, watched: Watched
) -> None:
    page = watched.page
    page.goto("/blueprints/new")
    page.fill("#title", "Two at once")
    page.click("[data-action=create]")
    page.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    other = session.new_page()
    other.goto(page.url)
    other.wait_for_selector("mn-graph[data-mounted][data-idle=true]")
    page.get_by_text("Kinds of steps").click()
    page.locator("#palette [data-kind=timer]").click()
    expect(page.locator(".mn-step")).to_have_count(1)
    expect(other.locator(".mn-step")).to_have_count(1)
    expect(other.locator("mn-graph")).to_have_attribute("data-version", "1")
    other.close()
    watched.assert_quiet()


def test_a_run_is_followed_on_the_canvas(product: Product, session: BrowserContext, watched: Watched) -> None:
    page = watched.page
    page.emulate_media(reduced_motion="reduce")
    run_from_gallery(page)
    wait_status(page, "waiting")
    page.locator("[data-action=canvas]").click()
    page.wait_for_selector("mn-graph[data-mounted]")
    expect(page.get_by_test_id("picture")).to_be_hidden()
    waiting = page.locator(".mn-step[data-state=waiting]")
    expect(waiting).to_have_count(1)
    expect(waiting).to_have_accessible_name(re.compile("needs a person"))
    done = page.locator(".mn-step[data-state=succeeded]").first
    done.focus()
    page.keyboard.press("Space")
    expect(page.locator("#step-panel")).to_have_attribute(
        "data-step-path", str(done.get_attribute("data-node-id"))
    )
    page.locator("[data-action=canvas]").click()
    expect(page.get_by_test_id("picture")).to_be_visible()
    watched.assert_quiet()
