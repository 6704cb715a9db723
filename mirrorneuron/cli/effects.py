"""`mn effects`: what touched the world, and what a person must say about it."""

from __future__ import annotations

import json
import textwrap
from typing import Any

import click

from apps.ledger.core.states import EffectState
from apps.ledger.payloads import Extent
from apps.runs import selectors, services
from apps.runs.views import effect_view
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Group, emit, table
from mirrorneuron.cli.waiting import go_on

_NOTED = {
    "happened": "noted; it counts as committed and the run goes on",
    "did_not_happen": "noted; the call is made again under a new key",
    "abandon": "noted; it is given up and its step fails",
}


@click.group(cls=Group)
def effects() -> None:
    """Look at what touched the world; settle what is in doubt."""


@effects.command("list")
@click.option(
    "--state", type=click.Choice([s.value for s in EffectState]), help="in_doubt is the operator's list."
)
@click.option("--run", "run_id", metavar="ID", help="Only of this run.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 10_000))
def list_(state: str | None, run_id: str | None, limit: int) -> None:
    """List effects, newest first."""
    principal = acting()
    run = selectors.run_for(principal, run_id) if run_id else None
    items = [
        effect_view(e, extent=Extent.LISTED)
        for e in selectors.effects_for(principal, state=state, run=run)[:limit]
    ]
    head = ("id", "tool", "state", "step", "run", "sent", "sends")
    rows = [
        [e["id"], e["tool"], e["state"], e["step"], e["run"], (e["sent_at"] or "")[:19], e["attempts"]]
        for e in items
    ]
    emit({"items": items}, lambda: table(rows, head, "No effects."))


@effects.command()
@click.argument("id")
def show(id: str) -> None:
    """Show one effect: its exact arguments, its key, what is known about it, and what to do."""
    effect = effect_view(selectors.effect_for(acting(), id))
    emit(effect, lambda: _text(effect))


def _text(effect: dict[str, Any]) -> str:
    lines = [
        f"{effect['tool']}: {effect['state']} ({effect['class']})",
        f"run {effect['run']}, step {effect['step']}",
        f"key {effect['key']}",
        f"sent {effect['attempts']} times, the last {effect['sent_at']}"
        if effect["sent_at"]
        else "never sent",
    ]
    if effect["approved_by"]:
        lines.append(f"approved by {effect['approved_by']}")
    for name in ("arguments", "result", "error", "resolution"):
        if effect[name]:
            lines += ["", f"{name}:", _indented(effect[name])]
    if effect["evidence"]:
        lines += ["", "evidence:"]
        lines += [f"  {e['at']} {e['source']}: {json.dumps(e['body'])}" for e in effect["evidence"]]
    return "\n".join([*lines, "", _advice(effect)])


def _advice(effect: dict[str, Any]) -> str:
    match effect["state"]:
        case EffectState.IN_DOUBT:
            return (
                "Nobody knows yet whether it happened. Look on the other side, by the key if it keeps one; "
                f"then: mn effects resolve {effect['id']} --reason TEXT "
                "--outcome happened|did_not_happen|abandon"
            )
        case EffectState.COMMITTED:
            return "It happened. There is nothing to do."
        case EffectState.FAILED:
            return (
                f"It did not happen, or was given up; mn runs explain {effect['run']} says what comes next."
            )
    return f"It is on its way; mn runs explain {effect['run']} says what comes next."


def _indented(value: Any) -> str:
    return textwrap.indent(json.dumps(value, indent=2, ensure_ascii=False), "  ")


@effects.command()
@click.argument("id")
@click.option(
    "--outcome",
    required=True,
    type=click.Choice(["happened", "did_not_happen", "abandon"]),
    help="What became of it: it may be sent again only after did_not_happen.",
)
@click.option("--reason", required=True, metavar="TEXT", help="How you know.")
@click.option(
    "--reference", default="", metavar="TEXT", help="The other side's number, a message id, a link."
)
def resolve(id: str, outcome: str, reason: str, reference: str) -> None:
    """Say what became of an effect in doubt; its step goes on from there."""
    effect = services.resolve_effect(acting(), id, outcome=outcome, reason=reason, reference=reference)
    emit(effect_view(effect), f"Effect {effect.id} ({effect.tool}): {_NOTED[outcome]}.")
    go_on(effect.run_id)
