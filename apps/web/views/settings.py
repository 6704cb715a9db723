"""Settings: one's time zone, API tokens, who is here."""

from __future__ import annotations

from uuid import uuid4
from zoneinfo import available_timezones

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_POST, require_safe

from apps.web.views.doors import page, principal_of
from apps.workspaces import selectors, services
from mirrorneuron.base.errors import InvalidInput

SENT = "token_forms"
"""In the session: the keys of the forms that have made a token."""
FORMS_KNOWN = 20


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    return _page(request)


@require_POST
def time_zone(request: HttpRequest) -> HttpResponse:
    try:
        services.set_time_zone(principal_of(request).user, request.POST.get("time_zone", ""))
    except InvalidInput as wrong:
        return _page(request, problem=str(wrong), status=422)
    messages.success(request, "Times are now shown in this zone.")
    return redirect("web:settings")


@require_POST
def create_token(request: HttpRequest) -> HttpResponse:
    """A new token; its secret is on this one page and nowhere else, so that page cannot be a redirect.

    A reload sends the form again: each form makes one token.
    """
    key, sent = request.POST.get("key", "")[:64], request.session.get(SENT, [])
    if key and key in sent:
        messages.info(request, "That token is made already. Its secret is shown only once.")
        return redirect("web:settings")
    try:
        token, secret = services.create_token(principal_of(request), request.POST.get("name", ""))
    except InvalidInput as wrong:
        return _page(request, token_problem=str(wrong), status=422)
    request.session[SENT] = [*sent, key][-FORMS_KNOWN:]
    return _page(request, fresh_token=token, fresh_secret=secret)


@require_POST
def revoke_token(request: HttpRequest, token_id: str) -> HttpResponse:
    token = services.revoke_token(principal_of(request), token_id)
    messages.success(request, f"The token “{token.name}” is revoked; it stopped working at once.")
    return redirect("web:settings")


def _page(request: HttpRequest, *, status: int = 200, **more: object) -> HttpResponse:
    principal = principal_of(request)
    context = {
        "tokens": selectors.tokens_for(principal),
        "members": selectors.members_of(principal),
        "zones": sorted(available_timezones()),
        "fresh_token": None,
        "key": uuid4().hex,
        **more,
    }
    return page(request, "settings/index.html", context, status=status)
