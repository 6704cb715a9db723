"""Chores: bounded, in any number of processes, each on its own."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session

from apps.api.models import IdempotencyRecord
from apps.runs import chores
from apps.workspaces.models import SignInLink
from mirrorneuron.base.clock import now

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def batches(monkeypatch):
    monkeypatch.setattr(chores, "BATCH", 2)


def test_what_has_expired_goes_in_batches_and_what_has_not_stays(workspace, alice):
    for i in range(5):
        at = now() - timedelta(days=1) if i < 4 else now() + timedelta(days=1)
        Session.objects.create(session_key=f"s{i}", session_data="", expire_date=at)
        SignInLink.objects.create(user=alice, digest=f"d{i}", expires_at=at - timedelta(days=8 * (i < 4)))
        IdempotencyRecord.objects.create(
            workspace=workspace, key=f"k{i}", fingerprint="", created_at=at - timedelta(days=7)
        )
    removed = chores.round_of_chores()
    assert (removed["sessions"], removed["links"], removed["answers"]) == (4, 4, 4)
    assert [Session.objects.count(), SignInLink.objects.count(), IdempotencyRecord.objects.count()] == [1] * 3
    assert set(chores.round_of_chores().values()) == {0}


def test_one_that_fails_keeps_no_other_from_its_work(alice, monkeypatch):
    monkeypatch.setattr(chores.retention, "prune", lambda: 1 / 0)
    SignInLink.objects.create(user=alice, digest="d", expires_at=now() - timedelta(days=30))
    assert chores.round_of_chores()["links"] == 1


def test_a_round_ends_when_its_time_is_over(monkeypatch):
    calls = []
    monkeypatch.setattr(chores, "chores", lambda: {"endless": lambda: calls.append(1) or 1})
    assert chores.round_of_chores(seconds=0.05)["endless"] == len(calls) > 1


def test_the_thread_stops_with_its_process():
    stopping = threading.Event()
    thread = threading.Thread(target=chores.keep_small, args=(stopping,))
    thread.start()
    stopping.set()
    thread.join(5)
    assert not thread.is_alive()
