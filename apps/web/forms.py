"""Forms made from schemas: a run's inputs with uploads, and an approval's editable arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.http import HttpRequest

from apps.web.core.fields import MISSING, Field, draw, draw_one, read, read_one, widget_of
from apps.workspaces import selectors, services
from apps.workspaces.access import Principal
from apps.workspaces.errors import FileTooLarge
from apps.workspaces.files import MAX_BYTES
from mirrorneuron.base.errors import MirrorNeuronError, NotFound

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Submission:
    """What a form sent: values as a blueprint wants them, and errors by path, in words."""

    values: dict[str, Any]
    errors: dict[str, str] = field(default_factory=dict)
    kept: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """Files stored so far, by path, so that a second try need not upload them again."""


def read_inputs(request: HttpRequest, principal: Principal, schema: Schema) -> Submission:
    """Read the run form: uploads are stored first, so that they survive an error elsewhere in the form."""
    sent = {key: request.POST.getlist(key) for key in request.POST}
    kept: dict[str, list[dict[str, Any]]] = {}
    wrong: dict[str, str] = {}
    for name, part in (schema.get("properties") or {}).items():
        widget = widget_of(part or {})
        if widget not in ("file", "files"):
            continue
        try:
            stored = _stored(request, principal, name, widget)
        except MirrorNeuronError as error:
            wrong[name] = str(error)
            continue
        kept[name] = stored
        sent[f"in.{name}"] = [file["id"] for file in stored]
    values, errors = read(schema, lambda key: sent.get(key, []))
    return Submission(values, {**errors, **wrong}, kept)


def _stored(request: HttpRequest, principal: Principal, name: str, widget: str) -> list[dict[str, Any]]:
    uploads = [
        upload
        for key in (f"in.{name}", f"in.{name}.folder")
        for upload in request.FILES.getlist(key)
        # A folder brings what the system keeps in it for itself.
        if upload.name and not upload.name.startswith(".") and upload.name not in ("Thumbs.db", "desktop.ini")
    ]
    if uploads:
        for upload in uploads:
            if (upload.size or 0) > MAX_BYTES:  # before it is read into memory
                raise FileTooLarge(
                    f"{upload.name!r} is too large; one file may have {MAX_BYTES // 1024**2} MB.",
                    next="Split the file or leave it out.",
                )
        found = [
            services.store_file(principal, upload.name or name, upload.read(), upload.content_type or None)
            for upload in uploads
        ]
    else:
        found = []
        for file_id in request.POST.getlist(f"in.{name}.kept"):
            try:
                found.append(selectors.file_for(principal, file_id))
            except NotFound:
                continue
    values = [file.as_value() for file in found]
    return values[:1] if widget == "file" else values


def input_fields(schema: Schema, submission: Submission | None = None) -> tuple[Field, ...]:
    """The run form, empty or as it was sent."""
    given = submission or Submission({})
    drawn = draw(schema, given.values, given.errors)
    return tuple(replace(one, kept=tuple(given.kept.get(one.name, ()))) for one in drawn)


def argument_fields(
    arguments: list[dict[str, Any]], submission: Submission | None = None
) -> tuple[Field, ...]:
    """The fields of an approval card; `arguments` as `approvals.selectors.card()["fields"]` gives them."""
    given = submission or Submission({})
    drawn = []
    for one in arguments:
        value = given.values.get(one["name"], one["value"] if one["present"] else MISSING)
        # What the person typed decides nothing about the kind of field, the proposal does.
        schema = one["schema"] | {"title": one["schema"].get("title", "")}
        if "format" not in schema and widget_of(one["schema"], one["value"]) == "textarea":
            schema["format"] = "multiline"
        drawn.append(draw_one(one["name"], schema, value, given.errors, one["required"], one["labels"]))
    return tuple(drawn)


def read_edits(request: HttpRequest, arguments: list[dict[str, Any]]) -> Submission:
    """What a person changed, as a merge patch over the arguments: an emptied optional field becomes null."""
    edits: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for one in arguments:
        name, now = one["name"], one["value"]
        if f"in.{name}" not in request.POST and f"in.{name}.shown" not in request.POST:
            continue
        try:
            found = read_one(name, one["schema"], request.POST.getlist, errors, now)
        except ValueError as wrong:
            errors[name] = str(wrong)
            edits[name] = request.POST.get(f"in.{name}", "")
            continue
        if found is MISSING:
            if isinstance(now, str):
                found = ""
            elif not one["present"] or now is None:
                continue
            else:
                found = None
        if found != now or isinstance(found, bool) is not isinstance(now, bool):
            edits[name] = found
    return Submission(edits, errors)
