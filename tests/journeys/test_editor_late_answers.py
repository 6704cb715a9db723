"""Answers that come late, twice or not at all: what somebody sees and does stays theirs."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import BrowserContext, Page, Route, WebSocketRoute, expect

from tests.faults.harness import until
from tests.journeys.conftest import Product, Watched
from tests.journeys.steps import run_from_gallery, wait_status

pytestmark = [pytest.mark.browser, pytest.mark.usefixtures("built_canvas")]
SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: NAME, title: Late}
card: {purpose: Tests, must_never: [lose], business_owner: A, technical_owner: A, model_steward: A}
contract: {goal: Lose nothing.}
graph:
  nodes:
    - {id: ask, kind: transform, title: Ask, output: 1}
    - {id: tell, kind: transform, title: Tell, output: 2}
    - {id: last, kind: transform, title: Last, output: 3}
  edges:
    - {from: ask, to: tell}
    - {from: tell, to: last}
"""
CHANGE = """async ([name, ops]) => {
  const url = `/api/v1/blueprints/${name}/draft`;
  const version = (await (await fetch(url)).json()).version;
  const headers = {'Content-Type': 'application/json', 'If-Match': `"${version}"`,
    'X-CSRFToken': document.querySelector('meta[name=csrf-token]').content};
  return (await fetch(url + '/ops', {method: 'POST', headers, body: JSON.stringify({ops})})).status;
}"""
numbers = count(1)
Change = Callable[..., None]


@pytest.fixture
def name(product: Product, tmp_path: Path) -> str:
    name = f"late_{next(numbers)}"
    file = tmp_path / "late.yaml"
    file.write_text(SOURCE.replace("NAME", name))
    product.mn("blueprint", "import", str(file))
    return name


@pytest.fixture
def change(session: BrowserContext, name: str) -> Iterator[Change]:
    """What happens elsewhere: an operation on the draft."""
    other = session.new_page()
    other.goto("/blueprints")

    def change(kind: str, **fields: Any) -> None:
        assert other.evaluate(CHANGE, [name, [{"op_id": str(uuid4()), "kind": kind, **fields}]]) == 200

    yield change
    other.close()


class Held:
    """Answers of the server that a page waits for until they are let go."""

    def __init__(self, page: Page, address: str) -> None:
        self.routes: list[tuple[Route, Any]] = []
        self.is_holding = True
        page.route(address, self._hold)
        self.page = page

    def _hold(self, route: Route) -> None:
        if not self.is_holding:
            route.continue_()
            return
        self.routes.append((route, route.fetch()))

    def wait(self, number: int = 1) -> None:
        until(lambda: self._turn() or len(self.routes) >= number, "a request to be held")

    def _turn(self) -> None:
        self.page.evaluate("1")

    def let_go(self, which: int = 0) -> None:
        route, answer = self.routes.pop(which)
        with self.page.expect_event("requestfinished", lambda r: r == route.request):
            route.fulfill(response=answer)

    def no_more(self) -> None:
        self.is_holding = False


def edit(page: Page, name: str, query: str = "") -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/blueprints/{name}/edit{query}")
    page.locator("mn-graph[data-mounted][data-idle=true]").wait_for()


def document(page: Page, name: str) -> Any:
    return page.request.get(f"/api/v1/blueprints/{name}/draft").json()["document"]


def ids(page: Page, name: str) -> list[str]:
    return [node["id"] for node in document(page, name)["graph"]["nodes"]]


def title_changed(change: Change, node: str, old: str, new: str) -> None:
    change("set_config", node=node, path=["title"], old=old, new=new)


def test_the_form_of_another_step_does_not_come_back(watched: Watched, name: str, change: Change) -> None:
    page = watched.page
    edit(page, name, "?node=ask")
    panel = page.get_by_test_id("inspector")
    expect(panel.locator('[data-node-path="ask"]')).to_be_visible()
    held = Held(page, "**/edit/inspector?node=ask*")
    title_changed(change, "ask", "Ask", "Ask them")
    held.wait()
    page.get_by_test_id("outline-tell").click()
    expect(panel.locator('[data-node-path="tell"]')).to_be_visible()
    held.let_go()
    expect(page.get_by_test_id("outline-ask")).to_contain_text("Ask them")
    expect(panel.locator('[data-node-path="tell"]')).to_be_visible()
    watched.assert_quiet()


