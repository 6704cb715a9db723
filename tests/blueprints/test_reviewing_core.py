"""How a review stands follows from the answers alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.blueprints.core.reviewing import ReviewState, Verdict, standing, warning_before_publishing

ANSWERS = st.lists(st.sampled_from(list(Verdict)), max_size=6)


@given(ANSWERS, st.randoms())
def test_the_order_of_answers_does_not_matter(answers: list[Verdict], random: st.DataObject) -> None:
    mixed = list(answers)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert standing(mixed) == standing(answers)


@given(ANSWERS)
def test_one_wish_for_changes_decides_and_approval_needs_everybody(answers: list[Verdict]) -> None:
    found = standing(answers)
    assert (found is ReviewState.CHANGES) == (Verdict.CHANGES in answers)
    assert (found is ReviewState.APPROVED) == (bool(answers) and set(answers) == {Verdict.APPROVE})


@pytest.mark.parametrize(
    ("state", "changed", "warns"),
    [(None, True, False), ("approved", False, False), ("approved", True, True), ("open", False, True),
     ("changes", False, True)],
)  # fmt: skip
def test_what_stands_against_publishing_is_said(state: str | None, changed: bool, warns: bool) -> None:
    assert bool(warning_before_publishing(state, changed_since=changed)) == warns
