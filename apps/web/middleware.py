"""What every page request passes: the content policy, and whose workspace it is in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.db import InternalError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone

from apps.web.views.doors import error_page
from apps.workspaces import access, selectors
from mirrorneuron.base.errors import MirrorNeuronError, NotFound
from mirrorneuron.base.logs import logger
from mirrorneuron.base.storage import storage_trouble

log = logger(__name__)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
Answer = Callable[[HttpRequest], HttpResponse]
SESSION_WORKSPACE = "workspace"


class ContentSecurityPolicy:
    """Adds the strict policy to every response that has none.

    `connect-src 'self'` covers the websocket of the same host in every current browser (CSP 3).
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response


class CurrentWorkspace:
    """Sets `request.principal`, sends strangers of the pages to the sign-in, and turns errors into pages.

    Only views of this app redirect; the API answers for itself. A view that anybody may see is marked with
    `django.contrib.auth.decorators.login_not_required`.
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.principal = _principal(request)  # type: ignore[attr-defined]
        if request.principal is None:  # type: ignore[attr-defined]
            return self.get_response(request)
        with timezone.override(zone_of(request.user.time_zone)):  # type: ignore[union-attr]
            response = self.get_response(request)
        # What is one person's is kept by no browser and no proxy, whichever view forgot to say so.
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any
    ) -> HttpResponse | None:
        if not _is_page(view) or not getattr(view, "login_required", True):
            return None
        if request.principal is None:  # type: ignore[attr-defined]
            if request.user.is_authenticated:
                return error_page(
                    request,
                    NotFound(
                        "Your account is not a member of any workspace yet.",
                        next="Ask an admin of the workspace to add you.",
                    ),
                )
            target = f"{reverse('web:sign-in')}?{urlencode({'next': request.get_full_path()})}"
            if request.headers.get("HX-Request"):
                # htmx would swap the sign-in page into a fragment's place.
                return HttpResponse(status=401, headers={"HX-Redirect": target})
            return redirect(target)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if request.path.startswith("/api/"):
            return None
        if isinstance(error, OperationalError | InternalError):
            log.error("page.database", method=request.method, path=request.path, exc_info=error)
            error = storage_trouble(str(error))
        if isinstance(error, MirrorNeuronError):
            response = error_page(request, error)
            response.headers["MN-Problem"] = error.code
            return response
        return None


def _is_page(view: Callable[..., Any]) -> bool:
    return getattr(view, "__module__", "").startswith("apps.web.")


def _principal(request: HttpRequest) -> access.Principal | None:
    if not request.user.is_authenticated:
        return None
    mine = list(selectors.workspaces_for(request.user))
    if not mine:
        return None
    chosen = request.session.get(SESSION_WORKSPACE)
    workspace = next((w for w in mine if str(w.id) == chosen), mine[0])
    try:
        return access.principal_for(request.user, workspace, "web")
    except NotFound:
        return None


def zone_of(name: str) -> ZoneInfo:
    """A person's time zone; UTC when the name is not one."""
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")
