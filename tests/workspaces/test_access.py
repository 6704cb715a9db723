import pytest

from apps.workspaces import selectors, services
from apps.workspaces.access import principal_for
from apps.workspaces.core.roles import Permission, Role
from apps.workspaces.errors import WorkspaceNotFound
from mirrorneuron.base.errors import Conflict, Forbidden, NotFound

pytestmark = pytest.mark.django_db


def test_stranger_gets_not_found(charlie, workspace):
    with pytest.raises(NotFound) as caught:
        principal_for(charlie, workspace, "web")
    assert caught.value.status == 404


def test_deactivated_member_gets_not_found(bob, workspace):
    bob.is_active = False
    bob.save()
    with pytest.raises(WorkspaceNotFound):
        principal_for(bob, workspace, "web")


def test_roles_add_up_and_name_what_is_missing(bob, principal):
    who = principal(bob)
    assert who.may(Permission.OPERATE) and who.may(Permission.DECIDE) and who.groups == {"sales"}
    with pytest.raises(Forbidden, match="role 'admin'"):
        who.require(Permission.ADMINISTER)


def test_scope_narrows_and_never_widens(bob, workspace):
    assert principal_for(bob, workspace, "api", scopes=[Role.VIEWER]).permissions == {Permission.READ}
    assert not principal_for(bob, workspace, "api", scopes=[Role.OWNER]).may(Permission.ADMINISTER)


def test_a_person_sees_only_workspaces_of_their_own(charlie, workspace, elsewhere):
    assert list(selectors.workspaces_for(charlie)) == [elsewhere]
    assert selectors.workspace_for(charlie, "elsewhere") == elsewhere
    for name in (workspace.slug, workspace.id, str(workspace.id)):
        with pytest.raises(WorkspaceNotFound):
            selectors.workspace_for(charlie, name)


def test_laptop_owner_is_made_once():
    assert services.ensure_laptop_owner() == services.ensure_laptop_owner()
    user, workspace = services.ensure_laptop_owner()
    assert principal_for(user, workspace, "cli").may(Permission.OWN)


def test_user_with_taken_or_bad_address_is_refused(alice):
    with pytest.raises(Conflict):
        services.create_user("ALICE@example.com")
    with pytest.raises(services.InvalidInput) as caught:
        services.create_user("nobody")
    assert "email" in caught.value.fields


def test_admin_adds_members_but_no_owner(alice, bob, charlie, principal, workspace):
    services.add_member(principal(alice), bob, ["admin"])
    services.add_member(principal(bob), charlie, ["viewer"], groups=["legal"])
    assert principal(charlie, in_=workspace).groups == {"legal"}
    with pytest.raises(Forbidden):
        services.add_member(principal(bob), charlie, ["owner"])
    with pytest.raises(Forbidden):
        services.add_member(principal(bob), alice, ["viewer"])


def test_last_owner_stays(alice, principal):
    with pytest.raises(Conflict, match="last owner"):
        services.add_member(principal(alice), alice, ["viewer"])


def test_member_without_admin_adds_nobody(bob, charlie, principal):
    with pytest.raises(Forbidden):
        services.add_member(principal(bob), charlie, ["viewer"])


def test_unknown_role_is_named(alice, bob, principal):
    with pytest.raises(services.InvalidInput, match="'boss'"):
        services.add_member(principal(alice), bob, ["boss"])


def test_nobody_changes_another_workspace_by_naming_it(alice, bob, elsewhere, principal):
    with pytest.raises(WorkspaceNotFound):
        services.add_member(principal(alice), bob, ["viewer"], workspace=elsewhere)


def test_audit_names_actor_and_door_and_is_for_admins(alice, bob, principal):
    services.add_member(principal(alice), bob, ["viewer"])
    entry = selectors.audit_for(principal(alice)).first()
    assert (entry.actor, entry.action, entry.target) == (alice, "member.set", bob.email)
    assert entry.data["channel"] == "web"
    with pytest.raises(Forbidden):
        selectors.audit_for(principal(bob))
