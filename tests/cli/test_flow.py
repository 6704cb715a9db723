"""`mn limits`, `mn runs dead-letters` and `redrive`, and what `mn doctor` says about calls that wait."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.governance.models import Breaker, Bucket
from apps.runs import services
from apps.runs.models import Run
from apps.workspaces.models import Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.config import config
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)


def test_limits_are_set_listed_and_removed(mn):
    assert mn("limits", "list").out.startswith("No limits")
    said = mn("limits", "set", "tool:send_email", "100/1h", "--json")
    assert said.json == {"key": "tool:send_email", "calls": 100, "per_seconds": 3600.0}, said
    listed = mn("limits", "list")
    assert "tool:send_email" in listed.out and "100 in 3600 s" in listed.out
    assert mn("limits", "remove", "tool:send_email").code == 0
    again = mn("limits", "remove", "tool:send_email")
    assert again.code == 1 and "no limit" in again.err


@pytest.mark.parametrize("limit", ["100", "x/1h", "100/", "100/soon", "0/1h"])
def test_a_limit_that_cannot_be_meant_is_refused_in_words(mn, limit):
    said = mn("limits", "set", "tool:x", limit)
    assert said.code == 2 and said.err
    assert not Bucket.objects.exists()


def test_only_an_admin_may(mn, bob):
    assert mn("limits", "set", "tool:x", "1/s", as_=bob).code == 4
    assert mn("limits", "weight", "3", as_=bob).code == 4
    assert mn("limits", "list", as_=bob).code == 0


def test_the_weight_is_set(mn, workspace):
    assert mn("limits", "weight", "3").code == 0
    assert Workspace.objects.get(id=workspace.id).weight == 3
    assert mn("limits", "weight", "0").code == 2
    assert "Weight of the workspace: 3" in mn("limits", "list").out


def test_a_breaker_is_shown_and_closed_by_hand(mn, workspace, charlie):
    Breaker.objects.create(
        workspace=workspace, key="tool:pay@shop.example", open_until=now() + timedelta(minutes=5),
        waiting=4, last_error="shop.example answered 503.",
    )  # fmt: skip
    assert "keeps failing" in mn("limits", "list").out
    doctor = mn("doctor").out
    assert "tool:pay@shop.example keeps failing" in doctor and "4 wait" in doctor
    assert mn("limits", "close", "tool:pay@shop.example", as_=charlie).code == 1
    assert mn("limits", "close", "tool:pay@shop.example").code == 0
    assert not Breaker.objects.exists()


def test_dead_letters_are_counted_and_redriven(mn, workspace, alice, charlie, principal):
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": "{{ inputs.nope.x }}"}])
    for _ in range(2):
        services.start_run(principal(alice), version, {})
    work_all()
    assert "bad_expression" in mn("runs", "dead-letters").out
    assert mn("runs", "dead-letters", as_=charlie).out.startswith("No failed runs")
    assert mn("runs", "redrive").code == 2
    said = mn("runs", "redrive", "--preview")
    assert "2 runs would be retried" in said.out and Run.objects.filter(status="failed").count() == 2
    said = mn("runs", "redrive", "--reason", "mended", "--limit", "1")
    assert "1 run is retried. Failed runs left: 1." in said.out, said


def test_a_full_queue_is_said_in_words(mn, workspace, alice, principal, monkeypatch):
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": 1}])
    services.start_run(principal(alice), version, {})
    monkeypatch.setattr(config(), "max_queued", 1)
    said = mn("run", version.blueprint.name)
    assert said.code == 1 and "is full" in said.err and "Start it again" in said.err, said
