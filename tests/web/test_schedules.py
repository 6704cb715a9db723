"""The schedules' page and the form that tells a run what it waits for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from apps.runs import schedules
from apps.runs.models import Run, Schedule
from apps.runs.schedules import Plan, add_schedule
from apps.runs.services import start_run
from apps.workspaces.models import Membership, User, Workspace
from tests.runs.engine import statuses, version_of, work_all
from tests.web.conftest import ClientOf
from tests.web.test_pages import read

PAID = {
    "type": "object",
    "required": ["amount"],
    "properties": {"amount": {"type": "integer"}, "note": {"type": "string"}},
}
NAMED = {"inputs": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}


@pytest.fixture
def blueprint(workspace: Workspace) -> str:
    node = {"id": "say", "kind": "transform", "output": "Hello {{ inputs.name }}"}
    return version_of(workspace, nodes=[node], contract=NAMED).blueprint.name


@pytest.fixture
def schedule(blueprint: str, alice: User, principal: Any) -> Schedule:
    plan = Plan("daily", blueprint, cron="0 9 * * *", time_zone="Europe/Berlin", inputs={"name": "Ada"})
    return add_schedule(principal(alice), plan)


@pytest.fixture
def waiting(workspace: Workspace, alice: User, principal: Any) -> Run:
    nodes = [{"id": "wait", "kind": "sensor", "signal": "paid", "schema": PAID, "due": "2d"}]
    run = start_run(principal(alice), version_of(workspace, nodes=nodes), {})
    work_all()
    return run


def given(blueprint: str, **more: str) -> dict[str, str]:
    return {
        "blueprint": blueprint, "name": "daily", "cron": "0 9 * * *", "every": "",
        "time_zone": "Europe/Berlin", "overlap": "queue", "catch_up": "all", "in.name": "Ada",
    } | more  # fmt: skip


def test_a_schedule_is_set_up_by_a_form_that_shows_its_times(
    blueprint: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    form = client.get(f"/schedules/new?blueprint={blueprint}").content.decode()
    assert 'name="in.name"' in form and read(form).wrong == []

    looked = client.post("/schedules/new", given(blueprint, look="yes"))
    html = looked.content.decode()
    assert looked.status_code == 200 and Schedule.objects.count() == 0
    times = re.search(r'data-testid="next-times".*?</ol>', html, re.S)
    assert times and times.group().count("<time") == 5
    assert "At 09:00 every day, Europe/Berlin time" in times.group()
    assert re.search(r"\w+day, \d+ \w+ \d{4}, 09:00 CES?T", times.group()), times.group()
    assert 'value="Ada"' in html, "what was typed is kept"

    made = client.post("/schedules/new", given(blueprint))
    assert made.status_code == 302 and made.headers["Location"] == "/schedules"
    row = Schedule.objects.get()
    assert (row.overlap, row.catch_up, row.inputs, row.acts_as) == ("queue", "all", {"name": "Ada"}, alice)
    listed = client.get("/schedules").content.decode()
    assert 'data-schedule="daily"' in listed and read(listed).wrong == []


def test_mistakes_are_named_and_nothing_typed_is_lost(blueprint: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    for wrong in (
        {"cron": "61 * * * *"},
        {"every": "soon", "cron": ""},
        {"in.name": ""},
        {"time_zone": "Mars"},
    ):
        answer = client.post("/schedules/new", given(blueprint, **wrong))
        html = answer.content.decode()
        assert answer.status_code == 422 and 'role="alert"' in html
        assert 'value="daily"' in html
    assert Schedule.objects.count() == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"cron": "61 * * * *"}, "Bad minute"),
        ({"cron": "", "every": "soon"}, "Write it like 30m"),
        ({"cron": "* * * * *", "every": "30m"}, "either a cron expression or an interval"),
        ({"cron": "* * * * *", "time_zone": "Nowhere"}, "is not a time zone"),
    ],
)
def test_times_that_cannot_be_shown_say_why(
    given: dict[str, str], words: str, blueprint: str, browser: ClientOf, alice: User
) -> None:
    """The button answered with nothing at all."""
    form = {"blueprint": blueprint, "name": "x", "time_zone": "UTC", "look": "yes", **given}
    html = browser(alice).post("/schedules/new", form).content.decode()
    assert "next-times" not in html and words in html and 'aria-invalid="true"' in html
    assert "Fill this in" not in html
    assert not Schedule.objects.exists()


def test_pause_resume_take_over_and_remove(
    schedule: Schedule, browser: ClientOf, alice: User, bob: User
) -> None:
    client = browser(bob)
    for verb, holds in (
        ("pause", lambda row: row.paused_at is not None),
        ("resume", lambda row: row.paused_at is None),
        ("take-over", lambda row: row.acts_as == bob),
    ):
        assert client.get(f"/schedules/{schedule.id}/{verb}").status_code == 405
        assert client.post(f"/schedules/{schedule.id}/{verb}").status_code == 302
        assert holds(Schedule.objects.get())
    assert client.post(f"/schedules/{schedule.id}/explode").status_code == 404
    client.post(f"/schedules/{schedule.id}/remove")
    assert Schedule.objects.count() == 0


def test_what_went_wrong_stands_with_the_schedule(schedule: Schedule, browser: ClientOf, alice: User) -> None:
    error = {
        "at": "2026-05-04T09:00:00Z",
        "code": "x",
        "message": "It is archived.",
        "next": "Bring it back.",
    }
    Schedule.objects.update(last_error=error)
    assert "It is archived." in browser(alice).get("/schedules").content.decode()


def test_a_stranger_and_a_viewer_change_nothing(
    schedule: Schedule, waiting: Run, browser: ClientOf, charlie: User, viewer: User, principal: Any
) -> None:
    stranger = browser(charlie)
    assert "daily" not in stranger.get("/schedules").content.decode()
    assert stranger.post(f"/schedules/{schedule.id}/remove").status_code == 404
    assert stranger.post(f"/runs/{waiting.id}/signals/paid", {"in.amount": "1"}).status_code == 404

    vera = browser(viewer)
    listed = vera.get("/schedules").content.decode()
    assert "daily" in listed and "<button" not in re.sub(r"<nav.*?</nav>", "", listed, flags=re.S)
    assert vera.post(f"/schedules/{schedule.id}/remove").status_code == 403
    assert vera.post(f"/runs/{waiting.id}/signals/paid", {"in.amount": "1"}).status_code == 403
    assert 'data-testid="signal-form"' not in vera.get(f"/runs/{waiting.id}").content.decode()
    assert Schedule.objects.count() == 1 and statuses(waiting) == {"wait": "waiting"}
    assert schedules.schedules_for(principal(viewer)).count() == 1


def test_the_run_page_asks_for_exactly_what_the_step_waits_for(
    waiting: Run, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    html = client.get(f"/runs/{waiting.id}").content.decode()
    assert 'data-testid="signal-form"' in html and 'name="in.amount"' in html
    key = re.search(r'name="key" value="(\w+)"', html)
    assert key is not None
    form = {"path": "wait", "key": key.group(1)}

    wrong = client.post(f"/runs/{waiting.id}/signals/paid", {**form, "in.amount": "many", "in.note": "hm"})
    assert wrong.status_code == 422 and "is not a number" in wrong.content.decode()
    assert 'value="hm"' in wrong.content.decode()
    assert client.post(f"/runs/{waiting.id}/signals/paid", form).status_code == 422

    sent = {**form, "in.amount": "5"}
    assert client.post(f"/runs/{waiting.id}/signals/paid", sent).status_code == 302
    assert client.post(f"/runs/{waiting.id}/signals/paid", sent).status_code == 302, "pressed twice"
    work_all()
    assert Run.objects.get(id=waiting.id).status == "succeeded"
    assert waiting.signals.count() == 1


def test_a_form_sent_after_the_end_says_so(waiting: Run, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.post(f"/runs/{waiting.id}/signals/paid", {"key": "a", "in.amount": "5"})
    work_all()
    late = client.post(f"/runs/{waiting.id}/signals/paid", {"key": "b", "in.body": "{}"})
    assert late.status_code == 409 and "has ended" in late.content.decode()
    assert client.get(f"/runs/{waiting.id}/signals/paid").status_code == 200


def test_without_a_schema_the_body_is_any_json(
    workspace: Workspace, alice: User, principal: Any, browser: ClientOf
) -> None:
    version = version_of(workspace, nodes=[{"id": "wait", "kind": "sensor", "signal": "go"}])
    run = start_run(principal(alice), version, {})
    work_all()
    client = browser(alice)
    assert client.post(f"/runs/{run.id}/signals/go", {"in.body": "{"}).status_code == 422
    assert client.post(f"/runs/{run.id}/signals/go", {"in.body": '{"a": [1]}'}).status_code == 302
    assert run.signals.get().body == {"a": [1]}


def test_a_member_who_left_is_named_as_nobody(
    schedule: Schedule, browser: ClientOf, bob: User, alice: User
) -> None:
    Membership.objects.filter(user=alice).delete()
    alice.delete()
    assert "acts for nobody" in browser(bob).get("/schedules").content.decode()
