"""Who calls: a bearer token of one workspace, or a signed-in session with its CSRF token.

Both end in `request.principal`. A wrong token is refused at once and never falls back to the session.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja.errors import AuthenticationError
from ninja.security import HttpBearer, SessionAuth

from apps.api import idempotency
from apps.workspaces import access, selectors, services
from apps.workspaces.errors import WorkspaceNotFound
from apps.workspaces.models import User

WORKSPACE_HEADER = "MN-Workspace"
SESSION_WORKSPACE = "workspace"
"""Key of the current workspace in a session; the pages set it."""


class Token(HttpBearer):
    """`Authorization: Bearer mn_…`; see POST /tokens."""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        principal = services.authenticate_token(token.strip())
        if principal is None:
            raise AuthenticationError
        named = request.headers.get(WORKSPACE_HEADER)
        if named and named not in (principal.workspace.slug, str(principal.workspace.id)):
            raise WorkspaceNotFound(
                f"The token belongs to workspace {principal.workspace.slug!r}, not to {named!r}.",
                next=f"Leave {WORKSPACE_HEADER} out, or use a token of that workspace.",
            )
        return _as(request, principal)


class Session(SessionAuth):
    """The session cookie of the pages; unsafe calls also need `X-CSRFToken`.

    `MN-Workspace` (slug or id) chooses among the person's workspaces.
    """

    def __call__(self, request: HttpRequest) -> Any:
        # Without a session the answer is 401, not a remark about CSRF.
        return super().__call__(request) if request.user.is_authenticated else None

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        user = request.user
        if not isinstance(user, User):
            return None
        named = request.headers.get(WORKSPACE_HEADER)
        if named:
            workspace = selectors.workspace_for(user, named)
        else:
            mine = list(selectors.workspaces_for(user))
            if not mine:
                raise WorkspaceNotFound(
                    f"{user} is not a member of any workspace.",
                    next="Ask an admin of a workspace to add you.",
                )
            chosen = request.session.get(SESSION_WORKSPACE)
            workspace = next((w for w in mine if str(w.id) == chosen), mine[0])
        return _as(request, access.principal_for(user, workspace, "api"))


def _as(request: HttpRequest, principal: access.Principal) -> access.Principal:
    request.principal = principal  # type: ignore[attr-defined]
    idempotency.begin(request, principal)
    return principal
