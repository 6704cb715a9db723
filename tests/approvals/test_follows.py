"""A card says what its answer lets happen, also where the approval proposes no call itself."""

from __future__ import annotations

import pytest

from apps.approvals.core.follows import acts_after
from apps.blueprints.core.document import Document, Graph
from tests.approvals.conftest import Ask
from tests.blueprints.samples import TOOLS

pytestmark = pytest.mark.django_db(transaction=True)
SEND = {"id": "send", "kind": "tool", "tool": "send_email"}


def test_what_follows_outside_is_named_before_anybody_says_yes(ask: Ask) -> None:
    """The card said that nothing leaves this system, and the step behind it sent the mail."""
    asked = ask(proposal={})
    assert asked.effect_summary == "The run goes on, and what follows changes something outside: “Send”."


def test_only_what_comes_before_the_next_question_counts() -> None:
    document = Document.model_validate(
        {
            "metadata": {"name": "a"},
            "graph": {
                "nodes": [
                    {"id": "ask", "kind": "approval"},
                    {"id": "sum", "kind": "transform", "output": 1},
                    {"id": "each", "kind": "map", "items": "[1]", "body": {"nodes": [SEND]}},
                    {"id": "again", "kind": "approval"},
                    {**SEND, "id": "late"},
                    {**SEND, "id": "no", "title": "Say no"},
                ],
                "edges": [
                    {"from": "ask", "to": "sum"},
                    {"from": "ask.rejected", "to": "no"},
                    {"from": "sum", "to": "each"},
                    {"from": "each", "to": "again"},
                    {"from": "again", "to": "late"},
                ],
            },
        }
    )
    by_id = {node.id: node for node in document.graph.nodes}
    assert acts_after(document, by_id["ask"], TOOLS) == ["Each"]
    assert acts_after(document, by_id["again"], TOOLS) == ["Late"]


def in_a_body(kind: str, nodes: list, edges: list, **more: object) -> list[str]:
    """What a yes to `ask`, in the body of a map or loop that a sending step follows, lets happen."""
    body = {"nodes": nodes, "edges": edges}
    document = Document.model_validate(
        {
            "metadata": {"name": "a"},
            "graph": {
                "nodes": [{"id": "each", "kind": kind, "body": body, **more}, {**SEND, "id": "after"}],
                "edges": [{"from": "each", "to": "after"}],
            },
        }
    )
    return acts_after(document, next(n for n in body_of(document).nodes if n.id == "ask"), TOOLS)


def body_of(document: Document) -> Graph:
    body = document.graph.nodes[0].body
    assert body is not None
    return body


ASK = {"id": "ask", "kind": "approval"}
MAP, LOOP = ("map", {"items": "[1]"}), ("loop", {"max_rounds": 3})


@pytest.mark.parametrize(("kind", "more"), [MAP, LOOP])
def test_what_follows_the_map_or_loop_around_a_question_counts(kind: str, more: dict) -> None:
    """Its card said that nothing outside is changed, and the step behind the loop sent the mail."""
    assert in_a_body(kind, [ASK], [], **more) == ["After"]
    again = {**ASK, "id": "again"}
    assert in_a_body(kind, [ASK, again], [{"from": "ask", "to": "again"}], **more) == []
    sometimes = [{"from": "ask", "to": "again", "when": "inputs.large"}]
    assert in_a_body(kind, [ASK, again], sometimes, **more) == ["After"]


@pytest.mark.parametrize(("kind", "more"), [MAP, LOOP])
def test_what_the_next_pass_does_before_it_asks_again_counts(kind: str, more: dict) -> None:
    nodes, edges = [SEND, ASK], [{"from": "send", "to": "ask"}]
    assert in_a_body(kind, nodes, edges, **more) == ["Send", "After"]


@pytest.mark.parametrize(("tier", "named"), [(None, []), (1, []), (2, ["Writer"])])
def test_an_agent_counts_when_its_tier_lets_it_act_without_asking(tier: int | None, named: list[str]) -> None:
    writer = {"id": "writer", "kind": "agent", "agent": "clerk", "prompt": "Write.", "tier": tier}
    document = Document.model_validate(
        {
            "metadata": {"name": "a"},
            "agents": {"clerk": {"model": "m", "instructions": "Be brief.", "tools": ["send_email"]}},
            "graph": {"nodes": [ASK, writer], "edges": [{"from": "ask", "to": "writer"}]},
        }
    )
    assert acts_after(document, document.graph.nodes[0], TOOLS) == named
