"""Coming in: the printed link, or e-mail and password; and going out."""

from __future__ import annotations

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

BACKEND = "django.contrib.auth.backends.ModelBackend"


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
        email = request.POST.get("email", "").strip().lower()
        user = authenticate(request, username=email, password=request.POST.get("password", ""))
        if isinstance(user, User):
            return _come_in(request, user, "web:home")
        context = {
            "problem": "No account has this e-mail address and password.",
            "email": email,
            "next": request.POST.get("next", ""),
        }
        return page(request, "sign_in/form.html", context, status=401)
    if request.user.is_authenticated and request.principal is not None:  # type: ignore[attr-defined]
        return redirect("web:home")
    return page(request, "sign_in/form.html", {"next": request.GET.get("next", "")})


@require_POST
def out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return redirect("web:sign-in")


def _come_in(request: HttpRequest, user: User, start: str) -> HttpResponse:
    services.adopt_time_zone(user, request.POST.get("time_zone", ""))
    login(request, user, backend=BACKEND)
    target = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return redirect(target if target and safe else start)
