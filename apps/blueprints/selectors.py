"""Reads of blueprints, versions and the gallery, each for one principal."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from django.db.models import Max, QuerySet

from apps.blueprints.core.document import Document
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.suggest import nearest
from apps.blueprints.core.tools import ToolSpec, declared_tools
from apps.blueprints.errors import BlueprintNotFound, VersionNotFound
from apps.blueprints.models import Blueprint, GalleryItem, Version
from apps.blueprints.ports import builtin_tools
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission

_KEPT = 256
_documents: OrderedDict[Any, Document] = OrderedDict()
_lock = threading.Lock()


def blueprints_for(principal: Principal, *, archived: bool = False) -> QuerySet[Blueprint]:
    """The workspace's blueprints by name, each with `latest_number` (None when nothing is published)."""
    principal.require(Permission.READ)
    return (
        Blueprint.objects.filter(workspace=principal.workspace, archived_at__isnull=not archived)
        .annotate(latest_number=Max("versions__number"))
        .order_by("name")
    )


def blueprint_for(principal: Principal, name: str) -> Blueprint:
    """One blueprint, archived or not. Raises BlueprintNotFound, naming the nearest there is."""
    principal.require(Permission.READ)
    found = Blueprint.objects.filter(workspace=principal.workspace, name=name).first()
    if found is None:
        names = Blueprint.objects.filter(workspace=principal.workspace).values_list("name", flat=True)
        raise _not_found(name, [*names, *GalleryItem.objects.values_list("name", flat=True)])
    return found


def versions_for(principal: Principal, name: str) -> QuerySet[Version]:
    """All versions of a blueprint, the newest first; unpublished ones have no number. Not those of tests."""
    return Version.objects.filter(blueprint=blueprint_for(principal, name), is_trial=False).order_by(
        "-created_at", "-id"
    )


def version_for(principal: Principal, name: str, number: int | None = None) -> Version:
    """A published version; the latest when no number is given.

    Raises BlueprintNotFound or VersionNotFound, which says what there is.
    """
    blueprint = blueprint_for(principal, name)
    published = Version.objects.filter(blueprint=blueprint, number__isnull=False).select_related("blueprint")
    if number is None:
        found = published.order_by("-number").first()
    else:
        found = published.filter(number=number).first()
    if found is not None:
        return found
    latest = published.aggregate(latest=Max("number"))["latest"]
    if latest is None:
        raise VersionNotFound(
            f'Blueprint "{name}" has no published version.',
            next=f"Publish its draft in the editor, or with: mn blueprint publish {name}.",
        )
    raise VersionNotFound(
        f'Blueprint "{name}" has no version {number}; the latest is {latest}.', next=f"Use {name}@{latest}."
    )


def gallery() -> QuerySet[GalleryItem]:
    return GalleryItem.objects.order_by("position", "name")


def gallery_item(name: str) -> GalleryItem:
    """Raises BlueprintNotFound, naming the nearest there is."""
    found = GalleryItem.objects.filter(name=name).first()
    if found is None:
        raise _not_found(name, list(GalleryItem.objects.values_list("name", flat=True)), "the gallery")
    return found


def document_of(version: Version | GalleryItem) -> Document:
    """The blueprint as an object, kept for the life of the process: a version never changes."""
    key = (
        version.pk
        if isinstance(version, Version)
        else (version.name, version.content_hash, version.synced_at)
    )
    with _lock:
        found = _documents.get(key)
        if found is not None:
            _documents.move_to_end(key)
            return found
    document = Document.model_validate(version.document)
    with _lock:
        _documents[key] = document
        while len(_documents) > _KEPT:
            _documents.popitem(last=False)
    return document


def tools_of(document: Document) -> dict[str, ToolSpec]:
    """Every tool this blueprint may name: built-in ones, and those it declares itself."""
    return {**declared_tools(document), **builtin_tools()}


def problems_of(version: Version | GalleryItem) -> list[Problem]:
    """What is still to be said about a stored blueprint: warnings, and what publishing would ask for."""
    # A worker never asks; YAML and the rules are half of what there is to load of this room.
    from apps.blueprints.core.parse import parse
    from apps.blueprints.core.validate import validate

    return validate(parse(version.source), builtin_tools()).problems


def _not_found(
    name: str, known: list[str], where: str = "this workspace and the gallery"
) -> BlueprintNotFound:
    near = nearest(name, known)
    return BlueprintNotFound(
        f'There is no blueprint "{name}" in {where}.',
        next=f'Did you mean "{near}"?'
        if near
        else "See `mn blueprint --help`, or the gallery, for what there is.",
    )
