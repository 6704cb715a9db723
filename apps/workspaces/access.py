"""Who acts, in which workspace, and what they may do.

Every selector and service takes a `Principal`. It exists only for members: a stranger's request ends here, as
if the workspace did not exist, so that nobody learns ids by trying.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from apps.workspaces.core.roles import Permission, Role, permissions
from apps.workspaces.errors import WorkspaceNotFound
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.base.errors import Forbidden

Channel = Literal["web", "api", "cli", "schedule", "hook"]
_NEEDED: dict[Permission, str] = {
    Permission.READ: "viewer",
    Permission.DECIDE: "approver",
    Permission.OPERATE: "operator",
    Permission.EDIT: "editor",
    Permission.ADMINISTER: "admin",
    Permission.OWN: "owner",
}


@dataclass(frozen=True)
class Principal:
    """A member of one workspace, acting through one door."""

    user: User
    workspace: Workspace
    permissions: frozenset[Permission]
    label: str
    """How the audit names the actor: the e-mail address, with the token's name when one was used."""
    channel: Channel
    groups: frozenset[str] = frozenset()
    """Groups that approvals may be assigned to."""
    limited_to: frozenset[Permission] | None = None
    """What the token's scopes allow, whatever its user may; None without scopes."""
    expires_at: datetime | None = None
    """When the token ends by itself."""

    def may(self, permission: Permission) -> bool:
        return permission in self.permissions

    def require(self, permission: Permission) -> None:
        """Raises Forbidden when this member may not; it names the role that could."""
        if permission not in self.permissions:
            raise Forbidden(
                f"{self.label} may not {permission.value} in workspace {self.workspace.slug!r}.",
                next=f"Ask an admin of the workspace for the role {_NEEDED[permission]!r}.",
                permission=permission.value,
            )


def renewed(principal: Principal) -> Principal:
    """The same member with the rights of now, for whoever stays connected; a token's scopes are left out.

    Raises WorkspaceNotFound when the person has left or was deactivated meanwhile.
    """
    user = User.objects.get(id=principal.user.id)
    return principal_for(user, principal.workspace, principal.channel, label=principal.label)


def principal_for(
    user: User,
    workspace: Workspace,
    channel: Channel,
    *,
    scopes: Iterable[Role] = (),
    label: str = "",
    expires_at: datetime | None = None,
) -> Principal:
    """The principal of a member.

    scopes: roles a token is limited to; empty means all the member has. A scope never adds a permission.
    Raises WorkspaceNotFound for a stranger and for a deactivated user.
    """
    membership = Membership.objects.filter(user=user, workspace=workspace).first() if user.is_active else None
    if membership is None:
        raise WorkspaceNotFound(
            f"There is no workspace {workspace.slug!r} for {user.email}.",
            next="Choose one of your own workspaces, or ask an admin to add you.",
        )
    granted = permissions(membership.role_set)
    limited_to = permissions(limited) if (limited := list(scopes)) else None
    if limited_to is not None:
        granted &= limited_to
    return Principal(
        user=user,
        workspace=workspace,
        permissions=granted,
        label=label or user.email,
        channel=channel,
        groups=frozenset(membership.groups),
        limited_to=limited_to,
        expires_at=expires_at,
    )
