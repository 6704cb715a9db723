"""Who may answer what, read from the memberships of a workspace.

A group nobody in the workspace belongs to would block for ever, and a blueprint from elsewhere names groups
this workspace has never heard of. So the owners stand in for an empty group; for one with members, never.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from apps.approvals.core.quorum import Person
from apps.approvals.models import ApprovalRequest
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission, permissions
from apps.workspaces.models import Membership


class People:
    """Everybody in one workspace who may decide, read once."""

    def __init__(self, workspace_id: UUID) -> None:
        self._members = [
            (member, permissions(member.role_set))
            for member in Membership.objects.filter(
                workspace_id=workspace_id, user__is_active=True
            ).select_related("user")
        ]
        self._members = [(m, granted) for m, granted in self._members if Permission.DECIDE in granted]
        self._groups = {group for member, _ in self._members for group in member.groups}

    def for_request(self, request: ApprovalRequest) -> dict[str, Person]:
        """The people by user id, with the groups they count for in this request."""
        empty = groups_named(request) - self._groups
        return {
            str(member.user_id): Person(
                key=str(member.user_id),
                email=member.user.email,
                groups=frozenset(member.groups) | (empty if Permission.OWN in granted else frozenset()),
            )
            for member, granted in self._members
        }

    def emails(self) -> set[str]:
        return {member.user.email for member, _ in self._members}

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
