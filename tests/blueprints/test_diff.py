"""The difference of two blueprints: complete, symmetrical, blind to how they are drawn."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.blueprints.core import canonical
from apps.blueprints.core.diff import Change, Difference, diff, edge_ids, union
from apps.blueprints.core.document import Document, Graph, Position
from apps.blueprints.core.layout import layout
from tests.blueprints.graphs import document, edge, graphs, node
from tests.blueprints.samples import BLUEPRINT, TOOLS

ANY = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
"""The first example pays for what is loaded once."""
OPPOSITE = {"added": "removed", "removed": "added", "changed": "changed"}


def sample(**changes: Any) -> Document:
    """The sample blueprint, with values put at dotted paths: sample(**{"contract.goal": "x"})."""
    data = copy.deepcopy(BLUEPRINT)
    for path, value in changes.items():
        at = data
        *parts, last = path.split(".")
        for part in parts:
            at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
        if isinstance(at, list):
            at[int(last)] = value
        else:
            at[last] = value
    return Document.model_validate(data)


def only(found: Difference, section: str) -> Change:
    (change,) = found.of(section)
    return change


@ANY
@given(graphs())
def test_a_document_does_not_differ_from_itself(graph: Graph) -> None:
    assert not diff(document(graph), document(graph), TOOLS)


@ANY
@given(graphs(), st.integers(0, 500))
def test_where_things_stand_is_no_difference(graph: Graph, x: int) -> None:
    moved = document(graph, layout={n.id: Position(x=x, y=3) for n in graph.nodes})

    assert not diff(document(graph), moved)


@ANY
@given(graphs(depth=0), graphs(depth=0))
def test_there_is_a_difference_exactly_when_the_content_hash_differs(one: Graph, other: Graph) -> None:
    a, b = document(one), document(other)

    assert bool(diff(a, b)) == (canonical.content_hash(a) != canonical.content_hash(b))


@ANY
@given(graphs(), graphs())
def test_the_way_back_is_the_same_difference_turned_round(one: Graph, other: Graph) -> None:
    there, back = diff(document(one), document(other)), diff(document(other), document(one))

    assert [(c.section, c.subject, OPPOSITE[c.kind]) for c in there.changes] == [
        (c.section, c.subject, c.kind) for c in back.changes
    ]
    assert [(f.path, f.before, f.after) for c in there.changes for f in c.fields] == [
        (f.path, f.after, f.before) for c in back.changes for f in c.fields
    ]


@ANY
@given(graphs(), graphs())
def test_the_union_draws_every_step_and_way_of_both(one: Graph, other: Graph) -> None:
    a, b = document(one), document(other)

    both = union(a, b)
    marks = diff(a, b).marks()

    assert set(edge_ids(both.graph)) == set(edge_ids(one)) | set(edge_ids(other))
    drawn = {box.path for box in layout(both.graph).boxes}
    assert set(marks["nodes"]) <= drawn


def test_a_changed_step_names_the_field_and_both_values() -> None:
    before = sample()
    first = before.graph.nodes[0].id

    change = only(diff(before, sample(**{"graph.nodes.0.title": "Look again"})), "steps")

    assert (change.kind, change.subject) == ("changed", first)
    (field,) = change.fields
    assert (field.path, field.after) == ("title", "Look again")


def test_one_and_true_are_different_values() -> None:
    one = document(Graph(nodes=[node("a", "transform", output={"x": 1})]))
    true = document(Graph(nodes=[node("a", "transform", output={"x": True})]))

    (field,) = only(diff(one, true), "steps").fields

    assert (field.path, field.before, field.after) == ("output.x", 1, True)


def test_the_main_port_is_the_same_way_whether_it_is_written_or_not() -> None:
    plain = document(Graph(nodes=[node("a"), node("b")], edges=[edge("a", "b")]))
    spelled = document(Graph(nodes=[node("a"), node("b")], edges=[edge("a.done", "b")]))

    assert not diff(plain, spelled)


def test_a_way_that_gets_a_condition_is_changed_not_replaced() -> None:
    plain = document(Graph(nodes=[node("a"), node("b")], edges=[edge("a", "b")]))
    asked = document(Graph(nodes=[node("a"), node("b")], edges=[edge("a", "b", when="inputs.x")]))

    change = only(diff(plain, asked), "ways")

    assert (change.kind, change.subject, change.title) == ("changed", "|a.done|b|0", "a.done → b")


def test_steps_inside_a_container_are_told_by_their_path_and_mark_it() -> None:
    def with_body(*ids: str) -> Document:
        return document(Graph(nodes=[node("each", "map", body=Graph(nodes=[node(i) for i in ids]))]))

    found = diff(with_body("score"), with_body("score", "file"))

    assert [(c.kind, c.subject) for c in found.of("steps")] == [("added", "each/file")]
    assert found.marks()["nodes"] == {"each/file": "added", "each": "changed"}


def test_another_version_of_a_subflow_is_said_by_name() -> None:
    old = document(Graph(nodes=[node("child", "subflow", blueprint="billing@1")]))
    new = document(Graph(nodes=[node("child", "subflow", blueprint="billing@2")]))

    assert diff(old, new).subflows == (("child", "billing@1", "billing@2"),)


def test_a_long_prompt_is_to_be_compared_word_by_word() -> None:
    old = document(Graph(nodes=[node("a", "agent", prompt="Write politely.\nBe short.")]))
    new = document(Graph(nodes=[node("a", "agent", prompt="Write politely.\nBe very short.")]))

    (field,) = only(diff(old, new), "steps").fields

    assert field.path == "prompt" and field.is_text


@pytest.mark.parametrize(
    ("change", "says", "kind"),
    [
        ({"contract.boundaries.allowed_tools": ["search_documents", "send_email", "http_get"]},
         "The contract allows the tool http_get.", "added"),
        ({"connections.shop": {"kind": "bearer", "fields": ["token"], "hosts": ["shop.example"]}},
         "The secrets of the connection shop may go to shop.example.", "added"),
        ({"tools.refund": {"method": "POST", "url": "https://shop.example/refund"}},
         "It talks to shop.example (first through the tool refund).", "added"),
        ({"contract.boundaries.forbidden_actions": []}, "The contract forbids", "removed"),
    ],
)  # fmt: skip
def test_what_it_may_do_more_is_said_in_words(change: dict[str, Any], says: str, kind: str) -> None:
    before = sample(**{"contract.boundaries.forbidden_actions": ["export_contacts"]})

    found = diff(
        before, sample(**{"contract.boundaries.forbidden_actions": ["export_contacts"], **change}), TOOLS
    )

    said = {p.words: p for p in found.permissions if p.allows_more and p.words.startswith(says)}
    assert [p.kind for p in said.values()] == [kind]


def test_the_approval_that_is_taken_away_from_before_a_write_is_a_permission() -> None:
    nodes = [node("ask", "approval"), node("send", "tool", tool="send_email")]
    asked = document(Graph(nodes=nodes, edges=[edge("ask.approved", "send")]))
    either = document(Graph(nodes=nodes, edges=[edge("ask.approved", "send"), edge("ask.expired", "send")]))

    found = diff(asked, either, TOOLS)

    (gone,) = found.permissions
    assert gone.words == "send happens only after a person approved it."
    assert gone.kind == "removed" and gone.allows_more
