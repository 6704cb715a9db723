"""Two browsers on one draft, random operations, lost connections: both end where the server is, and all of it
can be undone to the first byte. Of two people each takes back only their own, or is told why not.

MN_TEST_OPERATIONS=1000 makes it the whole size; MN_TEST_SEED names another course of events.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.faults.harness import until
from tests.journeys.conftest import Product, second_person, sign_in

pytestmark = [pytest.mark.browser]
OPERATIONS = int(os.environ.get("MN_TEST_OPERATIONS", "150"))
SEED = int(os.environ.get("MN_TEST_SEED", "1"))
START = """\
apiVersion: mirrorneuron/v1   # the version of the format
kind: Blueprint
metadata: {name: together, title: Together}
card: {purpose: Tests, must_never: [lose a change], business_owner: A, technical_owner: A, model_steward: A}
# What it is for.
contract: {goal: End where the server is.}
graph:
  nodes:
    - {id: first, kind: transform, output: 1}   # begins

    - id: second
      kind: transform
      output: "{{ steps.first.output }}"
  edges:
    - {from: first, to: second}
"""
ACT = """([kind, a, b, fresh, x, y]) => {
  const graph = document.querySelector('mn-graph'), {nodes, edges} = graph.store.view;
  const paths = Object.keys(nodes).sort(), lines = Object.keys(edges).sort();
  const one = paths[a % (paths.length || 1)], other = paths[b % (paths.length || 1)];
  const line = edges[lines[a % (lines.length || 1)]], node = {id: fresh, kind: 'transform', output: x};
  const operation = {
    add: () => ({kind: 'add_node', scope: '', node, position: {x, y}}),
    remove: () => one && {kind: 'remove_node', node: one},
    move: () => one && {kind: 'move_nodes', positions: {[one]: {x, y}}},
    // Refused where somebody has set one before.
    note: () => one && {kind: 'set_config', node: one, path: ['label'], new: String(y)},
    rename: () => one && {kind: 'rename', node: one, to: fresh},
    join: () => one && one !== other && {kind: 'add_edge', scope: '', edge: {from: one, to: other}},
    part: () => line && {kind: 'remove_edge', scope: '', edge: line.written, at: line.at},
  }[kind]();
  if (operation) graph.session.do([operation]);
}"""
STATE = """() => {
  const graph = document.querySelector('mn-graph');
  const {nodes, edges, version} = graph.store.server;
  return {idle: graph.dataset.idle === 'true', version, nodes, edges};
}"""
UNDO = """async () => {
  const graph = document.querySelector('mn-graph');
  graph.voice.textContent = '';
  const answer = await graph.session.ask(() => graph.api.undo());
  return {undone: answer ? answer.undone_ops : [], words: graph.voice.textContent};
}"""
RESTORE = """async () => {
  const headers = {'Content-Type': 'application/json',
    'X-CSRFToken': document.querySelector('meta[name=csrf-token]').content};
  const url = '/api/v1/blueprints/together/draft/restore';
  return (await fetch(url, {method: 'POST', headers, body: JSON.stringify({seq: 0})})).status;
}"""
HISTORY = """async () => {
  const lines = [];
  for (let cursor = ''; cursor !== null; ) {
    const url = `/api/v1/blueprints/together/draft/history?limit=200&cursor=${cursor}`;
    const found = await (await fetch(url)).json();
    lines.push(...found.items);
    cursor = found.next;
  }
  return lines;
}"""
NOTHING = "nothing of yours to undo"


def open_editor(context: BrowserContext) -> Page:
    page = context.new_page()
    page.goto("/blueprints/together/edit")
    page.locator("mn-graph[data-mounted=true]").wait_for()
    return page


def source(page: Page) -> str:
    asked = "async () => (await (await fetch('/api/v1/blueprints/together/draft')).json())"
    return str(page.evaluate(asked)["source"])


def is_settled(state: dict[str, Any], version: int) -> bool:
    return bool(state["idle"] and state["version"] >= version)


def settled(pages: list[Page]) -> list[dict[str, Any]]:
    """The pages' own views once nothing is under way and both have seen the server's last version."""
    server = """async () => (await (await fetch('/api/v1/blueprints/together/draft')).json()).version"""
    version = pages[0].evaluate(server)
    for page in pages:
        until(
            lambda page=page: is_settled(page.evaluate(STATE), version),
            "a page to be at the server's version",
            60,
        )
    return [page.evaluate(STATE) for page in pages]


@pytest.fixture
def together(product: Product, tmp_path: Path) -> None:
    file = tmp_path / "together.yaml"
    file.write_text(START)
    product.mn("blueprint", "import", str(file))


def same_as_server(pages: list[Page]) -> int:
    """All pages show what the server has; its version."""
    shown = settled(pages)
    asked = "async () => (await (await fetch('/api/v1/blueprints/together/draft/view')).json())"
    server = pages[0].evaluate(asked)
    for one in shown:
        for part in ("version", "nodes", "edges"):
            assert one[part] == server[part], part
    return int(server["version"])


def edit_at_random(pages: list[Page]) -> int:
    """The version before: another test may have been at this draft."""
    began = same_as_server(pages)
    chance, cut = random.Random(SEED), {0: 0, 1: 0}
    kinds = ["add"] * 5 + ["move"] * 4 + ["note", "join", "join", "join", "part", "rename", "remove"]
    for number in range(OPERATIONS):
        for which, back in cut.items():
            if back and number >= back:
                pages[which].context.set_offline(False)
                cut[which] = 0
        which = chance.randrange(2)
        if number % 25 == 12:
            pages[which].context.set_offline(True)
            cut[which] = number + 8
        drawn = [chance.randrange(10**6) for _ in range(4)]
        pages[which].evaluate(
            ACT, [chance.choice(kinds), drawn[0], drawn[1], f"n{number}", drawn[2] % 2000, drawn[3] % 900]
        )
    for page in pages:
        page.context.set_offline(False)
    for page in pages:
        until(
            lambda page=page: page.evaluate(STATE)["idle"],
            "a page to have sent everything",
            60 + OPERATIONS / 2,
        )
    # Moves that wait for a slow server become one, and count as one.
    assert same_as_server(pages) - began > OPERATIONS / 3, "most operations were refused"
    return began


@pytest.mark.usefixtures("together")
def test_two_browsers_end_on_the_servers_document_and_undo_leads_back(
    browser: Browser, product: Product
) -> None:
    contexts = [browser.new_context(base_url=product.base) for _ in range(2)]
    for context in contexts:
        context.set_default_timeout(60_000)
    first = contexts[0].new_page()
    sign_in(first, product)
    contexts[1].add_cookies(contexts[0].cookies())  # type: ignore[arg-type]
    pages = [open_editor(context) for context in contexts]
    assert source(pages[0]) == START
    edit_at_random(pages)

    # Both are one person here, so that nothing of anybody else's stands in the way.
    undone = 0
    while (last := pages[0].evaluate(UNDO))["undone"]:
        undone += 1
    assert NOTHING in last["words"]
    assert undone > OPERATIONS / 3
    assert source(pages[0]) == START
    same_as_server(pages)
    for context in contexts:
        context.close()


@pytest.mark.usefixtures("together")
def test_of_two_people_each_takes_back_their_own_or_is_told_why_not(
    browser: Browser, product: Product
) -> None:
    contexts = [
        second_person(browser, product, "ann@example.com", "Ann"),
        second_person(browser, product, "bob@example.com", "Bob"),
    ]
    pages = [open_editor(context) for context in contexts]
    began = edit_at_random(pages)

    # In turns, until neither can go on: what one takes back may be what the other had built on.
    undone, last = [0, 0], ["", ""]
    stuck = 0
    while stuck < len(pages):
        for which, page in enumerate(pages):
            stuck += 1
            while (answer := page.evaluate(UNDO))["undone"]:
                undone[which] += len(answer["undone"])
                stuck = 0
            last[which] = answer["words"]
            # Not a word too few: nothing is left, or who stands in the way, or what would break.
            assert NOTHING in last[which] or "cannot be undone" in last[which], last[which]
    assert all(undone), undone
    same_as_server(pages)

    history = pages[0].evaluate(HISTORY)
    made = {line["op_id"]: line for line in history}
    taken = [line for line in history if line["kind"] == "undo"]
    assert len([line for line in taken if line["seq"] > began]) == sum(undone)
    assert all(made[line["undoes"]]["actor"] == line["actor"] for line in taken)
    by_undo = {line["undoes"] for line in taken}
    assert {line["op_id"] for line in history if line["undone"]} == by_undo

    # The log played backwards, through everything both did and took back.
    assert pages[0].evaluate(RESTORE) == 200
    assert source(pages[0]) == START
    same_as_server(pages)
    for context in contexts:
        context.close()
