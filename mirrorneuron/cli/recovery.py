"""`mn runs retry`, `skip` and `fork`: let a run go another way, after seeing what that means."""

from __future__ import annotations

import json
from typing import Any

import click

from apps.blueprints.selectors import document_of
from apps.runs import forks, recovery, selectors
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Command, emit, read_text
from mirrorneuron.cli.inputs import gather
from mirrorneuron.cli.waiting import go_on

_reason = click.option("--reason", default="", help="Why; needed, and kept in the ledger and the audit.")
_preview = click.option("--preview", is_flag=True, help="Say what would happen and change nothing.")


@click.command(cls=Command)
@click.argument("id")
@click.argument("step")
@_reason
@_preview
def retry(id: str, step: str, reason: str, preview: bool) -> None:
    """Try a failed step again; its run goes on if it failed for it."""
    _tell(recovery.retry_step(acting(), id, step, reason=reason, preview=preview), preview)
    if not preview:
        go_on(id)


@click.command(cls=Command)
@click.argument("id")
@click.argument("step")
@click.option("--value", metavar="JSON", help="The step's output; what is not JSON is a text.")
@click.option("--value-file", metavar="FILE", help="The step's output as a JSON file; - for standard input.")
@click.option("--port", default="", help="The way out; the node's main one unless given.")
@click.option("--abandon", is_flag=True, help="Give up an effect of which nobody knows whether it happened.")
@_reason
@_preview
def skip(
    id: str,
    step: str,
    value: str | None,
    value_file: str | None,
    port: str,
    abandon: bool,
    reason: str,
    preview: bool,
) -> None:
    """Skip a failed, doubtful, waiting or blocked step, with a value as its output."""
    if value is not None and value_file is not None:
        raise click.UsageError("Give --value or --value-file, not both.")
    given = _read("--value-file", value_file) if value_file is not None else _json_or_text(value)
    said = recovery.skip_step(
        acting(), id, step, value=given, port=port, abandon=abandon, reason=reason, preview=preview
    )
    _tell(said, preview)
    if not preview:
        go_on(id)


@click.command(cls=Command)
@click.argument("id")
@click.option("--from", "from_step", default="", metavar="STEP", help="Do this and all that follows again.")
@click.option("--redo", multiple=True, metavar="STEP", help="One more step to do again.")
@click.option("--edit", multiple=True, metavar="STEP=JSON", help="Give a step another output.")
@click.option("--edit-file", multiple=True, metavar="STEP=FILE", help="The same from a JSON file.")
@click.option("--version", "number", type=click.IntRange(1), help="Go on with another version.")
@click.option("-i", "--input", "pairs", multiple=True, metavar="KEY=VALUE", help="Another value of an input.")
@click.option("--inputs", "inputs_file", metavar="FILE", help="Other inputs as a JSON file.")
@click.option("--key", metavar="IDEMPOTENCY_KEY", help="The same key gives the same fork.")
@_reason
@_preview
def fork(
    id: str,
    from_step: str,
    redo: tuple[str, ...],
    edit: tuple[str, ...],
    edit_file: tuple[str, ...],
    number: int | None,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    key: str | None,
    reason: str,
    preview: bool,
) -> None:
    """Start a run that takes over what holds of this one. Nothing is done to the world again unasked."""
    principal = acting()
    run = selectors.run_for(principal, id)
    inputs = None
    if pairs or inputs_file:
        schema = document_of(run.version).contract.inputs
        inputs = {**run.inputs, **gather(principal, schema, pairs, inputs_file)}
    edits = {path: _json_or_text(text) for path, text in map(_named, edit)}
    edits |= {path: _read("--edit-file", file) for path, file in map(_named, edit_file)}
    said = forks.fork_run(
        principal,
        run.id,
        from_step=from_step,
        redo=redo,
        edit=edits,
        version=number,
        inputs=inputs,
        reason=reason,
        preview=preview,
        idempotency_key=key,
    )
    _tell(said, preview)
    if not preview:
        go_on(said["fork"])


def _named(pair: str) -> tuple[str, str]:
    path, equals, rest = pair.partition("=")
    if not equals or not path:
        raise click.UsageError(f"{pair!r} is not STEP=VALUE.")
    return path, rest


def _json_or_text(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read(option: str, file: str) -> Any:
    text = read_text(option, file)
    try:
        return json.loads(text)
    except ValueError as exc:
        raise click.UsageError(f"{option} {file} is not JSON: {exc}.") from exc


def _tell(said: dict[str, Any], preview: bool) -> None:
    emit(said, lambda: "\n".join(consequences(said, preview)))


LINES = (
    ("tried_again", "tried again"),
    ("restored", "restored"),
    ("edited", "kept with another output"),
    ("redone", "done again"),
    ("starts", "start now"),
    ("left_out", "left out"),
    ("changed", "kept although their node has changed"),
    ("kept", "kept"),
    ("questions_closed", "questions closed"),
    ("questions_reopened", "asked about again"),
)
EFFECTS = (
    ("effects_kept", "happened already, not sent again"),
    ("effects_inherited", "inherited as results, not sent again"),
    ("effects_repeat", "a person is asked before it happens again"),
    ("effects_asked_again", "a person is asked again"),
    ("effects_abandoned", "given up"),
)


def consequences(said: dict[str, Any], preview: bool) -> list[str]:
    """What an act does or would do, line by line."""
    would = "would be" if preview else "is"
    if said["action"] == "fork":
        lines = [f"Run {said['run']} {would} forked{'' if preview else ' as ' + said['fork']}."]
    else:
        done = {"retry": "tried again", "skip": "skipped"}[said["action"]]
        lines = [f"Step {said['step']} of run {said['run']} {would} {done}."]
    lines += [f"  {words}: {', '.join(said[name])}" for name, words in LINES if said.get(name)]
    for name, words in EFFECTS:
        lines += [f"  {effect['tool']} in {effect['step']}: {words}" for effect in said.get(name, ())]
    if said.get("cost_unknown") or said.get("cost_usd", "0") != "0":
        least = "at least " if said.get("cost_unknown") else ""
        lines.append(f"  cost: {least}${said['cost_usd']} last time")
    return lines
