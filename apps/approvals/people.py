"""Who may answer what, read from the memberships of a workspace.

A group nobody in the workspace belongs to would block for ever, and a blueprint from elsewhere names groups
this workspace has never heard of. So the owners stand in for an empty group; for one with members, never.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from apps.approvals.core.quorum import Person
from apps.approvals.models import ApprovalRequest
from apps.runs.store import read_columns
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission, Role, permissions
from apps.workspaces.models import Membership, User

_ACTIVE = (
    f'INNER JOIN "{User._meta.db_table}" AS u ON u.id = user_id WHERE workspace_id = {{}} AND u.is_active'
)


class _Member(NamedTuple):
    user_id: str
    email: str
    groups: frozenset[str]
    granted: frozenset[Permission]


class People:
    """Everybody in one workspace who may decide, read once."""

    def __init__(self, workspace_id: UUID) -> None:
        found = read_columns(Membership, ("user_id", "email", "groups", "roles"), _ACTIVE, [workspace_id])
        members = [
            _Member(str(user_id), email, frozenset(groups), permissions(map(Role, roles)))
            for user_id, email, groups, roles in found
        ]
        self._members = [member for member in members if Permission.DECIDE in member.granted]
        self._groups = {group for member in self._members for group in member.groups}

    def for_request(self, request: ApprovalRequest) -> dict[str, Person]:
        """The people by user id, with the groups they count for in this request."""
        empty = groups_named(request) - self._groups
        return {
            member.user_id: Person(
                key=member.user_id,
                email=member.email,
                groups=member.groups | (empty if Permission.OWN in member.granted else frozenset()),
            )
            for member in self._members
        }

    def emails(self) -> set[str]:
        return {member.email for member in self._members}

    def groups(self) -> set[str]:
        return set(self._groups)


def groups_named(request: ApprovalRequest) -> frozenset[str]:
    """Every group a request mentions, in its assignment or its rules."""
    ruled = (rule.get("of") for rule in request.quorum)
    return frozenset(g for g in [*(request.assign.get("groups") or ()), *ruled] if g)


def person_of(principal: Principal, request: ApprovalRequest, people: People | None = None) -> Person | None:
    """The principal as somebody who may answer; None without the permission to decide."""
    if not principal.may(Permission.DECIDE):
        return None
    found = (people or People(request.workspace_id)).for_request(request)
    return found.get(str(principal.user.id))


def in_words(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"
