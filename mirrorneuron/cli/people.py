"""`mn user` and `mn token`: people, and what their programs sign in with."""

from __future__ import annotations

from datetime import timedelta

import click

from apps.workspaces import selectors, services
from apps.workspaces.core.roles import Role
from apps.workspaces.models import Workspace
from mirrorneuron import schema
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, NotFound
from mirrorneuron.cli.actor import acting, direct
from mirrorneuron.cli.address import base_url
from mirrorneuron.cli.frame import Group, chosen, emit, read_text, table


@click.group(cls=Group)
def user() -> None:
    """Add people, give them a sign-in link or a password."""


@user.command("add")
@click.argument("email")
@click.option("--name", default="", help="How pages show the person.")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([r.value for r in Role]),
    help="May be repeated. [default: owner of a new workspace, else viewer]",
)
@click.option("--group", "groups", multiple=True, help="A group approvals are assigned to; may be repeated.")
@click.option(
    "--minutes", default=1440, show_default=True, type=click.IntRange(1), help="How long the link works."
)
def user_add(email: str, name: str, roles: tuple[str, ...], groups: tuple[str, ...], minutes: int) -> None:
    """Add a person to a workspace (--workspace NAME, made if new) and print a one-time sign-in link.

    Works on the database directly, so it needs no token: it is how a server gets its first person.
    """
    schema.migrate()
    person = selectors.user_by_email(email) or services.create_user(email, name=name)
    workspace = Workspace.objects.filter(slug=chosen("workspace") or services.LAPTOP_WORKSPACE).first()
    if workspace is None:
        workspace = services.create_workspace(chosen("workspace") or "Home", person)
        given = ["owner"]
        if groups or roles:
            given = sorted({*roles, "owner"})
            services.add_member(None, person, given, groups=groups, workspace=workspace)
    else:
        given = list(roles) or ["viewer"]
        services.add_member(None, person, given, groups=groups, workspace=workspace)
    link = services.create_sign_in_link(person, _base_url(), minutes=minutes)
    emit(
        {"email": person.email, "workspace": workspace.slug, "roles": given, "sign_in": link},
        f"{person.email} is {' and '.join(given)} in {workspace.slug}. Sign in once: {link}",
    )


@user.command("link")
@click.argument("email")
@click.option("--minutes", default=15, show_default=True, type=click.IntRange(1))
def user_link(email: str, minutes: int) -> None:
    """Print a fresh one-time sign-in link for a person."""
    person = selectors.user_by_email(email)
    if person is None:
        raise NotFound(f"There is no user {email!r}.", next="Add one with `mn user add`.")
    link = services.create_sign_in_link(person, _base_url(), minutes=minutes)
    emit({"email": person.email, "sign_in": link}, link)


@user.command("password")
@click.argument("email")
@click.option(
    "--password-file", metavar="FILE", help="Read it from a file, - for standard input. [default: ask twice]"
)
def user_password(email: str, password_file: str | None) -> None:
    """Give a person a password, so that they can come back after signing out.

    Works on the database directly. Ends the person's sessions elsewhere.
    """
    person = selectors.user_by_email(email)
    if person is None:
        raise NotFound(f"There is no user {email!r}.", next="Add one with `mn user add`.")
    if password_file:
        password = read_text("--password-file", password_file).rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt="Again", err=True)
    services.set_password(person, password)
    emit({"email": person.email}, f"{person.email} can sign in with the password from now on.")


@click.group(cls=Group)
def token() -> None:
    """Create, list and revoke API tokens."""


@token.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([r.value for r in Role]),
    help="Limit it to a role; may be repeated.",
)
@click.option("--days", type=click.IntRange(1), help="Days until it expires. [default: never]")
def token_create(name: str, scopes: tuple[str, ...], days: int | None) -> None:
    """Create a token for the acting person and show its secret, this once.

    Works on the database directly: on a server name the person with --as.
    """
    expires_at = now() + timedelta(days=days) if days else None
    made, secret = services.create_token(direct(), name, scopes=scopes, expires_at=expires_at)
    emit(
        {
            "id": str(made.id),
            "name": made.name,
            "token": secret,
            "scopes": made.scopes,
            "expires_at": expires_at,
        },
        f"{secret}\nKeep it now: it is not shown again.",
    )


@token.command("list")
def token_list() -> None:
    """List tokens, without their secrets."""
    found = list(selectors.tokens_for(acting()))
    rows = [
        {
            "id": str(t.id),
            "name": t.name,
            "prefix": t.prefix,
            "user": t.user.email,
            "scopes": t.scopes,
            "last_used_at": t.last_used_at,
            "expires_at": t.expires_at,
            "revoked_at": t.revoked_at,
        }
        for t in found
    ]
    emit(
        {"items": rows},
        lambda: table([list(r.values()) for r in rows], list(rows[0]) if rows else [], "No tokens."),
    )


@token.command("revoke")
@click.argument("id")
def token_revoke(id: str) -> None:
    """End a token at once."""
    ended = services.revoke_token(acting(), id)
    emit({"id": str(ended.id), "revoked_at": ended.revoked_at}, f"Token {ended.name!r} is revoked.")


def _base_url() -> str:
    found = base_url()
    if not found:
        raise InvalidInput(
            "A sign-in link needs the address of the pages.",
            next="Set MN_BASE_URL, such as https://mn.example.com.",
        )
    return found
