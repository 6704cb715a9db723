"""`mn effects`: what touched the world, and what a person must say about it."""

from __future__ import annotations

import click

from apps.ledger.core.states import EffectState
from apps.runs import selectors, services
from apps.runs.views import effect_view
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Group, emit, table
from mirrorneuron.cli.waiting import go_on


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
    items = [effect_view(e) for e in selectors.effects_for(principal, state=state, run=run)[:limit]]
    head = ("id", "tool", "state", "step", "run", "sent", "sends")
    rows = [
        [e["id"], e["tool"], e["state"], e["step"], e["run"], (e["sent_at"] or "")[:19], e["attempts"]]
        for e in items
    ]
    emit({"items": items}, lambda: table(rows, head, "No effects."))


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
    emit(effect_view(effect), f"Effect {effect.id} ({effect.tool}) is {effect.state}.")
    go_on(effect.run_id)
