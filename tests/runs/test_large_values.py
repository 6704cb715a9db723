"""Large values on the engine: stored once, passed by reference, whole wherever somebody reads them."""

from __future__ import annotations

import random
import string

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.ledger import payloads
from apps.ledger.models import Effect, Payload, PayloadUse
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.core.limits import LIMITS
from apps.runs.executor import work_chain
from apps.runs.invariants import check_all
from apps.runs.models import Call, Run, Signal, Step
from apps.runs.ports import CallRecord, Done, register_handler
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import Packed
from tests.runs.engine import recorded, register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = "".join(random.Random(7).choices(string.ascii_letters, k=200_000))


@pytest.fixture(autouse=True)
def fresh():
    payloads.clear_caches()
    yield
    assert check_all() == []
    payloads.clear_caches()


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, edges=(), inputs=None, **document):
        version = version_of(workspace, nodes, edges, **document)
        return services.start_run(principal(alice), version, inputs or {})

    return start


@pytest.fixture
def handler():
    before = dict(ports._handlers)
    yield register_handler
    ports._handlers.clear()
    ports._handlers.update(before)


def chain(count, output):
    nodes = [recorded(f"s{i}", output(i)) for i in range(count)]
    return nodes, [{"from": f"s{i}", "to": f"s{i + 1}"} for i in range(count - 1)]


def carried(i):
    before = "{{ inputs.text }}" if i == 0 else f"{{{{ steps.s{i - 1}.output.text }}}}"
    return {"i": i, "text": before}


def test_a_text_that_passes_ten_steps_is_stored_once(start):
    run = start(*chain(10, carried), {"text": TEXT}, outputs={"text": "{{ steps.s9.output.text }}"})
    work_all()
    run = Run.objects.get()
    assert run.status == "succeeded" and run.output == {"text": TEXT} and run.inputs == {"text": TEXT}
    assert Payload.objects.count() == 1 and PayloadUse.objects.count() == 1
    payloads.clear_caches()
    assert [s.output["text"] == TEXT for s in Step.objects.order_by("id")] == [True] * 10


def test_its_own_process_writes_and_hashes_nothing_more_for_it(start, monkeypatch):
    run = start(*chain(10, carried), {"text": TEXT})
    boot = register_worker()
    claim = claim_next(boot, ("default",), alone=True)
    monkeypatch.setattr("mirrorneuron.base.packed.hashlib.sha256", None)
    with CaptureQueriesContext(connection) as seen:
        work_chain(claim, boot, ("default",), lambda: True)
    assert statuses(run)["s9"] == "succeeded"
    assert [q["sql"][:80] for q in seen if "ledger_payload" in q["sql"]] == []


def test_another_process_reads_it_once_and_writes_nothing(start):
    run = start(*chain(10, carried), {"text": TEXT})
    payloads.clear_caches()
    with CaptureQueriesContext(connection) as seen:
        work_all()
    assert statuses(run)["s9"] == "succeeded"
    touched = [q["sql"].split()[0] for q in seen if "ledger_payload" in q["sql"]]
    assert touched == ["SELECT"]


def test_rows_stay_small(start):
    start(*chain(3, carried), {"text": TEXT})
    work_all()
    for value in Step.objects.values_list("output", flat=True):
        assert isinstance(value, Packed) and len(value.text) < 1_000


def test_a_journalled_answer_is_kept_and_replayed_whole(start, handler):
    answers = []

    def agent(context):
        known = context.recorded("model", 0)
        if known is None:
            record = CallRecord(
                kind="model", name="m", turn=0, ordinal=0, request_hash="", request={"prompt": TEXT},
                response={"text": TEXT[::-1]}, started_at=now(), latency_ms=1,
            )  # fmt: skip
            context.record(record)
            context.flush()
            from apps.runs.errors import StepError

            raise StepError("again")
        answers.append(known.response)
        return Done({"n": len(known.response["text"])})

    handler("agent", agent)
    run = start([{"id": "a", "kind": "agent", "retry": {"max": 3}}])
    for _ in range(3):
        payloads.clear_caches()
        Step.objects.filter(status="waiting").update(due_at=now())
        work_all()
    assert statuses(run) == {"a": "succeeded"}
    assert answers == [{"text": TEXT[::-1]}]
    assert Call.objects.get().request == {"prompt": TEXT}


def test_a_signal_s_large_body_is_stored_once_and_arrives_whole(start, alice, principal):
    run = start([{"id": "t", "kind": "timer", "duration": "1h"}])
    work_all()
    services.deliver_signal(principal(alice), run.id, "news", {"text": TEXT})
    payloads.clear_caches()
    assert Signal.objects.get().body == {"text": TEXT}
    assert Payload.objects.count() == 1


def test_an_output_over_the_limit_fails_the_step_in_words(start, handler):
    handler("code", lambda context: Done({"text": "x" * (LIMITS.max_output_bytes + 1)}))
    run = start([{"id": "a", "kind": "code", "code": "1"}])
    work_all()
    assert statuses(run) == {"a": "failed"}
    error = Step.objects.get().error
    assert error["code"] == "output_too_large" and "16,000,000" in error["message"]


def test_a_user_s_reference_stays_his_own_object(start):
    forged = {"$payload": "0" * 64, "size": 9, "type": "text", "begins": ""}
    run = start(
        [{"id": "a", "kind": "transform", "output": {"out": "{{ inputs.it }}"}}],
        (),
        {"it": forged},
        outputs={"out": "{{ steps.a.output.out }}"},
    )
    work_all()
    assert Run.objects.get(id=run.id).output == {"out": forged}


def test_an_effect_s_large_arguments_and_result_read_whole(start, handler):
    from apps.runs.ports import EffectCall

    def tool(context):
        call = EffectCall(
            tool="post", arguments={"body": TEXT}, effect_class="opaque", execute=lambda key: {"echo": TEXT},
            turn=0, ordinal=0, timeout_seconds=5,
        )  # fmt: skip
        return Done({"size": len(context.effect(call)["echo"])})

    handler("tool", tool)
    run = start([{"id": "a", "kind": "tool", "tool": "x"}])
    work_all()
    assert statuses(run) == {"a": "succeeded"}
    payloads.clear_caches()
    effect = Effect.objects.get()
    assert effect.arguments == {"body": TEXT} and effect.result == {"echo": TEXT}
    assert PayloadUse.objects.get(run_id=run.id).outlives
