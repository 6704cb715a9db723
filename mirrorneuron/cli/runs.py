"""`mn runs`: look at runs, pause, resume or cancel them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from apps.blueprints.core.durations import parse_duration
from apps.ledger.payloads import Extent
from apps.runs import retention, selectors, services
from apps.runs.core.states import RunStatus
from apps.runs.views import effect_view, event_view, run_view
from mirrorneuron.base.clock import now
from mirrorneuron.cli import dead_letters, recovery
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Group, as_json, emit, table
from mirrorneuron.cli.timeline import end_of, explanation, line_of
from mirrorneuron.cli.waiting import code_of, go_on, wait_for


@click.group(cls=Group)
def runs() -> None:
    """Look at runs, pause, resume or cancel them; retry and skip steps, fork."""


for command in (
    recovery.retry,
    recovery.skip,
    recovery.fork,
    dead_letters.dead_letters,
    dead_letters.redrive,
):
    runs.add_command(command)


@runs.command("list")
@click.option("--status", type=click.Choice([s.value for s in RunStatus]))
@click.option("--blueprint", metavar="NAME")
@click.option("--label", metavar="KEY[=VALUE]")
@click.option("--since", metavar="WHEN", help="A duration such as 2h or 7d, or an ISO time.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000))
def list_(
    status: str | None, blueprint: str | None, label: str | None, since: str | None, limit: int
) -> None:
    """List runs, newest first."""
    found = selectors.runs_for(acting(), status=status, blueprint=blueprint, label=label, since=_since(since))
    shown = selectors.with_waiting(found[:limit])
    views = [run_view(run, extent=Extent.LISTED) for run in shown]
    emit({"items": views}, lambda: table([_row(v) for v in views], _HEAD, "No runs."))


_HEAD = ("id", "blueprint", "status", "waits for", "cost", "started")


def _row(view: dict[str, Any]) -> list[Any]:
    waits = ", ".join(f"{w['step']} ({w['reason']})" for w in view["waiting_for"])
    cost = "unknown" if view["cost_unknown"] else f"${view['cost_usd']}"
    number = view["version"]
    name = f"{view['blueprint']}@{number}" if number else view["blueprint"]
    return [view["id"], name, view["status"], waits, cost, (view["started_at"] or "")[:19]]


@runs.command()
@click.argument("id")
def show(id: str) -> None:
    """Show one run: its state, its steps and its effects."""
    run = selectors.run_for(acting(), id)
    view = run_view(run)
    steps = selectors.steps_of(run, extent=Extent.LISTED)
    effects = [effect_view(e, extent=Extent.LISTED) for e in selectors.run_effects(run)]

    def text() -> str:
        parts = [table([_row(view)], _HEAD, "")]
        rows = [
            [s["path"], s["kind"], s["status"], s["reason"], s["attempt"] or "", s["cost_usd"]] for s in steps
        ]
        parts.append(table(rows, ("step", "kind", "status", "reason", "attempt", "cost"), "No steps."))
        touched = [
            [e["tool"], e["state"], e["step"], ", ".join(e["approved_by"] or []), e["id"]] for e in effects
        ]
        parts.append(table(touched, ("effect", "state", "step", "approved by", "id"), "No effects."))
        return "\n\n".join(parts)

    emit({**view, "steps": steps, "effects": effects}, text)


@runs.command()
@click.argument("id")
@click.option(
    "--after", default=0, metavar="SEQ", type=click.IntRange(0), help="Only what follows this number."
)
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1, 100_000))
@click.option("--follow", is_flag=True, help="Go on until the run has ended or needs a person.")
def events(id: str, after: int, limit: int, follow: bool) -> None:
    """Print the timeline of a run."""
    run = selectors.run_for(acting(), id)
    if follow and not as_json():
        ended = wait_for(run, lambda entry: click.echo(line_of(entry)) if entry.seq > after else None)
        raise click.exceptions.Exit(code_of(ended))
    entries = selectors.events_after(run, after, limit)
    emit({"items": [event_view(e) for e in entries]}, lambda: "\n".join(line_of(e) for e in entries))


@runs.command()
@click.argument("id")
def wait(id: str) -> None:
    """Wait until a run has ended or needs a person (exit code 3); works it here if nobody else does."""
    ended = wait_for(selectors.run_for(acting(), id))
    emit(run_view(ended), lambda: end_of(ended))
    raise click.exceptions.Exit(code_of(ended))


@runs.command()
@click.argument("id")
def explain(id: str) -> None:
    """Say why a run is where it is and what is next."""
    explained = selectors.explain(selectors.run_for(acting(), id))
    emit(explained, lambda: explanation(explained))


@runs.command()
@click.argument("id")
@click.option("--reason", default="", help="Why; kept in the ledger and the audit.")
@click.option("--preview", is_flag=True, help="Say what would happen and change nothing.")
def cancel(id: str, reason: str, preview: bool) -> None:
    """Cancel a run; effects in flight settle and are recorded first."""
    _act("cancelled", services.cancel_run(acting(), id, reason=reason, preview=preview), preview)


@runs.command()
@click.argument("id")
@click.option("--reason", default="")
@click.option("--preview", is_flag=True, help="Say what would happen and change nothing.")
def pause(id: str, reason: str, preview: bool) -> None:
    """Pause a run: nothing new starts until it is resumed, also after a restart."""
    _act("paused", services.pause_run(acting(), id, reason=reason, preview=preview), preview)


@runs.command()
@click.argument("id")
@click.option("--preview", is_flag=True, help="Say what would happen and change nothing.")
def resume(id: str, preview: bool) -> None:
    """Let a paused run go on."""
    _act("resumed", services.resume_run(acting(), id, preview=preview), preview)
    if not preview:
        go_on(id)


@runs.command()
@click.argument("ids", nargs=-1, metavar="[RUN]...")
@click.option("--older-than", metavar="TIME", help="All runs that ended that long ago, such as 90d.")
@click.option("--delete", is_flag=True, help="Remove each run once its file was checked.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Instead of the archive.")
@click.option("--preview", is_flag=True, help="Say which runs that would be and change nothing.")
def archive(
    ids: tuple[str, ...], older_than: str | None, delete: bool, folder: Path | None, preview: bool
) -> None:
    """Write ended runs to files of JSON Lines that `mn runs restore` brings back."""
    who = acting()
    if bool(ids) == bool(older_than):
        raise click.UsageError("Name runs, or say --older-than.")
    if older_than:
        try:
            days = parse_duration(older_than) / 86400
        except ValueError as exc:
            raise click.BadParameter(str(exc), param_hint="--older-than")
        old = retention.ended_before(days).filter(workspace=who.workspace)
        wanted = retention.removable(old, 1_000_000)
    else:
        wanted = [selectors.run_for(who, id).id for id in ids]
    if preview:
        emit({"runs": [str(id) for id in wanted]}, lambda: "\n".join(map(str, wanted)) or "No runs.")
        return
    done = retention.archive_runs(who, wanted, folder=folder, delete=delete)
    written = [{"run": str(one.run_id), "file": str(one.path), "rows": one.rows} for one in done]
    word = "archived and removed" if delete else "archived"
    lines = [*(str(one.path) for one in done), f"{len(done)} runs {word}."]
    emit({"items": written, "deleted": delete}, "\n".join(lines))


@runs.command()
@click.argument("file_or_run")
def restore(file_or_run: str) -> None:
    """Bring an archived run back, from its file or by its id."""
    run = retention.bring_back(acting(), file_or_run)
    emit(run_view(run), f"Run {run.id} of {run.blueprint_name} is back.")


def _act(done: str, consequences: dict[str, Any], preview: bool) -> None:
    def text() -> str:
        head = f"Run {consequences['run']} {'would be' if preview else 'is'} {done}."
        said = {
            "finish_first": "finish first",
            "stop": "stopped" if done == "cancelled" else "held",
            "in_doubt": "to be settled first",
            "kept": "kept",
        }
        lines = [
            f"  {words}: {', '.join(consequences[key])}"
            for key, words in said.items()
            if consequences.get(key)
        ]
        back = [f"{one['step']} by {one['tool']}" for one in consequences.get("compensations", ())]
        if back and done == "cancelled":
            lines.append(f"  taken back: {', '.join(back)}")
        return "\n".join([head, *lines])

    emit(consequences, text)


def _since(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return now() - timedelta(seconds=parse_duration(text))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a duration such as 2h nor an ISO time.", param_hint="--since"
        )
    return at if at.tzinfo else at.astimezone()
