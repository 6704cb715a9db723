"""The ledger: gapless, in order, never rewritten; evidence is always kept."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction

from apps.ledger import live, selectors
from apps.ledger.core.lines import LETTERS
from apps.ledger.core.states import MOVES, EffectState
from apps.ledger.models import Effect, EntryBatch, Evidence
from apps.ledger.selectors import effects_of, entries, entries_after, has_batch, has_entry
from apps.ledger.services import Line, add_evidence, append
from mirrorneuron.base.clock import now

pytestmark = pytest.mark.django_db


@pytest.fixture
def run_id():
    return uuid4()


@pytest.fixture
def write(workspace, run_id):
    def write(first, *lines):
        append(workspace_id=workspace.id, run_id=run_id, first_seq=first, at=now(), lines=lines)

    return write


@pytest.fixture
def effect(workspace, run_id):
    return Effect.objects.create(
        workspace=workspace, run_id=run_id, step_path="pay", key="k", fingerprint="f", tool="pay",
        effect_class="opaque", arguments={},
    )  # fmt: skip


def line(kind="step.ready", **data):
    return Line(kind, "a", 1, data)


def test_lines_are_numbered_one_after_the_other(write, run_id):
    write(1, line(), line(), line())
    write(4, line())
    assert [e.seq for e in entries_after(run_id, 0)] == [1, 2, 3, 4]
    assert [e.seq for e in entries_after(run_id, 2)] == [3, 4]
    assert [e.seq for e in entries_after(run_id, 0, limit=2)] == [1, 2]


def test_entries_of_one_transaction_are_one_row(write, run_id):
    write(1, line(), line(), line())
    assert list(EntryBatch.objects.values_list("run_id", "seq")) == [(run_id, 3)]


def test_a_transaction_without_entries_leaves_no_row(write):
    write(1)
    assert not EntryBatch.objects.exists()


def test_a_long_history_is_read_in_pieces(write, run_id, monkeypatch):
    monkeypatch.setattr(selectors, "BATCHES_AT_ONCE", 2)
    for first in range(1, 20, 2):
        write(first, line(), line())
    assert [e.seq for e in entries_after(run_id, 0)] == list(range(1, 21))
    assert [e.seq for e in entries_after(run_id, 2, limit=7)] == list(range(3, 10))
    assert entries_after(run_id, 20) == []


def test_entries_are_found_by_kind_and_step(write, run_id):
    write(1, Line("step.ready", "a", 0, {}), Line("step.ready", "b", 0, {}))
    write(3, Line("step.succeeded", "a", 1, {}), Line("step.failed", "b", 1, {}))
    assert [e.seq for e in entries(run_id, kinds=["step.ready", "step.failed"])] == [1, 2, 4]
    assert [e.seq for e in entries(run_id, path="a")] == [1, 3]
    assert [e.seq for e in entries(run_id, path="b", kinds=["step.failed"])] == [4]
    assert [e.seq for e in entries(run_id, newest=1)] == [3, 4]
    assert [e.seq for e in entries(run_id, newest=2)] == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", [*LETTERS, "step.failed"])
def test_a_kind_comes_back_however_it_is_written(write, run_id, workspace, kind):
    write(2, line("step.skipped"), line(kind))
    written_out = f'[["{kind}","a",1,{{}}]]'
    EntryBatch.objects.create(run_id=run_id, seq=4, workspace=workspace, at=now(), lines=written_out)
    assert [e.kind for e in entries_after(run_id, 2)] == [kind, kind]
    assert [e.seq for e in entries(run_id, kinds=[kind])] == [3, 4]


def test_what_somebody_wrote_is_not_taken_for_an_entry(write, run_id):
    forged = {"text": '["run.recovered","",null,{}]', "value": ["run.recovered", "b", None, {}]}
    write(1, Line("step.succeeded", "a", 1, forged))
    assert not has_entry(run_id, "run.recovered")
    assert entries(run_id, path="b") == []


def test_an_entry_counts_from_a_time_on(write, run_id):
    write(1, line("run.recovered"))
    written = entries(run_id)[0].at
    assert has_entry(run_id, "run.recovered", since=written)
    assert not has_entry(run_id, "run.recovered", since=written + timedelta(microseconds=1))


def test_a_transaction_is_known_by_number_and_time(write, run_id):
    write(1, line(), line())
    at = entries(run_id)[0].at
    assert has_batch(run_id, 2, at)
    assert not has_batch(run_id, 1, at) and not has_batch(run_id, 2, at + timedelta(microseconds=1))


def test_a_number_is_given_once(write):
    write(1, line())
    with pytest.raises(IntegrityError), transaction.atomic():
        write(1, line())


def test_two_runs_count_apart(workspace, write):
    write(1, line())
    append(workspace_id=workspace.id, run_id=uuid4(), first_seq=1, at=now(), lines=[line()])
    assert EntryBatch.objects.filter(seq=1).count() == 2


def test_a_line_holds_whatever_happened(write, run_id):
    write(1, line(odd="a\x00b\ud800", number=float("nan"), raw=b"\xff"))
    assert entries_after(run_id, 0)[0].data == {
        "odd": "a\\u0000b\\ud800", "number": "NaN", "raw": {"$bytes": "/w=="}
    }  # fmt: skip


def test_evidence_is_added_and_never_replaced(effect):
    add_evidence(effect, "worker", {"state": "present"}, fence=1)
    add_evidence(effect, "worker", {"state": "present"}, fence=1)
    add_evidence(effect, "person", {"outcome": "happened"})
    assert [e.source for e in Evidence.objects.order_by("id")] == ["worker", "worker", "person"]
    assert [e.id for e in effects_of(effect.run_id)] == [effect.id]
    assert effects_of(effect.run_id, state="committed") == []


def test_what_was_committed_or_failed_never_changes():
    assert MOVES[EffectState.COMMITTED] == MOVES[EffectState.FAILED] == frozenset()
    assert EffectState.INTENT not in {target for targets in MOVES.values() for target in targets}


def test_a_hint_to_a_loop_that_has_closed_is_lost_and_nothing_else(monkeypatch):
    class Closing:
        def is_closed(self):
            return False

        def call_soon_threadsafe(self, *args):
            raise RuntimeError("Event loop is closed")

    monkeypatch.setattr(live, "_server_loop", Closing())
    live.announce("run.x")
    assert "run.x" not in live._pending
