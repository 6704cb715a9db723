"""Coming in: the printed link, or e-mail and password; and going out."""

from __future__ import annotations

import time

from django.contrib.auth import authenticate, login, logout
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST

from apps.web.views.doors import page
from apps.workspaces import selectors, services
from apps.workspaces.errors import LinkUnusable
from apps.workspaces.models import User
from mirrorneuron.base.throttle import Throttle

BACKEND = "django.contrib.auth.backends.ModelBackend"
WINDOW_SECONDS = 15 * 60.0
BY_PLACE = Throttle(10, WINDOW_SECONDS)
"""Wrong passwords of one account from one address."""
BY_ADDRESS = Throttle(100, WINDOW_SECONDS)
"""Of all accounts together; one address may be a whole office behind one router."""
BY_ACCOUNT = Throttle(200, WINDOW_SECONDS)
"""From everywhere; high, because it keeps out the owner too, whose sign-in link still works."""


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, secret: str) -> HttpResponse:
    """The printed link. Opening it changes nothing, however often a scanner does; the POST signs in."""
    if request.method == "POST":
        try:
            user = services.use_sign_in_link(secret)
        except LinkUnusable as error:
            state = str(error.attributes.get("state", "unknown"))
            return page(request, "sign_in/link.html", {"state": state}, status=409)
        # From the printed link to an approved run it is three clicks, whatever else waits.
        return _come_in(request, user, "web:gallery")
    state = selectors.link_state(secret)
    return page(request, "sign_in/link.html", {"state": state}, status=200 if state == "usable" else 410)


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def form(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        email = request.POST.get("email", "").replace("\x00", "").strip().lower()[:254]
        context = {"email": email, "next": request.POST.get("next", "")}
        if _must_wait(request, email):
            context["problem"] = "Too many tries. Wait a quarter of an hour, or use a sign-in link."
            return page(request, "sign_in/form.html", context, status=429)
        user = authenticate(request, username=email, password=request.POST.get("password", ""))
        if isinstance(user, User):
            BY_PLACE.forget((email, _address(request)))
            return _come_in(request, user, "web:home")
        _count_failure(request, email)
        context["problem"] = "No account has this e-mail address and password."
        return page(request, "sign_in/form.html", context, status=401)
    if request.user.is_authenticated and request.principal is not None:  # type: ignore[attr-defined]
        return redirect("web:home")
    return page(request, "sign_in/form.html", {"next": request.GET.get("next", "")})


@require_POST
def out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("web:sign-in")


def _address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def _must_wait(request: HttpRequest, email: str) -> bool:
    at, address = time.monotonic(), _address(request)
    pauses = (
        BY_PLACE.pause((email, address), at),
        BY_ADDRESS.pause(address, at),
        BY_ACCOUNT.pause(email, at),
    )
    return max(pauses) > 0


def _count_failure(request: HttpRequest, email: str) -> None:
    at, address = time.monotonic(), _address(request)
    BY_PLACE.failed((email, address), at)
    BY_ADDRESS.failed(address, at)
    BY_ACCOUNT.failed(email, at)


def _come_in(request: HttpRequest, user: User, start: str) -> HttpResponse:
    services.adopt_time_zone(user, request.POST.get("time_zone", ""))
    login(request, user, backend=BACKEND)
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return redirect(target if target and safe else start)
