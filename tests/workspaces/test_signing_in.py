from datetime import timedelta

import pytest

from apps.workspaces import selectors, services
from apps.workspaces.core.roles import Permission
from apps.workspaces.errors import LinkUnusable
from apps.workspaces.models import ApiToken, Membership, SignInLink
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.errors import Forbidden, InvalidInput, NotFound

pytestmark = pytest.mark.django_db


def _link(user, **more):
    url = services.create_sign_in_link(user, "http://localhost:8000/", **more)
    assert url.startswith("http://localhost:8000/sign-in/")
    return url.rsplit("/", 1)[1]


def test_link_signs_in_once(alice):
    key = _link(alice)
    assert services.use_sign_in_link(key) == alice
    with pytest.raises(LinkUnusable, match="used already"):
        services.use_sign_in_link(key)


def test_looking_at_a_link_never_uses_it_up(alice):
    key = _link(alice)
    assert [selectors.link_state(key) for _ in range(3)] == ["usable"] * 3
    assert services.use_sign_in_link(key) == alice
    assert selectors.link_state(key) == "used"


def test_link_expires(alice):
    with clock.frozen(now()) as time:
        key, long = _link(alice), _link(alice, minutes=60)
        time.move(minutes=15, seconds=1)
        with pytest.raises(LinkUnusable, match="expired"):
            services.use_sign_in_link(key)
        assert services.use_sign_in_link(long) == alice


def test_link_of_deactivated_user_and_invented_link_do_nothing(alice):
    key = _link(alice)
    alice.is_active = False
    alice.save()
    for tried in (key, "invented"):
        with pytest.raises(LinkUnusable):
            services.use_sign_in_link(tried)


def test_secrets_are_stored_only_as_digests(alice, principal):
    key = _link(alice)
    token, secret = services.create_token(principal(alice), "laptop script")
    assert secret.startswith("mn_") and secret.startswith(token.prefix)
    row = ApiToken.objects.filter(id=token.id).values().get()
    assert secret not in str(row) and key not in str(SignInLink.objects.values().get())


def test_token_speaks_for_its_user_in_its_workspace(bob, principal, workspace):
    _, secret = services.create_token(principal(bob), "ci")
    who = services.authenticate_token(secret)
    assert (who.user, who.workspace, who.channel) == (bob, workspace, "api")
    assert who.label == "bob@example.com (ci)"
    assert who.permissions == principal(bob).permissions


def test_scoped_token_may_less(alice, principal):
    _, secret = services.create_token(principal(alice), "reader", scopes=["viewer"])
    assert services.authenticate_token(secret).permissions == {Permission.READ}


@pytest.mark.parametrize("asked", [[], ["owner"], ["viewer", "operator"]])
def test_limited_token_makes_no_token_that_may_more(alice, principal, asked):
    _, secret = services.create_token(principal(alice), "reader", scopes=["viewer"])
    reader = services.authenticate_token(secret)
    with pytest.raises(Forbidden):
        services.create_token(reader, "grown", scopes=asked)
    assert ApiToken.objects.count() == 1
    _, same = services.create_token(reader, "same", scopes=["viewer"])
    assert services.authenticate_token(same).permissions == {Permission.READ}


def test_token_ends_by_expiry_revocation_and_leaving(alice, bob, principal):
    with clock.frozen(now()) as time:
        _, brief = services.create_token(principal(alice), "brief", expires_at=now() + timedelta(hours=1))
        assert services.authenticate_token(brief)
        time.move(hours=1)
        assert services.authenticate_token(brief) is None
    token, revoked = services.create_token(principal(alice), "revoked")
    services.revoke_token(principal(alice), token.id)
    assert services.authenticate_token(revoked) is None
    _, left = services.create_token(principal(bob), "left")
    Membership.objects.filter(user=bob).delete()
    assert services.authenticate_token(left) is None


@pytest.mark.parametrize("secret", ["", "mn_", "mn_invented", "Bearer x", "é"])
def test_invented_token_is_nobody(secret):
    assert services.authenticate_token(secret) is None


def test_use_of_a_token_is_noted_once_a_minute(alice, principal, django_assert_num_queries):
    token, secret = services.create_token(principal(alice), "busy")
    services.authenticate_token(secret)
    token.refresh_from_db()
    assert token.last_used_at is not None
    with django_assert_num_queries(2):
        services.authenticate_token(secret)


def test_only_owner_of_a_token_or_admin_revokes_it(alice, bob, charlie, principal):
    token, _ = services.create_token(principal(alice), "mine")
    for stranger in (bob, charlie):
        with pytest.raises(NotFound):
            services.revoke_token(principal(stranger), token.id)
    theirs, _ = services.create_token(principal(bob), "theirs")
    assert services.revoke_token(principal(alice), str(theirs.id)).revoked_at is not None


def test_token_without_name_or_with_past_expiry_is_refused(alice, principal):
    with pytest.raises(InvalidInput):
        services.create_token(principal(alice), " ")
    with pytest.raises(InvalidInput):
        services.create_token(principal(alice), "late", expires_at=now() - timedelta(seconds=1))
    with pytest.raises(InvalidInput):
        services.create_token(principal(alice), "odd", scopes=["boss"])
