"""`mn runs dead-letters` and `redrive`: what failed, counted, and many sent on their way again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from apps.blueprints.core.durations import parse_duration
from apps.runs import dead_letters as letters
from mirrorneuron.base.clock import now
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import FAILED, Command, emit, say, table

_code = click.option("--code", metavar="CODE", help="Only this error.")
_blueprint = click.option("--blueprint", metavar="NAME")
_since = click.option("--since", default="30d", show_default=True, metavar="TIME", help="Such as 2h or 7d.")


@click.command("dead-letters", cls=Command)
@_code
@_blueprint
@_since
def dead_letters(code: str | None, blueprint: str | None, since: str) -> None:
    """Count failed runs by error and blueprint."""
    found = letters.dead_letters(acting(), code=code, blueprint=blueprint, since=_ago(since))
    rows = [[x["count"], x["code"], x["blueprint"], (x["last_at"] or "")[:19], x["run"]] for x in found]
    head = ("runs", "error", "blueprint", "last", "latest run")
    emit({"items": found}, lambda: table(rows, head, "No failed runs."))


@click.command(cls=Command)
@_code
@_blueprint
@_since
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, letters.MOST_AT_ONCE))
@click.option("--reason", default="", help="Why; needed, and kept in the ledger and the audit.")
@click.option("--preview", is_flag=True, help="Say what would happen and change nothing.")
def redrive(
    code: str | None, blueprint: str | None, since: str, limit: int, reason: str, preview: bool
) -> None:
    """Retry many failed runs, the oldest first; workers go on with them."""
    said = letters.redrive(
        acting(), code=code, blueprint=blueprint, since=_ago(since), limit=limit, reason=reason,
        preview=preview,
    )  # fmt: skip
    emit(said, lambda: _text(said, preview))
    if said["stopped"]:
        say(said["stopped"])
        raise click.exceptions.Exit(FAILED)


def _text(said: dict[str, Any], preview: bool) -> str:
    count = len(said["redriven"])
    verb = "would be retried" if preview else "is retried" if count == 1 else "are retried"
    lines = [f"{count} run{'s' if count != 1 else ''} {verb}. Failed runs left: {said['left']}."]
    lines += [f"  not {x['run']}: {x['message']}" for x in said["refused"]]
    return "\n".join(lines)


def _ago(text: str) -> Any:
    try:
        return now() - timedelta(seconds=parse_duration(text))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a duration such as 2h or 7d.", param_hint="--since")
