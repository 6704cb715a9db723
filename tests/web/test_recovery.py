"""Recovery on the pages: the options of a step, what each means, and the act; without scripts too."""

from __future__ import annotations

import re
from typing import Any

import pytest

from apps.runs import services
from apps.runs.models import Run
from apps.web.core.recovery import options
from apps.workspaces.models import User, Workspace
from tests.runs.engine import version_of, work_all
from tests.web.conftest import ClientOf

pytestmark = pytest.mark.django_db(transaction=True)
NODES = [
    {"id": "one", "kind": "transform", "output": 10},
    {"id": "two", "kind": "transform", "title": "Divide it", "output": "{{ steps.one.output / inputs.by }}"},
    {"id": "three", "kind": "transform", "output": "{{ steps.two.output + 1 }}"},
]
EDGES = [{"from": "one", "to": "two"}, {"from": "two", "to": "three"}]


@pytest.fixture
def run(workspace: Workspace, alice: User, principal: Any) -> Run:
    """A run that has failed at its second step."""
    version = version_of(workspace, NODES, EDGES, outputs={"result": "{{ steps.three.output }}"})
    run = services.start_run(principal(alice), version, {"by": 0})
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    return run


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_a_failed_step_offers_its_ways_on(run: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{run.id}").content.decode()
    panel = html[html.index('id="step-panel"') :]
    assert 'data-step-path="two"' in panel.partition(">")[0]
    for verb in ("retry", "skip", "fork-redo", "fork-edit"):
        assert f'data-action="{verb}"' in panel
    # What failed for good is not recommended to be done once more.
    assert 'class="button filled"' not in html and "It fails again unless" in panel
    assert "What has happened is not sent again" in panel


def test_a_step_that_may_succeed_next_time_is_tried_again_first() -> None:
    for permanent, main in ((False, ["retry"]), (True, [])):
        step = {"path": "two", "status": "failed", "reason": "", "error": {"permanent": permanent}}
        found = options("failed", step, has_question=False)
        assert [one.verb for one in found if one.is_main] == main


def test_a_decision_the_contract_requires_is_not_offered_to_be_skipped(
    demo: Run, browser: ClientOf, alice: User
) -> None:
    """It was offered, and then refused."""
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    panel = html[html.index('id="step-panel"') :]
    assert demo.steps.get(status="waiting").path in panel and 'data-action="skip"' not in panel


def test_a_form_in_its_place_takes_the_keyboard_along(run: Run, browser: ClientOf, alice: User) -> None:
    address = f"/runs/{run.id}/skip?step=two"
    fragment = browser(alice).get(address, headers={"HX-Request": "true"}).content.decode()
    assert 'id="recovery-title" tabindex="-1" autofocus' in fragment


def test_a_viewer_is_offered_nothing_and_may_do_nothing(
    run: Run, browser: ClientOf, alice: User, viewer: User
) -> None:
    html = browser(viewer).get(f"/runs/{run.id}").content.decode()
    assert "recovery-options" not in html and 'data-action="fork"' not in html
    for verb in ("retry", "skip", "fork"):
        assert browser(viewer).get(f"/runs/{run.id}/{verb}?step=two").status_code == 403
        posted = browser(viewer).post(f"/runs/{run.id}/{verb}", {"step": "two", "reason": "x"})
        assert posted.status_code == 403
    run.refresh_from_db()
    assert run.status == "failed"


def test_a_stranger_finds_nothing(run: Run, browser: ClientOf, charlie: User) -> None:
    for verb in ("retry", "skip", "fork"):
        assert browser(charlie).get(f"/runs/{run.id}/{verb}?step=two").status_code == 404
        assert browser(charlie).post(f"/runs/{run.id}/{verb}", {"step": "two"}).status_code == 404


def test_the_page_of_a_retry_says_what_it_does_and_changes_nothing(
    run: Run, browser: ClientOf, alice: User
) -> None:
    client, seq = browser(alice), run.seq
    page = client.get(f"/runs/{run.id}/retry?step=two").content.decode()
    assert "Try “Divide it” again?" in page and "<html" in page
    assert "The run, which has failed, goes on." in page and "Keeps the results of 1 finished step." in page
    fragment = client.get(f"/runs/{run.id}/retry?step=two", headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in fragment and "Try “Divide it” again?" in fragment
    run.refresh_from_db()
    assert run.seq == seq
    assert client.post(f"/runs/{run.id}/retry", {"step": "two"}).status_code == 422, "no reason was given"
    done = client.post(f"/runs/{run.id}/retry", {"step": "two", "reason": "perhaps now"}, follow=True)
    assert "You had it tried again." in done.content.decode()
    run.refresh_from_db()
    assert run.status == "running"


def test_a_step_is_skipped_with_a_value_in_json(run: Run, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    page = client.get(f"/runs/{run.id}/skip?step=two").content.decode()
    assert "What this does" in page and "leaves the inbox" not in page
    wrong = client.post(f"/runs/{run.id}/skip", {"step": "two", "value": "{", "reason": "by hand"})
    assert wrong.status_code == 422
    assert "is not JSON" in wrong.content.decode() and 'value="by hand"' in wrong.content.decode()
    right = client.post(f"/runs/{run.id}/skip", {"step": "two", "value": "5", "reason": "by hand"})
    assert right.headers["Location"] == f"/runs/{run.id}"
    work_all()
    run.refresh_from_db()
    assert (run.status, run.output) == ("succeeded", {"result": 6})


def test_a_run_is_forked_once_however_often_the_button_is_pressed(
    run: Run, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    page = client.get(f"/runs/{run.id}/fork?step=one&mode=edit").content.decode()
    assert "Starts a new run. This one stays as it is." in page and "Does nothing a second time." in page
    key = re.search(r'name="key" value="([^"]+)"', page)
    assert key and ">\n10</textarea>" in page, "the output as it was is there to be changed"
    given = {"step": "one", "mode": "edit", "value": "20", "reason": "wrong", "key": key[1]}
    first = client.post(f"/runs/{run.id}/fork", given)
    again = client.post(f"/runs/{run.id}/fork", given)
    assert first.headers["Location"] == again.headers["Location"]
    assert Run.objects.count() == 2
    html = client.get(first.headers["Location"] + "?step=one").content.decode()
    assert 'data-testid="kept"' in html and 'data-testid="forked-from"' in html


def test_a_failed_run_is_taken_up_again_without_choosing_a_step(
    run: Run, browser: ClientOf, alice: User
) -> None:
    page = browser(alice).get(f"/runs/{run.id}/fork").content.decode()
    assert "Take this run up again" in page and "Keeps 1 result: “One”." in text(page)


def test_what_cannot_be_done_is_said_with_a_way_back(run: Run, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    page = client.get(f"/runs/{run.id}/retry?step=one").content.decode()
    assert "only a failed step is tried again" in page and "Back to the run" in page
    assert 'data-action="retry-confirm"' not in page
    assert client.get(f"/runs/{run.id}/retry").status_code == 404
    assert client.get(f"/runs/{run.id}/fork?step=nope").status_code == 200


def test_text_in_a_value_stays_text(run: Run, browser: ClientOf, alice: User) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    shown = browser(alice).post(f"/runs/{run.id}/skip", {"step": "two", "value": hostile}).content.decode()
    assert "&lt;img" in shown and "<img src=x" not in shown


def test_a_value_nested_without_end_is_refused_in_words(run: Run, browser: ClientOf, alice: User) -> None:
    given = {"step": "two", "value": "[" * 50_000, "mode": "edit", "reason": "r"}
    for verb in ("skip", "fork"):
        answer = browser(alice).post(f"/runs/{run.id}/{verb}", given)
        assert answer.status_code == 422 and "nested too deep" in answer.content.decode()


def test_skipping_a_question_in_its_place_leaves_the_main_button_to_the_inbox(
    demo: Run, browser: ClientOf, alice: User
) -> None:
    path = demo.steps.get(status="waiting").path
    address = f"/runs/{demo.id}/skip?step={path}"
    fragment = browser(alice).get(address, headers={"HX-Request": "true"}).content.decode()
    assert "button filled" not in fragment
    page = browser(alice).get(address).content.decode()
    assert "button filled" in page or "The contract requires that a person decides" in page
