"""Telling a run what it waits for, from its page."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from apps.runs import selectors, services, signals
from apps.runs.models import Run
from apps.web.signal_form import awaited_form, read_signal
from apps.web.views.doors import in_my_workspaces, page, principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput


@require_http_methods(["GET", "HEAD", "POST"])
def send(request: HttpRequest, run_id: UUID, name: str) -> HttpResponse:
    """GET shows the form by itself; POST sends the signal, once however often it is pressed."""
    run = in_my_workspaces(request, lambda who: selectors.run_for(who, run_id))
    principal = principal_of(request)
    principal.require(Permission.OPERATE)
    path = request.POST.get("path", "")[:1000]
    waits = _waiting(run, name, path)
    context: dict[str, Any] = {"run": run, "name": name}
    if request.method != "POST":
        context["awaits"] = awaited_form(waits) if waits else None
        return page(request, "runs/signal.html", context)
    key = request.POST.get("key", "")[:200] or None
    body, errors = read_signal(request, waits or {"schema": None})
    problem = "Some fields need another look." if errors else ""
    if not errors:
        try:
            told = services.deliver_signal(principal, run.id, name, body, key=key, path=path)
        except InvalidInput as wrong:
            problem, errors = str(wrong), wrong.fields
        else:
            taken = told["delivered_to"]
            messages.success(request, "The run has it." if taken else "It is kept until the run asks for it.")
            return redirect("web:runs-detail", run.id)
    shown = waits or {"step": path, "signal": name, "schema": None}
    context |= {"awaits": awaited_form(shown, body, errors, key or ""), "problem": problem}
    return page(request, "runs/signal.html", context, status=422)


def _waiting(run: Run, name: str, path: str) -> dict[str, Any] | None:
    """What the run waits for under this name; of several steps the one meant, or the earliest."""
    found = [one for one in signals.awaited(run) if one["signal"] == name and path in ("", one["step"])]
    return found[0] if found else None
