"""Which model providers this installation can use."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from apps.agents.selectors import providers
from apps.api.doors import principal, reads
from apps.api.paging import Page, listed
from apps.api.shapes import Model
from apps.workspaces.core.roles import Permission

router = Router(by_alias=True)


@router.get("", response=reads(Page[Model]), summary="List model providers")
def list_models(request: HttpRequest) -> Any:
    principal(request).require(Permission.READ)
    return listed(providers())
