"""A real browser on a real `mn up`, each in a data folder of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from mirrorneuron import assets
from tests import services
from tests.faults.harness import MN, ROOT, Process, environment, until
from tests.processes import lay_out

SCREENSHOTS = Path(os.environ.get("MN_SCREENSHOTS_DIR", ROOT / "test-artifacts"))
_WATCH_CSP = """
window.__violations = [];
document.addEventListener('securitypolicyviolation',
  e => window.__violations.push(`${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = services.chromium()
    if not found.found:
        if services.required() or os.environ.get("MN_TEST_REQUIRE_BROWSER") == "1":
            pytest.fail("A browser is required here, but Chromium was not found.")
        pytest.skip("Chromium was not found; install it to test the pages in a browser.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found.url, headless=True, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


START_SECONDS = 180.0
"""For a machine that is busy with other tests; it usually takes three."""


class Product:
    """One `mn up` and its data folder."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.env = environment(self.data, MN_LEASE_SECONDS="20", MN_POLL_SECONDS="1")
        self.process = Process([*MN, "up", "--no-browser", "--port", "0"], self.env, folder / "up.log")
        try:
            found: re.Match[str] = until(self._link, "the sign-in link to be printed", START_SECONDS)
        except BaseException:
            self.process.stop()
            raise
        self.link = found[0]
        self.base = self.link.split("/sign-in/")[0]

    def _link(self) -> re.Match[str] | None:
        text = self.process.log.read_text(errors="replace")
        assert self.process.is_running, f"`mn up` ended:\n{text}"
        return re.search(r"http://\S+/sign-in/\S+", text)

    def mn(self, *arguments: str, expect: int = 0) -> Any:
        """A command on the same data, with `--json`; returns its document."""
        done = subprocess.run(
            [*MN, *arguments, "--json"], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == expect, f"{arguments} gave {done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def outbox(self) -> list[Path]:
        return sorted(p for p in (self.data / "outbox").rglob("*.eml") if p.is_file())

    def close(self) -> None:
        self.process.stop()


@pytest.fixture
def fresh_product(tmp_path: Path) -> Iterator[Product]:
    """Nothing has ever run on this one, not even the migrations."""
    product = Product(tmp_path)
    yield product
    product.close()


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    folder = tmp_path_factory.mktemp("product")
    lay_out(folder / "data")
    product = Product(folder)
    yield product
    product.close()


@pytest.fixture(scope="session")
def built_canvas() -> None:
    """For tests that need the canvas."""
    if assets.bundle_files("graph"):
        return
    if services.required():
        pytest.fail("The canvas has not been built; run `make install`.")
    pytest.skip("The canvas has not been built; run `make install`.")


class Watched:
    """A page whose every complaint is kept."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.add_init_script(_WATCH_CSP)
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: self.errors.append(str(e)))

    def violations(self) -> list[str]:
        return list(self.page.evaluate("window.__violations || []"))

    def assert_quiet(self, *expected: str) -> None:
        """No console error (besides those that match), no CSP violation."""
        errors = [e for e in self.errors if not any(re.search(x, e) for x in expected)]
        assert not errors, errors
        assert not self.violations()


@pytest.fixture(scope="module")
def session(browser: Browser, product: Product) -> Iterator[BrowserContext]:
    """Signed in by the printed link, once per product."""
    context = browser.new_context(base_url=product.base)
    context.set_default_timeout(15_000)
    expect.set_options(timeout=15_000)
    page = context.new_page()
    sign_in(page, product)
    page.close()
    yield context
    context.close()


@pytest.fixture
def watched(session: BrowserContext) -> Iterator[Watched]:
    page = session.new_page()
    yield Watched(page)
    page.close()


def sign_in(page: Page, product: Product) -> None:
    page.goto(product.link)
    page.get_by_test_id("rail-inbox").wait_for()


def second_person(browser: Browser, product: Product, email: str, name: str) -> BrowserContext:
    """Somebody else who may edit, signed in by the link that was printed for them."""
    added = product.mn("user", "add", email, "--name", name, "--role", "editor")
    context = browser.new_context(base_url=product.base)
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.goto("/sign-in/" + added["sign_in"].split("/sign-in/")[1])
    page.get_by_test_id("rail-inbox").wait_for()
    page.close()
    return context


Shoot = Callable[[Page, str], None]


@pytest.fixture
def shoot() -> Shoot:
    """Save a picture of the page in light, dark and phone width when MN_SCREENSHOTS=1."""

    def save(page: Page, name: str) -> None:
        if os.environ.get("MN_SCREENSHOTS") != "1":
            return
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        size = page.viewport_size
        for variant, width, scheme in (
            ("light", 1280, "light"),
            ("dark", 1280, "dark"),
            ("phone", 390, "light"),
        ):
            page.set_viewport_size({"width": width, "height": 860})
            page.emulate_media(color_scheme=scheme)
            page.screenshot(path=SCREENSHOTS / f"{name}-{variant}.png", full_page=True)
        page.emulate_media(color_scheme="light")
        if size:
            page.set_viewport_size(size)

    return save
