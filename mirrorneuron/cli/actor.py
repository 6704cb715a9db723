"""Who acts on the command line.

On a laptop whoever can read the data is its owner, or anybody they name with `--as`. On a server a token says
who: MN_TOKEN, checked against `--as` when both are given.
"""

from __future__ import annotations

import os
from dataclasses import replace

from apps.workspaces import selectors, services
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.models import User, Workspace
from mirrorneuron import schema
from mirrorneuron.base.errors import ConfigurationError, NotFound
from mirrorneuron.cli.frame import chosen
from mirrorneuron.config import config


def acting() -> Principal:
    """The principal of this command. Raises ConfigurationError or NotFound that says how to name one."""
    email, token = chosen("as"), os.environ.get("MN_TOKEN", "")
    if token:
        return _by_token(token, email)
    if not config().is_sqlite:
        raise ConfigurationError(
            "On a server the command line needs to know who acts.",
            code="no_actor",
            next="Set MN_TOKEN to one of your tokens; `mn token create NAME --as EMAIL` makes one.",
        )
    return direct()


def direct() -> Principal:
    """The principal without a token: for a laptop, and for making the first token of a server."""
    email = chosen("as")
    if config().is_sqlite:
        schema.migrate()
        owner, home = services.ensure_laptop_owner()
        if not email:
            return principal_for(owner, _chosen_workspace(owner) or home, "cli")
    user = selectors.user_by_email(email) if email else None
    if user is None:
        raise NotFound(
            f"There is no user {email!r}." if email else "No person was named.",
            code="user_not_found",
            next="Name one with --as EMAIL; `mn user add EMAIL` makes one.",
        )
    workspace = _chosen_workspace(user) or selectors.workspaces_for(user).first()
    if workspace is None:
        raise NotFound(f"{email} is in no workspace.", next=f"Run `mn user add {email} --workspace NAME`.")
    return principal_for(user, workspace, "cli")


def _by_token(token: str, email: str) -> Principal:
    principal = services.authenticate_token(token)
    if principal is None:
        raise ConfigurationError(
            "MN_TOKEN is not a valid token: unknown, expired or revoked.",
            code="bad_token",
            next="Create another with `mn token create NAME --as EMAIL`.",
        )
    if email and email.lower() != principal.user.email:
        raise ConfigurationError(
            f"MN_TOKEN belongs to {principal.user.email}, not to {email}.",
            code="bad_token",
            next="Leave --as out or use that person's token.",
        )
    wanted = chosen("workspace")
    if wanted and wanted not in (principal.workspace.slug, str(principal.workspace.id)):
        raise ConfigurationError(
            f"MN_TOKEN belongs to workspace {principal.workspace.slug!r}, not to {wanted!r}.",
            code="bad_token",
            next="Use a token of that workspace.",
        )
    return replace(principal, channel="cli")


def _chosen_workspace(user: User) -> Workspace | None:
    name = chosen("workspace")
    return selectors.workspace_for(user, name) if name else None
