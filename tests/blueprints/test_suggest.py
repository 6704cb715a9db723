"""The name somebody probably meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.blueprints.core.document import Node
from apps.blueprints.core.suggest import instead, nearest

KEYS = sorted({field.alias or name for name, field in Node.model_fields.items()})


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("promt", "prompt"),
        ("maxRounds", "max_rounds"),
        ("max-rounds", "max_rounds"),
        ("time_out", "timeout"),
        ("Retry", "retry"),
        ("bussiness_key", "business_key"),
        ("xyzzy", None),
        ("", None),
    ],
)
def test_the_nearest_key_is_found_and_strangers_are_not(written: str, meant: str | None) -> None:
    assert nearest(written, KEYS) == meant


@given(st.text(max_size=30), st.lists(st.text(max_size=12), max_size=8))
def test_advice_does_not_depend_on_the_order_of_what_is_known(name: str, known: list[str]) -> None:
    assert nearest(name, known) == nearest(name, reversed(known))
    assert nearest(name, known) in {None, *known}


def test_without_a_near_name_the_fix_lists_what_there_is() -> None:
    assert instead("xyzzy", ["b", "a"]) == 'write one of "a", "b"'
    assert instead("xyzzy", [], otherwise="remove it") == "remove it"
    assert instead("q", [f"name_{n}" for n in range(10)]).endswith("and 2 more")
