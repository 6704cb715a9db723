"""The difference between two views of a draft, and how a client applies it.

A patch names whole entries only: a node, edge, group or note as it is now, or null when it is gone. Applied
to the view it starts from it gives the other one; applied twice it changes nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.blueprints.core.editing.view import View

PARTS = ("nodes", "edges", "groups", "notes")
EXTENT = ("x", "y", "width", "height")


def patch_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """{from_version, to_version, nodes: {path: view or None}, edges, groups, notes, x, y, width, height}."""
    return {
        "from_version": before["version"],
        "to_version": after["version"],
        **{part: _changed(before[part], after[part]) for part in PARTS},
        **{key: after[key] for key in EXTENT},
    }


def patched(before: Mapping[str, Any], patch: Mapping[str, Any]) -> View:
    """The view after a patch. Raises ValueError when the patch starts from another version."""
    if before["version"] != patch["from_version"]:
        raise ValueError(
            f"The patch starts from version {patch['from_version']}, the view is of {before['version']}."
        )
    view = {**before, "version": patch["to_version"], **{key: patch[key] for key in EXTENT}}
    for part in PARTS:
        entries = {**before[part], **patch[part]}
        view[part] = {key: entry for key, entry in entries.items() if entry is not None}
    return view


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    gone = {key: None for key in before if key not in after}
    return gone | {key: entry for key, entry in after.items() if before.get(key) != entry}
