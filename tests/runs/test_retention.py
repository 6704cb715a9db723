"""What is kept how long: ended runs are archived, then removed; what waits is never touched."""

from __future__ import annotations

import gzip
import json
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger import payloads
from apps.ledger.models import Effect, EntryBatch, Payload, PayloadUse
from apps.runs import ports, retention, services
from apps.runs.archive import read_archive, restore_archive, write_archive
from apps.runs.errors import ArchiveBroken, RunConflict, RunNotFound, RunRemoved
from apps.runs.invariants import check_all
from apps.runs.models import Attempt, Call, RemovedRun, Run, Signal, Step
from apps.runs.ports import CallRecord, Done, EffectCall, register_handler
from apps.runs.selectors import costs_of, events_after, run_effects, run_for, runs_for, steps_of
from apps.runs.views import effect_view, event_view, run_view
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.config import config
from tests.base.test_packed import VALUES
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = "".join(chr(97 + i * 7919 % 26) for i in range(50_000))


@pytest.fixture(autouse=True)
def house():
    payloads.clear_caches()
    before = dict(ports._handlers)
    yield
    ports._handlers.clear()
    ports._handlers.update(before)
    assert check_all() == []
    payloads.clear_caches()


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, edges=(), inputs=None, key=None, simulate=False, **document):
        version = version_of(workspace, nodes, edges, **document)
        return services.start_run(
            principal(alice), version, inputs or {}, idempotency_key=key, simulate=simulate
        )

    return start


@pytest.fixture
def full(start, alice, principal):
    """An ended run with some of everything: calls, a retry's attempt, a signal, an effect, large values."""

    def tool(context):
        context.record(
            CallRecord(
                kind="tool", name="look", turn=0, ordinal=0, request_hash="h", request={"q": TEXT},
                response={"found": [1, 2.5, None, "ä"]}, started_at=now(), latency_ms=3,
            )
        )  # fmt: skip
        call = EffectCall(
            tool="post", arguments={"body": TEXT + "!"}, effect_class="opaque", turn=1,
            execute=lambda key: {"sent": TEXT[::-1]}, timeout_seconds=5,
        )  # fmt: skip
        return Done({"n": len(context.effect(call)["sent"]), "text": TEXT})

    def full(key=None):
        register_handler("tool", tool)
        run = start(
            [
                {"id": "a", "kind": "tool", "tool": "x"},
                {"id": "b", "kind": "transform", "output": "{{ steps.a.output.text }}"},
            ],
            [{"from": "a", "to": "b"}],
            {"text": TEXT},
            key=key,
            outputs={"text": "{{ steps.b.output }}"},
        )
        services.deliver_signal(principal(alice), run.id, "news", {"body": TEXT[:20_000]})
        work_all()
        step = Step.objects.get(run=run, path="a")
        Attempt.objects.create(step=step, number=1, fence=1, status="lost", ended_at=now(), error={"m": 1})
        return Run.objects.get(id=run.id)

    return full


def exported(run: Run) -> str:
    """All a run shows, as one text."""
    payloads.clear_caches()
    run = Run.objects.get(id=run.id)
    return json.dumps(
        [
            run_view(run),
            steps_of(run),
            [event_view(e) for e in events_after(run, 0, 10_000)],
            [effect_view(e) for e in run_effects(run)],
            costs_of(run),
            [[c.kind, c.request, c.response, c.latency_ms] for c in Call.objects.order_by("id")],
            [[s.name, s.body, s.consumed_by] for s in Signal.objects.order_by("id")],
            [[a.number, a.status, a.error] for a in Attempt.objects.order_by("id")],
        ]
    )


def age(run: Run, days: int) -> None:
    then = now() - timedelta(days=days)
    Run.objects.filter(id=run.id).update(created_at=then, ended_at=then)
    Payload.objects.update(used_at=now() - timedelta(days=days))


def rows_left(run: Run) -> int:
    mine = [Step.objects.filter(run_id=run.id), Signal.objects.filter(run_id=run.id)]
    mine += [EntryBatch.objects.filter(run_id=run.id), Run.objects.filter(id=run.id)]
    mine += [Call.objects.filter(step__run_id=run.id), Attempt.objects.filter(step__run_id=run.id)]
    return sum(rows.count() for rows in mine)


# --- archive and back -------------------------------------------------------------------------------------


def test_archived_removed_and_brought_back_a_run_shows_exactly_what_it_showed(full, workspace):
    run = full()
    before = exported(run)
    archive = write_archive(run.id)
    retention.remove_run(run.id, archive=archive)
    assert rows_left(run) == 0
    back = restore_archive(archive.path, workspace)
    assert exported(back) == before
    assert not RemovedRun.objects.exists()


