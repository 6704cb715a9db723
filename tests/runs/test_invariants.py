"""The ledger's own promises: a history that cannot have happened is found, whatever broke it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from apps.ledger.services import Line, append
from apps.runs import invariants
from apps.runs.invariants import check_all
from mirrorneuron.base.clock import now

pytestmark = pytest.mark.django_db


@pytest.fixture
def write(workspace):
    run_id = uuid4()

    def write(first, *kinds, path="a", **data):
        lines = [Line(kind, path, 1, data) for kind in kinds]
        append(workspace_id=workspace.id, run_id=run_id, first_seq=first, at=now(), lines=lines)

    return write


def found():
    return [(f.invariant, f.what) for f in check_all()]


def test_a_history_without_gap_is_fine(write):
    write(1, "run.started", "step.ready")
    write(3, "step.started")
    write(4, "step.succeeded", "run.succeeded")
    assert found() == []


@pytest.mark.parametrize(
    "firsts", [(2,), (1, 4), (1, 2), (1, 3, 4)], ids=["no beginning", "gap", "overlap", "overlap later"]
)
def test_a_gap_or_an_overlap_is_found(write, firsts):
    for first in firsts:
        write(first, "step.ready", "step.started")
    assert [invariant for invariant, _ in found()] == ["I4"]


def test_a_second_end_is_found_unless_the_run_was_reopened(write):
    write(1, "run.failed")
    write(2, "run.reopened")
    write(3, "run.succeeded")
    assert found() == []
    write(4, "run.failed")
    assert found() == [("I3", "the run ended 3 times.")]


def test_a_step_that_succeeded_twice_is_found(write):
    write(1, "step.succeeded")
    write(2, "step.succeeded", path="b")
    assert found() == []
    write(3, "step.succeeded")
    assert found() == [("I3", "a succeeded 2 times.")]


def test_an_effect_that_was_committed_twice_is_found(write):
    write(1, "effect.committed", key="k1")
    write(2, "effect.committed", key="k2")
    assert found() == []
    write(3, "effect.committed", key="k1")
    assert found() == [("I1", "effect k1 was committed 2 times.")]


def test_of_a_ledger_too_long_to_read_only_whole_histories_are_judged(workspace, monkeypatch):
    monkeypatch.setattr(invariants, "LEDGER_BATCHES", 3)
    for _ in range(2):
        run_id = uuid4()
        for seq in (1, 2):
            append(workspace_id=workspace.id, run_id=run_id, first_seq=seq, at=now(),
                   lines=[Line("step.ready", "a", 0, {})])  # fmt: skip
    assert found() == []
