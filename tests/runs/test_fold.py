"""Any story on a real database: the folded ledger equals the stored rows, and no invariant breaks."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger import selectors as ledger
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.core.states import RUN_ENDED
from apps.runs.errors import StepError
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Run, Worker
from apps.runs.ports import Done, HandBack, Wait
from apps.runs.upkeep import reap, upkeep
from mirrorneuron.base.clock import clock, now
from tests.runs.engine import register_worker, statuses, version_of
from tests.runs.fold import fold

pytestmark = pytest.mark.django_db(transaction=True)

NODES = [
    {"id": "a", "kind": "tool", "tool": "x"},
    {"id": "b", "kind": "tool", "tool": "x", "retry": {"max_attempts": 2, "base": "1s"}},
    {"id": "c", "kind": "tool", "tool": "x"},
    {"id": "first", "kind": "aggregator", "join": "any"},
    {"id": "ok", "kind": "check", "checks": [{"check": "expression", "args": {"that": "round > 1"}}]},
    {"id": "rescue", "kind": "transform", "output": 1},
    {"id": "end", "kind": "transform", "output": "{{ steps.first.output }}"},
]
EDGES = [
    {"from": "a", "to": "first"},
    {"from": "b", "to": "first"},
    {"from": "b.failed", "to": "rescue"},
    {"from": "first", "to": "ok"},
    {"from": "ok.fail", "to": "ok", "max_rounds": 2},
    {"from": "ok.pass", "to": "end"},
    {"from": "c", "to": "end"},
]
ENDINGS = ["done", "done", "done", "fail", "refuse", "wait", "hand back"]


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 2**32))
def test_the_folded_ledger_equals_the_stored_rows(seed, workspace, alice, principal, monkeypatch):
    chance = random.Random(seed)
    Run.objects.all().delete()

    def handler(context):
        match chance.choice(ENDINGS):
            case "fail":
                raise StepError("it failed")
            case "refuse":
                raise StepError("never", permanent=True)
            case "wait":
                return Wait("timer", now())
            case "hand back":
                return HandBack()
            case _:
                return Done({"n": context.attempt})

    monkeypatch.setitem(ports._handlers, "tool", handler)
    run = services.start_run(principal(alice), version_of(workspace, NODES, EDGES), {})
    with clock.frozen(now()) as time:
        boot = register_worker(lease_seconds=100_000)
        for _ in range(60):
            stored = Run.objects.get(id=run.id)
            if stored.status in RUN_ENDED:
                break
            what = chance.choice(["work"] * 8 + ["die", "late", "pause", "cancel"])
            if stored.pause_requested:
                services.resume_run(principal(alice), run.id)
            elif what == "cancel" and chance.random() < 0.25 and not stored.cancel_requested:
                services.cancel_run(principal(alice), run.id)
            elif what == "pause" and not stored.cancel_requested:
                services.pause_run(principal(alice), run.id)
            else:
                time.move(seconds=30)
                upkeep(boot)
                claim = claim_next(boot, ("default",), alone=True)
                if claim is None:
                    continue
                if what == "die":
                    Worker.objects.filter(boot=boot).update(stopped_at=now())
                    boot = register_worker(lease_seconds=100_000)
                elif what == "late":
                    time.move(seconds=1000)
                    reap(boot)
                else:
                    while claim is not None:
                        claim = work(claim, boot, ("default",), chain=chance.random() < 0.5)
            entries = [(e.kind, e.step_path) for e in ledger.entries(run.id)]
            assert fold(entries) == statuses(run)
        if Run.objects.get(id=run.id).status not in RUN_ENDED:
            services.cancel_run(principal(alice), run.id)
            time.move(seconds=5000)
            Worker.objects.all().delete()
            upkeep(register_worker())
    assert check_all() == []
