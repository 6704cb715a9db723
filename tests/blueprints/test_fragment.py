"""Copying steps as text."""

from __future__ import annotations

from apps.blueprints.core.editing.fragment import fragment_of, free_id
from apps.blueprints.core.parse import parse

SOURCE = """\
graph:
  nodes:
    # Reads what the customer wrote.
    - id: read
      kind: transform   # no model here
      output: "{{ inputs.text }}"

    # Decides.
    - {id: ask, kind: approval, title: "{{ steps.read.output }}?", show: [read], proposes: send}
    - id: send
      kind: tool
      tool: send_email
      when: steps.ask.status == "succeeded" && "steps.read" != ""
      # The subject is short.
      with: {subject: "{{ steps['read'].output }}", body: "{{ steps.other.output }}"}
  edges:
    - {from: read, to: ask}
    - from: ask.approved   # only after a yes
      to: send
    - {from: send, to: elsewhere}
layout:
  read: {x: 10, y: 20}
"""


def test_nodes_are_copied_as_they_were_written() -> None:
    fragment = fragment_of(SOURCE, ["read", "ask", "send"])
    for comment in (
        "# Reads what the customer wrote.",
        "# no model here",
        "# Decides.",
        "# only after a yes",
    ):
        assert comment in fragment
    assert parse(fragment).data["nodes"] == parse(SOURCE).data["graph"]["nodes"]
    assert len(parse(fragment).data["edges"]) == 2


def test_of_the_edges_only_those_between_copied_nodes_come_along() -> None:
    assert "edges" not in parse(fragment_of(SOURCE, ["read", "send"])).data


def test_text_that_leans_on_an_anchor_is_written_out() -> None:
    source = 'x: &o "{{ 1 }}"\ngraph:\n  nodes:\n    - id: a\n      kind: transform\n      output: *o\n'
    fragment = fragment_of(source, ["a"])
    assert "*o" not in fragment
    assert parse(fragment).data["nodes"] == [{"id": "a", "kind": "transform", "output": "{{ 1 }}"}]


def test_nothing_chosen_is_an_empty_text() -> None:
    assert fragment_of(SOURCE, ["gone"]) == ""


def test_ids_are_made_free_and_allowed() -> None:
    assert free_id("send", {"send", "send_2"}) == "send_3"
    assert free_id("send_2", {"send_2"}) == "send_3"
    assert free_id("Ask a person!", set()) == "ask_a_person"
    assert free_id("7", set()) == "step_7"
    assert len(free_id("x" * 64, {"x" * 64})) == 64
