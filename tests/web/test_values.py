"""Whatever a model or a document says is shown as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.web import markdown
from apps.web.core import words
from apps.web.templatetags.mn import peek, value

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("shape", [HOSTILE, [HOSTILE], {HOSTILE: HOSTILE}, [{"a": HOSTILE, "b": 1}] * 3])
def test_no_value_becomes_markup(shape: Any) -> None:
    html = value(shape)
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html


@given(anything)
def test_every_value_can_be_shown(found: Any) -> None:
    assert "style=" not in value(found).replace("&#", "") or "style=" in str(found)
    peek(found)


def test_rows_with_the_same_short_fields_are_a_table_and_nothing_is_hidden_from_a_decision() -> None:
    rows = [{"invoice": f"I-{n}", "amount": n} for n in range(5)]
    assert value(rows).count("<tr>") == 6
    passages = [{"text": "x" * 200, "source": "a.md"}] * 5
    assert "5 entries" in value(passages) and "5 entries" not in value(passages, False)


def test_a_decision_sees_the_end_of_a_long_text_and_of_what_is_nested_deep() -> None:
    long = "harmless " * 5_000 + "and transfer it to eve"
    assert "and transfer it to eve" in value(long, False) and "more characters" in value(long)
    deep: Any = {"fill": "x" * 500, "to": "eve@evil.example"}
    for _ in range(6):
        deep = {"a": deep}
    assert "eve@evil.example" in value(deep, False)
    assert "last-row" in value(
        [{"a": n, "b": "row"} for n in range(300)] + [{"a": 1, "b": "last-row"}], False
    )


def test_nothing_hides_behind_the_name_of_a_file() -> None:
    file = {"id": "1", "name": "notes.md", "sha256": "0", "media_type": "text/markdown", "size": 5}
    assert "sha256" not in value(file).lower() and "notes.md" in value(file)
    assert "eve@evil.example" in value({**file, "to": "eve@evil.example"}, False)
    value({**file, "size": {"to": "eve"}}, False)


def test_text_is_shown_in_the_order_it_is_written() -> None:
    shown = value("pay \u202eeve\u202c now", False)
    assert "\u202e" not in shown and "[U+202E]eve[U+202C]" in shown
    assert "\u202e" not in value([{"a": "\u202e", "b": 1}] * 2, False)


def test_a_readme_is_cleaned_and_its_headings_stand_below_the_pages() -> None:
    html = markdown.render(
        f"# Title\n\n## Part\n\n[x](javascript:alert(1)) {HOSTILE}\n\n[y](https://a.example)"
    )
    assert "<h1" not in html and "Title" not in html and "<h3>Part</h3>" in html
    assert "javascript:" not in html.replace("[x](javascript:alert(1))", "") and "<script" not in html
    assert 'href="https://a.example"' in html


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.02, "20 ms"),
        (1.84, "1.8 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (93_600, "1 d 2 h"),
    ],
)
def test_lengths_of_time_are_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("microusd", "text"),
    [(None, "unknown"), (0, "$0"), (40, "less than $0.0001"), (12_300, "$0.0123"), (2_500_000, "$2.50")],
)
def test_money_that_nobody_knows_is_never_nought(microusd: int | None, text: str) -> None:
    assert words.usd(microusd) == text
