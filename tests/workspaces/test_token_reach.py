"""A token never becomes more than it is: not by making or ending another, not by outliving itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.models import Membership, User, Workspace
from apps.workspaces.services import authenticate_token, create_token, revoke_token
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Forbidden


def through(principal: Principal, **more: object) -> Principal:
    found = authenticate_token(create_token(principal, "narrow", **more)[1])  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("scopes", [[], ["admin"]])
def test_a_limited_token_makes_none_that_grows_with_its_user(
    workspace: Workspace, bob: User, principal: Callable[..., Principal], scopes: list[str]
) -> None:
    limited = through(principal(bob), scopes=["operator"])
    with pytest.raises(Forbidden):
        create_token(limited, "wide", scopes=scopes)
    Membership.objects.filter(user=bob).update(roles=["admin"])
    made = create_token(limited, "same", scopes=["operator"])[1]
    found = authenticate_token(made)
    assert found is not None and Permission.ADMINISTER not in found.permissions


def test_what_a_token_makes_ends_with_it(
    workspace: Workspace, bob: User, principal: Callable[..., Principal]
) -> None:
    ends = now() + timedelta(hours=1)
    short = through(principal(bob), expires_at=ends)
    with pytest.raises(Forbidden):
        create_token(short, "for ever")
    with pytest.raises(Forbidden):
        create_token(short, "longer", expires_at=ends + timedelta(seconds=1))
    create_token(short, "shorter", expires_at=ends - timedelta(minutes=1))


def test_a_narrow_token_ends_no_wider_one(
    workspace: Workspace, alice: User, principal: Callable[..., Principal]
) -> None:
    wide, wide_key = create_token(principal(alice), "deploys")
    operator, operator_key = create_token(principal(alice), "starts runs", scopes=["operator"])
    reads, reads_key = create_token(principal(alice), "reads", scopes=["viewer"])
    narrow = authenticate_token(reads_key)
    assert narrow is not None
    for token in (wide, operator):
        with pytest.raises(Forbidden):
            revoke_token(narrow, token.id)
    assert authenticate_token(wide_key) and authenticate_token(operator_key)
    assert revoke_token(narrow, reads.id).revoked_at is not None
    assert revoke_token(through(principal(alice), scopes=["admin"]), wide.id).revoked_at is not None
