"""`mn signal`: tell a run something it waits for."""

from __future__ import annotations

import json
from typing import Any

import click

from apps.runs import selectors, services, signals
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Command, emit, read_text, table
from mirrorneuron.cli.waiting import go_on


@click.command(cls=Command)
@click.argument("run")
@click.argument("name", required=False)
@click.option("--body", metavar="JSON", help="What to tell it; @FILE reads a file, @- standard input.")
@click.option("--key", help="The same key again is the same signal.")
@click.option("--path", default="", metavar="STEP", help="Only the step with this path may take it.")
@click.option("--preview", is_flag=True, help="Say who would take it and change nothing.")
def signal(run: str, name: str | None, body: str | None, key: str | None, path: str, preview: bool) -> None:
    """Deliver a signal to a run; without NAME, say which signals it waits for."""
    who = acting()
    if name is None:
        waits = signals.awaited(selectors.run_for(who, run))
        emit({"items": waits}, lambda: table([_row(w) for w in waits], _HEAD, "It waits for no signal."))
        return
    told = services.deliver_signal(who, run, name, _body(body), key=key, path=path, preview=preview)
    emit(told, lambda: _words(name, told, preview))
    if not preview and told["delivered_to"]:
        go_on(run)


_HEAD = ("step", "signal", "schema", "until")


def _row(waits: dict[str, Any]) -> list[Any]:
    schema = json.dumps(waits["schema"]) if waits["schema"] else ""
    return [waits["step"], waits["signal"], schema, waits["until"]]


def _words(name: str, told: dict[str, Any], preview: bool) -> str:
    if told["duplicate"]:
        return f'Signal "{name}" with this key was delivered before; nothing changed.'
    taker = told["delivered_to"]
    if preview:
        return f'"{taker}" would take it.' if taker else "It would be stored; nobody waits for it yet."
    return f'"{taker}" took it.' if taker else "It is stored; nobody waits for it yet."


def _body(text: str | None) -> Any:
    if text is None:
        return None
    if text.startswith("@"):
        text = read_text("--body", text[1:])
    try:
        return json.loads(text)
    except ValueError as exc:
        raise click.BadParameter(f"{text[:80]!r} is not JSON: {exc}.", param_hint="--body")
