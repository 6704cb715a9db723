"""A value that does not fit is explained to people in their words, not in those of JSON Schema."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from apps.agents.tools.registry import BUILTIN
from apps.runs.core.checks import words_for
from apps.runs.core.inputs import input_problems

EMAIL = "Write an e-mail address such as ann@example.com"


@pytest.mark.parametrize(
    ("schema", "value", "words"),
    [
        ({"pattern": "^$|^[^@\\s]+@[^@\\s]+$"}, "nope", f"{EMAIL}, or leave it empty."),
        ({"pattern": "^[^@\\s]+@[^@\\s]+$"}, "nope", f"{EMAIL}."),
        (
            {"pattern": "^a$", "description": "One letter a."},
            "b",
            "It has another form than expected: One letter a.",
        ),
        ({"pattern": "^a$", "x-message": "Write a."}, "b", "Write a."),
        ({"type": "integer"}, "x", "Give a whole number."),
        ({"type": ["string", "null"]}, 1, "Give text or nothing."),
        ({"enum": ["a", "b"]}, "c", 'Choose one of "a", "b".'),
        ({"minLength": 1}, "", "Write something here."),
        ({"maxLength": 2}, "abc", "Write at most 2 characters; there are 3."),
        ({"minItems": 1}, [], "Give at least 1 entry."),
        (
            {"anyOf": [{"type": "array"}, {"type": "string", "minLength": 3}]},
            "",
            "Write at least 3 characters.",
        ),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"b": 1},
            '"b" is not known here; known are: a.',
        ),
    ],
)
def test_a_rule_is_said_in_words(schema: dict[str, Any], value: Any, words: str) -> None:
    (error,) = Draft202012Validator(schema).iter_errors(value)
    assert words_for(error) == words


@pytest.mark.parametrize("value", ["", []])
def test_an_email_without_a_recipient_asks_for_one(value: Any) -> None:
    schema = BUILTIN["send_email"].spec.parameters
    errors = Draft202012Validator(schema).iter_errors({"to": value, "subject": "s", "body": "b"})
    assert [words_for(e) for e in errors] == ["Write at least one e-mail address, such as ann@example.com."]


def test_an_unknown_input_is_named_once_with_those_that_are_known() -> None:
    schema = {"properties": {"company": {"type": "string"}}, "additionalProperties": False}
    assert input_problems(schema, {"company": "A", "foo": 1}) == {
        "foo": 'Input "foo" is not one of the blueprint\'s; known are: company.'
    }
