"""Every unsafe call of the schema, as each role and as a token limited to it: allowed, or 403.

A new path has to be entered here, so that somebody has thought about who may call it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import transaction

from apps.blueprints.services import import_blueprint
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.core.roles import GRANTS, Permission, Role
from apps.workspaces.models import Membership, User, Workspace
from apps.workspaces.services import create_token
from tests.api.conftest import BASE, SOURCE, Caller, Things
from tests.api.test_doors import SIGNED, body_for, operations

P = Permission
ROOMS: dict[str, set[Permission]] = {
    "blueprints": {P.EDIT},
    "gallery": {P.EDIT, P.OPERATE},
    "runs": {P.OPERATE},
    "schedules": {P.OPERATE},
    "hooks": {P.OPERATE},
    "effects": {P.OPERATE},
    "dead-letters": {P.OPERATE},
    "approvals": {P.DECIDE},
    "limits": {P.ADMINISTER},
    "connections": {P.ADMINISTER},
}
"""One of these is needed."""
FOR_ALL = {"/blueprints/validate"}
"""Changes nothing."""
OWN = {"/tokens", "/tokens/{token_id}"}
"""About the caller; see `tests/workspaces/test_token_reach.py`."""
ASKED = {"/blueprints/{name}/reviews/{review_id}/answer"}
"""For those who were asked, whatever their role."""
UPLOAD = {"/files"}
"""Wants a form; see `tests/workspaces/test_files.py`."""


def calls() -> list[tuple[str, str, set[Permission]]]:
    found = []
    for method, path, _ in operations(None):
        short = path.removeprefix(BASE)
        if method == "GET" or (method, path) == SIGNED or short in FOR_ALL | OWN | ASKED | UPLOAD:
            continue
        found.append((method, path, ROOMS[short.split("/")[1]]))
    return found


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("by_scope", [False, True], ids=["member", "token"])
def test_a_role_may_what_the_design_says_and_no_more(
    role: Role, by_scope: bool, things: Things, alice: User, workspace: Workspace,
    principal: Callable[..., Principal],
) -> None:  # fmt: skip
    import_blueprint(principal(alice), SOURCE)
    rita = User.objects.create_user("rita@example.com")
    Membership.objects.create(workspace=workspace, user=rita, roles=["owner" if by_scope else role])
    who = principal_for(rita, workspace, "api")
    caller = Caller(create_token(who, "hers", scopes=[role] if by_scope else ())[1])
    for method, path, needed in calls():
        address = things.fill(path).replace(f"/blueprints/{things.run.blueprint_name}", "/blueprints/greet")
        before = transaction.savepoint()
        answer = caller.call(method, address, body_for(method, path))
        transaction.savepoint_rollback(before)
        may = bool(GRANTS[role] & needed)
        assert (answer.status_code == 403) is not may, (
            method,
            path,
            answer.status_code,
            answer.content[:200],
        )
        assert answer.status_code < 500
