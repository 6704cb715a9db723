"""The one form of a blueprint: what it means, without how it was written or drawn."""

from __future__ import annotations

from typing import Any

from apps.blueprints.core.document import Document
from apps.blueprints.core.kinds import main_port
from mirrorneuron.base.safejson import fingerprint, storable


def dump(document: Document) -> dict[str, Any]:
    """Plain values with only what differs from the defaults, ports spelled out, layout and canvas left out.

    Leaving defaults out keeps the hash of old blueprints when the format grows a field.
    """
    values = document.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    values.pop("layout", None)
    values.pop("canvas", None)
    kinds = {node.id: node for node in document.graph.nodes}
    for edge in values.get("graph", {}).get("edges", []):
        source, _, port = edge["from"].partition(".")
        if not port and source in kinds:
            edge["from"] = f"{source}.{main_port(kinds[source])}"
    result: dict[str, Any] = storable(values)
    return {"apiVersion": document.apiVersion, "kind": document.kind, **result}


def stored(document: Document) -> dict[str, Any]:
    """What a version keeps: everything that was written, layout included, in a form databases accept."""
    values: dict[str, Any] = storable(document.model_dump(mode="json", by_alias=True, exclude_unset=True))
    return values


def content_hash(document: Document) -> str:
    """SHA-256 in hex: equal for blueprints that mean the same, whatever their layout, comments, key order."""
    return fingerprint(dump(document))