def test_it_comes_back_too_when_its_effects_and_payloads_are_gone(full, workspace):
    run = full()
    before = exported(run)
    archive = write_archive(run.id)
    retention.remove_run(run.id, archive=archive)
    Effect.objects.update(created_at=now() - timedelta(days=500))
    Payload.objects.update(used_at=now() - timedelta(days=500))
    assert retention.forget_effects() == 1 and payloads.forget_unused() == 4
    assert not Payload.objects.exists() and not PayloadUse.objects.exists()
    Effect.objects.all().delete()
    before_effects = json.loads(before)[3][0]
    back = restore_archive(archive.path, workspace)
    after = json.loads(exported(back))
    assert after[3][0] == before_effects
    assert after == json.loads(before)


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=3))
def test_whatever_a_run_carries_comes_back_equal(start, workspace, inputs):
    run = start(
        [{"id": "a", "kind": "transform", "output": "{{ inputs }}"}],
        (),
        inputs,
        outputs={"o": "{{ inputs }}"},
    )
    work_all()
    before = exported(run)
    archive = write_archive(run.id)
    retention.remove_run(run.id, archive=archive)
    back = restore_archive(archive.path, workspace)
    assert exported(back) == before
    retention.remove_run(run.id, archive=None)


def test_one_run_always_gives_the_same_file(full, tmp_path):
    run = full()
    assert write_archive(run.id, tmp_path / "a").path.read_bytes() == write_archive(
        run.id, tmp_path / "b"
    ).path.read_bytes()  # fmt: skip


@pytest.mark.parametrize("harm", ["cut", "flip", "drop", "append", "empty"])
def test_a_file_that_is_not_whole_is_refused_in_words(full, workspace, harm):
    run = full()
    path = write_archive(run.id).path
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    match harm:
        case "cut":
            path.write_bytes(path.read_bytes()[:-30])
        case "flip":
            path.write_bytes(gzip.compress(b"".join(lines).replace(b'"succeeded"', b'"SUCCEEDED"', 1)))
        case "drop":
            path.write_bytes(gzip.compress(b"".join(lines[:3] + lines[4:])))
        case "append":
            path.write_bytes(gzip.compress(b"".join([*lines, lines[1]])))
        case "empty":
            path.write_bytes(b"")
    with pytest.raises(ArchiveBroken, match="is not whole"):
        read_archive(path)
    with pytest.raises(ArchiveBroken):
        restore_archive(path, workspace)


def test_nothing_comes_back_over_a_run_that_is_there_or_into_another_workspace(full, workspace, elsewhere):
    run = full()
    path = write_archive(run.id).path
    with pytest.raises(RunConflict, match="is here already"):
        restore_archive(path, workspace)
    with pytest.raises(RunConflict, match="another workspace"):
        restore_archive(path, elsewhere)


