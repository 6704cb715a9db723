"""A blueprint with a draft, for tests of what happens to drafts."""

from __future__ import annotations

from typing import Any

from apps.blueprints import services
from apps.blueprints.core.editing.operations import SetSource
from apps.blueprints.core.parse import plain_dump
from apps.blueprints.draft_log import apply_operations
from apps.blueprints.drafts import draft_for
from apps.workspaces.access import Principal
from mirrorneuron.base.ids import uuid7
from tests.blueprints.samples import changed

NAME = "follow_up"


def text(**metadata: Any) -> str:
    return plain_dump(changed(lambda d: d["metadata"].update(metadata)))


def published(principal: Principal) -> str:
    """The sample blueprint in this person's workspace, version 1; returns its name."""
    services.import_blueprint(principal, text())
    return NAME


def draft(principal: Principal, source: str) -> int:
    """Let the draft say this; returns its version."""
    return write(principal, NAME, source)


def write(principal: Principal, name: str, source: str) -> int:
    """Let the draft of any blueprint say this; returns its version."""
    found = draft_for(principal, name)
    whole = SetSource(op_id=uuid7(), kind="set_source", text=source)
    return apply_operations(principal, name, [whole], seen_version=found.version).draft.version
