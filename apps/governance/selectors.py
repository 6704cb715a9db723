"""Reads about limits and prices."""

from __future__ import annotations

from uuid import UUID

from apps.governance.models import Price


def operator_price(workspace_id: UUID, model: str) -> Price | None:
    """The price an operator set for `provider:model`; None leaves it to the public price list."""
    return Price.objects.filter(workspace_id=workspace_id, model=model).first()