def test_an_interrupted_removal_or_restore_is_finished_later(full, workspace, monkeypatch):
    run = full()
    before = exported(run)
    archive = write_archive(run.id)
    with monkeypatch.context() as broken:
        broken.setattr(retention, "_delete_some", lambda table, rows: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            retention.remove_run(run.id, archive=archive)
    with pytest.raises(RunNotFound), services.locked_run(run.id):
        pass
    back = restore_archive(archive.path, workspace)
    assert exported(back) == before
    Run.objects.filter(id=run.id).update(removed_at=now() - timedelta(hours=2))
    RemovedRun.objects.all().delete()
    retention.prune()
    assert rows_left(run) == 0


# --- what goes and what stays -----------------------------------------------------------------------------


def test_an_old_run_is_archived_and_removed_and_its_effect_stays(full, principal, alice):
    run = full()
    age(run, 366)
    assert retention.prune() == 1
    assert rows_left(run) == 0
    effect = Effect.objects.get()
    payloads.clear_caches()
    assert effect.result == {"sent": TEXT[::-1]}, "I7 holds although the run is gone"
    assert {u.outlives for u in PayloadUse.objects.all()} == {True}
    gone = RemovedRun.objects.get()
    assert read_archive(Path(gone.archive)).run_id == run.id
    with pytest.raises(RunRemoved, match="was archived on"):
        run_for(principal(alice), run.id)
    assert not runs_for(principal(alice)).exists()


def test_payloads_nobody_uses_any_more_go_too(full):
    run = full()
    age(run, 366)
    used = Payload.objects.count()
    retention.prune()
    payloads.forget_unused()
    assert Payload.objects.count() == PayloadUse.objects.count() == used - 2 > 0


def test_a_run_that_still_waits_is_never_touched(start):
    run = start([{"id": "t", "kind": "timer", "duration": "4000d"}])
    work_all()
    long_ago = now() - timedelta(days=5_000)
    Run.objects.filter(id=run.id).update(created_at=long_ago, started_at=long_ago)
    EntryBatch.objects.update(at=long_ago)
    assert retention.prune() == 0
    retention.forget_orphans()
    assert (
        Run.objects.get(id=run.id).status == "waiting" and EntryBatch.objects.filter(run_id=run.id).exists()
    )
    with pytest.raises(RunConflict):
        write_archive(run.id)
    with pytest.raises(RunConflict, match="has not ended"):
        retention.remove_run(run.id, archive=None)


def test_nor_is_an_ended_part_of_one_that_still_waits(start):
    waiting = start([{"id": "t", "kind": "timer", "duration": "4000d"}])
    child = start([{"id": "a", "kind": "transform", "output": 1}])
    work_all()
    Run.objects.filter(id=child.id).update(root_id=waiting.id)
    age(child, 5_000)
    assert retention.prune() == 0
    with pytest.raises(RunConflict):
        retention.remove_run(child.id, archive=None)


def test_a_run_that_changed_after_it_was_archived_is_kept(full, alice, principal):
    run = full()
    archive = write_archive(run.id)
    with pytest.raises(RunConflict):
        services.deliver_signal(principal(alice), run.id, "late", 1)
    with pytest.raises(RunConflict, match="has changed"):
        retention.remove_run(run.id, archive=archive)
    assert Run.objects.filter(id=run.id, removed_at=None).exists()


def test_settings_say_how_long_by_class_workspace_and_kind(start, workspace, monkeypatch):
    days = {"chat": 10, f"{workspace.slug}/bills": 0, "bills": 1}
    monkeypatch.setattr(config(), "keep_classes", ",".join(f"{k}={v}" for k, v in days.items()))
    monkeypatch.setattr(config(), "keep_runs_days", 100)
    monkeypatch.setattr(config(), "keep_simulated_days", 5)
    node = [{"id": "a", "kind": "transform", "output": 1}]
    runs = {"plain": start(node), "chat": start(node), "bills": start(node), "simulated": start(node)}
    work_all()
    for name, run in runs.items():
        Run.objects.filter(id=run.id).update(workflow_class=name, simulate=name == "simulated")

    def due(days_ago):
        for run in runs.values():
            age(run, days_ago)
        ids = set(retention.due_runs().values_list("id", flat=True))
        return {name for name, run in runs.items() if run.id in ids}

    assert due(4) == set()
    assert due(6) == {"simulated"}
    assert due(11) == {"simulated", "chat"}
    assert due(5_000) == {"simulated", "chat", "plain"}


def test_zero_days_keep_for_ever(full, monkeypatch):
    monkeypatch.setattr(config(), "keep_runs_days", 0)
    age(full(), 30_000)
    assert retention.prune() == 0


def test_a_run_brought_back_is_kept_anew(full, workspace):
    run = full()
    age(run, 400)
    retention.prune()
    restore_archive(Path(RemovedRun.objects.get().archive), workspace)
    assert retention.prune() == 0


def test_a_folder_that_cannot_be_written_keeps_the_run(full, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(config(), "archive_folder", tmp_path / "file" / "below")
    run = full()
    age(run, 400)
    assert retention.prune() == 0 and Run.objects.filter(id=run.id, removed_at=None).exists()


def test_a_large_run_goes_in_bounded_transactions(start, monkeypatch):
    monkeypatch.setattr(retention, "ROWS_AT_ONCE", 3)
    ids = [f"s{i}" for i in range(10)]
    run = start(
        [{"id": i, "kind": "transform", "output": 1} for i in ids],
        [{"from": a, "to": b} for a, b in pairwise(ids)],
    )
    work_all()
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as seen:
        retention.remove_run(run.id, archive=None)
    assert rows_left(run) == 0
    deletes = [q["sql"] for q in seen if q["sql"].startswith('DELETE FROM "runs_step"')]
    assert len(deletes) == 4


def test_an_idempotency_key_outlives_its_run(full, start, workspace, alice, principal):
    run = full(key="order-7")
    version, inputs = run.version, run.inputs
    age(run, 400)
    retention.prune()
    with pytest.raises(RunConflict, match="which ended and was archived") as refused:
        services.start_run(principal(alice), version, inputs, idempotency_key="order-7")
    assert refused.value.code == "run_removed"
    restore_archive(Path(RemovedRun.objects.get().archive), workspace)
    again = services.start_run(principal(alice), version, inputs, idempotency_key="order-7")
    assert again.id == run.id


def test_effects_are_remembered_for_their_own_time(full):
    run = full()
    Effect.objects.update(created_at=now() - timedelta(days=401))
    assert retention.forget_effects() == 0, "its run is still there"
    age(run, 400)
    retention.prune()
    assert retention.forget_effects() == 1
    assert not PayloadUse.objects.exists()


def test_what_is_left_of_runs_and_audits_is_forgotten_in_the_end(full, alice, principal, monkeypatch):
    run = full(key="k")
    age(run, 400)
    retention.prune()
    assert retention.forget_keys() == 0
    RemovedRun.objects.update(removed_at=now() - timedelta(days=401))
    assert retention.forget_keys() == 1
    audit(principal(alice), "x", "y", {})
    assert retention.forget_audit() == 0
    monkeypatch.setattr(config(), "keep_audit_days", 1)
    from apps.workspaces.models import AuditEntry

    AuditEntry.objects.update(at=now() - timedelta(days=2))
    assert retention.forget_audit() > 0 and not AuditEntry.objects.exists()
