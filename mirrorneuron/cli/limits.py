"""`mn limits`: how often tools, models and people may call, and what rests or is down."""

from __future__ import annotations

import re
from typing import Any

import click

from apps.blueprints.core.durations import parse_duration
from apps.governance import selectors, services
from apps.runs.selectors import slots_for
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Command, Group, emit, table


@click.group(cls=Group)
def limits() -> None:
    """Limit calls of tools, models and people; see what rests, what is down, and concurrency keys."""


@limits.command("list", cls=Command)
def list_() -> None:
    """List limits, breakers and concurrency keys of the workspace."""
    who = acting()
    found, slots, weight = selectors.limits_for(who), slots_for(who), services.weight_of(who)

    def text() -> str:
        head = ("key", "limit", "left", "waiting", "state", "last error")
        lines = [
            [x["key"], _limit(x), _left(x), x["waiting"] or "", _state(x), x["last_error"][:60]]
            for x in found
        ]
        parts = [table(lines, head, "No limits, and nothing rests or is down.")]
        if slots:
            rows = [[s["key"], f"{s['in_use']} of {s['limit']}", s["waiting"] or ""] for s in slots]
            parts.append(table(rows, ("concurrency key", "in use", "waiting"), ""))
        parts.append(f"Weight of the workspace: {weight}")
        return "\n\n".join(parts)

    emit({"weight": weight, "items": found, "concurrency": slots}, text)


def _limit(x: dict[str, Any]) -> str:
    return "none" if x["calls"] is None else f"{x['calls']:g} in {x['per_seconds']:g} s"


def _left(x: dict[str, Any]) -> str:
    return "" if x["left"] is None else f"{x['left']:g}"


def _state(x: dict[str, Any]) -> str:
    if x["breaker"] == "open":
        return f"not called until {x['open_until'][:19]}, it keeps failing"
    if x["breaker"] == "half_open":
        return "about to be tried again"
    return f"rests until {x['rests_until'][:19]}" if x["rests_until"] else "ok"


@limits.command("set", cls=Command)
@click.argument("key")
@click.argument("limit", metavar="CALLS/TIME")
def set_(key: str, limit: str) -> None:
    """Limit calls, such as `mn limits set tool:send_email 100/1h`.

    KEY is tool:NAME, provider:NAME, model:PROVIDER:NAME or user:ADDRESS.
    """
    calls, seconds = _parse(limit)
    services.set_limit(acting(), key, calls=calls, per_seconds=seconds)
    emit({"key": key, "calls": calls, "per_seconds": seconds}, f"{key}: {calls} calls in {seconds:g} s.")


@limits.command("remove", cls=Command)
@click.argument("key")
def remove(key: str) -> None:
    """Take a limit away."""
    services.remove_limit(acting(), key)
    emit({"key": key}, f"{key} has no limit now.")


@limits.command("close", cls=Command)
@click.argument("key")
def close(key: str) -> None:
    """Close the breaker of a tool at once, because it works again."""
    services.close_breaker(acting(), key)
    emit({"key": key}, f"{key} is called again; who waits for it comes at the time they were given.")


@limits.command("weight", cls=Command)
@click.argument("weight", type=int)
def weight(weight: int) -> None:
    """Set the workspace's share of the workers; with 2 it gets twice as much as with 1."""
    services.set_weight(acting(), weight)
    emit({"weight": weight}, f"The workspace has weight {weight} now.")


def _parse(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"(\d{1,9})/(?:per )?(\S+)", text.strip())
    try:
        if found:
            return int(found[1]), parse_duration(found[2] if found[2][0].isdigit() else f"1{found[2]}")
    except ValueError:
        pass
    raise click.BadParameter(f"{text!r} is not calls in a time, such as 100/1h.", param_hint="CALLS/TIME")
