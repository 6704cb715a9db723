"""Quorum, edits and diffs: pure, checked for any input."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.approvals.core.diff import diff, line_diff, text_diff
from apps.approvals.core.edits import changed_fields, edit_problems, merge, patch_between, problems
from apps.approvals.core.quorum import Person, Rule, counts_for, evaluate, is_asked, rules_from
from apps.approvals.core.verbs import allowed_verbs
from apps.blueprints.core.document import Edge, Node

GROUPS = ["finance", "legal", "sales"]
people = st.lists(
    st.builds(
        Person,
        key=st.sampled_from("abcdef"),
        groups=st.frozensets(st.sampled_from(GROUPS)),
    ),
    max_size=6,
    unique_by=lambda p: p.key,
)
rules = st.lists(
    st.builds(Rule, count=st.integers(1, 2), of=st.sampled_from([*GROUPS, ""])), min_size=1, max_size=3
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=4), json_values, max_size=4)


def _by_trying(rules: list[Rule], people: list[Person]) -> bool:
    places = [rule for rule in rules for _ in range(rule.count)]
    for seats in product([None, *people], repeat=len(places)):
        taken = [p.key for p in seats if p]
        if len(taken) == len(places) == len(set(taken)) and all(
            not rule.of or (p and rule.of in p.groups) for p, rule in zip(seats, places, strict=True)
        ):
            return True
    return False


@given(rules.filter(lambda r: sum(x.count for x in r) <= 4), people.filter(lambda p: len(p) <= 5))
def test_a_quorum_is_met_exactly_when_distinct_people_can_fill_every_place(
    rules: list[Rule], people: list[Person]
) -> None:
    assert evaluate(rules, people).is_met == _by_trying(rules, people)


@given(rules, people)
def test_the_same_person_counts_once(rules: list[Rule], people: list[Person]) -> None:
    assert evaluate(rules, people) == evaluate(rules, [*people, *people])
    assert sum(s.have for s in evaluate(rules, people).rules) <= len(people)


@given(rules, people)
def test_an_approval_that_counts_for_nothing_changes_nothing(rules: list[Rule], people: list[Person]) -> None:
    useful = [p for p in people if counts_for(p, rules)]
    assert evaluate(rules, people).is_met == evaluate(rules, useful).is_met


def test_two_of_finance_and_one_of_legal_says_what_is_missing() -> None:
    needed = rules_from([{"count": 2, "of": "finance"}, {"count": 1, "of": "legal"}])
    both = Person("a", groups=frozenset({"finance", "legal"}))
    finance = Person("b", groups=frozenset({"finance"}))
    assert not evaluate(needed, [both, finance]).is_met
    assert evaluate(needed, [both, finance, Person("c", groups=frozenset({"finance"}))]).is_met
    assert evaluate(needed, [finance]).missing == "1 more of finance and 1 more of legal"


def test_without_rules_one_person_is_enough() -> None:
    assert evaluate(rules_from([]), [Person("a")]).is_met


def test_a_question_is_for_those_it_names_and_for_everybody_when_it_names_nobody() -> None:
    sales, other = Person("a", "A@x.org", frozenset({"sales"})), Person("b", "b@x.org")
    anybody = rules_from([])
    assert is_asked(other, {}, anybody)
    assert is_asked(sales, {"groups": ["sales"]}, anybody)
    assert not is_asked(other, {"groups": ["sales"]}, anybody)
    assert is_asked(sales, {"users": ["a@X.org"]}, anybody)
    assert not is_asked(other, {}, rules_from([{"count": 1, "of": "sales"}]))
    assert is_asked(
        Person("c", groups=frozenset({"legal"})),
        {"groups": ["sales"]},
        rules_from([{"count": 1, "of": "legal"}]),
    )


@given(objects, objects)
def test_an_edit_leaves_every_other_field_alone(proposal: dict[str, Any], edits: dict[str, Any]) -> None:
    final = merge(proposal, edits)
    assert set(changed_fields(proposal, final)) <= set(edits)
    assert merge(final, edits) == final
    assert all(final[k] == v for k, v in proposal.items() if k not in edits)


@given(objects, objects)
def test_a_patch_between_two_objects_leads_from_one_to_the_other(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    after = merge({}, after)  # Null members cannot be set by a merge patch.
    assert not changed_fields(merge(before, patch_between(before, after)), after)


def test_an_edit_merges_objects_replaces_values_and_removes_nulls() -> None:
    before = {"to": "a@x", "cc": "b@x", "options": {"urgent": True, "note": "n"}}
    edits = {"cc": None, "options": {"note": "m"}, "lines": [1]}
    assert merge(before, edits) == {"to": "a@x", "options": {"urgent": True, "note": "m"}, "lines": [1]}
    assert before["cc"] == "b@x"


def test_an_edit_names_every_problem_by_path() -> None:
    schema = {
        "type": "object",
        "required": ["to", "lines"],
        "properties": {
            "to": {"type": "string", "minLength": 1},
            "lines": {
                "type": "array",
                "items": {"type": "object", "properties": {"amount": {"type": "number"}}},
            },
        },
    }
    found = edit_problems({"to": "a"}, {"to": "", "lines": [{"amount": "12"}], "extra": 1}, schema)
    assert set(found) == {"to", "lines[0].amount", "extra"}
    assert found["to"] == "must not be empty"
    assert found["lines[0].amount"] == "must be of type number, found string"
    assert problems({}, schema) == {"to": "is required", "lines": "is required"}


def test_without_a_schema_a_field_keeps_its_type() -> None:
    assert edit_problems({"amount": 12}, {"amount": 13.5}, None) == {}
    assert edit_problems({"amount": 12}, {"amount": "12"}, None) == {
        "amount": "must stay of type number, found string"
    }
    assert edit_problems({"sure": True}, {"sure": 1}, None)
    assert changed_fields({"sure": True}, {"sure": 1}) == ["sure"]


@given(st.text(max_size=80), st.text(max_size=80))
def test_a_text_diff_holds_both_texts(before: str, after: str) -> None:
    parts = text_diff(before, after)
    assert "".join(p.text for p in parts if p.op != "added") == before
    assert "".join(p.text for p in parts if p.op != "removed") == after


@given(objects, objects)
def test_a_diff_names_exactly_the_fields_that_changed(before: dict[str, Any], after: dict[str, Any]) -> None:
    changed = {
        c.path.split(".")[0] if c.path not in {**before, **after} else c.path
        for c in diff(before, after)
        if c.kind != "same"
    }
    assert (not changed) == (not changed_fields(before, after))


def test_a_very_long_text_is_still_compared_quickly() -> None:
    before = "\n".join(f"line {n} of the text" for n in range(20_000))
    assert len(text_diff(before, before + "\nmore")) <= 2


def _approval(**more: Any) -> Node:
    return Node(id="ask", kind="approval", **more)


@pytest.mark.parametrize(("round", "offered"), [(1, True), (2, True), (3, False)])
def test_changes_are_offered_while_a_round_is_left(round: int, offered: bool) -> None:
    edges = [Edge.model_validate({"from": "ask.changes", "to": "draft", "max_rounds": 3})]
    assert ("request_changes" in allowed_verbs(_approval(), edges, round)) is offered


def test_answering_is_offered_only_where_declared() -> None:
    assert allowed_verbs(_approval(), [], 1) == ["approve", "reject"]
    assert allowed_verbs(_approval(verbs=["answer"]), [], 1) == ["approve", "reject", "answer"]


def test_a_line_diff_keeps_every_line_of_both_texts() -> None:
    before, after = "Dear Ada,\n\nold words.\n\nBye", "Dear Ada,\n\nnew words.\nMore.\n\nBye"
    parts = line_diff(before, after)
    assert "\n".join(p.text for p in parts if p.op != "added") == before
    assert "\n".join(p.text for p in parts if p.op != "removed") == after
    assert [p.text for p in parts if p.op == "added"] == ["new words.", "More."]
