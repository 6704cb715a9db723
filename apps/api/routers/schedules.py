"""Schedules: start runs again and again."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.responses import Status
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Schedule
from apps.blueprints.core.durations import parse_duration
from apps.runs import schedules
from apps.runs.core.schedule import CatchUp, Overlap

router = Router(by_alias=True)


def _seconds(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Every = Annotated[int | None, BeforeValidator(_seconds), Field(description="`30m`, or seconds.")]


class ScheduleIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, max_length=64)
    blueprint: str = Field(
        min_length=1, max_length=80, description="A name: its newest version each time; or `name@version`."
    )
    cron: str = Field("", max_length=120, description="Five parts, as in `0 9 * * 1-5`.")
    every: Every = None
    time_zone: str = Field("", max_length=64, description="The workspace's unless given.")
    inputs: dict[str, Any] = {}
    labels: dict[str, str] = Field({}, max_length=50)
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.SKIP


class ScheduleChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(None, min_length=1, max_length=64)
    blueprint: str | None = Field(None, min_length=1, max_length=80)
    cron: str | None = Field(None, max_length=120)
    every: Every = None
    time_zone: str | None = Field(None, max_length=64)
    inputs: dict[str, Any] | None = None
    labels: dict[str, str] | None = Field(None, max_length=50)
    catch_up: CatchUp | None = None
    overlap: Overlap | None = None
    paused: bool | None = None


@router.get("", response=reads(Page[Schedule]), summary="List schedules")
def list_schedules(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Newest first, with the next five times in each one's zone."""
    rows = schedules.schedules_for(principal(request))
    return page(rows, schedules.schedule_view, cursor=cursor, limit=limit)


@router.post("", response=writes(Schedule, 201), summary="Make a schedule")
def add_schedule(request: HttpRequest, payload: ScheduleIn) -> Any:
    """Runs are started in the name of who makes it, with the rights they have then."""
    given = payload.model_dump()
    given["every_seconds"] = given.pop("every")
    made = schedules.add_schedule(principal(request), schedules.Plan(**given))
    return Status(201, schedules.schedule_view(made))


@router.get("/{schedule_id}", response=reads(Schedule), summary="Read one schedule, by id or name")
def get_schedule(request: HttpRequest, schedule_id: str) -> Any:
    return schedules.schedule_view(schedules.schedule_for(principal(request), schedule_id))


@router.patch("/{schedule_id}", response=writes(Schedule), summary="Change, pause or resume a schedule")
def change_schedule(request: HttpRequest, schedule_id: str, payload: ScheduleChange) -> Any:
    """What is left out stays. It then acts in your name, unless only `paused` changes; `{}` takes it over."""
    who = principal(request)
    given = payload.model_dump(exclude_unset=True)
    if "every" in given:
        given["every_seconds"] = given.pop("every")
    paused = given.pop("paused", None)
    found = schedules.schedule_for(who, schedule_id)
    if given or paused is None:
        kept = {name: value for name, value in given.items() if value is not None}
        found = schedules.change_schedule(who, found.id, kept)
    if paused is not None:
        act = schedules.pause_schedule if paused else schedules.resume_schedule
        found = act(who, found.id)
    return schedules.schedule_view(found)


@router.delete("/{schedule_id}", response={204: None, **writes(Schedule)}, summary="Remove a schedule")
def remove_schedule(request: HttpRequest, schedule_id: str) -> Any:
    """The runs it started stay."""
    schedules.remove_schedule(principal(request), schedule_id)
    return HttpResponse(status=204)
