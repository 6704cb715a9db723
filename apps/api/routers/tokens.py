"""API tokens: listed by their first characters, shown once, ended at once."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.responses import Status
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import NewToken, Token
from apps.workspaces import selectors, services
from apps.workspaces.core.roles import Role
from apps.workspaces.models import ApiToken

router = Router(by_alias=True)


class TokenIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=120)
    scopes: list[Role] = Field([], max_length=6, description="Roles it is limited to; empty: all you have.")
    expires_at: AwareDatetime | None = None


@router.get("", response=reads(Page[Token]), summary="List tokens")
def list_tokens(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Your own; an admin sees all of the workspace."""
    return page(selectors.tokens_for(principal(request)), _token, cursor=cursor, limit=limit)


@router.post("", response=writes(NewToken, 201), summary="Create a token")
def create_token(request: HttpRequest, payload: TokenIn) -> Any:
    """The secret is in this answer and never again; a repeat by `Idempotency-Key` does not show it."""
    token, secret = services.create_token(
        principal(request), payload.name, scopes=payload.scopes, expires_at=payload.expires_at
    )
    return Status(201, _token(token) | {"secret": secret})


@router.delete("/{token_id}", response={204: None, **writes(Token)}, summary="End a token")
def revoke_token(request: HttpRequest, token_id: str) -> Any:
    services.revoke_token(principal(request), token_id)
    return HttpResponse(status=204)


def _token(token: ApiToken) -> dict[str, Any]:
    return {
        "id": str(token.id),
        "name": token.name,
        "prefix": token.prefix,
        "user": token.user.email,
        "scopes": token.scopes,
        **{
            name: at.isoformat() if (at := getattr(token, name)) else None
            for name in ("created_at", "expires_at", "last_used_at", "revoked_at")
        },
    }
