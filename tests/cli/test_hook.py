"""`mn hook`: opened once, shown once, changed and closed."""

from __future__ import annotations

import json

import pytest

from apps.runs import hooks
from apps.runs.models import Hook
from tests.runs.engine import version_of
from tests.runs.test_hooks import send


@pytest.fixture
def blueprint(workspace) -> str:
    return version_of(workspace, nodes=[{"id": "say", "kind": "transform", "output": 1}]).blueprint.name


def signal_hook(mn, *more, **kwargs):
    return mn(
        "hook", "add", "payments", "--signal", "paid", "--label", "order", "--equals", "{{ body.order }}",
        *more, **kwargs,
    )  # fmt: skip


def test_a_hook_is_opened_and_its_secret_shown_once(mn, blueprint):
    said = mn(
        "hook", "add", "orders", "--start", blueprint, "--map", "inputs.name={{ body.customer }}",
        "--map", "labels.from=shop", "--when", "headers['x-event'] == 'order'",
    )  # fmt: skip
    assert said.code == 0 and "/api/v1/hooks/mnh_" in said.out and "whsec_" in said.out
    secret = said.out.split("secret")[-1].strip()
    for again in (mn("hook", "list"), mn("hook", "show", "orders"), mn("hook", "show", "orders", "--json")):
        assert again.code == 0 and secret not in again.out and "mnh_" not in again.out
    assert Hook.objects.get().mapping == {
        "blueprint": blueprint,
        "inputs": {"name": "{{ body.customer }}"},
        "labels": {"from": "shop"},
        "when": "headers['x-event'] == 'order'",
    }


def test_messages_are_listed_with_what_became_of_them(mn):
    made = signal_hook(mn, "--json").json
    opened = hooks.Opened(Hook.objects.get(), made["secret"], made["address"].rpartition("/")[2])
    send(opened, {"order": 17})
    shown = mn("hook", "show", "payments").out
    assert "held" in shown and "m1" in shown


def test_a_secret_the_sender_made_is_taken_and_rotated(mn):
    assert signal_hook(mn, "--scheme", "github", "--secret-file", "-", input="x" * 20).code == 0
    rotated = mn("hook", "rotate", "payments", "--keep", "0s", "--json")
    assert rotated.json["secret"].startswith("whsec_")
    assert mn("hook", "rotate", "payments", "--secret-file", "-", input="short").code == 2
    assert mn("hook", "remove", "payments").code == 0
    assert Hook.objects.count() == 0


def test_wrong_use_ends_with_2_and_opens_nothing(mn, blueprint):
    assert mn("hook", "add", "x").code == 2
    assert mn("hook", "add", "x", "--start", blueprint, "--signal", "y").code == 2
    assert mn("hook", "add", "x", "--start", blueprint, "--map", "name=x").code == 2
    assert mn("hook", "add", "x", "--start", blueprint, "--when", "body. ==").code == 2
    assert mn("hook", "add", "x", "--signal", "y").code == 2
    assert mn("hook", "add", "x", "--start", blueprint, "--tolerance", "soon").code == 2
    assert Hook.objects.count() == 0


def test_a_stranger_finds_no_hook(mn, charlie):
    signal_hook(mn)
    assert json.loads(mn("hook", "list", "--json", as_=charlie).out) == {"items": []}
    for verb in ("show", "rotate", "remove"):
        assert mn("hook", verb, "payments", as_=charlie).code == 1
    assert Hook.objects.count() == 1
