"""What waits costs nothing: a worker asks one question a second, however many runs wait and whatever for.

Counted in statements, so that the result is the same on every machine (ENGINE rule 38).
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs import services
from apps.runs.claims import claim_next
from apps.runs.models import Slot, Step
from apps.runs.upkeep import _worded, anything_due, take_back, upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import recorded, register_worker, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)
FEW, MANY = 2, 9
SENSOR = {"id": "wait", "kind": "sensor", "signal": "go"}
NAP = {"id": "nap", "kind": "timer", "duration": "1h"}
KEYED = recorded("keyed", concurrency={"key": "shop", "limit": 1})
WAITING = {
    "a person": ([{"id": "ask", "kind": "approval", "with": {}}], "approval"),
    "a signal": ([SENSOR], "signal"),
    "a signal until a time": ([SENSOR | {"due": 3600}], "signal"),
    "a time": ([NAP], "timer"),
    "the items of a map": (
        [{"id": "each", "kind": "map", "items": [1, 2, 3], "body": {"nodes": [SENSOR]}}],
        "signal",
    ),
    "the round of a loop": (
        [{"id": "again", "kind": "loop", "condition": "false", "max_rounds": 3, "body": {"nodes": [NAP]}}],
        "timer",
    ),
}


def test_the_question_of_an_idle_worker_walks_through_no_table(boot, start):
    """SQLite uses a partial index only where it finds the condition in the question, word for word."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL chooses by its statistics")
    start([NAP], MANY)
    question = _worded(boot, tuple(QUEUES))
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + question.sql, question.parameters)
        steps = [row[-1] for row in cursor.fetchall()]
    assert len(steps) > 10
    assert [step for step in steps if step.startswith("SCAN") and "USING" not in step] == []


@pytest.fixture
def boot():
    return register_worker(lease_seconds=1000)


@pytest.fixture
def start(workspace, alice, principal):
    def start(nodes, runs, worked=True):
        version = version_of(workspace, nodes)
        made = [services.start_run(principal(alice), version, {}) for _ in range(runs)]
        if worked:
            work_all()
        return made

    return start


def upkeep_of(boot):
    """What a worker says to the database when it looks at everything, as it does every ten seconds."""
    with CaptureQueriesContext(connection) as queries:
        assert upkeep(boot) + take_back(boot) == 0
    return [q["sql"] for q in queries]


def is_idle(boot):
    """One question, and nothing to be done."""
    with CaptureQueriesContext(connection) as queries:
        due = anything_due(boot, QUEUES)
    return not due and len(queries) == 1


def waiting(reason):
    return Step.objects.filter(status="waiting", reason=reason).count()


@pytest.mark.parametrize("what", WAITING)
def test_many_runs_that_wait_are_not_looked_at(what, start, boot):
    nodes, reason = WAITING[what]
    start(nodes, FEW)
    few, waits = upkeep_of(boot), waiting(reason)
    assert waits >= FEW and is_idle(boot)
    start(nodes, MANY)
    assert waiting(reason) >= waits + MANY
    assert is_idle(boot)
    assert len(upkeep_of(boot)) == len(few)


def test_runs_that_wait_for_others_are_not_looked_at(start, boot, workspace):
    child = version_of(workspace, [SENSOR]).blueprint.name
    start([{"id": "sub", "kind": "subflow", "blueprint": child}], FEW)
    few = upkeep_of(boot)
    start([{"id": "sub", "kind": "subflow", "blueprint": child}], MANY)
    assert waiting("child") == waiting("signal") == FEW + MANY
    assert is_idle(boot)
    assert len(upkeep_of(boot)) == len(few)


def test_runs_that_wait_for_a_slot_are_not_looked_at(start, boot):
    start([KEYED], 1 + FEW, worked=False)
    assert claim_next(boot, QUEUES, alone=True) and claim_next(boot, QUEUES, alone=True) is None
    few = upkeep_of(boot)
    assert waiting("slot") == FEW and is_idle(boot)
    start([KEYED], MANY, worked=False)
    assert claim_next(boot, QUEUES, alone=True) is None
    assert waiting("slot") == FEW + MANY and is_idle(boot)
    assert len(upkeep_of(boot)) == len(few)


@pytest.mark.parametrize("nodes", [[recorded("a")], [NAP], [SENSOR | {"due": 60}]])
def test_paused_runs_are_not_looked_at_though_they_could_go_on(nodes, start, boot, alice, principal):
    """What is ready or due in them goes on when they do."""
    for run in start(nodes, MANY, worked=False):
        if nodes[0]["kind"] != "code":
            work_all()
        services.pause_run(principal(alice), run.id)
    with clock.frozen(now() + timedelta(hours=2)):
        assert is_idle(boot)


def test_a_slot_that_only_paused_runs_wait_for_is_not_looked_at(start, boot, alice, principal):
    runs = start([KEYED], 1 + FEW, worked=False)
    assert claim_next(boot, QUEUES, alone=True) and claim_next(boot, QUEUES, alone=True) is None
    for run in runs:
        services.pause_run(principal(alice), run.id)
    Slot.objects.update(in_use=0)
    assert is_idle(boot)
