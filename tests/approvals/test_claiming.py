"""Whose turn it is: claim, release, assign."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from apps.approvals import selectors, services
from apps.approvals.errors import AnswerInvalid, ClaimedByOther
from apps.approvals.views import request_view
from apps.workspaces.access import Principal
from apps.workspaces.models import AuditEntry, Membership, User, Workspace
from mirrorneuron.base.clock import clock, now
from tests.approvals.conftest import Ask

PrincipalOf = Callable[..., Principal]


def test_a_claim_keeps_others_out_until_it_lapses(
    ask: Ask, alice: User, bob: User, principal: PrincipalOf
) -> None:
    request = ask()
    with clock.frozen(now()) as time:
        claimed = services.claim(principal(bob), request.id)
        assert request_view(claimed)["claimed_by"] == "bob@example.com"
        for call in (
            lambda: services.claim(principal(alice), request.id),
            lambda: services.decide(principal(alice), request.id, verb="approve"),
        ):
            with pytest.raises(ClaimedByOther) as caught:
                call()
            assert "bob@example.com" in caught.value.message
        time.move(minutes=30)
        assert request_view(selectors.request_for(principal(alice), request.id))["state"] == "open"
        assert services.claim(principal(alice), request.id).claimed_by == alice
        assert services.decide(principal(alice), request.id, verb="approve").state == "approved"


def test_claiming_again_renews_and_releasing_gives_back(
    ask: Ask, alice: User, bob: User, principal: PrincipalOf
) -> None:
    request = ask()
    with clock.frozen(now()) as time:
        services.claim(principal(bob), request.id)
        time.move(minutes=29)
        services.claim(principal(bob), request.id)
        time.move(minutes=29)
        with pytest.raises(ClaimedByOther):
            services.claim(principal(alice), request.id)
    assert services.release(principal(bob), request.id).state == "open"
    assert services.release(principal(bob), request.id).state == "open"
    assert services.claim(principal(alice), request.id).claimed_by == alice
    with pytest.raises(ClaimedByOther):
        services.release(principal(bob), request.id)
    assert AuditEntry.objects.filter(action__startswith="approval.").count() == 4


def test_an_admin_releases_anybodys_claim(ask: Ask, alice: User, bob: User, principal: PrincipalOf) -> None:
    request = ask()
    services.claim(principal(bob), request.id)
    assert services.release(principal(alice), request.id).state == "open"


def test_assigning_asks_somebody_else(
    ask: Ask, workspace: Workspace, alice: User, bob: User, principal: PrincipalOf
) -> None:
    request = ask(assign={"groups": ["sales"]})
    lee = User.objects.create_user("lee@example.com")
    Membership.objects.create(workspace=workspace, user=lee, roles=["approver"], groups=["legal"])
    services.claim(principal(bob), request.id)
    moved = services.assign(principal(bob), request.id, users=["Lee@Example.com"])
    assert moved.assign == {"groups": [], "users": ["lee@example.com"]} and moved.state == "open"
    assert services.decide(principal(lee), request.id, verb="approve").state == "approved"


def test_only_people_who_may_decide_are_assigned(
    ask: Ask, alice: User, charlie: User, principal: PrincipalOf
) -> None:
    request = ask()
    for given in (
        {},
        {"users": ["charlie@example.com"]},
        {"groups": ["nobody-here"]},
    ):
        with pytest.raises(AnswerInvalid) as caught:
            services.assign(principal(alice), request.id, **given)
        assert caught.value.fields


def test_the_count_is_the_length_of_the_list(
    ask: Ask, alice: User, bob: User, principal: PrincipalOf
) -> None:
    requests = [ask() for _ in range(3)]
    services.claim(principal(bob), requests[0].id)
    services.decide(principal(alice), requests[1].id, verb="approve")
    assert selectors.inbox_count(principal(alice)) == len(selectors.requests_for(principal(alice))) == 2
