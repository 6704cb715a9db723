"""The sample inputs a gallery blueprint ships with, stored as this workspace's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings

from apps.blueprints.core.document import Document
from apps.blueprints.models import GalleryItem
from apps.web.core.fields import widget_of
from apps.workspaces import services
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import NotFound


def sample_inputs(principal: Principal, item: GalleryItem, document: Document) -> dict[str, Any]:
    """The inputs of a demo run: values as shipped, file paths replaced by the ids of stored files.

    A path may name a folder, which means every file in it. Storing the same bytes again gives the same id,
    so that a hundred demo runs keep one copy.
    Raises NotFound when a shipped file is gone from the disk.
    """
    base = (Path(settings.GALLERY_DIR) / item.name / "inputs").resolve()
    properties = document.contract.inputs.get("properties") or {}
    inputs: dict[str, Any] = {}
    for name, value in item.samples.items():
        widget = widget_of(properties.get(name) or {})
        if widget not in ("file", "files"):
            inputs[name] = value
            continue
        named = value if isinstance(value, list) else [value]
        paths = [path for part in named for path in _files(base, str(part))]
        ids = [str(services.store_file(principal, p.name, p.read_bytes()).id) for p in paths]
        inputs[name] = ids[0] if widget == "file" else ids
    return inputs


def _files(base: Path, name: str) -> list[Path]:
    path = (base / name).resolve()
    if not path.is_relative_to(base) or not path.exists():
        raise NotFound(
            f"The sample input {name!r} of this blueprint is not on the disk.",
            next="Install the product again, or run the blueprint on your own documents.",
        )
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    return [path]
