"""Writes about people, workspaces, tokens, files and connections. One public function, one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import available_timezones

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import Q
from django.utils.text import slugify

from apps.workspaces import crypto, files, selectors
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.core.roles import Permission, Role, permissions
from apps.workspaces.errors import FileTooLarge, LinkUnusable, WorkspaceNotFound
from apps.workspaces.models import (
    ApiToken,
    AuditEntry,
    Connection,
    Membership,
    SignInLink,
    StoredFile,
    User,
    Workspace,
)
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput
from mirrorneuron.base.ids import digest, secret
from mirrorneuron.base.safejson import storable

LAPTOP_OWNER = "owner@localhost"
LAPTOP_WORKSPACE = "home"
LINK_MINUTES = 15
TOKEN_PREFIX = "mn_"  # noqa: S105 - the visible start of every secret, not one
_NAME = re.compile(r"^[a-z][a-z0-9_-]{0,63}$")
_HOST = re.compile(r"^(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$|^\[[0-9a-f:]+\](:\d{1,5})?$")

# --- people and workspaces --------------------------------------------------------------------------------


@transaction.atomic
def ensure_laptop_owner() -> tuple[User, Workspace]:
    """The one person and the one workspace of a laptop, made on first use."""
    user = User.objects.filter(email=LAPTOP_OWNER).first()
    if user is None:
        user = User.objects.create_user(LAPTOP_OWNER, name="Owner")
    workspace, _ = Workspace.objects.get_or_create(slug=LAPTOP_WORKSPACE, defaults={"name": "Home"})
    Membership.objects.get_or_create(workspace=workspace, user=user, defaults={"roles": [Role.OWNER]})
    return user, workspace


@transaction.atomic
def create_user(email: str, *, name: str = "", password: str | None = None) -> User:
    """A new person, who can sign in by a link, and by password if one is given.

    Raises InvalidInput for a bad address or a weak password, Conflict when the address is taken.
    """
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError as exc:
        raise InvalidInput(
            f"{email!r} is not an e-mail address.",
            fields={"email": "Write it like name@example.com."},
            next="Correct the address and try again.",
        ) from exc
    if password is not None:
        _check_password(password)
    if User.objects.filter(email=email).exists():
        raise Conflict(f"There is already a user {email}.", code="user_exists", next="Use that one.")
    return User.objects.create_user(email, password, name=name)


def set_password(user: User, password: str) -> None:
    """Let a person sign in with this password from now on; their sessions elsewhere end.

    Raises InvalidInput for a weak one.
    """
    _check_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])


def _check_password(password: str, user: User | None = None) -> None:
    try:
        validate_password(password, user)
    except ValidationError as exc:
        said = " ".join(exc.messages)
        raise InvalidInput(
            f"The password is too weak. {said}", fields={"password": said}, next="Choose a longer one."
        ) from exc


@transaction.atomic
def create_workspace(name: str, owner: User, *, slug: str = "") -> Workspace:
    """A new workspace with its owner. Raises InvalidInput, or Conflict when the short name is taken."""
    slug = slug or slugify(name)
    if not slug:
        raise InvalidInput(
            f"{name!r} gives no short name for a workspace.",
            fields={"name": "Use at least one letter or digit."},
            next="Choose another name.",
        )
    if Workspace.objects.filter(slug=slug).exists():
        raise Conflict(
            f"There is already a workspace {slug!r}.", code="workspace_exists", next="Choose another name."
        )
    workspace = Workspace.objects.create(slug=slug, name=name)
    Membership.objects.create(workspace=workspace, user=owner, roles=[Role.OWNER])
    audit(None, "workspace.created", slug, {"owner": owner.email}, workspace=workspace)
    return workspace


@transaction.atomic
def add_member(
    principal: Principal | None,
    user: User,
    roles: Iterable[str],
    *,
    groups: Iterable[str] = (),
    workspace: Workspace | None = None,
) -> Membership:
    """Make somebody a member with these roles, or give a member these roles instead.

    principal: the admin who does it; None for the installation itself, which then names the workspace.
    Raises Forbidden when an owner is made or changed by somebody who is none, InvalidInput for an unknown
    role, Conflict when the last owner would be lost.
    """
    place = _place(principal, workspace)
    wanted = _roles(roles)
    before = Membership.objects.filter(workspace=place, user=user).first()
    was_owner = before is not None and Role.OWNER in before.role_set
    if principal is not None:
        principal.require(Permission.ADMINISTER)
        if (Role.OWNER in wanted or was_owner) and not principal.may(Permission.OWN):
            raise Forbidden(
                f"{principal.label} is not an owner and cannot make or change one.", next="Ask an owner."
            )
    if was_owner and Role.OWNER not in wanted and _owners(place) == 1:
        raise Conflict(
            f"{user.email} is the last owner of {place.slug!r}.",
            code="last_owner",
            next="Make somebody else owner first.",
        )
    values = {"roles": [str(r) for r in wanted], "groups": sorted(set(groups))}
    membership, _ = Membership.objects.update_or_create(workspace=place, user=user, defaults=values)
    audit(principal, "member.set", user.email, values, workspace=place)
    return membership


def _owners(workspace: Workspace) -> int:
    # Roles are JSON; the members of one workspace are few, so this is read here and not in SQL per database.
    return sum(Role.OWNER in m.role_set for m in workspace.memberships.all())


def _roles(roles: Iterable[str]) -> list[Role]:
    given = sorted({str(r) for r in roles})
    unknown = [r for r in given if r not in set(Role)]
    if unknown or not given:
        raise InvalidInput(
            f"Unknown role {unknown[0]!r}." if unknown else "A member needs at least one role.",
            fields={"roles": f"One or more of {', '.join(Role)}."},
            next=f"Choose from {', '.join(Role)}.",
        )
    return [Role(r) for r in given]


def _place(principal: Principal | None, workspace: Workspace | None) -> Workspace:
    place = workspace or (principal.workspace if principal else None)
    if place is None:
        raise ValueError("a call without a principal names the workspace")
    if principal is not None and place.id != principal.workspace.id:
        raise WorkspaceNotFound(f"There is no workspace {place.slug!r} for {principal.label}.")
    return place


def set_time_zone(user: User, name: str) -> None:
    """Show a person's times in this zone. Raises InvalidInput for a name that is no IANA zone."""
    if name not in available_timezones():
        raise InvalidInput(
            f"{name!r} is not a time zone.",
            fields={"time_zone": "Choose one such as Europe/Berlin."},
            next="Choose one from the list.",
        )
    User.objects.filter(id=user.id).update(time_zone=name)
    user.time_zone = name


