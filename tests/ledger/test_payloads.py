"""Payloads: stored once, written with what refers to them, and never deleted under somebody's hands."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from apps.ledger import payloads
from apps.ledger.errors import PayloadMissing
from apps.ledger.models import Effect, Payload, PayloadUse
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import Packed, pack

pytestmark = pytest.mark.django_db(transaction=True)
LARGE = "".join(chr(97 + i * 7919 % 26) for i in range(50_000))


@pytest.fixture(autouse=True)
def fresh():
    payloads.clear_caches()
    yield
    payloads.clear_caches()


@pytest.fixture
def keep(workspace):
    def keep(value, run_id=None, **more):
        with transaction.atomic():
            return payloads.keep(workspace.id, run_id or uuid4(), value, **more)

    return keep


@pytest.fixture
def effect(workspace):
    def effect(run_id, arguments, key="k"):
        return Effect.objects.create(
            workspace=workspace, run_id=run_id, step_path="pay", key=key, fingerprint="f", tool="pay",
            effect_class="opaque", arguments=arguments,
        )  # fmt: skip

    return effect


def test_a_row_reads_whole_and_holds_a_reference(keep, effect):
    run_id = uuid4()
    effect(run_id, keep({"text": LARGE, "n": 1}, run_id))
    payloads.clear_caches()
    row = Effect.objects.get()
    assert row.arguments == {"text": LARGE, "n": 1}
    brief = payloads.column(row, "arguments", payloads.Extent.BRIEF)
    assert brief["n"] == 1 and brief["text"]["begins"] == LARGE[:120]
    assert isinstance(Effect.objects.values_list("arguments", flat=True).get(), Packed)


def test_what_nobody_looks_at_is_not_loaded(keep, effect):
    run_id = uuid4()
    effect(run_id, keep({"text": LARGE}, run_id))
    payloads.clear_caches()
    with CaptureQueriesContext(
        connection,
    ) as seen:
        row = Effect.objects.get()
        assert row.tool == "pay"
    assert len(seen) == 1


def test_a_row_saved_again_keeps_its_reference(keep, effect):
    run_id = uuid4()
    row = effect(run_id, keep({"text": LARGE}, run_id))
    row = Effect.objects.get(id=row.id)
    assert row.arguments["text"] == LARGE
    row.tool = "other"
    row.save()
    assert isinstance(Effect.objects.values_list("arguments", flat=True).get(), Packed)


def test_a_value_nobody_packed_reads_as_it_was_given(effect):
    forged = {"$payload": "0" * 64, "size": 1, "type": "text", "begins": "", "$$payload": {"$payload": 1}}
    effect(uuid4(), forged)
    assert Effect.objects.get().arguments == forged
    assert payloads.resolve(Effect.objects.values_list("arguments", flat=True).get()) == forged


def test_lists_show_small_payloads_whole_and_large_ones_by_reference(keep, effect):
    run_id = uuid4()
    value = {"mine": {"$payload": 1}, "some": "s" * 20_000, "more": {"deep": "d" * 100_000, "n": 1}}
    effect(run_id, keep(value, run_id))
    payloads.clear_caches()
    row = Effect.objects.get()
    listed = payloads.column(row, "arguments", payloads.Extent.LISTED)
    assert listed["some"] == value["some"] and listed["more"]["n"] == 1
    assert listed["more"]["deep"]["size"] == 100_000
    assert listed["mine"] == {"$$payload": 1}, "nobody can take it for a reference"
    assert payloads.column(row, "arguments") == value


def test_one_text_in_many_runs_is_stored_once(keep):
    for _ in range(5):
        keep({"text": LARGE})
    assert Payload.objects.count() == 1 and PayloadUse.objects.count() == 5


def test_a_value_that_passes_unchanged_through_a_run_writes_nothing(keep):
    run_id = uuid4()
    keep({"text": LARGE}, run_id)
    with CaptureQueriesContext(connection) as seen:
        keep({"i": 2, "text": LARGE}, run_id)
    assert [q["sql"] for q in seen if "payload" in q["sql"]] == []


def test_what_was_rolled_back_is_written_when_it_is_needed_again(keep):
    run_id = uuid4()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        keep({"text": LARGE}, run_id)
        raise ZeroDivisionError
    assert Payload.objects.count() == 0
    keep({"text": LARGE}, run_id)
    assert PayloadUse.objects.filter(run_id=run_id).count() == Payload.objects.count() == 1


def test_text_that_shrinks_is_compressed_and_reads_the_same(keep):
    value = {"rows": [{"name": f"row {i}", "ok": True} for i in range(3_000)]}
    stored = keep(value)
    row = Payload.objects.get()
    assert row.encoding == "zlib" and len(row.data) < row.size / 2
    payloads.clear_caches()
    assert payloads.resolve(Packed(stored.text)) == value


def test_a_payload_is_read_by_runs_that_use_it_only(keep):
    run_id = uuid4()
    (leaf,) = keep({"text": LARGE}, run_id).leaves
    assert payloads.payload_of(run_id, leaf.ref.hash)["value"] == LARGE
    with pytest.raises(PayloadMissing):
        payloads.payload_of(uuid4(), leaf.ref.hash)


def test_workspaces_share_nothing(keep, elsewhere):
    keep({"text": LARGE})
    with transaction.atomic():
        payloads.keep(elsewhere.id, uuid4(), {"text": LARGE})
    assert Payload.objects.count() == 2


def age(**by):
    Payload.objects.update(used_at=now() - timedelta(**by))


def test_only_what_no_run_uses_and_nobody_is_about_to_use_is_deleted(keep):
    used, unused = uuid4(), uuid4()
    keep("used " + LARGE, used)
    keep("unused " + LARGE, unused)
    PayloadUse.objects.filter(run_id=unused).delete()
    assert payloads.forget_unused() == 0, "it was used a moment ago"
    age(days=2)
    assert payloads.forget_unused() == 1
    assert Payload.objects.get().hash == pack("used " + LARGE).leaves[0].ref.hash


def test_who_refers_to_an_old_payload_makes_it_young_first(keep):
    keep(LARGE)
    PayloadUse.objects.all().delete()
    age(days=2)
    keep(LARGE)
    PayloadUse.objects.all().delete()
    assert payloads.forget_unused() == 0


def test_deleting_and_referring_at_the_same_time_never_leaves_a_reference_to_nothing(workspace):
    """Many rounds of one writer and one deleter over a payload that is old and unused when they start."""
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time")
    deleted = 0
    for _ in range(60):
        payloads.clear_caches()
        with transaction.atomic():
            payloads.keep(workspace.id, uuid4(), LARGE)
        PayloadUse.objects.all().delete()
        age(days=2)
        payloads.clear_caches()
        run_id, together, found = uuid4(), threading.Barrier(2), []

        def refer(run_id=run_id, together=together):
            try:
                together.wait(10)
                with transaction.atomic():
                    payloads.keep(workspace.id, run_id, LARGE)
            finally:
                connection.close()

        def delete(together=together, found=found):
            try:
                together.wait(10)
                found.append(payloads.forget_unused())
            finally:
                connection.close()

        threads = [threading.Thread(target=refer), threading.Thread(target=delete)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        deleted += found[0]
        assert PayloadUse.objects.filter(run_id=run_id).count() == 1
        assert Payload.objects.count() == 1
    assert deleted > 0, "the deleter never came first: this proves nothing"
