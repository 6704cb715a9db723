"""Schedules: what runs again and again, when next, and what went wrong last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.blueprints import selectors as blueprints
from apps.blueprints.core.durations import parse_duration
from apps.blueprints.services import version_for_run
from apps.runs import schedules
from apps.runs.core.schedule import Times, in_words, problems_of
from apps.runs.models import Schedule
from apps.web.forms import Submission, input_fields, read_inputs
from apps.web.views.doors import in_my_workspaces, page, principal_of
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError, NotFound

CATCH_UP = (
    ("one", "Make up the latest one"),
    ("all", "Make up each, oldest first"),
    ("skip", "Make up none"),
)
OVERLAP = (
    ("skip", "Leave that time out"),
    ("queue", "Start when it has ended"),
    ("cancel_other", "Cancel it and start"),
)
ACTS: dict[str, tuple[Callable[..., Any], str]] = {
    "pause": (schedules.pause_schedule, "is paused; nothing starts until somebody resumes it"),
    "resume": (schedules.resume_schedule, "goes on with its next time"),
    "remove": (schedules.remove_schedule, "is removed; the runs it started stay"),
    "take-over": (lambda who, which: schedules.change_schedule(who, which, {}), "now acts in your name"),
}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    principal = principal_of(request)
    rows = [_row(one) for one in schedules.schedules_for(principal)]
    names = blueprints.blueprints_for(principal)
    context = {"rows": rows, "names": names, "may_operate": principal.may(Permission.OPERATE)}
    return page(request, "schedules/list.html", context)


def _row(schedule: Schedule) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "reference": schedules.reference_of(schedule),
        "words": schedules.words_of(schedule),
        "next": [_told(at) for at in schedules.next_times(schedule)],
    }


@require_http_methods(["GET", "HEAD", "POST"])
def add(request: HttpRequest) -> HttpResponse:
    """The form of a new schedule. "Show the times" changes nothing; "Make it" makes it."""
    given = request.POST if request.method == "POST" else request.GET
    reference = given.get("blueprint", "").strip()
    if not reference:
        return redirect("web:blueprints-schedules")
    principal = principal_of(request)
    version = version_for_run(principal, reference)
    schema = blueprints.document_of(version).contract.inputs
    context: dict[str, Any] = {
        "blueprint": version.blueprint,
        "reference": reference,
        "zones": sorted(available_timezones()),
        "catch_ups": CATCH_UP,
        "overlaps": OVERLAP,
        "form": _form(given, reference, principal.user.time_zone),
        "fields": input_fields(schema),
    }
    if request.method != "POST":
        return page(request, "schedules/form.html", context | _times(context["form"]))
    inputs = read_inputs(request, principal, schema)
    context["fields"] = input_fields(schema, inputs)
    if request.POST.get("look"):  # Only the times were asked about.
        context["fields"] = input_fields(schema, Submission(inputs.values, {}, inputs.kept))
        return page(request, "schedules/form.html", context | _times(context["form"]))
    try:
        if inputs.errors:
            raise InvalidInput("Some fields need another look.")
        made = schedules.add_schedule(principal, _plan(context["form"], reference, inputs.values))
    except MirrorNeuronError as wrong:
        if wrong.status not in (409, 422):
            raise
        below = {
            path.removeprefix("inputs."): text
            for path, text in wrong.fields.items()
            if path.startswith("inputs.")
        }
        kept = Submission(inputs.values, {**below, **inputs.errors}, inputs.kept)
        context |= {"fields": input_fields(schema, kept), "problem": str(wrong), "wrong": wrong.fields}
        times = _times(context["form"])
        times["wrong"] = {**times.get("wrong", {}), **wrong.fields}
        return page(request, "schedules/form.html", context | times, status=422)
    messages.success(request, f"“{made.name}” is set up. {schedules.words_of(made)}.")
    return redirect("web:blueprints-schedules")


@require_POST
def act(request: HttpRequest, schedule_id: UUID, verb: str) -> HttpResponse:
    """Pause, resume, remove or take over one schedule."""
    if verb not in ACTS:
        raise NotFound(f"There is nothing called {verb!r} to do with a schedule.")
    found = in_my_workspaces(request, lambda who: schedules.schedule_for(who, schedule_id))
    do, words = ACTS[verb]
    do(principal_of(request), found.id)
    messages.success(request, f"“{found.name}” {words}.")
    return redirect("web:blueprints-schedules")


def _form(given: Mapping[str, str], reference: str, zone: str) -> dict[str, str]:
    """What the form holds: as it was sent, or what it begins with."""
    begins = {
        "name": reference.partition("@")[0],
        "cron": "" if given.get("every") else "0 9 * * 1-5",
        "every": "",
        "time_zone": zone or "UTC",
        "catch_up": "one",
        "overlap": "skip",
    }
    return {key: str(given.get(key, value)).strip() for key, value in begins.items()}


def _plan(form: Mapping[str, str], reference: str, inputs: dict[str, Any]) -> schedules.Plan:
    return schedules.Plan(
        name=form["name"],
        blueprint=reference,
        cron=form["cron"],
        every_seconds=_seconds(form["every"]),
        time_zone=form["time_zone"],
        inputs=inputs,
        catch_up=form["catch_up"],
        overlap=form["overlap"],
    )


def _times(form: Mapping[str, str]) -> dict[str, Any]:
    """The next five times in words, as the form stands; `wrong` says by field why they cannot be told."""
    try:
        every = _seconds(form["every"])
    except InvalidInput as unread:
        return {"wrong": unread.fields}
    cron = " ".join(form["cron"].split())
    if wrong := problems_of(cron, every, form["time_zone"]):
        return {"wrong": wrong}
    at = now()
    times = Times(
        cron=cron, zone=form["time_zone"], every_seconds=every or 0, anchor=at.replace(microsecond=0)
    )
    zone = ZoneInfo(form["time_zone"])
    found = [moment.astimezone(zone) for moment in islice(times.after(at), 5)]
    return {"words": in_words(cron, every, form["time_zone"]), "next": [_told(one) for one in found]}


def _told(at: datetime) -> dict[str, str]:
    """A time as a person says it in its own zone, and as machines do."""
    clock = f"{at:%H:%M:%S}" if at.second else f"{at:%H:%M}"
    shown = f"{at:%A}, {at.day} {at:%B %Y}, {clock}"
    return {"words": f"{shown} {at:%Z}", "iso": at.astimezone(UTC).isoformat()}


def _seconds(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(parse_duration(text))
    except ValueError:
        raise InvalidInput(
            f"“{text}” is not a length of time.",
            fields={"every": "Write it like 30m, 4h or 1d."},
            next="Write it like 30m, 4h or 1d.",
        ) from None