def adopt_time_zone(user: User, name: str) -> None:
    """Take the browser's zone for somebody who has not chosen one; what is no zone is left out."""
    if user.time_zone in ("", "UTC") and name != user.time_zone and name in available_timezones():
        set_time_zone(user, name)


# --- signing in -------------------------------------------------------------------------------------------


@transaction.atomic
def create_sign_in_link(user: User, base_url: str, *, minutes: float = LINK_MINUTES) -> str:
    """A link that signs somebody in once, within `minutes`. Only its digest is stored."""
    key = secret()
    SignInLink.objects.create(user=user, digest=digest(key), expires_at=now() + timedelta(minutes=minutes))
    return f"{base_url.rstrip('/')}/sign-in/{key}"


@transaction.atomic
def use_sign_in_link(key: str) -> User:
    """Consume a link and say who it signs in. Called by a POST only: opening a link never uses it up.

    Raises LinkUnusable, with the reason, for a used, expired or unknown one.
    """
    at = now()
    found = SignInLink.objects.filter(
        digest=digest(key), used_at__isnull=True, expires_at__gt=at, user__is_active=True
    )
    # Two clicks at once: the update decides which one was first.
    if found.update(used_at=at) != 1:
        state = selectors.link_state(key)
        why = {"used": "has been used already", "expired": "has expired"}.get(state, "is not one of ours")
        raise LinkUnusable(
            f"This sign-in link {why}.",
            next="Ask for a new one; on a laptop, `mn up` prints it at every start.",
            state=state,
        )
    return SignInLink.objects.select_related("user").get(digest=digest(key)).user


