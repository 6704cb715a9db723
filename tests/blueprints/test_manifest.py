"""What a blueprint tells of itself before it runs."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from apps.blueprints.core.document import Document, Graph
from apps.blueprints.core.manifest import gated_nodes, manifest
from apps.blueprints.core.tools import ToolSpec
from apps.ledger.core.states import EffectClass

from .graphs import chain, document, edge, graphs, node


def tool(name: str, permission: str, effect: EffectClass) -> ToolSpec:
    return ToolSpec(name=name, description=name, permission=permission, parameters={}, effect=effect)


TOOLS = {
    spec.name: spec
    for spec in (
        tool("search", "read the documents you give it", EffectClass.READ),
        tool("again", "read the documents you give it", EffectClass.READ),
        tool("mail", "send e-mail", EffectClass.OPAQUE),
        tool("push", "push a button", EffectClass.KEYED),
    )
}


def approved_mail(**mail: Any) -> Graph:
    return Graph(
        nodes=[
            node("find", tool="search"),
            node("ask", "approval", title="Send it to {{ inputs.company }}?", **mail),
            node("send", title="Send the mail", tool="mail"),
        ],
        edges=[edge("find", "ask"), edge("ask.approved", "send")],
    )


def test_reads_are_told_once_in_words() -> None:
    graph = Graph(nodes=[node("a", tool="search"), node("b", tool="again")])
    told = manifest(document(graph), TOOLS)

    assert told.reads == ["Reads the documents you give it."]
    assert told.sentences == ["Reads the documents you give it.", "Changes nothing outside."]


def test_a_write_behind_an_approval_is_told_as_such() -> None:
    told = manifest(document(approved_mail()), TOOLS)

    assert told.writes == ["Sends e-mail, only after a person approves."]
    assert told.approvals == ["Asks a person: “Send it to ‹company›?”"]
    assert told.ungated == []


def test_a_proposed_write_is_gated_wherever_it_stands() -> None:
    graph = Graph(nodes=[node("ask", "approval", proposes="send"), node("send", tool="mail")], edges=[])

    assert manifest(document(graph), TOOLS).writes == ["Sends e-mail, only after a person approves."]


def test_a_second_way_around_the_approval_is_told() -> None:
    graph = approved_mail()
    around = Graph(nodes=graph.nodes, edges=[*graph.edges, edge("find.failed", "send")])
    told = manifest(document(around), TOOLS)

    assert told.writes == ["Sends e-mail, with no approval before it."]
    assert told.ungated == ["send"]


def test_leaving_an_approval_by_another_port_is_no_approval() -> None:
    graph = approved_mail()
    rejected = Graph(nodes=graph.nodes, edges=[edge("find", "ask"), edge("ask.rejected", "send")])

    assert manifest(document(rejected), TOOLS).ungated == ["send"]


def test_one_free_step_among_several_is_named() -> None:
    graph = approved_mail()
    both = Graph(nodes=[*graph.nodes, node("also", title="Tell the team", tool="mail")], edges=graph.edges)

    assert manifest(document(both), TOOLS).writes == [
        "Sends e-mail, with no approval before it at “Tell the team”."
    ]


def test_a_back_edge_opens_no_way_around() -> None:
    graph = approved_mail()
    rounds = [*graph.edges, edge("send.failed", "find", max_rounds=2)]

    assert manifest(document(Graph(nodes=graph.nodes, edges=rounds)), TOOLS).ungated == []


def test_what_stands_in_a_gated_container_is_gated() -> None:
    body = Graph(nodes=[node("send", tool="mail")])
    graph = Graph(
        nodes=[node("ask", "approval"), node("each", "map", body=body), node("free", "map", body=body)],
        edges=[edge("ask.approved", "each")],
    )

    assert manifest(document(graph), TOOLS).ungated == ["free/send"]


def test_an_unknown_tool_counts_as_a_write() -> None:
    assert manifest(document(Graph(nodes=[node("a", tool="no_such")])), TOOLS).writes == [
        "Uses no such, with no approval before it."
    ]


def test_tools_of_agents_limits_models_people_and_connections_are_told() -> None:
    whole = Document.model_validate(
        {
            "metadata": {"name": "x"},
            "contract": {"tool_limits": {"push": {"per_run": 1}}},
            "models": {
                "cheap": {"use": "offline:extractive"},
                "strong": {"use": "openai:big", "fallback": "cheap"},
            },
            "connections": {"shop": {"kind": "bearer", "fields": ["token"], "hosts": ["shop.example"]}},
            "agents": {"clerk": {"model": "strong", "tools": ["search", "push"]}},
            "graph": {
                "nodes": [
                    {"id": "work", "kind": "agent", "agent": "clerk"},
                    {
                        "id": "ask",
                        "kind": "approval",
                        "quorum": [{"count": 2, "of": "finance"}, {"of": "legal"}],
                    },
                ]
            },
        }
    )
    told = manifest(whole, TOOLS)

    assert told.sentences == [
        "Reads the documents you give it.",
        "Asks the model openai:big.",
        "Works with the built-in offline model; nothing leaves this machine for it.",
        "Pushes a button, at most once per run, with no approval before it.",
        "Asks 2 people of finance and a person of legal: “Ask”",
        "Needs your connection “shop” to shop.example.",
    ]
    assert [needed.name for needed in told.connections] == ["shop"]


@settings(max_examples=80)
@given(graphs())
def test_every_write_is_either_gated_or_named(graph: Graph) -> None:
    whole = document(graph)
    told = manifest(whole, {})

    assert set(told.ungated).isdisjoint(gated_nodes(whole))
    assert all(sentence.endswith((".", "”")) for sentence in told.sentences)


def test_a_chain_without_approvals_has_no_gate() -> None:
    assert gated_nodes(document(chain("a", "b"))) == frozenset()
