"""Two people, two threads, one request: exactly one decides."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from apps.approvals import services
from apps.approvals.errors import AlreadyDecided, ClaimedByOther
from apps.approvals.models import ApprovalRequest, Decision
from apps.ledger.selectors import entries
from apps.runs.services import cancel_run
from apps.workspaces.access import Principal
from apps.workspaces.models import User
from mirrorneuron.base.errors import MirrorNeuronError
from tests.approvals.conftest import Ask, step_of

PrincipalOf = Callable[..., Principal]
pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Run calls at the same moment, each on its own connection; returns results or errors."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(index: int, call: Callable[[], Any]) -> None:
        try:
            barrier.wait(10)
            results[index] = call()
        except MirrorNeuronError as exc:
            results[index] = exc
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_of_two_rivals_exactly_one_decides(ask: Ask, alice: User, bob: User, principal: PrincipalOf) -> None:
    first, second = principal(alice), principal(bob)
    for _ in range(5):
        request = ask()
        results = at_once(
            lambda r=request: services.decide(first, r.id, verb="approve", edits={"copies": 2}),
            lambda r=request: services.decide(second, r.id, verb="reject", reason="No"),
        )
        winners = [r for r in results if isinstance(r, ApprovalRequest)]
        losers = [r for r in results if isinstance(r, AlreadyDecided)]
        assert len(winners) == len(losers) == 1
        request.refresh_from_db()
        assert request.decisions.count() == 1
        assert losers[0].attributes["state"] == request.state
        assert len(entries(request.run_id, kinds=["approval.decided"])) == 1
        assert step_of(request).port == {"approved": "approved", "rejected": "rejected"}[request.state]


def test_a_double_click_from_two_tabs_decides_once(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request, who = ask(), principal(alice)
    results = at_once(*[lambda: services.decide(who, request.id, verb="approve")] * 8)
    assert [r.state for r in results] == ["approved"] * 8
    assert Decision.objects.count() == 1


def test_only_one_of_many_gets_the_claim(ask: Ask, alice: User, bob: User, principal: PrincipalOf) -> None:
    request, first, second = ask(), principal(alice), principal(bob)
    results = at_once(lambda: services.claim(first, request.id), lambda: services.claim(second, request.id))
    assert [type(r) for r in results if not isinstance(r, ApprovalRequest)] == [ClaimedByOther]


def test_a_decision_and_a_cancel_leave_one_truth(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request, who = ask(), principal(alice)
    at_once(
        lambda: services.decide(who, request.id, verb="approve"),
        lambda: cancel_run(who, request.run_id),
    )
    request.refresh_from_db()
    decided = request.decisions.count()
    assert (request.state, decided) in {("approved", 1), ("cancelled", 0)}
    assert (step_of(request).status == "succeeded") is bool(decided)