@transaction.atomic
def create_token(
    principal: Principal,
    name: str,
    *,
    scopes: Iterable[str] = (),
    expires_at: datetime | None = None,
) -> tuple[ApiToken, str]:
    """A bearer token for the principal in this workspace, and its secret, which is shown this once.

    scopes: roles the token is limited to; empty means all its user has, now and later.
    Raises InvalidInput for an empty name, an unknown scope or an expiry in the past; Forbidden when a token
    asks for one that may do more than itself, now or when its user may more, or that would outlive it.
    """
    if not name.strip():
        raise InvalidInput("A token needs a name.", fields={"name": "Say what will use it."}, next="Name it.")
    if expires_at is not None and expires_at <= now():
        raise InvalidInput(
            "The token would have expired already.",
            fields={"expires_at": "Choose a time in the future."},
            next="Choose a time in the future.",
        )
    limited = _roles(scopes) if (scopes := list(scopes)) else []
    wanted = principal_for(principal.user, principal.workspace, principal.channel, scopes=limited)
    most = principal.limited_to
    reaches_further = most is not None and not (wanted.limited_to or frozenset(Permission)) <= most
    if reaches_further or not wanted.permissions <= principal.permissions:
        raise Forbidden(
            f"{principal.label} cannot make a token that may do more than it may itself.",
            next="Name scopes it has, or sign in to make the token.",
        )
    ends = principal.expires_at
    if ends is not None and (expires_at is None or expires_at > ends):
        raise Forbidden(
            f"{principal.label} cannot make a token that outlives it; it ends at {ends:%Y-%m-%d %H:%M} UTC.",
            next="Name an earlier expiry, or sign in to make the token.",
        )
    key = secret(TOKEN_PREFIX)
    token = ApiToken.objects.create(
        workspace=principal.workspace,
        user=principal.user,
        name=name.strip()[:120],
        prefix=key[:9],
        digest=digest(key),
        scopes=[str(r) for r in limited],
        expires_at=expires_at,
    )
    audit(principal, "token.created", token.name, {"token": str(token.id), "scopes": token.scopes})
    return token, key


def authenticate_token(key: str) -> Principal | None:
    """Who a bearer token speaks for; None for an unknown, revoked or expired one and for a former member."""
    if not key.startswith(TOKEN_PREFIX):
        return None
    token = ApiToken.objects.select_related("user", "workspace").filter(digest=digest(key)).first()
    at = now()
    if token is None or token.revoked_at is not None or (token.expires_at and token.expires_at <= at):
        return None
    try:
        principal = principal_for(
            token.user,
            token.workspace,
            "api",
            scopes=[Role(r) for r in token.scopes],
            label=f"{token.user.email} ({token.name})",
            expires_at=token.expires_at,
        )
    except WorkspaceNotFound:
        return None
    # Once a minute is exact enough for people and keeps reads from being writes.
    stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=at - timedelta(minutes=1))
    if token.last_used_at is None or token.last_used_at < at - timedelta(minutes=1):
        ApiToken.objects.filter(stale, id=token.id).update(last_used_at=at)
    return principal


@transaction.atomic
def revoke_token(principal: Principal, token_id: str | UUID) -> ApiToken:
    """End a token at once; one's own, or any of the workspace for an admin. Repeating it changes nothing.

    Raises Forbidden for a token whose scopes are narrower than those of the one it would end.
    """
    token = selectors.token_for(principal, token_id)
    most = principal.limited_to
    reach = permissions(_roles(token.scopes)) if token.scopes else frozenset(Permission)
    if most is not None and not reach <= most and not principal.may(Permission.ADMINISTER):
        raise Forbidden(
            f"{principal.label} cannot end a token that may do more than it may itself.",
            next="Sign in to end it, or use a token of an admin.",
        )
    if ApiToken.objects.filter(id=token.id, revoked_at__isnull=True).update(revoked_at=now()):
        audit(principal, "token.revoked", token.name, {"token": str(token.id)})
    token.refresh_from_db()
    return token


# --- files ------------------------------------------------------------------------------------------------


