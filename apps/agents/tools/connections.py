"""Credentials, resolved inside the worker at the moment of the call and never kept."""

from __future__ import annotations

from uuid import UUID

from apps.agents.tools.base import Connection, StepError
from apps.workspaces import models, selectors
from mirrorneuron.base.errors import NotFound


def connection_of(workspace_id: UUID, name: str) -> Connection:
    """The connection of a workspace with its secret fields.

    Raises StepError (permanent) when the workspace has none of that name.
    """
    row = models.Connection.objects.filter(workspace_id=workspace_id, name=name).first()
    if row is None:
        raise _missing(name)
    try:
        fields = selectors.connection_secret(workspace_id, name)
    except NotFound as exc:
        raise _missing(name) from exc
    return Connection(name=name, kind=row.kind, fields=dict(fields), hosts=tuple(row.hosts))


def _missing(name: str) -> StepError:
    return StepError(
        f'This workspace has no connection "{name}".',
        permanent=True,
        code="connection_missing",
        next="Add it under Settings, Connections.",
    )
