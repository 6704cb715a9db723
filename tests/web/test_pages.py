"""Promises every page keeps."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from apps.approvals.models import ApprovalRequest
from apps.runs.models import Run
from apps.workspaces.models import User
from tests.web.conftest import DEMO, ClientOf

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"

QUERIES = {
    "/gallery": 8,
    f"/gallery/{DEMO}": 8,
    "/blueprints": 9,
    f"/blueprints/{DEMO}": 12,
    "/schedules": 9,
    f"/schedules/new?blueprint={DEMO}": 12,
    "/runs": 10,
    "/runs/{run}": 22,
    "/runs/{run}/cancel": 20,
    "/inbox": 12,
    "/inbox/{ask}": 24,
    "/settings": 10,
}


@pytest.fixture
def addresses(demo: Run) -> dict[str, str]:
    question = ApprovalRequest.objects.get(run=demo)
    return {path: path.format(run=demo.id, ask=question.id) for path in QUERIES}


class Reader(HTMLParser):
    """Collects what a strict policy or a screen reader would trip over."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.labels: set[str] = set()
        self.inputs: list[str] = []
        self.filled = 0
        self.headings: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, pairs: list[tuple[str, str | None]]) -> None:
        given = dict(pairs)
        if tag == "style" or "style" in given:
            self.wrong.append(f"style in <{tag}>")
        if tag == "script" and not given.get("src"):
            self.wrong.append("inline script")
        self.wrong += [f"handler {name}" for name in given if name.startswith(("on", "hx-on"))]
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "label" and given.get("for"):
            self.labels.add(given["for"] or "")
        kind = given.get("type", "text")
        if tag in ("input", "select", "textarea") and kind not in ("hidden", "checkbox", "radio"):
            self.inputs.append(given.get("id") or f"{tag} without id")
        if tag in ("h1", "h2", "h3"):
            self.headings.append(tag)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_every_page_keeps_the_policy_and_its_structure(
    addresses: dict[str, str], browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    for path in [*addresses.values(), "/nowhere"]:
        answer = client.get(path)
        html = answer.content.decode()
        assert answer.status_code == (404 if path == "/nowhere" else 200), path
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        seen = read(html)
        assert seen.wrong == [], path
        assert len(seen.ids) == len(set(seen.ids)), (path, [i for i in seen.ids if seen.ids.count(i) > 1])
        assert set(seen.inputs) <= seen.labels, (path, set(seen.inputs) - seen.labels)
        assert seen.headings.count("h1") == 1, path
        assert "{{" not in re.sub(r"<pre.*?</pre>", "", html, flags=re.S), path
        assert 'name="htmx-config"' in html and "includeIndicatorStyles&quot;:false" not in html


def test_one_filled_button_a_screen(addresses: dict[str, str], browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    for path in addresses.values():
        html = client.get(path).content.decode()
        visible = re.sub(r"<details(?![^>]* open).*?</details>", "", html, flags=re.S)
        assert visible.count("button filled") <= 1, path


def test_pages_of_a_person_are_kept_nowhere(browser: ClientOf, alice: User) -> None:
    assert "no-store" in browser(alice).get("/settings").headers["Cache-Control"]


@pytest.mark.parametrize("path", list(QUERIES))
def test_a_page_asks_the_database_a_bounded_number_of_times(
    path: str, addresses: dict[str, str], browser: ClientOf, alice: User, django_assert_max_num_queries: Any
) -> None:
    client = browser(alice)
    client.get(addresses[path])  # Documents are kept for the life of the process.
    with django_assert_max_num_queries(QUERIES[path]):
        client.get(addresses[path])


def test_a_stranger_finds_nothing(addresses: dict[str, str], browser: ClientOf, charlie: User) -> None:
    client = browser(charlie)
    for path in ("/runs/{run}", "/runs/{run}/cancel", "/inbox/{ask}"):
        answer = client.get(addresses[path])
        assert answer.status_code == 404, path
    for path in (f"/blueprints/{DEMO}",):
        assert client.get(path).status_code == 404
    assert client.get("/runs").content.count(b'data-testid="run-row"') == 0


def test_the_rail_names_where_we_are_and_counts_the_inbox(
    addresses: dict[str, str], browser: ClientOf, alice: User
) -> None:
    html = browser(alice).get("/runs").content.decode()
    assert re.search(r'data-testid="rail-runs" aria-current="page"', html)
    assert re.search(r'id="inbox-count"[^>]*>1<', html)


def test_no_paragraph_holds_what_a_paragraph_cannot_hold() -> None:
    """A browser ends a `<p>` before a form or a list, so that they fall out of its row."""
    wrong = [
        (str(path.relative_to(TEMPLATES)), found[0][:80])
        for path in sorted(TEMPLATES.rglob("*.html"))
        for found in re.finditer(r"<p\b[^>]*>(.*?)</p>", path.read_text(), re.DOTALL)
        if re.search(r"<(form|div|ul|ol|p|section|details|pre|table|dl)\b", found[1])
    ]
    assert not wrong
