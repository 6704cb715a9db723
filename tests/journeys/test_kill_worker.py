"""Press "Kill the worker": the process really dies, the page comes back, nothing is missing or repeated."""

from __future__ import annotations

import json
import re
import urllib.request

import pytest
from playwright.sync_api import expect

from tests.faults.harness import until
from tests.journeys.conftest import Product, Watched
from tests.journeys.steps import approve, assert_gapless, open_card, run_from_gallery, wait_status

pytestmark = [pytest.mark.browser, pytest.mark.alone]
LOST_CONNECTION = (
    r"WebSocket",
    r"ERR_CONNECTION_REFUSED",
    r"ERR_CONNECTION_RESET",
    r"Failed to load resource",
)


def boot(product: Product) -> str:
    """The random id of the process that answers; the supervisor keeps the socket while there is none."""
    try:
        with urllib.request.urlopen(product.base + "/healthz", timeout=30) as answer:
            return str(json.load(answer)["boot"])
    except OSError:
        return ""  # it died with our question in hand


def test_a_killed_worker_recovers_and_the_page_misses_nothing(product: Product, watched: Watched) -> None:
    page = watched.page
    run_from_gallery(page)
    before = boot(product)
    messages = len(product.outbox())

    page.locator('[data-action="kill-worker"]').click()
    until(lambda: boot(product) not in ("", before), "another process to answer")
    proof = page.get_by_test_id("resume-proof")
    expect(proof).to_contain_text(re.compile(r"recovered", re.IGNORECASE), timeout=5_000)
    expect(proof).to_contain_text(re.compile(r"0 (steps )?repeated"))
    expect(proof).to_contain_text(re.compile(r"0 effects repeated"))

    wait_status(page, "waiting")
    assert_gapless(page)
    run_page = page.url
    open_card(page)
    approve(page)
    page.goto(run_page)
    wait_status(page, "succeeded")
    expect(page.get_by_test_id("effect")).to_have_count(1)
    assert len(product.outbox()) == messages + 1
    assert_gapless(page)
    watched.assert_quiet(*LOST_CONNECTION)


def test_a_dropped_socket_misses_no_event(product: Product, watched: Watched) -> None:
    page = watched.page
    run_from_gallery(page)
    wait_status(page, "waiting")
    run_page = page.url
    request = page.locator('[data-action="review"]').get_attribute("data-request-id")

    page.context.set_offline(True)
    product.mn("approvals", "approve", str(request))
    page.context.set_offline(False)

    wait_status(page, "succeeded", seconds=20)
    assert_gapless(page)
    assert page.url == run_page
    shown = page.locator('[data-testid="event"]').count()
    page.reload()
    assert page.locator('[data-testid="event"]').count() == shown
