"""The start: what waits for a person if anything does, otherwise something to run."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_safe

from apps.approvals.selectors import inbox_count
from apps.web.views.doors import principal_of


@require_safe
def start(request: HttpRequest) -> HttpResponse:
    return redirect("web:inbox" if inbox_count(principal_of(request)) else "web:gallery")
