"""Patterns of schemas: the meaning they had, in a time that no text can stretch."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from apps.blueprints.core.patterns import occurs, validator_of, why_unusable
from apps.blueprints.core.schemas import check
from apps.runs.core.checks import field_problems, schema_problems
from apps.runs.core.inputs import input_problems

SLOW = [
    (r"^(\w+\s?)*$", "a" * 50 + "!"),
    (r"^([a-z]+)+$", "a" * 50 + "!"),
    (r"(x+x+)+y", "x" * 50),
    (r"^(a|aa)+$", "a" * 60 + "b"),
    (r"\s+$", " " * 200_000 + "x"),
    (r"^(.*?,){25}P", "1," * 60),
]


@pytest.mark.parametrize(("pattern", "text"), SLOW)
def test_no_text_makes_a_pattern_slow(pattern: str, text: str) -> None:
    began = time.monotonic()
    schema = {"type": "string", "pattern": pattern}
    named = {"type": "object", "patternProperties": {pattern: {}}, "additionalProperties": False}
    assert schema_problems(text, schema)
    assert schema_problems({text: 1}, named)
    assert input_problems({"properties": {"a": schema}}, {"a": text})
    assert field_problems({"a": text}, {"properties": {"a": schema}})
    assert time.monotonic() - began < 5


PATTERNS = [
    r"^$|^[^@\s]+@[^@\s]+$", r"^[0-9]{4}-[0-9]{2}$", r"^\d{3,5}$", "^[A-Z][a-z]+( [A-Z][a-z]+)*$", r"\.pdf$",
    "^https?://", r"^\<b\>$", "[[]", "[]a]", "[^]a]", "[a&&b]", "[~~x]", r"[\]\\-]", r"^\/a\/$", "(?i)ABC",
    "é+", "^.{1,5000}$", r"\bAda\b", "(?P<year>[0-9]+)", "a|b|", r"[\w.+-]+", "",
]  # fmt: skip
TEXTS = [
    "", "a", "ada@example.com", "2026-04", "123", "Ada Lovelace", "x.pdf", "https://a.example", "<b>", "[",
    "]", "&", "~", "-", "\\", "/a/", "xabcx", "café", "two\nlines", "٣", "^", "x" * 6000,
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_finds_what_the_pattern_says(pattern: str) -> None:
    assert not why_unusable(pattern)
    for text in TEXTS:
        assert occurs(pattern, text) is (re.search(pattern, text) is not None), text


def test_half_a_character_is_a_character() -> None:
    assert occurs("^.$", "\ud800") is True
    assert occurs("^[a-z]+$", "a\udfff") is False


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        (r"^(?=.*\d).{8,}$", "looks ahead or behind"),
        (r"(?<!a)b", "looks ahead or behind"),
        (r"(a)\1", "refers back"),
        (r"(\w{1000}){1000}", "too large"),
    ],
)
def test_what_cannot_be_matched_in_one_go_is_refused_and_never_fits(pattern: str, why: str) -> None:
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: {}}}):
        (flaw,) = check(schema)
        assert why in flaw.message and flaw.is_error and flaw.fix
    (said,) = schema_problems("aa1", {"pattern": pattern})
    assert "cannot be compared" in said and why in said
    assert schema_problems({"aa1": 1}, {"patternProperties": {pattern: {}}})


def test_a_text_that_is_too_long_for_its_pattern_does_not_fit() -> None:
    pattern = "|".join(f"(?:a{{0,{i}}}b)" for i in range(1, 300))
    assert "too long" in schema_problems("a" * 100_000, {"pattern": pattern})[0]


SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "patternProperties": {"^x_": {"type": "string"}, "_at$": {"minLength": 3}},
    "additionalProperties": {"type": "boolean"},
}


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": 1},
        {"a": "b"},
        {"x_": 1},
        {"x_at": "ab"},
        {"other": 1},
        {"other": True},
        {"x_b": "c", "d": 0},
        [],
    ],
)
@pytest.mark.parametrize("allowed", [{"type": "boolean"}, False, True])
def test_names_by_pattern_mean_what_they_meant(value: Any, allowed: Any) -> None:
    schema = {**SCHEMA, "additionalProperties": allowed}
    ours = [(list(e.absolute_path), e.validator) for e in validator_of(schema).iter_errors(value)]
    theirs = [(list(e.absolute_path), e.validator) for e in Draft202012Validator(schema).iter_errors(value)]
    assert sorted(map(str, ours)) == sorted(map(str, theirs))


def test_a_schema_that_names_its_draft_is_held_the_same_way() -> None:
    pattern, text = SLOW[0]
    draft = "https://json-schema.org/draft/2020-12/schema"
    inner = {"$schema": draft, "pattern": pattern}
    assert schema_problems([text], {"$schema": draft, "items": inner})


def test_names_by_pattern_beside_what_is_left_over_are_refused() -> None:
    schema = {"allOf": [{"patternProperties": {"a": {}}}], "unevaluatedProperties": False}
    assert [flaw.path for flaw in check(schema)] == [("unevaluatedProperties",)]
