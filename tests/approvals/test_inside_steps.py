"""Questions a step asks in the middle of its work: what leaves is exactly what was approved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.approvals import services
from apps.approvals.errors import AnswerInvalid
from apps.approvals.models import ApprovalRequest
from apps.approvals.services import action_hash
from apps.ledger.core.states import EffectClass, EffectState
from apps.ledger.models import Effect
from apps.ledger.selectors import entries
from apps.runs import ports
from apps.runs.models import Run
from apps.runs.ports import Context, Done, EffectCall, Outcome
from apps.runs.services import pause_run, resume_run, start_run
from apps.workspaces.access import Principal
from apps.workspaces.models import User, Workspace
from mirrorneuron.base.clock import clock, now
from tests.approvals.conftest import MAIL, PROPOSAL, Ask, step_of
from tests.runs.engine import version_of, work_all

PrincipalOf = Callable[..., Principal]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What really left, by a tool handler that asks before it sends."""
    left: list[dict[str, Any]] = []

    def send(context: Context) -> Outcome:
        decision = (context.memo or {}).get("decision") or {}
        arguments = decision.get("final") or dict(context.node.with_)
        call = EffectCall(
            tool="mail",
            effect_class=EffectClass.OPAQUE,
            arguments=arguments,
            execute=lambda key: left.append(arguments) or {"sent": True},
            timeout_seconds=1,
            needs_grant=True,
        )
        return Done(context.effect(call))

    monkeypatch.setitem(ports._handlers, "tool", send)
    return left


@pytest.fixture
def asked(workspace: Workspace, alice: User, principal: PrincipalOf, sent: list[Any]) -> ApprovalRequest:
    nodes = [{"id": "send", "kind": "tool", "tool": "mail", "with": PROPOSAL}]
    start_run(principal(alice), version_of(workspace, nodes, tools={"mail": MAIL}), {})
    work_all()
    return ApprovalRequest.objects.get()


def test_nothing_leaves_before_the_approval_and_one_thing_after(
    asked: ApprovalRequest, sent: list[Any], alice: User, principal: PrincipalOf
) -> None:
    assert sent == [] and Effect.objects.get().state == EffectState.INTENT
    services.decide(principal(alice), asked.id, verb="approve")
    work_all()
    effect = Effect.objects.get()
    assert sent == [PROPOSAL] and effect.state == EffectState.COMMITTED
    assert effect.approved_by["by"] == ["alice@example.com"]
    assert Run.objects.get().status == "succeeded"
    asked.refresh_from_db()
    assert asked.consumed_at is not None


def test_an_edited_intent_leaves_as_edited(
    asked: ApprovalRequest, sent: list[Any], alice: User, principal: PrincipalOf
) -> None:
    with pytest.raises(AnswerInvalid):
        services.decide(principal(alice), asked.id, verb="approve", edits={"copies": -1})
    services.decide(principal(alice), asked.id, verb="approve", edits={"copies": 4})
    final = PROPOSAL | {"copies": 4}
    assert Effect.objects.get().fingerprint == action_hash("mail", final)
    work_all()
    assert sent == [final] and Effect.objects.get().arguments == final


def test_a_rejected_intent_never_leaves(
    asked: ApprovalRequest, sent: list[Any], alice: User, principal: PrincipalOf
) -> None:
    services.decide(principal(alice), asked.id, verb="reject", reason="Not to them")
    work_all()
    effect = Effect.objects.get()
    assert sent == [] and effect.state == EffectState.FAILED
    assert effect.resolution["outcome"] == "rejected" and effect.resolution["reason"] == "Not to them"
    assert Run.objects.get().status == "failed"


def test_a_decision_during_a_pause_is_kept_and_acted_on_after_it(
    asked: ApprovalRequest, sent: list[Any], alice: User, principal: PrincipalOf
) -> None:
    pause_run(principal(alice), asked.run_id)
    services.decide(principal(alice), asked.id, verb="approve")
    work_all()
    assert sent == [] and Run.objects.get().status == "paused"
    resume_run(principal(alice), asked.run_id)
    work_all()
    assert sent == [PROPOSAL] and Run.objects.get().status == "succeeded"


@pytest.mark.parametrize(
    ("action", "state", "status"),
    [("reject", "expired", "succeeded"), ("pause", "open", "waiting"), ("escalate", "open", "waiting")],
)
def test_the_clock_does_what_the_contract_says_and_never_approves(
    ask: Ask, action: str, state: str, status: str
) -> None:
    checkpoint = {"contract": {"human_checkpoints": [{"step": "ask", "timeout_action": action}]}}
    with clock.frozen(now()) as time:
        request = ask(due=60, document=checkpoint)
        time.move(seconds=61)
        work_all()
    request.refresh_from_db()
    assert request.state == state and step_of(request).status == status
    assert len(entries(request.run_id, kinds=["approval.overdue"])) == 1
    if state == "expired":
        assert step_of(request).port == "rejected"
