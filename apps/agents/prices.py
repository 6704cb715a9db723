"""What a model request costs: the operator's price, else the public price list, else unknown. Never a guess.

Unit prices are stored with each call, so that a cost stays explainable when a list changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from apps.agents.core.messages import Usage
from apps.agents.providers import FREE

MILLION = Decimal(1_000_000)


@dataclass(frozen=True)
class Cost:
    """prices: {input, output, cached: micro-dollars per million tokens, source}; None when unknown.

    microusd: None when unknown, never zero instead.
    """

    prices: dict[str, Any] | None
    microusd: int | None


def cost_of(workspace_id: UUID, model: str, usage: Usage) -> Cost:
    """Price one request by its usage."""
    provider, _, name = model.partition(":")
    if provider in FREE:
        return Cost({"input": 0, "output": 0, "cached": 0, "source": "offline"}, 0)
    own = _operator(workspace_id, model)
    if own is not None:
        return _charged(own, usage)
    return _listed(provider, name, usage)


def _operator(workspace_id: UUID, model: str) -> dict[str, Any] | None:
    from apps.governance.selectors import operator_price

    price = operator_price(workspace_id, model)
    if price is None:
        return None
    return {
        "input": price.input_microusd,
        "output": price.output_microusd,
        "cached": price.input_microusd,
        "source": "operator",
    }


def _charged(prices: dict[str, Any], usage: Usage) -> Cost:
    fresh = max(0, usage.input_tokens - usage.cached_tokens)
    total = (
        fresh * Decimal(prices["input"])
        + usage.cached_tokens * Decimal(prices["cached"])
        + usage.output_tokens * Decimal(prices["output"])
    ) / MILLION
    return Cost(prices, int(total.to_integral_value(ROUND_HALF_UP)))


def _listed(provider: str, name: str, usage: Usage) -> Cost:
    """The public list, with its tiers and its prices for cached input."""
    import genai_prices

    asked = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cached_tokens,
    )
    try:
        found = genai_prices.calc_price(asked, name, provider_id=provider)
    except LookupError:
        return Cost(None, None)
    price = found.model_price
    units = {
        "input": _unit(price.input_mtok, usage.input_tokens),
        "output": _unit(price.output_mtok, usage.input_tokens),
        "cached": _unit(price.cache_read_mtok or price.input_mtok, usage.input_tokens),
        "source": "genai-prices",
    }
    total = found.total_price * MILLION
    return Cost(units, int(total.to_integral_value(ROUND_HALF_UP)))


def _unit(price: Any, input_tokens: int) -> int:
    """Micro-dollars per million tokens, of the tier that the input's length falls into."""
    base = getattr(price, "base", price)
    for tier in getattr(price, "tiers", ()):
        if input_tokens > tier.start:
            base = tier.price
    return int((Decimal(base or 0) * MILLION).to_integral_value(ROUND_HALF_UP))
