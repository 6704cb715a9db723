"""What touched the world, and the operator's list of what is in doubt."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Effect
from apps.ledger.core.states import EffectState
from apps.ledger.payloads import Extent
from apps.runs import selectors, services, views

router = Router(by_alias=True)


class ResolveIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    outcome: Literal["happened", "did_not_happen", "abandon"]
    reference: str = Field("", max_length=500, description="What proves it, such as a message id.")
    reason: str = Field(min_length=1, max_length=10_000)


@router.get("", response=reads(Page[Effect]), summary="List effects")
def list_effects(
    request: HttpRequest, state: EffectState | None = None, cursor: Cursor = "", limit: Limit = 50
) -> Any:
    """Newest first; `state=in_doubt` is the operator's list."""
    rows = selectors.effects_for(principal(request), state=str(state) if state else None)
    return page(rows, partial(views.effect_view, extent=Extent.LISTED), cursor=cursor, limit=limit)


@router.get("/{effect_id}", response=reads(Effect), summary="Read one effect")
def get_effect(request: HttpRequest, effect_id: str) -> Any:
    return views.effect_view(selectors.effect_for(principal(request), effect_id))


@router.post("/{effect_id}/resolve", response=writes(Effect), summary="Say what became of it")
def resolve(request: HttpRequest, effect_id: str, payload: ResolveIn) -> Any:
    """For an effect in doubt: `happened`, `did_not_happen` (it may be tried again) or `abandon`."""
    resolved = services.resolve_effect(
        principal(request),
        effect_id,
        outcome=payload.outcome,
        reference=payload.reference,
        reason=payload.reason,
    )
    return views.effect_view(resolved)
