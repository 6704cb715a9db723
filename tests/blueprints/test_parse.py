"""Reading text: values, lines, duplicates, bounds; and writing it back as its author had it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.blueprints.core.parse import MAX_BYTES, parse, plain_dump
from apps.blueprints.core.problems import path_parts, path_text

GALLERY = sorted((Path(__file__).parents[2] / "blueprints").glob("*/blueprint.yaml"))
COMMENTED = """\
# Who wrote this and why.
metadata: {title: 'Quoted "title"', name: x}  # names come second here

graph:
  nodes:
    # the first step
    - {id: a, kind: transform, output: "{{ inputs.company }}"}
    - &base
      id: b
      kind: tool   # a comment at the end of a line
  edges: []
defaults:
  <<: *base
"""


@pytest.mark.parametrize("path", GALLERY, ids=[p.parent.name for p in GALLERY])
def test_a_gallery_blueprint_comes_back_letter_for_letter(path: Path) -> None:
    text = path.read_text()
    assert parse(text).dump() == text


def test_comments_order_quotes_and_anchors_survive_a_change() -> None:
    parsed = parse(COMMENTED)
    parsed.tree["graph"]["nodes"][0]["output"] = "changed"
    text = parsed.dump()
    for kept in (
        "# Who wrote this",
        "# names come second",
        "# the first step",
        "# a comment at the end",
        "&base",
        "*base",
    ):
        assert kept in text
    assert text.index("title") < text.index("name: x")
    assert parse(text).data["graph"]["nodes"][0]["output"] == "changed"


def test_lines_are_those_of_the_text() -> None:
    parsed = parse(COMMENTED)
    assert parsed.line("metadata.name") == 2
    assert parsed.line("graph.nodes[0]") == 7
    assert parsed.line("graph.nodes[1].kind") == 10
    assert parsed.line("graph.nodes[1].nowhere.at_all") == 8
    assert parsed.data["defaults"] == {"id": "b", "kind": "tool"}


def test_json_is_read_with_lines_and_written_as_json() -> None:
    parsed = parse('{"a": {\n\t"b": [1,\n\t2.5, true, null]},\n"c": "x: [y"}')
    assert parsed.is_json and not parsed.problems
    assert parsed.data == {"a": {"b": [1, 2.5, True, None]}, "c": "x: [y"}
    assert (parsed.line("a.b"), parsed.line("a.b[1]"), parsed.line("c")) == (2, 3, 4)
    assert json.loads(parsed.dump()) == parsed.data


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("a: 1\nb: [2\nc: 3", "yaml_syntax", 3),
        ("a: b: c", "yaml_syntax", 1),
        ("a:\n\tb: 1", "yaml_syntax", 2),
        ("a: 1\nb: 2\na: 3", "duplicate_key", 3),
        ('{"a": 1,\n"a": 2}', "duplicate_key", 2),
        ("a: {{ inputs.x }}", "key_not_text", 1),
        ("a: !!python/object:os.system x", "yaml_tag", 1),
        ("a: .inf", "not_a_number", 1),
        ("a: 1\n---\nb: 2", "many_documents", 2),
        ("a: *nowhere", "unknown_alias", 1),
        ("a: &a [*a]", "alias_cycle", 1),
        ("<<: 3", "bad_merge", 1),
        ("", "empty", None),
        ("# only a comment\n", "empty", None),
        ("x" * (MAX_BYTES + 1), "too_large", None),
        ("[" * 100 + "]" * 100, "too_deep", None),
        ("- " * 100 + "1", "too_deep", 1),
        ("a: \x07", "yaml_syntax", 1),
    ],
)
def test_what_cannot_be_read_is_a_problem_with_its_line(text: str, code: str, line: int | None) -> None:
    problem = parse(text).problems[0]
    assert (problem.code, problem.line, problem.level) == (code, line, "error")
    assert problem.fix and problem.message


def test_every_duplicate_key_is_named() -> None:
    parsed = parse("a: 1\na: 2\nb:\n  c: 1\n  c: 2\n  c: 3\n")
    assert [(p.path, p.line) for p in parsed.problems] == [("a", 2), ("b.c", 5), ("b.c", 6)]
    assert parsed.dump() == parsed.text


def test_an_alias_bomb_is_refused() -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert parse("\n".join(levels)).problems[0].code == "alias_bomb"
    text = "a: &a '" + "x" * 100_000 + "'\nb: [" + ", ".join(["*a"] * 100) + "]"
    assert parse(text).problems[0].code == "alias_bomb"


def test_plain_anchors_are_allowed() -> None:
    parsed = parse("base: &b {x: 1}\none: *b\ntwo: {<<: *b, y: 2}")
    assert parsed.data == {"base": {"x": 1}, "one": {"x": 1}, "two": {"x": 1, "y": 2}}
    assert not parsed.problems


def test_dates_and_yes_stay_text() -> None:
    assert parse("a: 2026-04-01\nb: yes\nc: on\nd: true\n1: x").data == {
        "a": "2026-04-01", "b": "yes", "c": "on", "d": True, "1": "x",
    }  # fmt: skip


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Co", "Cn"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=100)
@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    text = plain_dump(value)
    parsed = parse(text)
    assert parsed.problems == []
    assert parsed.data == value
    assert parse(parsed.dump()).data == value


@settings(max_examples=100)
@given(st.dictionaries(TEXT, VALUES, max_size=4), st.integers(0, 3))
def test_json_in_any_layout_reads_as_json_does(value: dict[str, Any], indent: int) -> None:
    parsed = parse(json.dumps(value, indent=indent or None))
    assert parsed.is_json
    assert parsed.data == value


@settings(max_examples=100)
@given(st.text(st.sampled_from("ab:-[]{}&*!|>'\"#%@,? \n\t<\x00é"), max_size=40) | st.text(max_size=40))
def test_no_text_makes_the_parser_raise(text: str) -> None:
    parsed = parse(text)
    assert parsed.readable or parsed.problems


@given(st.lists(st.integers(0, 99) | TEXT.filter(bool), max_size=5))
def test_a_path_is_read_as_it_was_written(path: list[str | int]) -> None:
    assert path_parts(path_text(tuple(path))) == tuple(path)
