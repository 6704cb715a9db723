"""A blueprint as it lies open in the editor: a draft, or something that can only be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import ValidationError

from apps.blueprints import draft_log, draft_texts, drafts
from apps.blueprints import selectors as blueprints
from apps.blueprints.core.document import Document
from apps.blueprints.core.editing import operations
from apps.blueprints.core.editing.sketch import Sketch, sketch
from apps.blueprints.core.editing.view import view_of
from apps.blueprints.core.parse import parse
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.core.validate import Validation, validate
from apps.blueprints.errors import BlueprintNotFound, DraftConflict
from apps.blueprints.models import Blueprint, Draft, GalleryItem
from apps.blueprints.ports import builtin_tools
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.ids import uuid7

LOOK_BACK = 50
"""Operations of others that are looked through for who changed a field."""


@dataclass
class Opened:
    """What the editor shows. Everything that is read from the text is read once, when it is asked for."""

    principal: Principal
    name: str
    latest: int | None
    """The newest published version."""
    draft: Draft | None
    """None for a blueprint of the gallery, which is read-only."""
    item: GalleryItem | None = None

    @property
    def blueprint(self) -> Blueprint | None:
        return self.draft.blueprint if self.draft is not None else None

    @property
    def private(self) -> bool:
        return self.draft is not None and self.draft.owner_id is not None

    @property
    def draft_id(self) -> str:
        return str(self.draft.id) if self.draft is not None else ""

    @property
    def version(self) -> int:
        """Of the draft: it rises with every operation. 0 where there is no draft."""
        return self.draft.version if self.draft is not None else 0

    @property
    def source(self) -> str:
        if self.draft is not None:
            return self.draft.source
        return self.item.source if self.item is not None else ""

    @property
    def may_edit(self) -> bool:
        blueprint = self.blueprint
        return blueprint is not None and blueprint.archived_at is None and self.principal.may(Permission.EDIT)

    @property
    def why_read_only(self) -> str:
        if self.blueprint is None:
            return "This one ships with the product, so it stays as it is. Fork it to change it."
        if self.blueprint.archived_at is not None:
            return "This blueprint is archived. Restore it to change it."
        return "" if self.may_edit else "You may read this; changing it takes the role of an editor."

    @property
    def next_number(self) -> int:
        return (self.latest or 0) + 1

    @cached_property
    def _read(self) -> tuple[Any, list[Problem]]:
        if self.draft is not None:
            seen = draft_texts.seen(self.draft)
            return seen.source.data, seen.problems
        parsed = parse(self.source)
        return parsed.data, validate(parsed, builtin_tools()).problems

    @property
    def data(self) -> dict[str, Any]:
        """The document as plain values, whatever shape it is in."""
        return self._read[0] if isinstance(self._read[0], dict) else {}

    @property
    def problems(self) -> list[Problem]:
        return self._read[1]

    @cached_property
    def checked(self) -> Validation:
        """The draft as a whole document, where it is one."""
        return validate(self.data, builtin_tools())

    @cached_property
    def plan(self) -> Sketch:
        return draft_texts.seen(self.draft).plan if self.draft is not None else sketch(self.data)

    @property
    def document(self) -> Document:
        """What can be drawn of it: the graph, agents and tools."""
        return self.plan.document

    @cached_property
    def view(self) -> dict[str, Any]:
        """What the canvas shows."""
        if self.draft is not None:
            view = draft_texts.seen(self.draft).view
            return view if self.may_edit else {**view, "mode": "read"}
        return view_of(self.data, problems=self.problems, tools=builtin_tools(), mode="read")

    @cached_property
    def tools(self) -> Mapping[str, ToolSpec]:
        return blueprints.tools_of(self.document)

    @property
    def title(self) -> str:
        metadata = self.data.get("metadata")
        written = metadata.get("title") if isinstance(metadata, dict) else ""
        return written if isinstance(written, str) and written.strip() else self.name

    def last_changed_by(self, node: str, path: list[Any]) -> str:
        """Who else changed a field last, or something around it; "" when the log does not say."""
        if self.draft is None:
            return ""
        for row in drafts.history_of(self.draft, limit=LOOK_BACK):
            if self.principal.user is not None and row.actor_id == self.principal.user.id:
                continue
            told = row.payload if isinstance(row.payload, dict) else {}
            where = told.get("path")
            if "splices" in told or (
                told.get("node", "") == node and isinstance(where, list) and where == path[: len(where)]
            ):
                return drafts.actor_name(row)
        return ""


@dataclass(frozen=True)
class Applied:
    version: int
    patch: dict[str, Any] | None
    """What changed in the view; None when it is to be read again."""


@dataclass(frozen=True)
class Changed:
    """Why an operation was not done: what it was made for is not there any more."""

    theirs: Any
    mine: Any
    message: str = ""


def apply_operation(opened: Opened, operation: dict[str, Any]) -> Applied | Changed:
    """Do one operation on the draft; `opened` then shows what has become of it."""
    return apply_operations(opened, [operation])


def apply_operations(opened: Opened, wanted: list[dict[str, Any]]) -> Applied | Changed:
    """Do some operations, all or none, as one step to undo."""
    assert opened.draft is not None
    before = opened.version
    try:
        batch = [operations.operation({"op_id": uuid7(), **operation}) for operation in wanted]
    except ValidationError as wrong:
        return Changed(None, wanted[0].get("new"), _in_words(wrong))
    try:
        outcome = draft_log.apply_operations(
            opened.principal,
            opened.name,
            batch,
            seen_version=before,
            undo_group=uuid7().hex if len(batch) > 1 else "",
            private=opened.private,
        )
    except DraftConflict as refused:
        first = refused.conflicts[0] if refused.conflicts else {}
        _reopen(opened, drafts.draft_for(opened.principal, opened.name, private=opened.private))
        return Changed(first.get("theirs"), first.get("mine"), str(first.get("message") or refused))
    _reopen(opened, outcome.draft)
    return Applied(opened.version, draft_texts.patch_since(outcome.draft, before))


def _in_words(wrong: ValidationError) -> str:
    first = wrong.errors()[0]
    where = str(first["loc"][-1]) if first["loc"] else "value"
    if first["type"] == "string_pattern_mismatch":
        return "Write lower-case letters, digits and _, beginning with a letter."
    return f"{where}: {first['msg']}."


def _reopen(opened: Opened, draft: Draft) -> None:
    opened.draft = draft
    for kept in ("_read", "checked", "plan", "view", "tools"):
        opened.__dict__.pop(kept, None)


def open_blueprint(principal: Principal, name: str, *, private: bool = False) -> Opened:
    """The draft of a blueprint of this workspace, else the gallery's blueprint of that name, read-only.

    Raises BlueprintNotFound for a stranger, and for a name nobody has.
    """
    try:
        draft = drafts.draft_for(principal, name, private=private)
    except BlueprintNotFound:
        try:
            item = blueprints.gallery_item(name)
        except BlueprintNotFound:
            item = None
        if item is None:
            raise
        return Opened(principal, name, None, None, item)
    published = blueprints.versions_for(principal, name).filter(number__isnull=False)
    latest = published.order_by("-number").values_list("number", flat=True).first()
    return Opened(principal, name, latest, draft)
