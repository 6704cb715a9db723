"""Blueprints and their immutable versions. Documents travel as YAML or JSON text, comments and all."""

from __future__ import annotations

import json
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Router
from ninja.responses import Status
from pydantic import Field

from apps.api.doors import principal, reads, writes
from apps.api.paging import Cursor, Limit, Page, page
from apps.api.shapes import Blueprint, Imported, Validation, Version, VersionHead
from apps.blueprints import models, publishing, selectors, services
from apps.blueprints.core.svg import render_svg
from apps.blueprints.ports import builtin_tools
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput

router = Router(by_alias=True)
DOCUMENT = {
    "requestBody": {
        "description": 'The document as YAML or JSON, or `{"source": "<text>", "notes": "…"}`.',
        "content": {
            "application/yaml": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "object"}},
        },
    }
}
Number = Annotated[int, Field(ge=1)]


@router.get("", response=reads(Page[Blueprint]), summary="List blueprints")
def list_blueprints(request: HttpRequest, cursor: Cursor = "", limit: Limit = 50) -> Any:
    rows: Any = selectors.blueprints_for(principal(request))
    return page(rows, lambda row: _blueprint(row, row.latest_number), cursor=cursor, limit=limit)


@router.post(
    "",
    response=writes(Imported, 201),
    summary="Create or import",
    openapi_extra=DOCUMENT,
)
def create_blueprint(request: HttpRequest, response: HttpResponse) -> Any:
    """Published as the next version. With any error nothing is stored and every problem is in the answer.

    A stand-alone `workflow_contract` becomes an unpublished skeleton; `problems` says what it still lacks.
    """
    text, notes = _document(request)
    version = services.import_blueprint(principal(request), text, notes=notes)
    response["Location"] = f"{request.path}/{version.blueprint.name}"
    return Status(201, _version(version) | {"problems": _problems(text)})


@router.post("/validate", response=reads(Validation), summary="All problems at once", openapi_extra=DOCUMENT)
def validate(request: HttpRequest) -> Any:
    text, _ = _document(request)
    principal(request).require(Permission.READ)
    found = services.check_source(text)
    return {"valid": found.valid, "problems": [p.as_json() for p in found.problems]}


@router.get("/{name}", response=reads(Blueprint), summary="Read one blueprint")
def get_blueprint(request: HttpRequest, name: str) -> Any:
    found = selectors.blueprint_for(principal(request), name)
    numbered = selectors.versions_for(principal(request), name).filter(number__isnull=False)
    return _blueprint(found, numbered.order_by("-number").values_list("number", flat=True).first())


@router.get("/{name}/versions", response=reads(Page[VersionHead]), summary="List published versions")
def list_versions(request: HttpRequest, name: str, cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Newest first."""
    rows = selectors.versions_for(principal(request), name).filter(number__isnull=False)
    rows = rows.select_related("blueprint", "created_by")
    return page(rows, _head, cursor=cursor, limit=limit)


@router.post(
    "/{name}/versions", response=writes(Version, 201), summary="Publish a version", openapi_extra=DOCUMENT
)
def publish(request: HttpRequest, response: HttpResponse, name: str) -> Any:
    """The same content gives the existing version. Without a document the draft is published as it stands."""
    who = principal(request)
    selectors.blueprint_for(who, name)
    text, notes = _document(request, optional=True)
    if text.strip():
        version = services.publish(who, name, text, notes)
    else:
        version = publishing.publish_as_it_stands(who, name, notes=notes)
    response["Location"] = f"{request.path}/{version.number}"
    return Status(201, _version(version))


@router.get("/{name}/versions/{number}", response=reads(Version), summary="Read one version")
def get_version(request: HttpRequest, name: str, number: Number) -> Any:
    return _version(selectors.version_for(principal(request), name, number))


@router.get(
    "/{name}/svg",
    summary="The picture",
    openapi_extra={"responses": {200: {"description": "OK", "content": {"image/svg+xml": {}}}}},
)
def svg(request: HttpRequest, name: str, version: Number | None = None) -> HttpResponse:
    """Self-contained SVG of the latest version, or of the one named."""
    found = selectors.version_for(principal(request), name, version)
    picture = render_svg(selectors.document_of(found), tools=builtin_tools(), standalone=True)
    # The picture carries its own style element; opened by itself it may use that and nothing else.
    policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    return HttpResponse(
        picture, content_type="image/svg+xml; charset=utf-8", headers={"Content-Security-Policy": policy}
    )


def _document(request: HttpRequest, *, optional: bool = False) -> tuple[str, str]:
    """(text, notes) of a body. Raises InvalidInput for one that is empty or not UTF-8."""
    try:
        text = request.body.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(
            "The body is not UTF-8 text.", fields={"body": "UTF-8 text."}, next="Save the file as UTF-8."
        ) from exc
    notes = ""
    if "json" in (request.content_type or "") and text.strip():
        try:
            wrapped = json.loads(text)
        except (ValueError, RecursionError):
            wrapped = None  # The parser of blueprints says where it breaks.
        if isinstance(wrapped, dict) and "apiVersion" not in wrapped and {"source", "notes"} & set(wrapped):
            text, notes = wrapped.get("source") or "", wrapped.get("notes") or ""
            if not isinstance(text, str) or not isinstance(notes, str):
                raise InvalidInput(
                    "`source` and `notes` are texts.",
                    fields={"source": "The document as text."},
                    next="Send the document itself, or its text as `source`.",
                )
    if not text.strip() and not optional:
        raise InvalidInput(
            "The body is empty.",
            fields={"body": "A blueprint as YAML or JSON."},
            next="Send the document as the body.",
        )
    return text, notes


def _blueprint(row: models.Blueprint, latest: int | None) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "name": row.name,
        "title": row.title,
        "class": row.workflow_class,
        "summary": row.summary,
        "latest_version": latest,
        "origin": row.origin,
        "created_at": row.created_at.isoformat(),
        "archived": row.archived_at is not None,
    }


def _head(row: models.Version) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "blueprint": row.blueprint.name,
        "version": row.number,
        "content_hash": row.content_hash,
        "notes": row.notes,
        "created_at": row.created_at.isoformat(),
        "created_by": row.created_by.email if row.created_by else None,
    }


def _version(row: models.Version) -> dict[str, Any]:
    return _head(row) | {"document": row.document, "source": row.source}


def _problems(text: str) -> list[dict[str, Any]]:
    return [p.as_json() for p in services.check_source(text).problems]
