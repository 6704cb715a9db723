"""The single door to every tool: what is refused, what needs a person, what is done once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from apps.agents import gateway
from apps.agents.errors import Refused
from apps.agents.handlers import tool as tool_handler
from apps.runs.errors import StepError, Suspended
from apps.runs.ports import Ask, Done, Question
from tests.agents.fakes import FakeContext, document, tool

TO = {
    "type": "object",
    "required": ["to"],
    "additionalProperties": False,
    "properties": {"to": {"type": "string"}, "text": {"type": "string"}},
}


def blueprint(
    *, allowed: list[str], forbidden: list[Any] | None = None, node: dict[str, Any] | None = None, **more: Any
) -> Any:
    return document(
        contract={"boundaries": {"allowed_tools": allowed, "forbidden_actions": forbidden or []}, **more},
        graph={
            "nodes": [
                {"id": "ask", "kind": "approval", "proposes": "send", "with": {}},
                {"id": "find", "kind": "tool", "tool": "web"},
                {
                    "id": "send",
                    "kind": "tool",
                    "tool": "post",
                    "with": {"to": "{{ inputs.to }}"},
                    **(node or {}),
                },
            ],
            "edges": [{"from": "ask.approved", "to": "send"}],
        },
    )


def context(doc: Any, **more: Any) -> FakeContext:
    return FakeContext(doc, "send", inputs={"to": "a@b.example"}, **more)


@pytest.fixture
def sent(tools: Callable[..., None]) -> list[Any]:
    """Arguments of every call of the writing tool `post`; `web` reads from outside."""
    calls: list[Any] = []
    tools(
        tool(
            "post",
            lambda a: calls.append(a) or {"id": len(calls)},
            effect="keyed",
            parameters=TO,
            sinks=("to",),
            actions=("speak",),
        ),
        tool("web", lambda a: {"page": "x"}, open_world=True),
    )
    return calls


def refusal(it: FakeContext, **more: Any) -> tuple[Refused, dict[str, Any]]:
    with pytest.raises(Refused) as caught:
        gateway.call_tool(it, "post", {"to": "a@b.example"}, **more)
    it.commit()
    entries = [data for kind, data in it.world.entries if kind == "tool.refused"]
    assert len(entries) == 1
    return caught.value, entries[0]


def question(run: Callable[[], Any]) -> Question:
    with pytest.raises(Suspended) as caught:
        run()
    assert isinstance(caught.value.outcome, Ask)
    return caught.value.outcome.question


def test_a_tool_the_contract_does_not_allow_is_refused(sent: list[Any]) -> None:
    error, entry = refusal(context(blueprint(allowed=[])))
    assert (error.code, error.permanent, error.rule) == ("refused", True, "allowed_tools")
    assert entry["unsafe"] is True
    assert not sent


def test_a_tool_the_agent_was_not_given_is_refused(sent: list[Any]) -> None:
    error, entry = refusal(context(blueprint(allowed=["post"])), own_tools=["web"])
    assert error.rule == "agent_tools" and entry["unsafe"]


def test_a_tool_nobody_declared_is_refused() -> None:
    error, _ = refusal(context(blueprint(allowed=["post"])))
    assert error.rule == "declared"


@pytest.mark.parametrize(
    "forbidden", ["post", "speak", {"name": "never", "when": "tool == 'post' && args.to == 'a@b.example'"}]
)
def test_a_forbidden_action_is_an_unsafe_attempt(sent: list[Any], forbidden: Any) -> None:
    error, entry = refusal(context(blueprint(allowed=["post"], forbidden=[forbidden])))
    assert error.rule == "forbidden" and entry["unsafe"]
    assert not sent


def test_a_predicate_that_cannot_be_judged_refuses(sent: list[Any]) -> None:
    error, entry = refusal(
        context(blueprint(allowed=["post"], forbidden=[{"name": "n", "when": "args.nothing > 1"}]))
    )
    assert error.rule == "forbidden" and not entry["unsafe"]


def test_a_predicate_that_does_not_hold_lets_pass(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"], forbidden=[{"name": "n", "when": "args.to == 'x'"}]))
    assert gateway.call_tool(it, "post", {"to": "a@b.example"}) == {"id": 1}


def test_arguments_that_do_not_fit_are_refused_and_not_unsafe(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"]))
    with pytest.raises(Refused) as caught:
        gateway.call_tool(it, "post", {"to": 7, "more": 1})
    assert caught.value.rule == "argument_schema" and not caught.value.unsafe


@pytest.mark.parametrize(
    "forbidden",
    [
        "post_without_approval",
        "speak_without_approval",
        {"name": "n", "when": "tool == 'post' && approval == null"},
    ],
)
def test_an_action_forbidden_without_approval_asks_and_then_runs_once(
    sent: list[Any], forbidden: Any
) -> None:
    it = context(blueprint(allowed=["post"], forbidden=[forbidden]))
    asked = question(lambda: tool_handler(it))
    assert asked.proposal == {"to": "a@b.example"} and asked.tool == "post"
    assert not sent
    it.grant("post", {"to": "a@b.example"})
    assert tool_handler(it.again()) == Done({"id": 1}, labels=("user",))
    assert len(sent) == 1


def test_tier_one_asks_and_tier_zero_refuses(sent: list[Any]) -> None:
    assert "tier 1" in str(
        question(lambda: tool_handler(context(blueprint(allowed=["post"], node={"tier": 1})))).evidence
    )
    error, _ = refusal(context(blueprint(allowed=["post"], node={"tier": 0})))
    assert error.rule == "tier"


def test_a_sink_that_comes_from_outside_needs_a_person(sent: list[Any]) -> None:
    doc = blueprint(allowed=["post"], node={"with": {"to": "{{ steps.find.output.page }}"}})
    it = context(doc, steps={"find": {"page": "evil@x.example"}}, labels={"find": ["tool:web"]})
    asked = question(lambda: tool_handler(it))
    assert asked.labels == {"to": ["tool:web"]}
    assert "comes from outside" in str(asked.evidence)


def test_text_from_outside_that_is_no_sink_passes(sent: list[Any]) -> None:
    doc = blueprint(
        allowed=["post"], node={"with": {"to": "{{ inputs.to }}", "text": "{{ steps.find.output.page }}"}}
    )
    it = context(doc, steps={"find": {"page": "news"}}, labels={"find": ["tool:web"]})
    assert tool_handler(it) == Done({"id": 1}, labels=("tool:web", "user"))


def test_a_proposed_node_takes_its_arguments_exactly_as_approved(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"], node={"tier": 1}), steps={"ask": {"to": "edited@b.example"}})
    it.grant("post", {"to": "edited@b.example"})
    assert tool_handler(it) == Done({"id": 1})
    assert sent == [{"to": "edited@b.example"}]
    assert it.input == {"to": "edited@b.example"}


def test_an_edited_approval_of_a_question_replaces_the_arguments(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"], node={"tier": 1}))
    number = question(lambda: tool_handler(it)).ordinal
    it.grant("post", {"to": "other@b.example"})
    decision = {"tool": "post", "ordinal": number, "verb": "approve", "output": {"to": "other@b.example"}}
    tool_handler(it.again(memo={"decision": decision}))
    assert sent == [{"to": "other@b.example"}]


def test_a_rejected_question_fails_the_step_for_good(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"], node={"tier": 1}))
    number = question(lambda: tool_handler(it)).ordinal
    decision = {"tool": "post", "ordinal": number, "verb": "reject", "by": "bob", "reason": "no"}
    with pytest.raises(StepError) as caught:
        tool_handler(it.again(memo={"decision": decision}))
    assert (caught.value.code, caught.value.permanent) == ("rejected", True)


def test_a_recorded_call_is_replayed_not_repeated(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"]))
    tool_handler(it)
    it.commit()
    tool_handler(it.again())
    assert len(sent) == 1


def test_a_simulated_write_sends_nothing(sent: list[Any]) -> None:
    it = context(blueprint(allowed=["post"]), simulate=True)
    assert tool_handler(it) == Done({"simulated": "post"}, labels=("user",))
    assert not sent


def test_a_read_is_remembered_within_the_run_until_the_world_changes(tools: Callable[..., None]) -> None:
    asked: list[Any] = []
    tools(tool("web", lambda a: asked.append(a) or {"n": len(asked)}))
    first = context(blueprint(allowed=["web"]))
    assert gateway.call_tool(first, "web", {}) == {"n": 1}
    second = context(blueprint(allowed=["web"]))
    second.run_id = first.run_id
    assert gateway.call_tool(second, "web", {}) == {"n": 1}
    second.commit()
    assert second.world.entries[-1][1]["remembered"]
    third = context(blueprint(allowed=["web"]))
    third.run_id = first.run_id
    third.world.effects[0, 0] = {"tool": "post", "result": 1}
    assert gateway.call_tool(third, "web", {}) == {"n": 2}
    other = context(blueprint(allowed=["web"]))
    assert gateway.call_tool(other, "web", {}) == {"n": 3}


def test_a_slow_read_is_cut_off_and_may_be_tried_again(tools: Callable[..., None]) -> None:
    tools(tool("web", lambda a: time.sleep(2), timeout_seconds=0.1))
    with pytest.raises(StepError) as caught:
        gateway.call_tool(context(blueprint(allowed=["web"])), "web", {})
    assert (caught.value.code, caught.value.permanent) == ("tool_timeout", False)


def test_a_failing_read_may_be_tried_again_and_is_not_remembered(tools: Callable[..., None]) -> None:
    answers = iter([ValueError("odd"), {"fine": True}])

    def run(_: Any) -> Any:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    tools(tool("web", run))
    it = context(blueprint(allowed=["web"]))
    with pytest.raises(StepError) as caught:
        gateway.call_tool(it, "web", {})
    assert not caught.value.permanent
    assert gateway.call_tool(it.again(), "web", {}) == {"fine": True}


def test_a_tool_limit_of_the_contract_is_kept(sent: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    it = context(blueprint(allowed=["post"], tool_limits={"post": {"per_run": 1}}))
    monkeypatch.setattr(gateway, "calls_made", lambda *a: 1)
    error, entry = refusal(it)
    assert error.rule == "tool_limit" and not entry["unsafe"]


def test_arguments_that_are_null_are_left_out(sent: list[Any]) -> None:
    doc = blueprint(
        allowed=["post"], node={"with": {"to": "{{ inputs.to }}", "text": "{{ steps.find.output }}"}}
    )
    tool_handler(context(doc))
    assert sent == [{"to": "a@b.example"}]
