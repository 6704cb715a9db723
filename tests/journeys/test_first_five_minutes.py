"""From the printed link to an approved, finished run: three clicks, under a minute, exactly one e-mail."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Browser, expect

from tests.journeys.conftest import Product, Shoot, Watched, sign_in
from tests.journeys.steps import assert_gapless, wait_status

pytestmark = [pytest.mark.browser, pytest.mark.alone]


def test_three_clicks_from_the_printed_link_to_one_sent_message(
    browser: Browser, fresh_product: Product, shoot: Shoot
) -> None:
    context = browser.new_context(base_url=fresh_product.base)
    context.set_default_timeout(15_000)
    watched = Watched(context.new_page())
    page = watched.page
    began = time.monotonic()

    sign_in(page, fresh_product)
    page.locator('[data-action="run"]').first.click()  # click 1
    review = page.locator('[data-action="review"]')
    waited = time.monotonic()
    review.wait_for(timeout=30_000)
    assert time.monotonic() - waited < 10, "the run took too long to reach the person"
    run_page = page.url
    review.click()  # click 2
    card = page.locator('[data-action="approve"]').first
    card.wait_for()
    expect(page.locator("main")).to_contain_text("ines.okonjo@quillfeather.example")
    with page.expect_navigation():
        card.click()  # click 3

    page.goto(run_page)
    wait_status(page, "succeeded")
    assert time.monotonic() - began < 60
    expect(page.get_by_test_id("effect")).to_have_count(1)
    expect(page.get_by_test_id("effect")).to_have_attribute("data-state", "committed")
    assert_gapless(page)
    assert len(fresh_product.outbox()) == 1
    message = fresh_product.outbox()[0].read_text()
    assert "ines.okonjo@quillfeather.example" in message
    watched.assert_quiet()
    shoot(page, "run-finished")
    context.close()

    effects = fresh_product.mn("effects", "list")
    listed = effects["items"] if isinstance(effects, dict) else effects
    assert [e["state"] for e in listed] == ["committed"]
