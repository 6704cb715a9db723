"""`mn run`: start a run from a name, a version or a file; wait for it if asked."""

from __future__ import annotations

from pathlib import Path

import click
from django.conf import settings

from apps.blueprints import selectors as blueprints
from apps.blueprints import services as blueprint_services
from apps.blueprints.models import Version
from apps.runs.services import start_run
from apps.runs.views import run_view
from apps.workspaces.access import Principal
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import Command, as_json, emit, read_text, say
from mirrorneuron.cli.inputs import gather
from mirrorneuron.cli.timeline import end_of, line_of
from mirrorneuron.cli.waiting import code_of, wait_for, worker_elsewhere
from mirrorneuron.config import config


@click.command(cls=Command)
@click.argument("what", metavar="FILE_OR_NAME[@VERSION]")
@click.option(
    "-i",
    "--input",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    help="One input; a path where a file is asked.",
)
@click.option(
    "--inputs", "inputs_file", metavar="FILE", help="All inputs as JSON; paths inside are relative to FILE."
)
@click.option("--wait", is_flag=True, help="Wait until it has ended or needs a person (exit code 3).")
@click.option("--follow", is_flag=True, help="Like --wait, and print the timeline as it happens.")
@click.option("--key", metavar="IDEMPOTENCY_KEY", help="The same key and inputs give the same run again.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="A label to find the run by.")
@click.option("--simulate", is_flag=True, help="Everything as usual, but no effect leaves.")
@click.option("--priority", default=5, show_default=True, type=click.IntRange(0, 9), help="0 first, 9 last.")
def run(
    what: str,
    pairs: tuple[str, ...],
    inputs_file: str | None,
    wait: bool,
    follow: bool,
    key: str | None,
    labels: tuple[str, ...],
    simulate: bool,
    priority: int,
) -> None:
    """Start a run of a blueprint, from the gallery on first use, or of a file, stored unpublished."""
    principal = acting()
    version = version_of(principal, what)
    schema = blueprints.document_of(version).contract.inputs
    inputs = gather(principal, schema, pairs, inputs_file)
    started = start_run(
        principal,
        version,
        inputs,
        idempotency_key=key,
        labels=labels_of(labels),
        simulate=simulate,
        priority=priority,
    )
    if not (wait or follow):
        emit(run_view(started), f"Run {started.id} of {started.blueprint_name} has started.")
        if not worker_elsewhere():
            say("No worker is running; `mn up` starts one, or add --wait to work it here.")
        return
    if not as_json():
        click.echo(f"Run {started.id} of {started.blueprint_name}")
    show = follow and not as_json()
    ended = wait_for(started, (lambda entry: click.echo(line_of(entry))) if show else None)
    emit(run_view(ended), lambda: end_of(ended))
    raise click.exceptions.Exit(code_of(ended))


def version_of(principal: Principal, what: str) -> Version:
    """The version a person means: a blueprint file, a name, or name@number."""
    path = Path(what).expanduser()
    if path.is_dir() and (path / "blueprint.yaml").is_file():
        path = path / "blueprint.yaml"
    if path.is_file():
        return blueprint_services.store_unpublished(principal, read_text("", str(path)))
    if "/" in what or path.suffix in (".yaml", ".yml", ".json"):
        raise click.UsageError(f"There is no file {what}.")
    if config().is_sqlite:
        # On a laptop this may be the first command ever, before any `mn up` has looked at the gallery.
        blueprint_services.sync_gallery(settings.GALLERY_DIR)
    return blueprint_services.version_for_run(principal, what)


def labels_of(given: tuple[str, ...]) -> dict[str, str]:
    """Labels as given on the command line, `key=value` each."""
    return dict(_pair(label) for label in given)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"--label {text!r} is not key=value.")
    return key, value
