"""Roles and what each may do. A member has a set of roles; a role includes what is listed for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Role(StrEnum):
    VIEWER = "viewer"
    APPROVER = "approver"
    OPERATOR = "operator"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"


class Permission(StrEnum):
    READ = "read"
    DECIDE = "decide"
    OPERATE = "operate"
    """Start, cancel, pause, retry, skip, resolve, kill."""
    EDIT = "edit"
    """Draft, publish, test."""
    ADMINISTER = "administer"
    """Members, connections, budgets, policies."""
    OWN = "own"
    """Delete and transfer."""


GRANTS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: frozenset({Permission.READ}),
    Role.APPROVER: frozenset({Permission.READ, Permission.DECIDE}),
    Role.OPERATOR: frozenset({Permission.READ, Permission.DECIDE, Permission.OPERATE}),
    Role.EDITOR: frozenset({Permission.READ, Permission.EDIT}),
    Role.ADMIN: frozenset(
        {Permission.READ, Permission.DECIDE, Permission.OPERATE, Permission.EDIT, Permission.ADMINISTER}
    ),
    Role.OWNER: frozenset(Permission),
}


def permissions(roles: Iterable[Role]) -> frozenset[Permission]:
    """Everything a set of roles may do together."""
    return frozenset().union(*(GRANTS[role] for role in roles))
