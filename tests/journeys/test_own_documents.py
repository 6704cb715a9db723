"""Documents the product has never seen, given through the form and on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.harness import until
from tests.journeys.conftest import Product, Watched
from tests.journeys.steps import SAMPLE, approve, documents_about_nobody, run_id, wait_status

pytestmark = [pytest.mark.browser]


def assert_quotes_only(run: dict, texts: dict[str, str]) -> None:
    """Every cited passage stands word for word in the document it names, and the summary in the passages."""
    given = {name: " ".join(text.split()) for name, text in texts.items()}
    passages = run["output"]["passages"]
    assert passages
    for passage in passages:
        assert passage["source"] in given, passage
        if not passage["source"].endswith(".csv"):
            assert " ".join(passage["text"].replace("#", "").split()) in given[passage["source"]].replace(
                "# ", ""
            ), passage
    everything = " ".join(given.values())
    for sentence in run["output"]["summary"].split(". "):
        assert " ".join(sentence.split()).rstrip(".") in everything, sentence


def test_the_form_takes_a_folder_and_quotes_only_from_it(
    product: Product, watched: Watched, tmp_path: Path
) -> None:
    page = watched.page
    texts = documents_about_nobody(tmp_path / "documents")
    page.goto(f"/gallery/{SAMPLE}")
    form = page.get_by_test_id("run-form")
    form.get_by_label("Company").fill("Zephyrine Glassworks")
    form.get_by_label("Recipient").fill("odalys@zephyrine.example")
    form.locator('[data-testid="field-documents"] input[type="file"]').first.set_input_files(
        sorted((tmp_path / "documents").iterdir())
    )
    form.locator("button").click()

    run = run_id(page)
    wait_status(page, "waiting")
    page.locator('[data-action="review"]').click()
    approve(page)
    page.goto(f"/runs/{run}")
    wait_status(page, "succeeded")

    assert_quotes_only(product.mn("runs", "show", run), texts)
    assert any("odalys@zephyrine.example" in m.read_text() for m in product.outbox())
    watched.assert_quiet()


def test_the_command_line_takes_a_folder_and_waits_with_code_3(product: Product, tmp_path: Path) -> None:
    texts = documents_about_nobody(tmp_path / "documents")
    before = len(product.outbox())
    waiting = product.mn(
        "run", SAMPLE, "-i", "company=Zephyrine Glassworks", "-i", f"documents={tmp_path / 'documents'}",
        "-i", "recipient=odalys@zephyrine.example", "--wait", expect=3,
    )  # fmt: skip
    assert waiting["status"] == "waiting"
    explained = product.mn("runs", "explain", waiting["id"])
    assert "approve_final_email" in str(explained["waiting_for"])
    assert any(n["step"] == "send" for n in explained["next"])

    (request,) = [r for r in product.mn("approvals", "list")["items"] if r["run"] == waiting["id"]]
    product.mn("approvals", "approve", request["id"])
    run = _until_ended(product, waiting["id"])
    assert run["status"] == "succeeded"
    assert_quotes_only(run, texts)
    assert len(product.outbox()) == before + 1


def _until_ended(product: Product, run: str) -> dict:
    return until(
        lambda: (seen := product.mn("runs", "show", run))["status"] in ("succeeded", "failed") and seen,
        "the run to end",
    )
