"""Agents and tools on the real engine: crashes, questions about a model's call, costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.agents.providers import scripted
from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.ledger.models import Effect
from apps.ledger.selectors import entries
from apps.runs.claims import claim_next
from apps.runs.executor import work
from apps.runs.invariants import check_all
from apps.runs.models import Call, Run
from apps.runs.services import start_run
from apps.workspaces.access import Principal
from apps.workspaces.models import User, Workspace
from mirrorneuron.base import crash
from tests.agents.fakes import tool
from tests.runs.engine import register_worker, statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
ANSWER = {"type": "object", "required": ["said"], "properties": {"said": {"type": "string"}}}
TO = {"type": "object", "required": ["to"], "properties": {"to": {"type": "string"}}}
Start = Callable[..., Run]


class WorkerDied(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.fixture
def sent(tools: Callable[..., None]) -> list[Any]:
    calls: list[Any] = []
    tools(
        tool("look", lambda a: calls.append("look") or {"seen": 3}),
        tool("post", lambda a: calls.append(a) or {"id": 1}, effect="keyed", parameters=TO),
    )
    return calls


@pytest.fixture
def start(workspace: Workspace, alice: User, principal: Callable[..., Principal], sent: list[Any]) -> Start:
    """One agent step `ask` over the tools `look` and `post`, followed by a tool step when `then` is given."""

    def make(*lines: dict[str, Any], then: dict[str, Any] | None = None, contract: Any = None) -> Run:
        scripted.register("s", list(lines))
        node = {"id": "ask", "kind": "agent", "agent": "a", "prompt": "Say something.", "output": ANSWER}
        version = version_of(
            workspace,
            nodes=[node, *([then] if then else [])],
            edges=[{"from": "ask", "to": then["id"]}] if then else [],
            models={"m": {"use": "scripted:s"}},
            agents={"a": {"model": "m", "tools": ["look", "post"]}},
            contract={"boundaries": {"allowed_tools": ["look", "post"]} | (contract or {})},
        )
        return start_run(principal(alice), version, {})

    return make


def kinds(run: Run) -> list[str]:
    return [e.kind for e in entries(run.id)]


def test_after_a_crash_the_decision_is_replayed_and_the_tool_runs_once(
    start: Start, sent: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start({"tools": [{"name": "look", "arguments": {}}]}, {"json": {"said": "three"}})
    dead = register_worker(lease_seconds=-1)
    claim = claim_next(dead, ("default",), alone=True)

    def die(point: str) -> None:
        if point == "after_decision":
            raise WorkerDied

    with monkeypatch.context() as patch:
        patch.setattr(crash, "reach", die)
        with pytest.raises(WorkerDied):
            work(claim, dead, ("default",), chain=True)  # type: ignore[arg-type]
    assert Call.objects.filter(step__run=run).count() == 1
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert run.steps.get().output == {"said": "three"}
    assert scripted.asked("s") == 2
    assert sent == ["look"]
    assert [c.kind for c in Call.objects.order_by("turn", "kind")] == ["model", "tool", "model"]
    assert not check_all()


def test_a_models_write_waits_for_a_person_and_happens_once_as_edited(
    start: Start, sent: list[Any], bob: User, principal: Callable[..., Principal]
) -> None:
    run = start({"tools": [{"name": "post", "arguments": {"to": "ann"}}]}, {"json": {"said": "sent"}})
    work_all()
    assert statuses(run) == {"ask": "waiting"} and not sent
    request = ApprovalRequest.objects.get(run=run)
    assert request.proposal == {"to": "ann"}
    decide(principal(bob), request.id, verb="approve", edits={"to": "ben"})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded", run.error
    assert sent == [{"to": "ben"}]
    assert scripted.asked("s") == 2
    assert Effect.objects.get().approved_by["by"] == [principal(bob).label]
    assert not check_all()


def test_a_rejected_write_is_told_to_the_model_and_nothing_is_sent(
    start: Start, sent: list[Any], bob: User, principal: Callable[..., Principal]
) -> None:
    run = start({"tools": [{"name": "post", "arguments": {"to": "ann"}}]}, {"json": {"said": "not sent"}})
    work_all()
    decide(principal(bob), ApprovalRequest.objects.get(run=run).id, verb="reject", reason="too early")
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded" and run.steps.get().output == {"said": "not sent"}
    assert "too early" in scripted.requests("s")[1].messages[-1].text
    assert not sent


def test_a_refused_tool_step_fails_the_run_with_its_rule(start: Start, sent: list[Any]) -> None:
    run = start(
        {"json": {"said": "x"}},
        then={"id": "send", "kind": "tool", "tool": "post", "with": {"to": "ann"}},
        contract={"forbidden_actions": ["post"]},
    )
    work_all()
    run.refresh_from_db()
    assert run.status == "failed"
    assert run.steps.get(path="send").error["code"] == "refused"
    assert "tool.refused" in kinds(run)
    assert not sent
    assert run.steps.get(path="send").failures == 1


def test_a_rate_limit_waits_and_the_next_attempt_goes_on(start: Start) -> None:
    run = start()
    scripted.register(
        "s", [{"error": "model_rate_limited", "retry_after": 0.01}, {"json": {"said": "x"}}], by="asked"
    )
    for _ in range(3):
        work_all()
        step = run.steps.get()
        if step.status == "waiting":
            run.steps.update(due_at=step.ready_at)
    run.refresh_from_db()
    assert run.status == "succeeded"
    assert "model.failed" in kinds(run) and "step.retrying" in kinds(run)


def test_what_a_request_cost_is_stored_with_its_unit_prices(
    start: Start, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.agents import prices
    from apps.governance.models import Price

    monkeypatch.setattr(prices, "FREE", frozenset({"offline"}))
    Price.objects.create(
        workspace=workspace, model="scripted:s", input_microusd=2_000_000, output_microusd=10_000_000
    )
    line = {"json": {"said": "x"}, "usage": {"input_tokens": 1000, "output_tokens": 100}}
    run = start(line)
    work_all()
    call = Call.objects.get()
    assert (call.cost_microusd, call.unit_prices["source"]) == (3000, "operator")
    run.refresh_from_db()
    assert run.cost_microusd == 3000 and not run.cost_unknown


def test_an_unknown_price_is_unknown_not_zero(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.agents import prices

    monkeypatch.setattr(prices, "FREE", frozenset({"offline"}))
    run = start({"json": {"said": "x"}})
    work_all()
    assert Call.objects.get().cost_microusd is None
    run.refresh_from_db()
    assert run.cost_unknown


def test_a_node_takes_an_approvals_arguments_and_uses_its_grant_up(
    workspace: Workspace,
    alice: User,
    bob: User,
    principal: Callable[..., Principal],
    sent: list[Any],
) -> None:
    """Also without a tier: what a person approved is what happens, and it is written down who did."""
    version = version_of(
        workspace,
        nodes=[
            {"id": "ask", "kind": "approval", "proposes": "send", "with": {"to": "ann"}},
            {"id": "send", "kind": "tool", "tool": "post"},
        ],
        edges=[{"from": "ask.approved", "to": "send"}],
        contract={"boundaries": {"allowed_tools": ["post"]}},
    )
    run = start_run(principal(alice), version, {})
    work_all()
    request = ApprovalRequest.objects.get(run=run)
    decide(principal(bob), request.id, verb="approve", edits={"to": "ben"})
    work_all()
    request.refresh_from_db()
    assert sent == [{"to": "ben"}]
    assert request.consumed_at is not None
    assert Effect.objects.get().approved_by["by"] == [principal(bob).label]
    assert not check_all()
