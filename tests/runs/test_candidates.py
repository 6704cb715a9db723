"""Choosing what to claim: fair between workspaces, urgent first inside one, cheap whatever the backlog."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.runs import candidates, services
from apps.runs.candidates import Candidates, others_wait
from apps.runs.claims import claim_next
from apps.runs.core.shares import AGING_SECONDS
from apps.runs.models import Run, Step
from apps.workspaces.access import principal_for
from apps.workspaces.models import Membership, Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput
from tests.runs.engine import recorded, register_worker, version_of

pytestmark = pytest.mark.django_db(transaction=True)
QUEUES = ("default",)


def backlog(version, count, *, priority=5, waited=0.0, queue="default", losses=0):
    """Queued runs of one ready step each, without the way that leads there."""
    at = now() - timedelta(seconds=waited)
    workspace = version.blueprint.workspace
    runs = Run.objects.bulk_create(
        Run(workspace=workspace, version=version, blueprint_name=version.blueprint.name, seq=0)
        for _ in range(count)
    )
    Step.objects.bulk_create(
        Step(run=run, workspace_id=workspace.id, path="a", node_id="a", kind="code", ready_at=at,
             priority=priority, queue=queue, losses=losses)
        for run in runs
    )  # fmt: skip
    return runs


@pytest.fixture
def version(workspace):
    return version_of(workspace, [recorded("a")])


@pytest.fixture
def other(elsewhere):
    return version_of(elsewhere, [recorded("a")])


def best(pool, count=1, **how):
    how.setdefault("alone", True)
    return list(islice(pool.offers(**how), count))


def test_nothing_ready_then_nothing_is_offered(version):
    assert best(Candidates(QUEUES)) == []


def test_one_look_is_enough_for_a_short_queue(version, other):
    backlog(version, 3)
    backlog(other, 3)
    pool = Candidates(QUEUES)
    with CaptureQueriesContext(connection) as queries:
        assert len(best(pool, 6)) == 6
    # The steps, the weights, and the second look after the last one was gone.
    assert len(queries) <= 4


@pytest.mark.parametrize("count", [100, 1500])
def test_a_long_queue_costs_no_more_looks_than_a_short_one(version, other, count):
    backlog(version, count)
    backlog(other, 1)
    with CaptureQueriesContext(connection) as queries:
        assert best(Candidates(QUEUES))
    assert len(queries) == 3


def test_a_long_queue_does_not_keep_another_workspace_waiting(version, other):
    backlog(version, 1000, waited=3600)
    lonely = backlog(other, 1)[0]
    offered = [c.run_id for c in best(Candidates(QUEUES, slots=4), 3)]
    assert lonely.id in offered


def test_claims_between_a_lone_run_and_its_turn_are_bounded(version, other):
    """However long the other queue is: the lone run is claimed within as many claims as there are slots."""
    backlog(version, 500, waited=3600)
    boot, slots = register_worker(), 4
    pool = Candidates(QUEUES, slots=slots)
    for _ in range(20):
        claim = claim_next(boot, QUEUES, alone=True, candidates=pool)
        with pool.holding(claim.run.workspace_id):
            pass
    lonely = backlog(other, 1)[0]
    pool._good_until = 0.0  # As after the fifth of a second for which an answer is kept.
    claimed = []
    for _ in range(slots):
        claim = claim_next(boot, QUEUES, alone=True, candidates=pool)
        claimed.append(claim.run.id)
        with pool.holding(claim.run.workspace_id):
            pass
    assert lonely.id in claimed


def test_a_heavier_workspace_gets_more(version, other, elsewhere):
    Workspace.objects.filter(id=elsewhere.id).update(weight=3)
    backlog(version, 100)
    backlog(other, 100)
    pool = Candidates(QUEUES)
    served = []
    for _ in range(40):
        offers = pool.offers(alone=True)
        chosen = next(offers)
        offers.close()
        pool.shares.began(chosen.workspace_id)
        pool.shares.ended(chosen.workspace_id, 0.1, pool._weights[chosen.workspace_id])
        served.append(chosen.workspace_id)
    assert served.count(elsewhere.id) == 30


def test_urgent_runs_go_first_inside_a_workspace(version):
    backlog(version, 50, priority=5)
    urgent = backlog(version, 1, priority=1)[0]
    assert best(Candidates(QUEUES))[0].run_id == urgent.id


def test_a_run_that_waited_long_goes_before_a_more_urgent_one(version):
    old = backlog(version, 1, priority=9, waited=9 * AGING_SECONDS)[0]
    backlog(version, 50, priority=1)
    assert best(Candidates(QUEUES))[0].run_id == old.id


def test_the_oldest_of_equals_goes_first(version):
    backlog(version, 40, waited=10)
    oldest = backlog(version, 1, waited=20)[0]
    assert best(Candidates(QUEUES))[0].run_id == oldest.id


def test_only_the_queues_of_the_process(version):
    backlog(version, 2, queue="gpu")
    assert best(Candidates(QUEUES)) == []
    assert len(best(Candidates(("default", "gpu")), 2)) == 2


def test_paused_runs_are_not_offered(version):
    runs = backlog(version, 2)
    Run.objects.filter(id=runs[0].id).update(pause_requested=True)
    assert [c.run_id for c in best(Candidates(QUEUES), 5)] == [runs[1].id]


def test_steps_that_killed_a_worker_are_offered_only_to_an_empty_process(version):
    backlog(version, 3, losses=1)
    fine = backlog(version, 1, waited=-1)[0]
    assert [c.run_id for c in best(Candidates(QUEUES), 5, alone=False)] == [fine.id]
    pool = Candidates(QUEUES)
    assert len(best(pool, 5, alone=False)) == 1
    assert best(pool, 1, alone=True, lossy_first=True)[0].losses == 1


def test_slots_of_a_process_are_offered_different_steps(version):
    backlog(version, 10)
    pool = Candidates(QUEUES)
    first, second = pool.offers(alone=True), pool.offers(alone=True)
    a, b = next(first), next(second)
    pool._good_until = 0.0
    third = next(pool.offers(alone=True))
    assert len({c.run_id for c in (a, b, third)}) == 3


def test_a_run_that_could_not_be_had_is_passed_over_with_all_its_steps(version):
    busy = backlog(version, 1, waited=60)[0]
    Step.objects.bulk_create(
        Step(run=busy, workspace_id=busy.workspace_id, path=f"x{n}", node_id="a", kind="code",
             ready_at=now() - timedelta(seconds=50))
        for n in range(100)
    )  # fmt: skip
    free = backlog(version, 1)[0]
    offered = best(Candidates(QUEUES), 2)
    assert [c.run_id for c in offered] == [busy.id, free.id]


def test_more_lanes_than_one_reading_takes_all_get_their_turn(version, other, monkeypatch):
    monkeypatch.setattr(candidates, "PAGE", 4)
    monkeypatch.setattr(candidates, "MAX_PAGES", 1)
    for priority in range(10):
        backlog(version, 5, priority=priority)
    backlog(other, 5)
    pool, seen = Candidates(QUEUES), set()
    for _ in range(12):
        pool._good_until = 0.0
        offers = pool.offers(alone=True)
        next(offers)
        seen |= {(c.workspace_id, c.priority) for known in pool._known.values() for c in known}
        offers.close()
    assert len(seen) == 11


def test_others_wait_says_whether_another_workspace_has_work(version, other, workspace, elsewhere):
    assert not others_wait(workspace.id, QUEUES)
    backlog(version, 3)
    assert not others_wait(workspace.id, QUEUES)
    assert others_wait(elsewhere.id, QUEUES)
    runs = backlog(other, 1)
    assert others_wait(workspace.id, QUEUES)
    Run.objects.filter(id__in=[r.id for r in runs]).update(pause_requested=True)
    assert not others_wait(workspace.id, QUEUES)


def test_a_long_chain_makes_way_for_more_urgent_work_of_its_own_workspace(version, workspace):
    backlog(version, 1, priority=3)
    assert others_wait(workspace.id, QUEUES, 5)
    assert not others_wait(workspace.id, QUEUES, 3)


def test_a_runs_priority_is_copied_to_its_steps(workspace, alice):
    Membership.objects.get_or_create(workspace=workspace, user=alice, defaults={"roles": ["owner"]})
    who = principal_for(alice, workspace, "api")
    nodes = [
        {"id": "a", "kind": "transform", "output": 1},
        {"id": "b", "kind": "transform", "output": 1, "priority": 0},
    ]
    run = services.start_run(who, version_of(workspace, nodes), {}, priority=3)
    priorities = dict(Step.objects.filter(run=run).values_list("path", "priority"))
    assert priorities == {"a": 3, "b": 0}
    with pytest.raises(InvalidInput):
        services.start_run(who, run.version, {}, priority=10)
