"""What a request costs."""

from __future__ import annotations

import uuid

import pytest

from apps.agents.core.messages import Usage
from apps.agents.prices import cost_of

NOBODY = uuid.uuid4()


@pytest.mark.django_db
def test_a_listed_model_is_priced_by_the_list_with_cached_input() -> None:
    plain = cost_of(NOBODY, "openai:gpt-5.4-mini", Usage(1_000_000, 0))
    cached = cost_of(NOBODY, "openai:gpt-5.4-mini", Usage(1_000_000, 0, 1_000_000))
    assert plain.microusd == plain.prices["input"] == 750_000
    assert cached.microusd == plain.prices["cached"] == 75_000


@pytest.mark.django_db
def test_a_model_nobody_lists_has_no_price() -> None:
    assert cost_of(NOBODY, "openai:my-own-model", Usage(1000, 10)).microusd is None


def test_the_offline_model_is_free_by_its_nature() -> None:
    cost = cost_of(NOBODY, "offline:extractive", Usage(1000, 10))
    assert (cost.microusd, cost.prices["source"]) == (0, "offline")
