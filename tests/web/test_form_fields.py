"""Forms from schemas: what a person sees, and what the run gets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.web.core.fields import MISSING, draw, read, read_one, widget_of

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["company", "documents"],
    "properties": {
        "company": {"type": "string", "title": "Company", "description": "As in your documents."},
        "amount": {"type": "number", "minimum": 0},
        "count": {"type": "integer"},
        "urgent": {"type": "boolean", "default": True},
        "tone": {"enum": ["warm", "brief", 3]},
        "on": {"type": "string", "format": "date"},
        "documents": {"format": "files"},
        "crm": {"format": "file"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "address": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}},
        },
        "extra": {"type": "object"},
    },
}


def sent(**values: str | list[str]) -> Any:
    given = {f"in.{key.replace('__', '.')}": v if isinstance(v, list) else [v] for key, v in values.items()}
    return lambda key: given.get(key, [])


def test_every_type_has_the_input_that_suits_it() -> None:
    drawn = {field.name: field.widget for field in draw(SCHEMA, {}, {})}
    assert drawn == {
        "company": "text",
        "amount": "number",
        "count": "number",
        "urgent": "tick",
        "tone": "choice",
        "on": "date",
        "documents": "files",
        "crm": "file",
        "tags": "lines",
        "address": "group",
        "extra": "json",
    }


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', "[Infinity]", "{"])
def test_what_is_no_json_is_said_at_its_field(text: str) -> None:
    values, errors = read(SCHEMA, sent(extra=text))
    assert "extra" in errors and "extra" not in values


def test_values_arrive_with_their_types() -> None:
    values, errors = read(
        SCHEMA,
        sent(
            company=" Quillfeather ",
            amount="12,50",
            count="3",
            urgent__shown="yes",
            tone="3",
            on="2026-04-30",
            documents=["f1", "f2"],
            crm="f3",
            tags="a\r\n\r\nb",
            address__city="Bergen",
            extra='{"a": [1]}',
        ),
    )
    assert errors == {}
    assert values == {
        "company": "Quillfeather",
        "amount": 12.5,
        "count": 3,
        "urgent": False,
        "tone": 3,
        "on": "2026-04-30",
        "documents": ["f1", "f2"],
        "crm": "f3",
        "tags": ["a", "b"],
        "address": {"city": "Bergen"},
        "extra": {"a": [1]},
    }


def test_what_cannot_be_read_is_said_at_its_field_and_nothing_is_lost() -> None:
    values, errors = read(
        SCHEMA, sent(amount="a lot", count="1.5", tone="loud", on="31.4.", address__zip="1", extra="{")
    )
    assert set(errors) == {
        "company",
        "documents",
        "amount",
        "count",
        "tone",
        "on",
        "address.city",
        "extra",
    }
    assert errors["company"] == "Fill this in." and errors["documents"] == "Choose a file."
    fields = {field.name: field for field in draw(SCHEMA, values, errors)}
    assert fields["amount"].error and fields["address"].fields[0].error
    assert fields["address"].fields[1].value == "1"


def test_a_long_text_gets_room_and_keeps_its_lines() -> None:
    text = "Dear Ms Okafor,\n\nthank you.\n"
    assert widget_of({"type": "string"}, text) == "textarea"
    assert read_one("body", {"type": "string"}, sent(body=text.replace("\n", "\r\n")), {}, text) == text


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "12 apples", "0x10"])
def test_what_is_no_number_is_refused(text: str) -> None:
    _, errors = read({"properties": {"n": {"type": "number"}}}, sent(n=text))
    assert "n" in errors


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda c: st.lists(c) | st.dictionaries(st.text(), c),
        max_leaves=8,
    ),
    st.text(),
)
def test_no_schema_and_no_input_breaks_the_form(schema: Any, text: str) -> None:
    part = schema if isinstance(schema, dict) else {"type": schema}
    try:
        widget_of(part, text)
        read_one("x", part, lambda key: [text], {})
    except ValueError:
        pass


def test_an_empty_field_is_left_out() -> None:
    assert read_one("x", {"type": "string"}, sent(x=""), {}) is MISSING
