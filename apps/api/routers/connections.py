"""Connections: the credentials a workspace gives its blueprints' tools. They go in; they never come out."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router
from ninja.responses import Status
from pydantic import BaseModel, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Connection as ConnectionShape
from apps.workspaces import selectors, services
from apps.workspaces.models import Connection

router = Router(by_alias=True)


class ConnectionIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    kind: str = Field(min_length=1, max_length=32, examples=["bearer"])
    fields: dict[str, str] = Field(max_length=20, description="What is secret, by name, such as `token`.")
    hosts: list[str] = Field(
        min_length=1, max_length=50, description="The only hosts the fields may be sent to."
    )


@router.get("", response=reads(Page[ConnectionShape]), summary="List connections")
def list_connections(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Names, kinds and hosts; never what is secret."""
    return page(selectors.connections_for(principal(request)), _connection, cursor=cursor, limit=limit)


@router.post("", response=writes(ConnectionShape, 201), summary="Save a connection")
def save_connection(request: HttpRequest, payload: ConnectionIn) -> Any:
    """Store credentials, sealed; the same name again replaces them."""
    saved = services.save_connection(
        principal(request), payload.name, payload.kind, payload.fields, payload.hosts
    )
    return Status(201, _connection(saved))


def _connection(connection: Connection) -> dict[str, Any]:
    return {
        "id": str(connection.id),
        "name": connection.name,
        "kind": connection.kind,
        "hosts": connection.hosts,
        "created_at": connection.created_at.isoformat(),
        "rotated_at": connection.rotated_at.isoformat() if connection.rotated_at else None,
    }
