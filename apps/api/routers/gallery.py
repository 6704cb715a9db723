"""The shipped blueprints, and installing one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Router
from ninja.responses import Status

from apps.api.doors import principal, reads, writes
from apps.api.paging import Page, listed
from apps.api.routers.blueprints import _version
from apps.api.shapes import GalleryItem, Version
from apps.blueprints import models, selectors, services
from apps.blueprints.core.manifest import manifest
from apps.workspaces.core.roles import Permission

router = Router(by_alias=True)


@router.get("", response=reads(Page[GalleryItem]), summary="List the gallery")
def list_gallery(request: HttpRequest) -> Any:
    principal(request).require(Permission.READ)
    return listed([_item(item) for item in selectors.gallery()])


@router.get("/{name}", response=reads(GalleryItem), summary="Read one item")
def get_item(request: HttpRequest, name: str) -> Any:
    principal(request).require(Permission.READ)
    return _item(selectors.gallery_item(name))


@router.post("/{name}/install", response=writes(Version, 201), summary="Install a copy into the workspace")
def install(request: HttpRequest, name: str) -> Any:
    """Repeating it gives the version that is there."""
    return Status(201, _version(services.install(principal(request), name)))


def _item(item: models.GalleryItem) -> dict[str, Any]:
    document = selectors.document_of(item)
    shown: Any = manifest(document, selectors.tools_of(document))
    return {
        "name": item.name,
        "title": item.title,
        "class": item.workflow_class,
        "summary": item.summary,
        "tags": item.tags,
        "content_hash": item.content_hash,
        "readme": item.readme,
        "samples": item.samples,
        "manifest": asdict(shown),
    }