def store_file(principal: Principal, name: str, data: bytes, media_type: str | None = None) -> StoredFile:
    """Keep a file for this workspace.

    The same bytes under the same name give the same row, so that a repeated upload, and with it a repeated
    `start_run`, is recognised as the same.
    Raises FileTooLarge over 50 MB, Forbidden for a member who may neither operate nor edit.
    """
    if not principal.may(Permission.EDIT):
        principal.require(Permission.OPERATE)
    return keep_file(principal.workspace, name, data, media_type, created_by=principal.user)


def keep_file(
    workspace: Workspace,
    name: str,
    data: bytes,
    media_type: str | None = None,
    *,
    created_by: User | None = None,
) -> StoredFile:
    """Keep a file that a run produced; `store_file` for one that a person brings."""
    if len(data) > files.MAX_BYTES:
        raise FileTooLarge(
            f"{name!r} has {len(data) / 1e6:.1f} MB; one file may have {files.MAX_BYTES // 1024**2} MB.",
            next="Split the file or leave it out.",
        )
    shown = files.clean_name(name)
    sha256 = files.keep(data)
    with transaction.atomic():
        same = (
            StoredFile.objects.filter(workspace=workspace, sha256=sha256, name=shown).order_by("id").first()
        )
        return same or StoredFile.objects.create(
            workspace=workspace,
            name=shown,
            sha256=sha256,
            media_type=files.clean_media_type(media_type) or files.guess_media_type(shown),
            size=len(data),
            created_by=created_by,
        )


# --- connections ------------------------------------------------------------------------------------------


@transaction.atomic
def save_connection(
    principal: Principal, name: str, kind: str, fields: dict[str, Any], hosts: Iterable[str] = ()
) -> Connection:
    """Store or replace the credentials of one outside service, sealed.

    hosts: the only hosts the fields may be sent to, such as `shop.example` or `*.shop.example`.
    Raises Forbidden, or InvalidInput for a bad name or host.
    """
    principal.require(Permission.ADMINISTER)
    allowed = sorted({h.strip().lower() for h in hosts if h.strip()})
    wrong = {}
    if bad := [h for h in allowed if not _HOST.match(h)]:
        wrong["hosts"] = f"{bad[0]!r} is not a host such as shop.example."
    if not allowed:
        wrong["hosts"] = "Name at least one host that the fields may be sent to."
    if not _NAME.match(name):
        wrong["name"] = "Use lower-case letters, digits, - and _, starting with a letter."
    if wrong:
        said = " ".join(wrong.values())
        raise InvalidInput(f"The connection was not saved. {said}", fields=wrong, next="Correct it.")
    connection = Connection.objects.filter(workspace=principal.workspace, name=name).first()
    rotated = connection is not None
    if connection is None:
        connection = Connection(workspace=principal.workspace, name=name)
    connection.kind, connection.sealed, connection.hosts = kind, crypto.seal(fields), allowed
    connection.rotated_at = now() if rotated else None
    connection.save()
    audit(
        principal,
        "connection.rotated" if rotated else "connection.created",
        name,
        {"kind": kind, "fields": sorted(fields), "hosts": allowed},
    )
    return connection


# --- audit ------------------------------------------------------------------------------------------------


def audit(
    principal: Principal | None,
    action: str,
    target: str,
    data: dict[str, Any] | None = None,
    *,
    workspace: Workspace | UUID | None = None,
    label: str = "",
    save: Callable[[AuditEntry], None] = AuditEntry.save,
) -> AuditEntry:
    """Record who decided what; part of the caller's transaction.

    principal: None when a rule or the installation decided; then `workspace` says where and `label` who.
    save: for those who store it together with something else.
    """
    place = workspace or (principal.workspace if principal else None)
    if place is None:
        raise ValueError("an audit entry without a principal names the workspace")
    entry = AuditEntry(
        workspace_id=place.id if isinstance(place, Workspace) else place,
        actor=principal.user if principal else None,
        actor_label=label or (principal.label if principal else "system"),
        action=action,
        target=target[:254],
        # It says again what was sent, which no database need take as it is.
        data=storable({**(data or {}), **({"channel": principal.channel} if principal else {})}),
    )
    save(entry)
    return entry
