"""Every page in light, dark and phone width: no console error, no CSP violation, nothing serious for axe."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.journeys.conftest import Product, Shoot, Watched
from tests.journeys.steps import SAMPLE, open_card, run_from_gallery, wait_status

pytestmark = [pytest.mark.browser]


def waiting_run(page: Page) -> None:
    run_from_gallery(page)
    wait_status(page, "waiting")


def inbox_card(page: Page) -> None:
    waiting_run(page)
    open_card(page)


def fork_page(page: Page) -> None:
    waiting_run(page)
    page.locator('.timeline-row[data-state="succeeded"]').first.click()
    page.locator('[data-action="fork-edit"]').click()
    page.locator('[data-action="fork-confirm"]').wait_for()
    page.get_by_role("link", name="Do it again").click()
    page.get_by_text("Starts a new run. This one stays as it is.").wait_for()


def at(path: str) -> Callable[[Page], None]:
    def open_(page: Page) -> None:
        page.goto(path)

    return open_


PAGES: dict[str, Callable[[Page], None]] = {
    "gallery": at("/gallery"),
    "gallery-item": at(f"/gallery/{SAMPLE}"),
    "run-waiting": waiting_run,
    "run-fork": fork_page,
    "inbox-card": inbox_card,
    "inbox": at("/inbox"),
    "runs": at("/runs"),
    "blueprints": at("/blueprints"),
    "settings": at("/settings"),
    "not-found": at("/runs/00000000-0000-7000-8000-000000000000"),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_and_accessible(product: Product, watched: Watched, shoot: Shoot, name: str) -> None:
    page = watched.page
    PAGES[name](page)
    page.locator("h1").first.wait_for()

    for scheme in ("light", "dark"):
        for width in (1280, 390):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.set_viewport_size({"width": width, "height": 860})
            overflow = page.evaluate(
                "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            )
            assert overflow <= 0, f"{name} is {overflow} px too wide at {width} px"
            found = Axe().run(page).response["violations"]
            serious = [
                f"{v['id']}: {v['help']}: {[n['target'] for n in v['nodes']][:5]}"
                for v in found
                if v["impact"] in ("serious", "critical")
            ]
            assert not serious, f"{name}, {scheme}, {width} px:\n" + "\n".join(serious)
    page.emulate_media(color_scheme="light")
    shoot(page, name)
    watched.assert_quiet(*((r"404",) if name == "not-found" else ()))


def test_a_title_of_one_long_word_stays_in_a_narrow_list(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 860})
    page.goto("/blueprints/new")
    page.get_by_label("What does it do?").fill("Donaudampfschifffahrtsgesellschaftskapitän" * 2)
    page.keyboard.press("Enter")
    page.wait_for_url("**/edit")
    page.goto("/blueprints")
    cells = page.locator(".list td").filter(has_text="Donaudampf")
    assert cells.first.evaluate("e => e.getBoundingClientRect().right <= innerWidth")
    watched.assert_quiet()
