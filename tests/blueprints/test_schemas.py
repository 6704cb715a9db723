"""JSON Schemas inside blueprints: what passes our check passes the standard's, and values fit or do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from apps.blueprints.core.schemas import KEYWORDS, Missing, at, check, misfits
from tests.blueprints.test_parse import VALUES

SCHEMAS = st.recursive(
    st.dictionaries(st.sampled_from(sorted(KEYWORDS)), VALUES, max_size=4),
    lambda inner: st.dictionaries(
        st.sampled_from(sorted(KEYWORDS)),
        inner | st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        max_size=4,
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(SCHEMAS)
def test_what_passes_passes_the_meta_schema(schema: dict[str, Any]) -> None:
    if any(flaw.is_error for flaw in check(schema)):
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as exc:
        pytest.fail(f"{schema}: {exc.message}")


@pytest.mark.parametrize(
    ("schema", "path", "fix"),
    [
        ({"type": "objct"}, ("type",), '"object"'),
        ({"type": "text"}, ("type",), '"string"'),
        ({"properties": {"a": "string"}}, ("properties", "a"), "{type: string}"),
        ({"properties": []}, ("properties",), "{name"),
        ({"required": True}, ("required",), "beside properties"),
        ({"items": [{}]}, ("items",), "prefixItems"),
        ({"minLength": "3"}, ("minLength",), "1"),
        ({"pattern": "("}, ("pattern",), "pattern"),
        ({"$ref": "#/$defs/x"}, ("$ref",), "$defs"),
        ({"$ref": "https://schemas.example/x"}, ("$ref",), "$defs"),
        ({"anyOf": []}, ("anyOf",), "["),
        ({"properties": {"a": {}}, "required": ["b"], "additionalProperties": False}, ("required",), '"a"'),
    ],
)
def test_each_mistake_in_a_schema_has_its_place_and_fix(schema: Any, path: tuple[str, ...], fix: str) -> None:
    flaw = check(schema)[0]
    assert flaw.path == path and flaw.is_error and fix in flaw.fix


def test_a_misspelt_keyword_is_a_doubt() -> None:
    (flaw,) = check({"type": "string", "minLenght": 3})
    assert not flaw.is_error and '"minLength"' in flaw.fix


def test_a_way_through_a_schema_follows_references_and_items() -> None:
    schema = {
        "type": "object",
        "properties": {"list": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
        "$defs": {"item": {"type": "object", "properties": {"text": {"type": "string"}}}},
    }
    assert at(schema, ("list", "0", "text")) == {"type": "string"}
    missing = at(schema, ("list", "0", "txt"))
    assert isinstance(missing, Missing) and missing.known == ("text",)
    assert at({"anyOf": [schema]}, ("anything",)) is None


@pytest.mark.parametrize(
    ("given", "wanted", "clashes"),
    [
        ({"type": "integer"}, {"type": "number"}, False),
        ({"type": "number"}, {"type": "integer"}, False),
        ({"type": "string"}, {"type": "number"}, True),
        ({"type": ["string", "null"]}, {"type": "string"}, False),
        ({"type": "object"}, {"type": "string"}, True),
        ({}, {"type": "string"}, False),
        ({"type": "string"}, {}, False),
        ({"enum": ["a"]}, {"type": "integer"}, True),
        (
            {"type": "array", "items": {"type": "integer"}},
            {"type": "array", "items": {"type": "string"}},
            True,
        ),
        ({"type": "object"}, {"format": "file"}, False),
        ({"type": "string"}, {"format": "files"}, True),
    ],
)
def test_a_clash_needs_two_known_sides_that_share_nothing(given: Any, wanted: Any, clashes: bool) -> None:
    assert bool(list(misfits(given, wanted, "it"))) is clashes
