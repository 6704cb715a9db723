"""Edit, reject, ask for changes; by mouse and by keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.journeys.conftest import Product, Watched
from tests.journeys.steps import approve, open_card, run_from_gallery, wait_status

pytestmark = [pytest.mark.browser]


def test_edit_then_approve_by_keyboard_sends_exactly_the_edited_text(
    product: Product, watched: Watched
) -> None:
    page = watched.page
    before = set(product.outbox())
    run_from_gallery(page)
    wait_status(page, "waiting")
    run_page = page.url
    open_card(page)

    page.locator("body").press("e")
    subject = page.get_by_test_id("edit-form").get_by_label("Subject")
    expect(subject).to_be_visible()
    subject.fill("After our call: the outer yard")
    with page.expect_navigation():
        page.locator('[data-action="approve-edited"]').press("Enter")

    page.goto(run_page)
    wait_status(page, "succeeded")
    (message,) = set(product.outbox()) - before
    assert "Subject: After our call: the outer yard" in message.read_text()
    expect(page.get_by_test_id("effect")).to_have_attribute("data-state", "committed")
    watched.assert_quiet()


def test_a_rejection_needs_a_reason_and_sends_nothing(product: Product, watched: Watched) -> None:
    page = watched.page
    before = product.outbox()
    run_from_gallery(page)
    wait_status(page, "waiting")
    run_page = page.url
    open_card(page)

    page.locator('[data-action="reject"]').first.click()
    page.get_by_label("Why not?").fill("Not this month.")
    with page.expect_navigation():
        page.locator('[data-action="reject-now"]').click()

    page.goto(run_page)
    wait_status(page, "succeeded")
    assert product.outbox() == before
    expect(page.locator('[data-testid="effect"][data-state="committed"]')).to_have_count(0)
    expect(page.get_by_test_id("events")).to_contain_text("Not this month.")
    watched.assert_quiet()


def test_requested_changes_open_a_second_round(product: Product, watched: Watched) -> None:
    page = watched.page
    run_from_gallery(page)
    wait_status(page, "waiting")
    run_page = page.url
    first = open_card(page)

    page.locator('[data-action="request-changes"]').first.click()
    page.get_by_label("What should change?").fill("Mention the outer yard.")
    with page.expect_navigation():
        page.locator('[data-action="send-back"]').click()

    page.goto(run_page)
    page.locator('[data-step-path="draft[2]"]').first.wait_for()
    wait_status(page, "waiting")
    assert open_card(page) != first
    approve(page)
    page.goto(run_page)
    wait_status(page, "succeeded")
    expect(page.get_by_test_id("effect")).to_have_count(1)
    watched.assert_quiet()
