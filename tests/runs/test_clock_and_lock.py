"""What the engine stands on: the clock, the one write lock of a database file, JSON that can be stored."""

from __future__ import annotations

import fcntl
import multiprocessing
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from apps.workspaces.models import Workspace
from mirrorneuron.base.clock import Clock
from mirrorneuron.base.safejson import canonical, fingerprint, storable
from mirrorneuron.base.sqlite.base import WriteLock


def set_clock(clock: Clock, seconds: float, took: float = 0.0) -> None:
    """The database says that it is so much later than we think."""
    at = time.monotonic()
    clock.set_offset(datetime.now(UTC) + timedelta(seconds=seconds), at - took / 2, at + took / 2)


def test_the_clock_stands_still_rather_than_go_back():
    clock = Clock()
    set_clock(clock, 0)
    set_clock(clock, 3)
    before = clock.now()
    set_clock(clock, 0)
    assert clock.now() >= before


def test_a_clock_that_was_far_ahead_is_corrected_at_once():
    clock = Clock()
    set_clock(clock, 600)
    set_clock(clock, 0)
    assert abs((clock.now() - datetime.now(UTC)).total_seconds()) < 1


def test_a_slow_answer_does_not_move_a_clock_that_knows_better():
    clock = Clock()
    set_clock(clock, 0)
    before = clock._base
    set_clock(clock, 0.9, took=2)
    assert clock._base == before
    set_clock(clock, 1.5, took=2)
    assert clock._base != before


def test_a_lock_that_cannot_be_had_is_not_kept(tmp_path, monkeypatch):
    lock = WriteLock(str(tmp_path / "db"))

    def fails(file, how):
        raise OSError("no locks available")

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", fails)
        with pytest.raises(OSError, match="no locks"):
            lock.acquire()
    lock.acquire()
    lock.release()


def _write_after_fork(path: str, held: bool, done: object) -> None:
    lock = WriteLock.of(path)
    lock.acquire()
    done.set()  # type: ignore[attr-defined]
    lock.release()


def test_a_forked_child_waits_for_its_parent_and_for_no_thread_it_lost(tmp_path):
    path = str(tmp_path / "db")
    lock = WriteLock.of(path)
    lock.acquire()
    fork = multiprocessing.get_context("fork")
    done = fork.Event()
    child = fork.Process(target=_write_after_fork, args=(path, True, done))
    child.start()
    assert not done.wait(0.3), "the parent holds it"
    lock.release()
    assert done.wait(10)
    child.join(10)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["raises", "closes", "nests"])
def test_after_any_transaction_the_next_writer_gets_in(how):
    if connection.vendor != "sqlite":
        pytest.skip("the write lock belongs to SQLite")

    def write() -> None:
        with transaction.atomic():
            Workspace.objects.create(slug="a", name="A")
            if how == "raises":
                raise RuntimeError
            if how == "closes":
                connection.close()
                raise RuntimeError
            with transaction.atomic():
                Workspace.objects.create(slug="b", name="B")

    if how == "nests":
        write()
    else:
        with pytest.raises(RuntimeError):
            write()
    entered = threading.Event()

    def other() -> None:
        Workspace.objects.create(slug="c", name="C")
        entered.set()
        connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert entered.wait(10)
    thread.join()


@pytest.mark.django_db
@pytest.mark.parametrize("value", [1e16, 1e20, -1e300, 2**70, 0.1, 1e-7, "ü", "e\u0301", [1.0, -0.0]])
def test_a_value_keeps_its_fingerprint_through_the_database(value):
    from apps.blueprints.models import Blueprint, Version

    space = Workspace.objects.create(slug="a", name="A")
    blueprint = Blueprint.objects.create(workspace=space, name="b", title="b")
    row = Version.objects.create(
        blueprint=blueprint, number=1, content_hash="x", document=storable({"v": value}), source=""
    )
    row.refresh_from_db()
    assert fingerprint(row.document) == fingerprint({"v": value})


def test_a_megabyte_of_text_is_stored_in_milliseconds():
    text = "größe " * 200_000
    began = time.perf_counter()
    assert storable(text) == text
    assert time.perf_counter() - began < 0.1
    assert storable("a\x00\ud800b") == "a\\u0000\\ud800b"
    assert canonical({"b": 1.0, "a": "\x00"}) == '{"a":"\\\\u0000","b":1}'