def test_a_form_from_before_a_change_of_ones_own_does_not_undo_it_on_the_page(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    edit(page, name, "?node=ask")
    panel = page.get_by_test_id("inspector")
    title = panel.get_by_label("Title", exact=True)
    expect(title).to_have_value("Ask")
    held = Held(page, "**/edit/inspector?node=ask*")
    change("set_config", node="ask", path=["output"], old=1, new=7)
    held.wait()
    title.fill("Mine")
    title.press("Tab")
    page.get_by_test_id("outline-ask").focus()
    until(lambda: document(page, name)["graph"]["nodes"][0]["title"] == "Mine", "it to be saved")
    expect(panel.locator("form[data-dirty], form[data-flying]")).to_have_count(0)
    held.no_more()
    held.let_go()
    expect(panel.get_by_label("Gives", exact=True)).to_have_value("7")
    expect(title).to_have_value("Mine")
    watched.assert_quiet()


def test_delete_on_a_row_that_somebody_removed_removes_nothing_else(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    edit(page, name)
    held = Held(page, "**/edit/news?*")
    version = int(page.locator("mn-graph").get_attribute("data-version") or 0)
    change("remove_node", node="tell")
    expect(page.locator("mn-graph")).to_have_attribute("data-version", str(version + 1))
    held.wait()
    page.get_by_test_id("outline-tell").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("outline-voice")).to_contain_text("not in the draft any more")
    held.no_more()
    held.let_go()
    expect(page.get_by_test_id("outline-tell")).to_have_count(0)
    assert ids(page, name) == ["ask", "last"]
    watched.assert_quiet()


def test_enter_and_on_keeps_the_keyboard_where_it_went(watched: Watched, name: str) -> None:
    page = watched.page
    edit(page, name)
    held = Held(page, "**/edit/inspector?node=ask*")
    page.get_by_test_id("outline-ask").focus()
    page.keyboard.press("Enter")
    held.wait()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("outline-tell")).to_be_focused()
    held.no_more()
    held.let_go()
    expect(page.get_by_test_id("inspector").locator('[data-node-path="tell"]')).to_be_visible()
    expect(page.get_by_test_id("outline-tell")).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.get_by_test_id("inspector").locator('[data-node-path="ask"]')).to_be_visible()
    expect(page.get_by_test_id("outline-ask")).to_be_focused()
    watched.assert_quiet()


def test_what_the_outline_kept_is_sent_where_the_picture_is_on_show_next(watched: Watched, name: str) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 860})
    page.goto(f"/blueprints/{name}/edit")
    expect(page.get_by_test_id("outline")).to_have_attribute("data-ready", "true")
    page.route("**/draft/ops*", lambda route: route.abort())
    page.get_by_test_id("outline-last").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("draft-status")).to_have_attribute("data-state", "offline")
    page.unroute("**/draft/ops*")
    page.route("**/draft/ops*", lambda route: route.abort())
    page.set_viewport_size({"width": 1440, "height": 900})
    page.reload()
    page.unroute("**/draft/ops*")
    page.locator("mn-graph[data-mounted]").wait_for()
    expect(page.get_by_test_id("outline-last")).to_have_count(0)
    expect(page.locator('mn-graph [data-id="last"]')).to_have_count(0)
    assert ids(page, name) == ["ask", "tell"]
    watched.assert_quiet("ERR_FAILED")


def test_the_steps_to_add_stay_when_the_palette_cannot_be_asked(watched: Watched, name: str) -> None:
    page = watched.page
    page.route("**/draft/palette*", lambda route: route.abort())
    with page.expect_event("requestfailed", lambda r: "/draft/palette" in r.url):
        edit(page, name)
    page.evaluate("new Promise(requestAnimationFrame)")
    page.get_by_test_id("palette").get_by_role("button", name="Wait").click()
    until(lambda: ids(page, name) == ["ask", "tell", "last", "wait"], "the step to be added once")
    watched.assert_quiet("ERR_FAILED")


