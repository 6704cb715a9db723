"""`mn schedule`: start runs again and again."""

from __future__ import annotations

from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import click

from apps.blueprints import selectors as blueprints
from apps.blueprints.core.durations import parse_duration
from apps.blueprints.services import version_for_run
from apps.runs import schedules
from apps.runs.core.schedule import CatchUp, Overlap
from apps.runs.models import Schedule
from mirrorneuron.base.clock import now
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Group, emit, table
from mirrorneuron.cli.inputs import gather
from mirrorneuron.cli.run import labels_of


@click.group(cls=Group)
def schedule() -> None:
    """Start runs again and again: by a cron expression in a time zone, or every so often."""


@schedule.command()
@click.argument("name")
@click.argument("blueprint", metavar="BLUEPRINT[@VERSION]")
@click.option("--cron", default="", metavar="EXPRESSION", help="Five parts, as in '0 9 * * 1-5'.")
@click.option("--every", metavar="DURATION", help="An interval such as 30m or 1d instead.")
@click.option("--zone", default="", metavar="ZONE", help="Time zone of the expression. [the workspace's]")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="One input.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="All inputs as JSON.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label of every run.")
@click.option(
    "--catch-up", type=click.Choice([c.value for c in CatchUp]), default="one", show_default=True,
    help="What becomes of times that passed while nothing was running.",
)  # fmt: skip
@click.option(
    "--overlap", type=click.Choice([o.value for o in Overlap]), default="skip", show_default=True,
    help="What happens when the run before has not ended.",
)  # fmt: skip
def add(
    name: str,
    blueprint: str,
    cron: str,
    every: str | None,
    zone: str,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    labels: tuple[str, ...],
    catch_up: str,
    overlap: str,
) -> None:
    """Make a schedule; runs are started in your name."""
    who = acting()
    schema = blueprints.document_of(version_for_run(who, blueprint)).contract.inputs
    made = schedules.add_schedule(
        who,
        schedules.Plan(
            name=name,
            blueprint=blueprint,
            cron=cron,
            every_seconds=_seconds(every),
            time_zone=zone,
            inputs=gather(who, schema, pairs, inputs_file),
            labels=labels_of(labels),
            catch_up=catch_up,
            overlap=overlap,
        ),
    )
    view = schedules.schedule_view(made)
    emit(view, lambda: f"Schedule {made.name!r}: {view['in_words']}. Next at {view['next'][0]}.")


@schedule.command("list")
def list_() -> None:
    """List schedules with their next time and what went wrong last."""
    views = [schedules.schedule_view(s) for s in schedules.schedules_for(acting())]
    emit({"items": views}, lambda: table([_row(v) for v in views], _HEAD, "No schedules."))


@schedule.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one schedule."""
    view = schedules.schedule_view(schedules.schedule_for(acting(), name))

    def text() -> str:
        lines = [table([_row(view)], _HEAD, ""), "", *(f"next  {at}" for at in view["next"])]
        if view["held"]:
            lines.append(f"{len(view['held'])} wait for the run before them to end.")
        if view["last_run"]:
            lines.append(f"last  {view['last_at']}, run {view['last_run']}")
        if view["last_error"]:
            error = view["last_error"]
            lines.append(f"At {error['at']} it started nothing: {error['message']} {error.get('next', '')}")
        lines.append(f"Acts in the name of {view['acts_as'] or 'nobody'}; {view['skipped']} times skipped.")
        return "\n".join(lines)

    emit(view, text)


@schedule.command()
@click.argument("name")
def pause(name: str) -> None:
    """Start nothing until it is resumed."""
    _said(schedules.pause_schedule(acting(), name), "is paused")


@schedule.command()
@click.argument("name")
def resume(name: str) -> None:
    """Go on with the next time from now; what passed meanwhile is not made up."""
    _said(schedules.resume_schedule(acting(), name), "goes on")


@schedule.command("take-over")
@click.argument("name")
def take_over(name: str) -> None:
    """Have it start runs in your name, for example after who made it has left."""
    _said(schedules.change_schedule(acting(), name, {}), "acts in your name")


@schedule.command()
@click.argument("name")
def remove(name: str) -> None:
    """End a schedule; the runs it started stay."""
    schedules.remove_schedule(acting(), name)
    emit({"removed": name}, f"Schedule {name!r} is removed.")


@schedule.command("next")
@click.argument("name")
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 100))
def next_(name: str, count: int) -> None:
    """Print the next times, in the schedule's zone."""
    found = schedules.schedule_for(acting(), name)
    start = found.next_at if found.paused_at is None else now()
    if start is None:
        emit({"items": []}, "There will be no more times.")
        return
    times = schedules.next_times(found, count)
    if found.paused_at is not None:
        # While it is paused these are the times it would have if it were resumed now.
        zone = ZoneInfo(found.time_zone)
        times = [at.astimezone(zone) for at in islice(schedules.times_of(found).after(start), count)]
    emit({"items": [at.isoformat() for at in times]}, lambda: "\n".join(at.isoformat() for at in times))


_HEAD = ("name", "blueprint", "when", "next", "last error")


def _row(view: dict[str, Any]) -> list[Any]:
    version = view["version"]
    name = f"{view['blueprint']}@{version}" if version else view["blueprint"]
    following = "paused" if view["paused"] else (view["next"][0] if view["next"] else "never")
    return [view["name"], name, view["in_words"], following, (view["last_error"] or {}).get("message", "")]


def _said(changed: Schedule, what: str) -> None:
    emit(schedules.schedule_view(changed), f"Schedule {changed.name!r} {what}.")


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration such as 30m or 1d.", param_hint="--every")
    return int(seconds) if seconds == int(seconds) else 0
