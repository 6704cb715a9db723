"""Texts made to keep a worker busy: one pattern that backtracks holds up every run of the process."""

from __future__ import annotations

import json

import pytest

from apps.agents.core.compose import _EMAIL
from apps.agents.documents.extract import kind_of, markdown_headings
from apps.agents.documents.tables import amount
from apps.agents.tools.email import draft
from tests.agents.tools.conftest import make_call
from tests.patience import within


def test_many_comments_before_no_tag_are_seen_at_once() -> None:
    with within(2):
        assert kind_of(b"<!---->" * 500 + b"x", "notes") == "text"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"<!doctype html><p>", "html"),
        (b' \n<?xml version="1.0"?>\n<!-- a --> <!-- b > c -->\n<HTML lang="en">', "html"),
        (b"<!-- never closed <html>", "text"),
        (b"<headline>", "text"),
        (b"<body>", "html"),
    ],
)
def test_a_page_is_known_by_its_first_tag(start: bytes, kind: str) -> None:
    assert kind_of(start, "notes") == kind


def test_headings_of_endless_spaces_are_read_in_linear_time() -> None:
    line = "# a" + " " * 200_000 + "b"
    with within(2):
        assert markdown_headings(line)[0][1] == 1


def test_headings_lose_their_marks() -> None:
    text = "# One #\n## C#\n   ### Three ###   \n    # code\n# \n## ##\n#no\n"
    assert [(level, title) for _, level, title in markdown_headings(text)] == [
        (1, "One"),
        (2, "C"),
        (3, "Three"),
    ]


def test_a_body_of_opening_brackets_is_drafted_at_once() -> None:
    body = "{{" * 200_000 + "{{ name }}"
    with within(5):
        notes = draft(make_call({"subject": "Hello", "body": body}))["notes"]
    assert "The body still holds the blank {{ name }}." in notes


def test_a_cell_of_spaces_is_no_amount() -> None:
    with within(2):
        assert amount("(" + " " * 100_000 + "x") is None
    assert str(amount("$ 1,234.50")) == "1234.50"


def test_a_long_word_is_no_address() -> None:
    with within(2):
        assert _EMAIL.findall("a" * 200_000) == []
    found = _EMAIL.findall(json.dumps(["write to ann.lee@halden.example, or x@y.example"]))
    assert found == ["ann.lee@halden.example", "x@y.example"]
