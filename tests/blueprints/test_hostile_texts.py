"""Blueprints come from strangers: none may keep the process busy or make it fetch something."""

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints.core import schemas
from apps.blueprints.core.parse import parse
from apps.blueprints.core.problems import MOST
from apps.blueprints.core.rules.contract import satisfies
from apps.blueprints.core.text_fit import without_placeholders
from tests.blueprints.samples import problems_after
from tests.patience import within


@pytest.mark.parametrize("text", ['{"' + '\\"' * 100_000, '{"' + '\\"' * 100_000 + "\\"])
def test_a_string_that_never_closes_is_read_once(text: str) -> None:
    with within(20):
        assert parse(text).problems


def test_deep_brackets_inside_texts_do_not_count() -> None:
    assert parse('{"a": "' + "[" * 500 + '\\"", "b": [1]}').data["b"] == [1]


def test_versions_among_endless_spaces_are_refused_at_once() -> None:
    with within(2):
        assert satisfies("0.1", " " * 200_000 + "x") is None
    assert satisfies("0.1", " >= v0.1 , <2 ") is True


def test_a_title_of_opening_brackets_is_drawn_at_once() -> None:
    with within(2):
        without_placeholders("{{ " * 100_000)
    assert without_placeholders("Send {{ inputs.company }} {{ 1 + 1 }}!") == "Send ‹company› ‹…›!"


def test_a_url_of_opening_brackets_is_checked_at_once() -> None:
    tool = {
        "kind": "http",
        "description": "d",
        "method": "GET",
        "url": "https://shop.example/" + "{" * 100_000,
        "parameters": {"type": "object"},
    }
    with within(10):
        problems_after(lambda data: data.update(tools={"t": tool}))


def test_thousands_of_unknown_keys_get_words_for_the_first_ones_only() -> None:
    with within(20):
        found = problems_after(lambda data: data.update({f"key_{n}": 1 for n in range(20_000)}))
    assert len(found) == MOST


AWAY = {"$ref": "http://169.254.169.254/latest/meta-data"}


@pytest.mark.parametrize(
    "schema",
    [
        AWAY,
        {"$ref": "#/const", "const": AWAY},
        {"$ref": "#/default", "default": AWAY},
        {"$ref": "#/examples/0", "examples": [AWAY]},
        {"$ref": "#/enum/0", "enum": [AWAY]},
        {"$ref": "#/x-hidden", "x-hidden": AWAY},
        {"$ref": "#/$defs/a/const", "$defs": {"a": {"const": AWAY}}},
        # The pointer is decoded before it is split, by whoever follows it.
        {"$ref": "#/$defs/a%2fconst", "$defs": {"a%2fconst": {}, "a": {"const": AWAY}}},
    ],
)
def test_a_reference_leads_only_to_what_is_checked(schema: dict[str, Any]) -> None:
    assert [flaw for flaw in schemas.check(schema) if flaw.is_error]


@pytest.mark.parametrize(
    "reference", ["#", "#/$defs/a", "#/definitions/b", "#/properties/c", "#/anyOf/1", "#/$defs/a/items"]
)
def test_references_inside_the_schema_stay_allowed(reference: str) -> None:
    schema = {
        "$defs": {"a": {"items": {"type": "string"}}},
        "definitions": {"b": True},
        "properties": {"c": {}, "d": {"$ref": reference}},
        "anyOf": [{}, {}],
    }
    assert [flaw for flaw in schemas.check(schema) if flaw.is_error] == []
