"""Where an edge may go, and what is said where it may not."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from apps.blueprints.core.editing.connect import Target, targets
from apps.blueprints.core.validate import validate
from tests.blueprints.samples import TOOLS
from tests.blueprints.test_draft_view import DRAFTS, PATIENT, draft


def judged(nodes: list[dict[str, Any]], edges: list[dict[str, Any]], source: str) -> dict[str, Target]:
    data = draft(graph={"nodes": nodes, "edges": edges})
    return {target.node: target for target in targets(data, source, TOOLS)}


def step(node_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "kind": "transform", "output": "{{ 1 }}", **fields}


def edge(source: str, target: str, **fields: Any) -> dict[str, Any]:
    return {"from": source, "to": target, **fields}


def test_a_step_that_nothing_leads_to_is_offered_first() -> None:
    found = judged([step("a"), step("b"), step("c")], [edge("b", "c")], "a")
    assert next(iter(found)) == "b"
    assert found["b"].edge == {"from": "a", "to": "b"}


def test_a_port_that_is_not_there_is_refused_by_name() -> None:
    found = judged([step("a"), step("b")], [], "a.approved")
    assert not found["b"].allowed
    assert "no way out called “approved”" in found["b"].reason


def test_the_same_edge_twice_is_refused_whether_its_port_is_written_or_not() -> None:
    found = judged([step("a"), step("b")], [edge("a", "b")], "a.done")
    assert found["b"].reason == "“A” leads there by “done” already."


def test_going_back_is_allowed_with_a_bound_and_says_so() -> None:
    nodes = [step("a"), {"id": "ask", "kind": "approval", "title": "Good?"}]
    found = judged(nodes, [edge("a", "ask")], "ask.changes")
    assert found["a"].edge == {"from": "ask.changes", "to": "a", "max_rounds": 3}
    assert found["a"].reason.startswith("Goes back")


def test_rounds_that_would_cross_are_refused() -> None:
    nodes = [step(i) for i in "abcd"]
    edges = [edge("a", "b"), edge("b", "c"), edge("c", "d"), edge("c", "a", max_rounds=2, when="true")]
    found = judged(nodes, edges, "d")
    assert not found["b"].allowed
    assert "cross the rounds that go back to “A”" in found["b"].reason
    assert found["a"].allowed


def test_no_edge_crosses_the_wall_of_a_body() -> None:
    data = draft()
    into = {t.node: t for t in targets(data, "one", {})}
    assert into["each/first"].reason == "It stands inside “Each”; connect “Each” itself."
    out = {t.node: t for t in targets(data, "each/first", {})}
    assert "stands outside “Each”" in out["one"].reason
    own = {t.node: t for t in targets(data, "each", {})}
    assert "begin by themselves" in own["each/first"].reason


def test_a_no_does_not_lead_to_what_was_asked_about() -> None:
    nodes = [
        {"id": "ask", "kind": "approval", "proposes": "send", "with": {}},
        {"id": "send", "kind": "tool", "tool": "send_email"},
    ]
    assert not judged(nodes, [], "ask.rejected")["send"].allowed
    assert judged(nodes, [], "ask.approved")["send"].reason == "Runs exactly as it was approved."


def test_it_says_what_the_next_step_can_take() -> None:
    output = {"type": "object", "properties": {"to": {"type": "string"}, "body": {"type": "string"}}}
    nodes = [
        {"id": "write", "kind": "agent", "agent": "x", "output": output},
        {"id": "send", "kind": "tool", "tool": "send_email"},
    ]
    assert judged(nodes, [], "write")["send"].reason == "It can take “to” and “body” from here."


def test_a_value_of_another_kind_is_pointed_out() -> None:
    output = {"type": "object", "properties": {"to": {"type": "array"}}}
    nodes = [
        {"id": "write", "kind": "agent", "agent": "x", "output": output},
        {"id": "send", "kind": "tool", "tool": "send_email"},
    ]
    assert "“to” here is of another kind" in judged(nodes, [], "write")["send"].reason


@PATIENT
@given(DRAFTS, st.sampled_from(["a", "b.done", "a/b", "x", ""]))
def test_every_answer_has_an_edge_or_a_reason(data: Any, source: str) -> None:
    for target in targets(data, source, TOOLS):
        assert target.allowed == (target.edge is not None)
        assert target.allowed or target.reason


NAMES = ["a", "b", "c", "d", "e"]
GRAPHS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=8, unique=True)


@PATIENT
@given(GRAPHS, st.sampled_from(NAMES))
def test_an_allowed_edge_brings_no_error_of_the_graph(pairs: list[tuple[str, str]], source: str) -> None:
    """Whatever is drawn step by step through these rules, the rules of validation agree."""
    data = draft(graph={"nodes": [step(n) for n in NAMES], "edges": []})
    edges = data["graph"]["edges"]
    for one, other in pairs:
        target = next(t for t in targets(data, one, {}) if t.node == other)
        if target.edge is not None:
            bound = {"when": "round < 2"} if "max_rounds" in target.edge else {}
            edges.append({**target.edge, **bound})
    codes = {p.code for p in validate(data, {}).problems if p.path.startswith("graph.edges")}
    assert not codes & {"missing_node", "missing_port", "duplicate_edge", "cycle_without_bound"}
    assert "overlapping_back_edges" not in codes
