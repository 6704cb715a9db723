"""Limits: how often tools, models and people may call, and what rests or is down."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Router
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import listed
from apps.api.shapes import Limits
from apps.blueprints.core.durations import parse_duration
from apps.governance import selectors, services
from apps.runs.selectors import slots_for
from apps.workspaces.access import Principal

router = Router(by_alias=True)


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


class LimitIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    calls: int = Field(ge=1, le=services.MOST_CALLS, description="So many at once, and so many in `per`.")
    per: Annotated[float, BeforeValidator(_seconds)] = Field(
        gt=0, le=services.MOST_SECONDS, description="Seconds, or a duration such as `1m`."
    )


class LimitsIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limits: dict[str, LimitIn | None] = Field(
        {},
        max_length=100,
        description="By key: `tool:<name>`, `provider:<name>`, `model:<provider:name>`, `user:<address>`. "
        "null takes a limit away; keys that are not named stay as they are.",
    )
    weight: int | None = Field(
        None, ge=1, le=100, description="The workspace's share of the workers; only for the installation."
    )


@router.get("", response=reads(Limits), summary="Limits, breakers and concurrency keys")
def list_limits(request: HttpRequest) -> Any:
    return _view(principal(request))


@router.put("", response=writes(Limits), summary="Set or remove limits")
def set_limits(request: HttpRequest, payload: LimitsIn) -> Any:
    """All of it or nothing."""
    who = principal(request)
    limits = {key: (x.calls, x.per) if x else None for key, x in payload.limits.items()}
    services.set_limits(who, limits, payload.weight)
    return _view(who)


def _view(who: Principal) -> dict[str, Any]:
    return {
        "weight": services.weight_of(who),
        **listed(selectors.limits_for(who)),
        "concurrency": slots_for(who),
    }
