import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.workspaces import crypto, selectors, services
from apps.workspaces.errors import ConnectionNotFound, ConnectionUnreadable
from apps.workspaces.models import AuditEntry, Connection
from mirrorneuron.base.errors import Forbidden, InvalidInput

SECRET = {"token": "s3cr3t-value"}


@pytest.mark.django_db
def test_secret_is_sealed_and_opened_only_for_its_workspace(alice, principal, workspace, elsewhere):
    services.save_connection(principal(alice), "shop", "bearer", SECRET, ["Shop.example"])
    row = Connection.objects.get()
    assert b"s3cr3t" not in bytes(row.sealed) and row.hosts == ["shop.example"]
    assert "s3cr3t" not in str(list(AuditEntry.objects.values()))
    assert selectors.connection_secret(workspace.id, "shop") == SECRET
    assert selectors.connection_hosts(workspace.id, "shop") == ["shop.example"]
    with pytest.raises(ConnectionNotFound):
        selectors.connection_secret(elsewhere.id, "shop")


@pytest.mark.django_db
def test_saving_again_replaces_and_notes_the_rotation(alice, principal, workspace):
    for value in ("old", "new"):
        saved = services.save_connection(
            principal(alice), "shop", "bearer", {"token": value}, ["shop.example"]
        )
    assert saved.rotated_at is not None and Connection.objects.count() == 1
    assert selectors.connection_secret(workspace.id, "shop") == {"token": "new"}


@pytest.mark.django_db
def test_an_odd_field_is_audited_as_text(alice, principal, workspace):
    services.save_connection(principal(alice), "shop", "bearer", {"\ud800\0": "x"}, ["shop.example"])
    assert selectors.connection_secret(workspace.id, "shop") == {"\ud800\0": "x"}
    assert AuditEntry.objects.get().data["fields"] == ["\\ud800\\u0000"]


@pytest.mark.django_db
def test_member_without_admin_saves_nothing(bob, principal):
    with pytest.raises(Forbidden):
        services.save_connection(principal(bob), "shop", "bearer", SECRET)


@pytest.mark.django_db
@pytest.mark.parametrize("host", ["https://shop.example", "a b", "shop.example/path", "-x"])
def test_host_that_is_none_is_refused(alice, principal, host):
    with pytest.raises(InvalidInput) as caught:
        services.save_connection(principal(alice), "Shop", "bearer", SECRET, [host])
    assert set(caught.value.fields) == {"hosts", "name"}


def test_former_key_still_opens_and_another_one_does_not(settings):
    settings.SECRET_KEY = "first"
    sealed = crypto.seal(SECRET)
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "second", ["first"]
    assert crypto.unseal(sealed) == SECRET
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(ConnectionUnreadable, match="MN_SECRET_KEY"):
        crypto.unseal(sealed)


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_any_fields_survive_sealing(fields):
    assert crypto.unseal(crypto.seal(fields)) == fields
