"""Storing a decision: all of it or nothing, in one statement where that is possible."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger.core.lines import Line
from apps.ledger.selectors import entries
from apps.runs import store
from apps.runs.core.states import StepStatus
from apps.runs.errors import StaleStep
from apps.runs.models import Attempt, Run, Step
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7
from mirrorneuron.base.packed import pack
from tests.runs.engine import version_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def run(workspace):
    version = version_of(workspace, [{"id": "a", "kind": "transform", "output": 1}])
    return Run.objects.create(workspace=workspace, version=version, blueprint_name="t", seq=5)


@pytest.fixture
def writes(run):
    """A write set for the run as it is; what a test is about is given by name."""

    def writes(**more):
        given = {"from_seq": 5, "to_seq": 6, "lines": [Line("run.noted", "", None, {})], **more}
        return store.WriteSet(workspace_id=run.workspace_id, run_id=run.id, at=now(), **given)

    return writes


@pytest.fixture
def row(run):
    def row(path, **more):
        return {
            "run_id": run.id, "workspace_id": run.workspace_id, "path": path, "node_id": path,
            "kind": "code", **more,
        }  # fmt: skip

    return row


@pytest.fixture
def steps(run, row):
    def steps(n):
        rows = [Step(**row(f"p{i}"), status="running", fence=3) for i in range(n)]
        return Step.objects.bulk_create(rows)

    return steps


def update(step, status="running", fence=3, **fields):
    return store.StepUpdate(step.id, step.path, status, fence, fields or {"status": "succeeded"})


def untouched(run):
    run.refresh_from_db()
    stored = set(Step.objects.filter(run=run).values_list("status", "fence"))
    return run.seq == 5 and entries(run.id) == [] and stored <= {("running", 3)}


# --- all or nothing ---------------------------------------------------------------------------------------


@pytest.fixture(params=["alone", "in a transaction"])
def around(request):
    """Both ways a decision is stored."""

    def write(ws):
        if request.param == "alone":
            return store.write(ws)
        with transaction.atomic():
            return store.write(ws)

    return write


def test_a_decision_is_stored_whole(run, writes, row, steps, around):
    (old,) = steps(1)
    ids = around(
        writes(
            run_fields={"status": "running", "needs_attention": True, "error": {"code": "x"}},
            updates=[update(old, status="running", output={"n": 1}, ended_at=now(), worker=None)],
            inserts=[row("b", status="ready", labels=["user"]), row("c", output=[1], taken=(0, 1))],
        )
    )
    run.refresh_from_db()
    assert (run.seq, run.status, run.needs_attention, run.error) == (6, "running", True, {"code": "x"})
    b, c = Step.objects.get(path="b"), Step.objects.get(path="c")
    assert ids == [b.id, c.id]
    assert (b.labels, b.output, c.output, c.taken, c.priority) == (["user"], None, [1], [0, 1], 5)
    assert Step.objects.get(id=old.id).output == {"n": 1}
    assert [(e.seq, e.kind) for e in entries(run.id)] == [(6, "run.noted")]


def test_nothing_is_stored_when_the_run_has_moved_on(run, writes, row, steps, around):
    (old,) = steps(1)
    assert around(writes(from_seq=4, updates=[update(old)], inserts=[row("b")])) is None
    assert untouched(run)


def test_a_run_whose_row_is_locked_is_not_compared(run, writes):
    with transaction.atomic():
        assert store.write(writes(from_seq=None)) == []
    run.refresh_from_db()
    assert run.seq == 6


@pytest.mark.parametrize("n", [1, 2, 3, 4, 300], ids=str)
@pytest.mark.parametrize("wrong", [{"fence": 2}, {"status": "ready"}], ids=["fence", "status"])
def test_one_stale_step_takes_everything_back(run, writes, row, steps, around, n, wrong):
    some = steps(n)
    updates = [update(s) for s in some[:-1]] + [update(some[-1], **wrong)]
    with pytest.raises(StaleStep):
        around(writes(updates=updates, inserts=[row("b")]))
    assert untouched(run)


@pytest.mark.parametrize("wrong", [{"fence": 2}, {"status": "ready"}], ids=["fence", "status"])
def test_a_row_that_goes_is_compared_like_one_that_changes(run, writes, row, steps, around, wrong):
    kept, lifted = steps(2)
    with pytest.raises(StaleStep):
        around(writes(updates=[update(kept)], lifted=[update(lifted, **wrong)], inserts=[row("b")]))
    assert untouched(run) and Step.objects.filter(run=run).count() == 2
    (id,) = around(writes(updates=[update(kept)], lifted=[update(lifted)], inserts=[row("b")]))
    found = dict(Step.objects.filter(run=run).values_list("id", "status"))
    assert found == {kept.id: "succeeded", id: "ready"}


def test_a_refused_row_takes_everything_back(run, writes, row, steps, around):
    (old,) = steps(1)
    with pytest.raises(IntegrityError):
        around(writes(updates=[update(old)], inserts=[row("b"), row("b")]))
    assert untouched(run)


def test_a_step_that_is_only_looked_at_is_compared_too(run, writes, steps, around):
    (old,) = steps(1)
    looked_at = store.StepUpdate(old.id, old.path, "running", 2, {})
    with pytest.raises(StaleStep):
        around(writes(updates=[looked_at]))
    assert around(writes(updates=[store.StepUpdate(old.id, old.path, "running", 3, {})])) == []


# --- many rows --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 4, 700], ids=str)
def test_new_steps_get_their_ids_in_order(run, writes, row, around, n):
    moment = now()
    rows = [row(f"p{i}", input={"i": i}, memo={"text": 'a "b" \\ é'}, ready_at=moment) for i in range(n)]
    ids = around(writes(inserts=rows))
    found = list(Step.objects.filter(run=run).order_by("id"))
    assert [s.id for s in found] == ids
    assert [(s.path, s.input) for s in found] == [(f"p{i}", {"i": i}) for i in range(n)]
    assert {s.memo["text"] for s in found} == {'a "b" \\ é'}
    assert {s.ready_at for s in found} == {moment}


def test_many_steps_change_each_in_its_own_way(run, writes, steps, around):
    some = steps(200)
    updates = [update(s, output=[i]) if i % 2 else update(s, reason="odd") for i, s in enumerate(some)]
    around(writes(updates=updates))
    outputs = dict(Step.objects.values_list("path", "output"))
    assert [outputs[f"p{i}"] for i in range(200)] == [[i] if i % 2 else None for i in range(200)]
    assert Step.objects.filter(reason="odd").count() == 100


@pytest.mark.parametrize("n", [2, 5], ids=["few", "many"])
def test_an_attempt_is_archived_for_an_old_step_and_for_a_new_one(run, writes, row, steps, around, n):
    (old,) = steps(1)
    attempt = {"number": 1, "fence": 1, "status": "lost", "ended_at": now(), "error": {"code": "x"}}
    new = [row(f"new{i}") for i in range(n)]
    attempts = [{**attempt, "step_id": old.id}, {**attempt, "path": "new1"}]
    around(writes(updates=[update(old)], inserts=new, attempts=attempts))
    assert sorted(Attempt.objects.values_list("step__path", "error__code")) == [("new1", "x"), ("p0", "x")]


# --- values -----------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)  # fmt: skip


@pytest.mark.parametrize("n", [1, 5], ids=["singly", "as records"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=JSON, number=st.integers(-(2**31), 2**31 - 1), text=st.sampled_from(["", "x", "'; --", "$1 %s {}"])
)
def test_what_is_written_is_what_the_models_read(run, writes, row, n, value, number, text):
    Step.objects.all().delete()
    Run.objects.filter(id=run.id).update(seq=5)
    worker, moment = uuid4(), now() + timedelta(microseconds=number % 7)
    columns = {
        "output": value, "failures": number, "reason": text, "worker": worker, "due_at": moment,
        "cost_unknown": number % 2 == 0, "error": {"v": value},
    }  # fmt: skip
    ids = store.write(writes(inserts=[row(f"p{i}", **columns) for i in range(n)], lines=[]))
    for step in Step.objects.filter(id__in=ids):
        assert {name: getattr(step, name) for name in columns} == columns
    (state, *_) = store.read_steps(run.id)
    assert (state.failures, state.reason, state.worker, state.due_at) == (number, text, worker, moment)


def test_large_values_go_by_reference(run, writes, row):
    packed = pack({"text": "x" * 100_000})
    store.write(writes(inserts=[row("a", output=packed)]))
    stored = dict(Step.objects.values_list("path", "output"))["a"]
    assert stored == packed and len(stored.text) < 1000


# --- reading ----------------------------------------------------------------------------------------------


def test_a_run_reads_as_the_model_does(run, writes):
    store.write(writes(run_fields={"error": {"a": [1]}, "paused_at": now(), "cancel_requested": True}))
    expected = Run.objects.get(id=run.id)
    found = store.read_run(run.id)
    for field in Run._meta.concrete_fields:
        assert getattr(found, field.attname) == getattr(expected, field.attname), field.attname
    assert store.read_run(uuid4()) is None


def test_steps_are_read_by_scope(run, writes, row):
    paths = ["a", "each[1]/x", "each[1]/.", "each[2]/x"]
    rows = [row(p, scope=p.rpartition("/")[0], memo={"p": p}, taken=[1], labels=["user"]) for p in paths]
    store.write(writes(inserts=rows))
    assert [s.path for s in store.read_steps(run.id)] == paths
    (one, two) = store.read_steps(run.id, ["each[1]"])
    assert (one.path, two.path, one.memo) == ("each[1]/x", "each[1]/.", {"p": "each[1]/x"})
    assert (one.status, one.taken, one.labels) == (StepStatus.READY, (1,), ("user",))
    assert store.read_steps(run.id, []) == []


# --- the wire ---------------------------------------------------------------------------------------------

only_postgresql = pytest.mark.skipif(
    "connection.vendor != 'postgresql'", reason="on SQLite a decision is several statements"
)


@only_postgresql
@pytest.mark.parametrize("n", [0, 1, 3, 50], ids=str)
def test_a_decision_is_one_statement_and_no_transaction(writes, row, steps, n):
    updates = [update(s) for s in steps(n)]
    with CaptureQueriesContext(connection) as sent:
        store.write(writes(updates=updates, inserts=[row(f"new{i}") for i in range(n)]))
    assert len(sent) == 1
    assert not connection.in_atomic_block


@only_postgresql
def test_a_shape_that_comes_again_is_prepared_once(run, writes, row):
    for i in range(8):
        store.write(writes(from_seq=5 + i, to_seq=6 + i, inserts=[row(f"p{i}", output={"i": i * 10_000})]))
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'WITH r AS (UPDATE%%'"
        )
        assert cursor.fetchone() == (1,)


@only_postgresql
def test_a_lost_connection_reads_like_every_other(run, writes, django_db_blocker):
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    connection.connection.close()
    with pytest.raises((OperationalError, InterfaceError)):
        store.write(writes())
    connection.close()
    assert untouched(run)
    assert store.write(writes()) == []


def test_a_new_run_is_stored_with_its_first_steps(workspace, run, row):
    new = Run(id=uuid7(), workspace=workspace, version=run.version, blueprint_name="t", inputs={"a": 1})
    columns = {str(f.column): getattr(new, f.attname) for f in Run._meta.concrete_fields}
    ws = store.WriteSet(
        workspace_id=workspace.id, run_id=new.id, from_seq=0, to_seq=2, at=now(),
        run_fields={"status": "running", "active": 1}, new_run=columns,
        inserts=[row("a", run_id=new.id)],
        lines=[Line("run.started", "", None, {}), Line("step.ready", "a", 0, {})],
    )  # fmt: skip
    with CaptureQueriesContext(connection) as sent:
        (step_id,) = store.write(ws)
    assert connection.vendor != "postgresql" or len(sent) == 1
    stored = Run.objects.get(id=new.id)
    assert (stored.seq, stored.status, stored.inputs) == (2, "running", {"a": 1})
    assert Step.objects.get(id=step_id).run_id == new.id
    assert len(entries(new.id)) == 2
