"""A model's draft must not keep the page of its approval from opening."""

from __future__ import annotations

import pytest

from apps.approvals.core.diff import text_diff
from tests.patience import within

PAIRS = [("a\nb\n" * 1400, "b\nb\na\n" * 900), ("a b " * 370, "b b a " * 240)]


@pytest.mark.parametrize(("before", "after"), PAIRS)
def test_texts_of_few_words_are_shown_whole_when_comparing_takes_too_long(before: str, after: str) -> None:
    with within(20):
        parts = text_diff(before, after)
    assert "".join(p.text for p in parts if p.op != "added") == before
    assert "".join(p.text for p in parts if p.op != "removed") == after
