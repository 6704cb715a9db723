"""What can be added to a draft, and what is offered first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.blueprints.core.document import Node
from apps.blueprints.core.editing.palette import KINDS, Entry, Subflow, palette
from apps.blueprints.core.kinds import RUNNABLE
from apps.blueprints.core.validate import validate
from tests.blueprints.samples import TOOLS
from tests.blueprints.test_draft_view import DRAFTS, PATIENT, draft

MAIL = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "body": {"type": "string"}, "rows": {"type": "array"}},
}


def writing(**more: Any) -> dict[str, Any]:
    node = {"id": "write", "kind": "agent", "agent": "writer", "output": MAIL}
    return draft(
        graph={"nodes": [node, {"id": "ask", "kind": "approval", "title": "?"}], "edges": [
            {"from": "write", "to": "ask"},
        ]},
        agents={"writer": {"instructions": "Write well.", "model": "offline:extractive"}},
        **more,
    )  # fmt: skip


def entry(found: list[Entry], name: str) -> Entry:
    return next(e for e in found if name in (e.name, e.title))


def test_every_kind_is_offered_and_has_words() -> None:
    assert set(KINDS) == RUNNABLE
    assert {e.kind for e in palette(draft(), {})} == RUNNABLE


def test_a_tool_that_finds_its_arguments_stands_before_one_that_does_not() -> None:
    found = palette(writing(), TOOLS, source="write")
    names = [e.name for e in found]
    assert names.index("send_email") < names.index("search_documents")
    send = entry(found, "send_email")
    assert send.template["with"] == {
        "to": "{{ steps.write.output.to }}",
        "body": "{{ steps.write.output.body }}",
    }
    assert send.fit == "Finds “to” and “body” here."


def test_a_value_of_another_type_is_not_filled_in() -> None:
    data = writing()
    data["graph"]["nodes"][0]["output"] = {"type": "object", "properties": {"to": {"type": "array"}}}
    assert "with" not in entry(palette(data, TOOLS, source="write"), "send_email").template


def test_after_a_failure_nothing_of_the_failed_step_is_read() -> None:
    found = palette(writing(), TOOLS, source="write.failed")
    assert "with" not in entry(found, "send_email").template
    assert found[0].kind == "approval"


def test_a_list_is_gone_through() -> None:
    each = entry(palette(writing(), {}, source="write"), "For each")
    assert each.template["items"] == "{{ steps.write.output.rows }}"
    assert each.fit == "Goes through “rows”."


def test_agents_and_published_blueprints_are_offered() -> None:
    inputs = {"type": "object", "required": ["body"], "properties": {"body": {"type": "string"}}}
    choice = Subflow("archive", 3, "Archive a letter", "Keeps it.", inputs)
    found = palette(writing(), {}, source="write", subflows=[choice])
    assert entry(found, "writer").template == {"id": "writer", "kind": "agent", "agent": "writer"}
    archive = entry(found, "archive@3").template
    assert archive["blueprint"] == "archive@3"
    assert archive["with"] == {"body": "{{ steps.write.output.body }}"}


@pytest.mark.parametrize(
    ("query", "first"),
    [("appr", "Approval"), ("if", "Router"), ("send em", "Send email"), ("python", "Code")],
)
def test_it_is_found_by_the_words_people_use(query: str, first: str) -> None:
    assert palette(writing(), TOOLS, query=query)[0].title == first


def test_words_nothing_is_called_by_find_nothing() -> None:
    assert palette(writing(), TOOLS, query="zebra crossing") == []


def test_a_slip_of_the_pen_finds_the_nearest_title() -> None:
    assert [e.title for e in palette(writing(), TOOLS, query="aproval")] == ["Approval"]


def test_ids_are_free_in_the_graph_they_are_added_to() -> None:
    data = draft()
    data["graph"]["nodes"].append({"id": "code", "kind": "code", "code": "1"})
    assert entry(palette(data, {}), "Code").template["id"] == "code_2"
    assert entry(palette(data, {}, scope="each"), "Code").template["id"] == "code"


NEEDS_A_PERSON = {"missing_field", "missing_argument", "missing_input", "unreachable_node"}
"""What only somebody can say who knows what is wanted."""


@pytest.mark.parametrize("source", ["write", "ask.approved", "ask.rejected", ""])
def test_what_is_added_has_no_mistake_but_what_only_a_person_can_say(source: str) -> None:
    """Of form, names and types a template is right."""
    data = writing()
    allowed = {"contract": {"boundaries": {"allowed_tools": list(TOOLS)}}}
    for found in palette(data, TOOLS, source=source):
        graph = {**data["graph"], "nodes": [*data["graph"]["nodes"], found.template]}
        if source:
            graph["edges"] = [*graph["edges"], {"from": source, "to": found.template["id"]}]
        problems = validate({**data, **allowed, "graph": graph}, TOOLS).problems
        index = f"graph.nodes[{len(graph['nodes']) - 1}]"
        codes = {p.code for p in problems if p.path.startswith(index) and p.level == "error"}
        assert codes <= NEEDS_A_PERSON, (found.template, [p.message for p in problems])


@PATIENT
@given(DRAFTS, st.sampled_from(["", "a", "b.failed", "x/y"]), st.text(max_size=8))
def test_it_offers_nodes_whatever_the_draft(data: Any, source: str, query: str) -> None:
    for found in palette(data, TOOLS, source=source, query=query):
        Node.model_validate(found.template)