def test_names_that_come_late_are_not_offered_where_none_is_written(watched: Watched, name: str) -> None:
    page = watched.page
    edit(page, name, "?node=tell")
    held = Held(page, "**/edit/names?*")
    field = page.get_by_test_id("inspector").locator("[data-expression]").first
    field.fill("")
    held.wait()
    field.press_sequentially("{{ st")
    field.press_sequentially(" }}")
    held.let_go()
    page.evaluate("new Promise(requestAnimationFrame)")
    expect(page.get_by_role("listbox", name="Values to use")).to_have_count(0)
    watched.assert_quiet()


def test_names_are_asked_for_again_after_they_could_not_be(watched: Watched, name: str) -> None:
    page = watched.page
    edit(page, name, "?node=tell")
    page.route("**/edit/names?*", lambda route: route.abort())
    field = page.get_by_test_id("inspector").locator("[data-expression]").first
    with page.expect_event("requestfailed"):
        field.fill("{{ ")
    page.unroute("**/edit/names?*")
    field.press("Control+Space")
    expect(page.get_by_role("listbox", name="Values to use")).to_be_visible()
    watched.assert_quiet("ERR_FAILED")


def test_undo_is_done_once_where_the_picture_cannot_be_drawn(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    page.add_init_script("Document.prototype.createElementNS = () => { throw new Error('broken'); };")
    title_changed(change, "ask", "Ask", "One")
    title_changed(change, "tell", "Tell", "Two")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/blueprints/{name}/edit")
    page.locator("mn-graph[data-failed]").wait_for()
    with page.expect_response("**/draft/undo*"):
        page.locator('[data-testid=editor-head] [data-action="undo"]').click()
    expect(page.get_by_test_id("outline-tell")).to_contain_text("Tell")
    expect(page.get_by_test_id("outline-ask")).to_contain_text("One")
    assert [n["title"] for n in document(page, name)["graph"]["nodes"]] == ["One", "Tell", "Last"]


def test_an_outline_that_could_not_begin_begins_with_the_next_command(watched: Watched, name: str) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 860})
    page.route("**/draft/view*", lambda route: route.abort())
    with page.expect_event("requestfailed", lambda r: "/draft/view" in r.url):
        page.goto(f"/blueprints/{name}/edit")
    page.unroute("**/draft/view*")
    page.get_by_test_id("outline-last").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_test_id("outline-last")).to_have_count(0)
    watched.assert_quiet("ERR_FAILED")


def test_what_could_not_be_stored_is_kept_while_another_step_is_shown(watched: Watched, name: str) -> None:
    page = watched.page
    edit(page, name, "?node=ask")
    panel = page.get_by_test_id("inspector")
    full = {"status": 503, "headers": {"MN-Problem": "storage_full"}, "body": ""}
    page.route("**/edit/field**", lambda route: route.fulfill(**full))  # type: ignore[arg-type]
    panel.get_by_label("Title", exact=True).fill("Kept")
    status = page.get_by_test_id("draft-status")
    expect(status).to_contain_text("kept here")
    page.get_by_test_id("outline-tell").click()
    expect(panel.locator('[data-node-path="tell"]')).to_be_visible()
    expect(status).to_contain_text("kept here")
    # It is where it was when its step is shown again, and is stored from wherever it is.
    page.get_by_test_id("outline-ask").click()
    expect(panel.get_by_label("Title", exact=True)).to_have_value("Kept")
    page.get_by_test_id("outline-tell").click()
    expect(panel.locator('[data-node-path="tell"]')).to_be_visible()
    page.unroute("**/edit/field**")
    expect(page.get_by_test_id("outline-ask")).to_contain_text("Kept")
    expect(status).to_have_attribute("data-state", "saved")
    page.get_by_test_id("outline-ask").click()
    expect(panel.get_by_label("Title", exact=True)).to_have_value("Kept")
    assert document(page, name)["graph"]["nodes"][0]["title"] == "Kept"
    watched.assert_quiet("status of 503", "Status Error Code 503")


