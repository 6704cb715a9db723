"""Reads about people, workspaces, files and connections; each already access-checked."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.workspaces import crypto, files
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.errors import ConnectionNotFound, FileBytesMissing, FileNotFound, WorkspaceNotFound
from apps.workspaces.models import (
    ApiToken,
    AuditEntry,
    Connection,
    Membership,
    SignInLink,
    StoredFile,
    User,
    Workspace,
)
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.ids import as_uuid, digest


def workspaces_for(user: User) -> QuerySet[Workspace]:
    """The workspaces somebody is a member of, oldest membership first."""
    return Workspace.objects.filter(memberships__user=user).order_by("memberships__id")


def workspace_for(user: User, name: str | UUID) -> Workspace:
    """One workspace of a member by slug or id. Raises WorkspaceNotFound for a stranger."""
    identity = as_uuid(name)
    found = workspaces_for(user).filter(**({"id": identity} if identity else {"slug": str(name)})).first()
    if found is None:
        raise WorkspaceNotFound(
            f"There is no workspace {str(name)!r} for {user.email}.",
            next="Choose one of your own workspaces, or ask an admin to add you.",
        )
    return found


def user_by_email(email: str) -> User | None:
    return User.objects.filter(email=email.strip().lower(), is_active=True).first()


def members_of(principal: Principal) -> QuerySet[Membership]:
    principal.require(Permission.READ)
    return principal.workspace.memberships.select_related("user").order_by("id")


def link_state(secret: str) -> str:
    """What a one-time link is good for: `usable`, `used`, `expired` or `unknown`. Changes nothing."""
    link = SignInLink.objects.filter(digest=digest(secret)).first()
    if link is None:
        return "unknown"
    if link.used_at is not None:
        return "used"
    return "usable" if link.expires_at > now() else "expired"


def tokens_for(principal: Principal) -> QuerySet[ApiToken]:
    """The tokens a person may see: their own, or all of the workspace for an admin."""
    tokens = ApiToken.objects.filter(workspace=principal.workspace).select_related("user").order_by("-id")
    return tokens if principal.may(Permission.ADMINISTER) else tokens.filter(user=principal.user)


def token_for(principal: Principal, id: str | UUID) -> ApiToken:
    identity = as_uuid(id)
    token = tokens_for(principal).filter(id=identity).first() if identity else None
    if token is None:
        raise NotFound(f"There is no token {str(id)!r} here.", next="List the tokens to see their ids.")
    return token


def file_for(principal: Principal, id: str | UUID) -> StoredFile:
    """One stored file of the principal's workspace. Raises FileNotFound."""
    principal.require(Permission.READ)
    return _file(principal.workspace.id, id)


def stored_file(workspace_id: UUID, id: str | UUID) -> StoredFile:
    """The same for the engine, which acts for whoever started a run. Raises FileNotFound."""
    return _file(workspace_id, id)


def file_bytes(workspace_id: UUID, file_id: str | UUID) -> tuple[StoredFile, bytes]:
    """A stored file with its bytes, for a worker or a download that has checked access.

    Raises FileNotFound, or FileBytesMissing when the bytes are gone from the disk or were altered there.
    """
    file = _file(workspace_id, file_id)
    try:
        data = files.path_of(file.sha256).read_bytes()
    except OSError as exc:
        raise FileBytesMissing(
            f"The bytes of {file.name!r} are not under the data folder ({exc.strerror}).",
            next="Restore the folder files/ from a backup, or upload the file again.",
        ) from exc
    if len(data) != file.size:
        raise FileBytesMissing(
            f"The stored bytes of {file.name!r} are {len(data)} long, but {file.size} were stored.",
            next="Restore the folder files/ from a backup, or upload the file again.",
        )
    return file, data


def _file(workspace_id: UUID, id: str | UUID) -> StoredFile:
    identity = as_uuid(id)
    file = StoredFile.objects.filter(id=identity, workspace_id=workspace_id).first() if identity else None
    if file is None:
        raise FileNotFound(
            f"There is no file {str(id)!r} in this workspace.", next="Upload it first and use the id you get."
        )
    return file


def connections_for(principal: Principal) -> QuerySet[Connection]:
    """The connections of a workspace; what is secret stays sealed."""
    principal.require(Permission.READ)
    return Connection.objects.filter(workspace=principal.workspace).order_by("name")


def connection_secret(workspace_id: UUID, name: str) -> dict[str, Any]:
    """The opened fields of a connection. Only for the tool worker: never into prompts, ledger or logs.

    Raises ConnectionNotFound, ConnectionUnreadable.
    """
    return crypto.unseal(_connection(workspace_id, name).sealed)


def connection_hosts(workspace_id: UUID, name: str) -> list[str]:
    """The only hosts a connection's secrets may be sent to."""
    return list(_connection(workspace_id, name).hosts)


def _connection(workspace_id: UUID, name: str) -> Connection:
    connection = Connection.objects.filter(workspace_id=workspace_id, name=name).first()
    if connection is None:
        raise ConnectionNotFound(
            f"The workspace has no connection {name!r}.",
            next="An admin fills it in under Settings, Connections.",
        )
    return connection


def audit_for(principal: Principal) -> QuerySet[AuditEntry]:
    """The audit of a workspace, newest first."""
    principal.require(Permission.ADMINISTER)
    return AuditEntry.objects.filter(workspace=principal.workspace).order_by("-id")
