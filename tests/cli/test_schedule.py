"""`mn schedule` and `mn signal`: the same rules as everywhere, in words on a terminal."""

from __future__ import annotations

import pytest

from apps.runs.models import Run, Schedule
from apps.runs.services import start_run
from tests.runs.engine import statuses, version_of, work_all

PAID = {"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer"}}}
NAMED = {"inputs": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}


@pytest.fixture
def blueprint(workspace) -> str:
    node = {"id": "say", "kind": "transform", "output": "Hello {{ inputs.name }}"}
    return version_of(workspace, nodes=[node], contract=NAMED).blueprint.name


@pytest.fixture
def waiting(workspace, alice, principal) -> Run:
    nodes = [{"id": "wait", "kind": "sensor", "signal": "paid", "schema": PAID, "due": "2d"}]
    run = start_run(principal(alice), version_of(workspace, nodes=nodes), {})
    work_all()
    return run


def add(mn, blueprint, *more, **kwargs):
    return mn(
        "schedule", "add", "daily", blueprint, "--cron", "0 9 * * *", "--zone", "Europe/Berlin",
        "-i", "name=Ada", *more, **kwargs,
    )  # fmt: skip


def test_a_schedule_from_the_first_word_to_the_last(mn, blueprint):
    said = add(mn, blueprint, "--label", "team=sales", "--overlap", "queue")
    assert said.code == 0, said
    assert "At 09:00 every day, Europe/Berlin time" in said.out

    assert "daily" in mn("schedule", "list").out
    shown = mn("schedule", "show", "daily", "--json").json
    assert (shown["inputs"], shown["labels"]) == ({"name": "Ada"}, {"team": "sales"})
    assert shown["overlap"] == "queue"
    assert len(mn("schedule", "next", "daily", "--count", "3", "--json").json["items"]) == 3

    assert mn("schedule", "pause", "daily").code == 0
    assert "paused" in mn("schedule", "list").out
    assert len(mn("schedule", "next", "daily", "--json").json["items"]) == 5
    assert mn("schedule", "resume", "daily").code == 0
    assert mn("schedule", "remove", "daily").code == 0
    assert Schedule.objects.count() == 0


def test_what_cannot_be_meant_names_its_field_and_ends_with_2(mn, blueprint):
    said = mn("schedule", "add", "x", blueprint, "--cron", "61 * * * *", "-i", "name=Ada")
    assert said.code == 2 and "Bad minute" in said.err
    said = mn("schedule", "add", "x", blueprint, "--every", "1s", "-i", "name=Ada")
    assert said.code == 2 and "10 seconds" in said.err
    assert mn("schedule", "add", "x", blueprint, "--every", "soon", "-i", "name=Ada").code == 2
    assert mn("schedule", "add", "x", blueprint, "--every", "1h").code == 2
    assert Schedule.objects.count() == 0


def test_somebody_else_takes_it_over(mn, blueprint, alice, bob):
    add(mn, blueprint, as_=bob)
    assert mn("schedule", "take-over", "daily", as_=alice).code == 0
    assert Schedule.objects.get().acts_as == alice


def test_a_stranger_sees_no_schedule_and_no_run(mn, blueprint, waiting, charlie, principal):
    add(mn, blueprint)
    assert mn("schedule", "list", "--json", as_=charlie).json == {"items": []}
    for verb in ("show", "pause", "resume", "remove", "next", "take-over"):
        assert mn("schedule", verb, "daily", as_=charlie).code == 1
    assert mn("signal", waiting.id, "paid", as_=charlie).code == 1
    assert statuses(waiting) == {"wait": "waiting"}


def test_a_run_says_what_it_waits_for_and_is_told(mn, waiting):
    said = mn("signal", waiting.id)
    assert "paid" in said.out and "amount" in said.out

    wrong = mn("signal", waiting.id, "paid", "--body", '{"amount": "many"}')
    assert wrong.code == 2 and "amount" in wrong.err

    assert "would take it" in mn("signal", waiting.id, "paid", "--body", '{"amount": 5}', "--preview").out
    assert statuses(waiting) == {"wait": "waiting"}

    said = mn("signal", waiting.id, "paid", "--body", "@-", "--key", "k", input='{"amount": 5}')
    assert said.code == 0 and '"wait" took it' in said.out
    again = mn("signal", waiting.id, "paid", "--body", '{"amount": 5}', "--key", "k")
    assert "delivered before" in again.out
    assert Run.objects.get(id=waiting.id).status == "succeeded"


def test_a_body_that_is_not_json_is_wrong_use(mn, waiting):
    assert mn("signal", waiting.id, "paid", "--body", "{").code == 2
