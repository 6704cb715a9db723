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
