"""Runs: the list, the live page of one, and the buttons that change its course."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from apps.approvals import selectors as approvals
from apps.blueprints import selectors as blueprints
from apps.runs import selectors, services
from apps.runs.core.states import RunStatus
from apps.runs.models import Run
from apps.runs.views import effect_view
from apps.web.core import words
from apps.web.core.recovery import node_of
from apps.web.run_page import EVENTS_SHOWN, RunPage
from apps.web.views.doors import in_my_workspaces, page, principal_of, slice_by_id
from mirrorneuron.base.errors import InvalidInput, NotFound

EVENTS_OPEN = 20
"""Events in sight at first; earlier ones are folded."""
CONTROLS: dict[str, Callable[..., dict[str, Any]]] = {
    "pause": services.pause_run,
    "resume": services.resume_run,
    "cancel": services.cancel_run,
}
DONE = {
    "pause": "You paused this run. What was running finishes its step; nothing new starts.",
    "resume": "You resumed this run.",
    "cancel": "You cancelled this run. What was on its way is still recorded.",
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    principal = principal_of(request)
    status = request.GET.get("status", "")
    status = status if status in set(RunStatus) else ""
    name = request.GET.get("blueprint", "")
    found = selectors.runs_for(principal, status=status or None, blueprint=name or None)
    rows, following = slice_by_id(found, request.GET.get("cursor", ""))
    installed = list(blueprints.blueprints_for(principal))
    titles = {one.name: one.title or one.name for one in installed}
    asked = set(
        approvals.requests_for(principal)
        .filter(run_id__in=[run.id for run in rows])
        .values_list("run_id", flat=True)
    )
    context = {
        "rows": [_row(run, titles, waits_for_person=run.id in asked) for run in rows],
        "next": following,
        "status": status,
        "blueprint": name,
        "statuses": [(str(s), words.look("run", s).word) for s in RunStatus],
        "names": installed,
    }
    return page(request, "runs/list.html", context)


def _row(run: Run, titles: dict[str, str], *, waits_for_person: bool) -> dict[str, Any]:
    told = [v for v in run.inputs.values() if isinstance(v, str) and v]
    return {
        "run": run,
        "title": titles.get(run.blueprint_name, run.blueprint_name),
        "subject": (told[0][:80] if told else str(run.id)[:8]),
        "reason": "approval" if waits_for_person else "",
    }


@require_safe
def detail(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = _run(request, run_id)
    shown = RunPage(principal_of(request), run, request.GET.get("step", ""))
    if request.headers.get("HX-Request"):
        return page(request, "runs/_step.html", shown.context())
    latest = shown.entries if request.GET.get("events") == "all" else shown.entries[-EVENTS_SHOWN:]
    told = shown.worded(latest)
    context = {
        **shown.context(),
        "older": told[:-EVENTS_OPEN],
        "newest": told[-EVENTS_OPEN:],
        "shown_events": len(told),
        "title": shown.document.metadata.title or run.blueprint_name,
        "socket": f"/ws/runs/{run.id}?after={run.seq}",
        "earlier": len(latest) < run.seq,
    }
    return page(request, "runs/detail.html", context)


@require_safe
def graph(request: HttpRequest, run_id: UUID) -> JsonResponse:
    """The view model of a run's canvas; states that change later come with the page's own fragments."""
    shown = RunPage(principal_of(request), _run(request, run_id))
    return JsonResponse(shown.view, headers={"Cache-Control": "private, no-store"})


@require_http_methods(["GET", "HEAD", "POST"])
def control(request: HttpRequest, run_id: UUID, verb: str) -> HttpResponse:
    """Pause, resume or cancel: GET says what it would do, POST does it."""
    act = CONTROLS.get(verb)
    if act is None:
        raise NotFound(f"There is nothing called {verb!r} to do with a run.")
    run = _run(request, run_id)
    principal = principal_of(request)
    if request.method == "POST":
        if verb == "cancel":
            reason = request.POST.get("reason", "").strip()[:500]
            services.cancel_run(principal, run.id, reason=reason)
        else:
            act(principal, run.id)
        messages.success(request, DONE[verb])
        return redirect("web:runs-detail", run.id)
    told = act(principal, run.id, preview=True)
    lines = consequences(verb, told, RunPage(principal, run).titles)
    return page(request, "runs/confirm.html", {"run": run, "verb": verb, "lines": lines})


def consequences(verb: str, told: dict[str, Any], titles: dict[str, str]) -> list[str]:
    """What a preview says, as sentences with the steps' own titles."""

    def named(name: str) -> str:
        return ", ".join(f"“{titles.get(path.partition('[')[0], path)}”" for path in told.get(name) or [])

    lines = []
    if named("finish_first"):
        lines.append(f"Finishes first, because it is running: {named('finish_first')}.")
    if verb == "cancel":
        if named("stop"):
            lines.append(f"Stops: {named('stop')}. Open questions about it leave the inbox.")
        if named("never_start"):
            lines.append(f"Never starts: {named('never_start')}.")
    elif verb == "pause":
        lines.append("Starts nothing new until somebody resumes it.")
        lines.append("Due dates move by the length of the pause.")
    else:
        lines.append("Goes on where it stopped. Due dates have moved by the length of the pause.")
    if named("in_doubt"):
        lines.append(f"Has to be cleared up first: {named('in_doubt')}.")
    kept = len(told.get("kept") or [])
    lines.append(f"Keeps the results of {words.plural(kept, 'finished step')}.")
    back = told.get("compensations") or []
    if back and verb == "cancel":
        steps = ", ".join(
            f"“{titles.get(node_of(one['step']), one['step'])}” by {words.humanise(one['tool'])}"
            for one in back
        )
        lines.append(f"Takes back what was done, the latest first: {steps}.")
    happened = told.get("effects_committed", 0) - len({one["step"] for one in back})
    if happened > 0 and verb == "cancel":
        lines.append(f"{words.plural(happened, 'effect')} happened already and cannot be taken back by this.")
    return lines


@require_GET
def value(request: HttpRequest, run_id: UUID, hash: str) -> HttpResponse:
    """A large value, whole, as plain text."""
    found = selectors.payload_of(_run(request, run_id), hash)["value"]
    text = found if isinstance(found, str) else json.dumps(found, indent=2, ensure_ascii=False)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_POST
def kill_worker(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """The demo's proof: the process that works on this run is really killed."""
    run = _run(request, run_id)
    if services.request_kill(principal_of(request), run.id)["embedded"]:
        # The worker is this very process: let the answer out first.
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return redirect("web:runs-detail", run.id)


@require_http_methods(["GET", "HEAD", "POST"])
def effect(request: HttpRequest, run_id: UUID, effect_id: UUID) -> HttpResponse:
    """An effect in doubt: a person says what happened."""
    run = _run(request, run_id)
    principal = principal_of(request)
    found = selectors.effect_for(principal, effect_id)
    context: dict[str, Any] = {"run": run, "effect": effect_view(found)}
    if request.method == "POST":
        given = {name: request.POST.get(name, "").strip() for name in ("outcome", "reference", "reason")}
        try:
            services.resolve_effect(principal, found.id, **given)
        except InvalidInput as wrong:
            return page(request, "runs/effect.html", {**context, **given, "problem": str(wrong)}, status=422)
        messages.success(request, "Recorded. The run goes on from there.")
        return redirect("web:runs-detail", run.id)
    return page(request, "runs/effect.html", context)


def _run(request: HttpRequest, run_id: UUID) -> Run:
    return in_my_workspaces(request, lambda principal: selectors.run_for(principal, run_id))