def test_a_page_whose_session_is_over_does_not_ask_without_end(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    edit(page, name)
    asked: list[float] = []

    def sign_in(route: Route) -> None:
        asked.append(time.monotonic())
        route.fulfill(status=200, content_type="text/html", body="<h1>Sign in</h1>")

    page.route("**/edit/news?*", sign_in)
    title_changed(change, "ask", "Ask", "Asked")
    until(lambda: page.evaluate("true") and len(asked) >= 3, "the page to ask again", 20)
    assert asked[2] - asked[0] > 1.5, "it asks as often as it can"
    page.unroute("**/edit/news?*")
    expect(page.get_by_test_id("outline-ask")).to_contain_text("Asked")
    watched.assert_quiet()


def test_a_form_shows_what_others_did_right_after_it_was_saved(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    told: list[tuple[WebSocketRoute, str | bytes]] = []

    def late(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        server.on_message(lambda message: told.append((socket, message)))

    page.route_web_socket("**/ws/drafts/*", late)
    page.goto(f"/blueprints/{name}/edit?tab=card")
    form = page.locator(".subject-form", has=page.get_by_label("Purpose"))
    held = Held(page, "**/edit/field?*")
    form.get_by_label("Purpose").fill("Mine")
    held.wait()
    change("set_contract", path=["card", "business_owner"], old="A", new="Theirs")
    # Who is here is told as well, and the person's own change perhaps by itself.
    until(lambda: page.evaluate("true") and any("Theirs" in str(m) for _, m in told), "the socket to tell")
    held.no_more()
    held.let_go()
    for socket, message in told:
        socket.send(message)
    expect(form.get_by_label("Answers for the result")).to_have_value("Theirs")
    expect(form.get_by_label("Purpose")).to_have_value("Mine")
    watched.assert_quiet()


def test_a_test_that_begins_elsewhere_is_told_beside_the_canvas_and_after_a_lost_connection(
    watched: Watched, session: BrowserContext, name: str
) -> None:
    page = watched.page
    sockets: list[WebSocketRoute] = []
    is_open = True

    def through(socket: WebSocketRoute) -> None:
        if not is_open:
            socket.close(code=1011)
            return
        socket.connect_to_server()
        sockets.append(socket)

    page.route_web_socket("**/ws/drafts/*", through)
    edit(page, name)
    other = session.new_page()

    def test(query: str) -> None:
        other.goto(f"/blueprints/{name}/test?{query}")
        other.locator('[data-action="run-test"]').click()
        expect(other.get_by_test_id("trial-result")).to_have_attribute("data-state", "succeeded")

    test("kind=upto&node=ask")
    expect(page.get_by_test_id("test-status")).to_contain_text("up to ask")
    expect(page.get_by_test_id("test-status")).to_contain_text("succeeded")
    is_open = False
    sockets.pop().close(code=1011)
    test("kind=upto&node=tell")
    is_open = True
    expect(page.get_by_test_id("test-status")).to_contain_text("up to tell")
    other.close()
    watched.assert_quiet("1011")


def test_a_step_that_was_chosen_in_the_picture_of_a_run_stays_chosen(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1440, "height": 900})
    run_from_gallery(page)
    wait_status(page, "waiting")
    page.locator('[data-action="canvas"]').click()
    page.locator("#run-graph[data-mounted]").wait_for()
    panel = page.locator("#step-panel")
    before = panel.get_attribute("data-step-path")
    steps = page.locator("#run-graph [data-node-id][data-state=succeeded]")
    node = steps.first.get_attribute("data-node-id")
    held = Held(page, page.url)
    # Something happens to the step on show, so that it is asked for again.
    page.evaluate(
        """path => {
          document.querySelector(`.timeline-row[data-step-path="${path}"]`).dataset.mark = 'another';
          const told = new Event('htmx:wsAfterMessage', {bubbles: true});
          document.querySelector('#step-panel').dispatchEvent(told);
        }""",
        before,
    )
    held.wait()
    held.no_more()
    steps.first.click()
    page.evaluate("new Promise(requestAnimationFrame)")
    held.let_go()
    expect(panel).to_have_attribute("data-step-path", str(node))
    watched.assert_quiet()


def test_a_choice_that_could_not_be_looked_at_starts_no_other_test(watched: Watched, name: str) -> None:
    page = watched.page
    page.goto(f"/blueprints/{name}/test")
    start = page.locator('[data-action="run-test"]')
    expect(start).to_be_enabled()
    page.route("**/test?kind=*", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        page.get_by_test_id("trial-choice").get_by_label("Step", exact=True).select_option("ask")
    with page.expect_event("requestfailed"):
        page.get_by_label("Up to a step").check()
    page.evaluate("new Promise(requestAnimationFrame)")
    start.press("Enter")
    page.evaluate("async () => (await fetch(location.href)).text()")
    expect(page).to_have_url(re.compile("/test$"))
    expect(page.get_by_text("so nothing can be started")).to_be_visible()
    page.unroute("**/test?kind=*")
    page.get_by_role("button", name="Look again").click()
    expect(page.get_by_test_id("trial-label")).to_contain_text("up to ask")
    start.click()
    expect(page.get_by_test_id("trial-result")).to_contain_text("up to ask")
    watched.assert_quiet("ERR_FAILED", "htmx:sendError", "htmx:afterRequest")


def test_enter_in_the_picture_and_on_keeps_the_keyboard_there(watched: Watched, name: str) -> None:
    page = watched.page
    edit(page, name)
    held = Held(page, "**/edit/inspector?node=ask*")
    page.get_by_test_id("node-ask").focus()
    page.keyboard.press("Enter")
    held.wait()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_test_id("node-tell")).to_be_focused()
    held.no_more()
    held.let_go()
    expect(page.get_by_test_id("inspector").locator('[data-node-path="tell"]')).to_be_visible()
    expect(page.get_by_test_id("node-tell")).to_be_focused()
    watched.assert_quiet()


def test_a_fix_that_is_pressed_twice_mends_one_thing(watched: Watched, name: str, change: Change) -> None:
    page = watched.page
    for tool in ("draft_email", "send_email"):
        change("add_node", scope="", node={"id": tool, "kind": "tool", "tool": tool})
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto(f"/blueprints/{name}/edit")
    held = Held(page, "**/edit/fix")
    page.get_by_test_id("problems-summary").press("Enter")
    allow = page.get_by_test_id("problems").get_by_role("button", name="Allow ").first
    allow.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    held.wait()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/edit/fix" in request.url else None)
    held.no_more()
    held.let_go()
    expect(page.get_by_test_id("fix-said")).to_contain_text("Mended")
    page.evaluate("async () => (await fetch(location.href)).text()")
    boundaries = document(page, name)["contract"]["boundaries"]
    assert (len(boundaries["allowed_tools"]), asked) == (1, [])
    expect(page.get_by_test_id("fix-said")).to_contain_text("Mended")
    watched.assert_quiet()


def test_undo_beside_the_graph_says_when_the_server_cannot_be_reached(watched: Watched, name: str) -> None:
    page = watched.page
    page.goto(f"/blueprints/{name}/edit?tab=card")
    page.route("**/draft/undo*", lambda route: route.abort())
    page.locator('[data-testid=editor-head] [data-action="undo"]').click()
    expect(page.get_by_test_id("draft-status")).to_contain_text("cannot be reached")
    page.unroute("**/draft/undo*")
    page.locator('[data-testid=editor-head] [data-action="undo"]').click()
    expect(page.get_by_test_id("draft-status")).to_contain_text("nothing of yours to undo")
    watched.assert_quiet("ERR_FAILED", "status of 409")


def test_settings_that_cannot_be_fetched_are_not_asked_for_without_end(
    watched: Watched, name: str, change: Change
) -> None:
    page = watched.page
    edit(page, name, "?node=ask")
    asked: list[float] = []

    def away(route: Route) -> None:
        asked.append(time.monotonic())
        route.abort()

    page.route("**/edit/inspector?*", away)
    title_changed(change, "ask", "Ask", "Asked")
    until(lambda: page.evaluate("true") and len(asked) >= 2, "the page to ask again", 20)
    assert asked[1] - asked[0] > 1, "it asks as often as it can"
    page.unroute("**/edit/inspector?*")
    expect(page.get_by_test_id("inspector").get_by_label("Title", exact=True)).to_have_value("Asked")
    watched.assert_quiet("ERR_FAILED")
