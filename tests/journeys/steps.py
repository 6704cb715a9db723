"""What a person does on the pages, in their words."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

SAMPLE = "customer_research_to_followup"


def run_from_gallery(page: Page, blueprint: str = SAMPLE) -> str:
    """Press "Run this" on a gallery card; returns the run's id."""
    page.goto("/gallery")
    card = page.locator(f'[data-testid="gallery-card"][data-blueprint="{blueprint}"]')
    card.locator('[data-action="run"]').click()
    return run_id(page)


def run_id(page: Page) -> str:
    page.wait_for_url(re.compile(r"/runs/[0-9a-f-]{32,36}"))
    return re.search(r"/runs/([0-9a-f-]{32,36})", page.url)[1]  # type: ignore[index]


def wait_status(page: Page, *statuses: str, seconds: float = 30) -> None:
    wanted = re.compile("^(" + "|".join(statuses) + ")$")
    expect(page.get_by_test_id("run-status")).to_have_attribute("data-state", wanted, timeout=seconds * 1000)


def open_card(page: Page) -> str:
    """From the waiting run to its question in the inbox; returns the request's id."""
    link = page.locator('[data-action="review"]')
    link.wait_for(timeout=30_000)
    request = str(link.get_attribute("data-request-id"))
    link.click()
    page.locator('[data-action="approve"]').first.wait_for()
    return request


def approve(page: Page) -> None:
    """Approve as proposed; returns when the answer has been taken."""
    with page.expect_navigation():
        page.locator('[data-action="approve"]').first.click()


def seqs(page: Page) -> list[int]:
    """Numbers of the ledger lines on the page, in the order they stand there."""
    return [
        int(v) for v in page.locator('[data-testid="event"]').evaluate_all("es => es.map(e => e.dataset.seq)")
    ]


def assert_gapless(page: Page) -> None:
    shown = seqs(page)
    assert shown == list(range(1, len(shown) + 1)), shown


def documents_about_nobody(folder: Path) -> dict[str, str]:
    """A folder the product has never seen, about a company made up on the spot."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "visit.md": (
            "# Visit to Zephyrine Glassworks\n\n"
            "Zephyrine Glassworks melts 14 tonnes of lead-free glass a day in Ormsby Vale. "
            "The second furnace at Zephyrine was relined in March 2026.\n"
        ),
        "letter.txt": (
            "Dear team,\n\n"
            "Zephyrine Glassworks asks for a quote for 300 annealing trays before the end of June. "
            "Our buyer, Odalys Brandt, prefers delivery in two lots.\n"
        ),
        "orders.csv": "order,company,item,quantity\n88,Zephyrine Glassworks,annealing tray,120\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts
