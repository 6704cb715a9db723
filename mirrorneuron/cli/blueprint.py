"""`mn blueprint` and `mn schema`: check, import, publish, compare, export and draw blueprints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from apps.blueprints import publishing, selectors, services
from apps.blueprints.comparing import Comparison, compare
from apps.blueprints.core.contract_import import is_contract
from apps.blueprints.core.document import NAME_PATTERN
from apps.blueprints.core.parse import parse
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.schema_export import blueprint_schema
from apps.blueprints.core.svg import render_svg
from apps.blueprints.drafts import draft_for
from apps.blueprints.models import Version
from mirrorneuron.cli.actor import acting
from mirrorneuron.cli.frame import (
    FAILED,
    Command,
    Group,
    emit,
    naming,
    problem_line,
    problem_view,
    read_text,
    say,
    table,
)
from mirrorneuron.cli.run import version_of


@click.group(cls=Group)
def blueprint() -> None:
    """Check, import, publish, export and draw blueprints."""


@blueprint.command("list")
@click.option("--gallery", is_flag=True, help="Those that can be installed.")
def list_(gallery: bool) -> None:
    """List blueprints of the workspace, or of the gallery."""
    found = selectors.gallery() if gallery else selectors.blueprints_for(acting())
    items = [
        {"name": b.name, "title": b.title, "class": b.workflow_class, "summary": b.summary} for b in found
    ]
    empty = "The gallery is empty." if gallery else "No blueprints; `mn blueprint list --gallery` shows some."
    emit({"items": items}, lambda: table([[b["name"], b["title"], b["class"]] for b in items], _HEAD, empty))


_HEAD = ("name", "title", "class")


@blueprint.command()
@click.argument("file")
def validate(file: str) -> None:
    """Print every problem of a blueprint, each with its line and what to do; stores nothing."""
    validation = services.check_source(read_text("", file))
    problems = [problem_view(p) for p in validation.problems]
    errors = sum(p["level"] == "error" for p in problems)

    def text() -> str:
        lines = [problem_line(file, p) for p in problems]
        verdict = "valid" if validation.valid else f"{errors} error{'s' if errors != 1 else ''}"
        warnings = len(problems) - errors
        lines.append(f"{file}: {verdict}, {warnings} warning{'s' if warnings != 1 else ''}")
        return "\n".join(lines)

    emit({"valid": validation.valid, "problems": problems}, text)
    if not validation.valid:
        raise click.exceptions.Exit(FAILED)


@blueprint.command("import")
@click.argument("file")
@click.option(
    "--out",
    metavar="FILE",
    help="For a workflow_contract: where to write the skeleton instead of importing it.",
)
def import_(file: str, out: str | None) -> None:
    """Import a blueprint and publish it.

    A stand-alone workflow_contract is stored as a skeleton that is not published yet; what is left to do is
    listed.
    """
    text = read_text("", file)
    if not is_contract(parse(text)):
        if out:
            raise click.UsageError(f"--out is for a stand-alone workflow_contract, and {file} is none.")
        with naming(file):
            version, known = _stored(lambda: services.import_blueprint(acting(), text))
        _published(version, "Imported", known=known)
        return
    if out:
        skeleton, found = services.contract_skeleton(text)
        notes = _listed(file, found)
        if not skeleton:
            raise click.exceptions.Exit(FAILED)
        _write(out, skeleton)
        emit({"written": out, "problems": notes}, f"Wrote the skeleton to {out}.")
        return
    with naming(file):
        version = services.import_blueprint(acting(), text)
    _published(version, "Imported", _listed(file, services.check_source(text, publishing=True).problems))


@blueprint.command()
@click.argument("name")
@click.option("--file", metavar="FILE", help="The new text. [default: the draft as it stands]")
@click.option("--notes", default="", metavar="TEXT", help="What has changed.")
@click.option("--anyway", is_flag=True, help="Publish the draft although its review says otherwise.")
def publish(name: str, file: str | None, notes: str, anyway: bool) -> None:
    """Publish a file, or the draft; the same content gives the version that is there."""
    path = Path(name)
    if file is None and path.is_file():  # `mn blueprint publish FILE`, as people will write it
        file = name
        data = parse(read_text("", file)).data
        name = str((data.get("metadata") or {}).get("name", "")) if isinstance(data, dict) else ""
        name = name or path.stem
    with naming(file or name):
        if file:
            text = read_text("", file)
            version, known = _stored(lambda: services.publish(acting(), name, text, notes=notes))
        else:
            version, known = _stored(
                lambda: publishing.publish_as_it_stands(acting(), name, notes=notes, anyway=anyway)
            )
    _published(version, "Published", known=known)


@blueprint.command()
@click.argument("name", metavar="NAME[@VERSION]")
@click.option("--out", metavar="FILE", help="[default: standard output]")
def export(name: str, out: str | None) -> None:
    """Write a version as YAML, comments and order as they were; NAME@draft is the draft."""
    bare, _, number = name.partition("@")
    if number and number != "draft" and not number.isdigit():
        raise click.UsageError(f"{name!r} is not NAME@VERSION; versions are whole numbers, or draft.")
    if number == "draft":
        text = draft_for(acting(), bare).source
    else:
        text = services.export(acting(), bare, int(number) if number else None)
    if out:
        _write(out, text)
    emit({"name": bare, "source": text, "written": out}, f"Wrote {out}." if out else text.rstrip("\n"))


@blueprint.command("diff")
@click.argument("name")
@click.option(
    "--from",
    "before",
    default="",
    metavar="STATE",
    help="A version's number, draft (shared), private (yours) or gallery. [default: the version before]",
)
@click.option("--to", "after", default="", metavar="STATE", help="The same. [default: draft]")
def diff_(name: str, before: str, after: str) -> None:
    """Say what differs between two states in what they mean; where things stand does not count."""
    found = compare(acting(), name, before, after)
    emit(found.as_json(), lambda: "\n".join(_told(found)))


def _told(found: Comparison) -> list[str]:
    lines = [f"{found.before.label} → {found.after.label}"]
    if not found.difference:
        return [*lines, "Both mean the same."]
    for one in found.difference.permissions:
        lines.append(
            f"{'!' if one.allows_more else ' '} {'no longer: ' * (one.kind == 'removed')}{one.words}"
        )
    for change in found.difference.changes:
        lines.append(f"{_SIGNS[change.kind]} {change.section}: {change.title}")
        for field in change.fields if change.kind == "changed" else ():
            values = " → ".join(_short(v) for v in (field.before, field.after))
            lines.append(f"    {field.path}: {values}")
    return lines


_SIGNS = {"added": "+", "removed": "-", "changed": "~"}


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 100 else text[:99] + "…"


@blueprint.command()
@click.argument("what", metavar="FILE_OR_NAME[@VERSION]")
@click.option("--out", metavar="FILE", help="[default: standard output]")
def svg(what: str, out: str | None) -> None:
    """Draw the graph as a self-contained SVG."""
    path = Path(what)
    if path.is_file():
        validation = services.check_source(read_text("", what))
        document = validation.document
        if document is None:
            for problem in map(problem_view, validation.problems):
                say(problem_line(what, problem))
            raise click.exceptions.Exit(FAILED)
    else:
        document = selectors.document_of(version_of(acting(), what))
    picture = render_svg(document, standalone=True)
    if out:
        _write(out, picture)
    emit({"svg": picture, "written": out}, f"Wrote {out}." if out else picture)


@blueprint.command()
@click.argument("name")
@click.option("--out", metavar="FILE", help="[default: NAME.yaml]")
def new(name: str, out: str | None) -> None:
    """Write a small blueprint to start from: one model step, one approval, one file."""
    if not re.match(NAME_PATTERN, name):
        raise click.UsageError(f"{name!r} is not a name; use a-z, 0-9, _ and -, at most 64.")
    path = Path(out or f"{name}.yaml")
    if path.exists():
        raise click.UsageError(f"{path} exists already; choose another with --out.")
    _write(str(path), STARTER.replace("NAME", name))
    emit(
        {"written": str(path)},
        f"Wrote {path}. Check it with `mn blueprint validate {path}`, run it with `mn run {path}`.",
    )


@click.command(cls=Command)
@click.option("--out", metavar="FILE", help="[default: standard output]")
def schema(out: str | None) -> None:
    """Write the JSON Schema of the blueprint format, for editors."""
    document = blueprint_schema()
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if out:
        _write(out, text + "\n")
        emit({"written": out}, f"Wrote {out}.")
    else:
        emit(document, text)


def _stored(store: Callable[[], Version]) -> tuple[Version, bool]:
    """The version that comes out, and whether it had its number already."""
    principal = acting()
    before = set(
        Version.objects.filter(blueprint__workspace=principal.workspace, number__isnull=False).values_list(
            "pk", flat=True
        )
    )
    version = store()
    return version, version.pk in before


def _published(
    version: Version, done: str, notes: list[dict[str, Any]] | None = None, *, known: bool = False
) -> None:
    name = version.blueprint.name
    if version.number is None:
        text = (
            f"{done} {name} as a skeleton that is not published. Take it with `mn blueprint export {name} "
            f"--out {name}.yaml`, settle what is listed, then `mn blueprint publish {name}.yaml`."
        )
    elif known:
        text = f"{name} is unchanged: it is already version {version.number}."
    else:
        text = f"{done} {name}@{version.number}."
    emit(
        {
            "name": name,
            "version": version.number,
            "id": str(version.id),
            "content_hash": version.content_hash,
            "unchanged": known,
            **({"problems": notes} if notes else {}),
        },
        text,
    )


def _listed(file: str, problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Say every problem beside the result, and give them as the API shows them."""
    views = [problem_view(p) for p in problems]
    for problem in views:
        say(problem_line(file, problem))
    return views


def _write(file: str, text: str) -> None:
    try:
        Path(file).write_text(text)
    except OSError as exc:
        raise click.UsageError(f"{file} cannot be written ({exc.strerror}).") from exc


STARTER = """\
# A small blueprint to start from. Check it with `mn blueprint validate`, run it with
#   mn run NAME.yaml -i topic="our opening hours" -i documents=FOLDER --follow
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata:
  name: NAME
  title: Notes on a topic
  summary: Search the given documents, write notes, and store them once a person has approved.
card:
  purpose: Collect what the given documents say about a topic.
  must_never: [store notes nobody has read]
  business_owner: you
  technical_owner: you
  model_steward: you
  runbook: Read the passages again; if a document is missing, start another run with it.
contract:
  goal: One file with notes on the topic, quoting the given documents only.
  inputs:
    type: object
    required: [topic, documents]
    properties:
      topic: {type: string, title: Topic}
      documents: {format: files, title: Documents}
  boundaries:
    allowed_tools: [search_documents, write_file]
  human_checkpoints:
    - {step: approve_notes, required: true}
models:
  cheap: {use: "offline:extractive"}
agents:
  writer:
    model: cheap
    instructions: Summarise what the passages say about the topic. Quote, do not invent.
    sees: [inputs.topic, steps.search.output]
graph:
  nodes:
    - id: search
      kind: tool
      tool: search_documents
      with: {query: "{{ inputs.topic }}", documents: "{{ inputs.documents }}"}
    - id: notes
      kind: extract
      agent: writer
      prompt: "What do the passages say about {{ inputs.topic }}?"
      output:
        type: object
        required: [summary]
        properties: {summary: {type: string}}
    - id: approve_notes
      kind: approval
      title: Store the notes on {{ inputs.topic }}?
      proposes: store
      with: {name: "notes.md", content: "{{ steps.notes.output.summary }}"}
      show: [search, notes]
    - {id: store, kind: tool, tool: write_file}
  edges:
    - {from: search, to: notes}
    - {from: notes, to: approve_notes}
    - {from: approve_notes.approved, to: store}
    - {from: approve_notes.changes, to: notes, max_rounds: 3}
outputs: {notes: "{{ steps.notes.output.summary }}"}
"""
