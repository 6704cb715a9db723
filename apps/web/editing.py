"""A blueprint as it lies open in the editor: a draft, or something that can only be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apps.blueprints import selectors as blueprints
from apps.blueprints.core.document import Document
from apps.blueprints.core.parse import Parsed, parse
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.core.validate import Validation, validate
from apps.blueprints.errors import BlueprintNotFound
from apps.blueprints.models import Blueprint
from apps.blueprints.ports import builtin_tools
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission


@dataclass
class Opened:
    """What the editor shows. Everything that is read from the text is read once, when it is asked for."""

    principal: Principal
    name: str
    source: str
    version: int
    """Of the draft: it rises with every operation. 0 where there is no draft."""
    latest: int | None
    """The newest published version."""
    blueprint: Blueprint | None
    """None for a blueprint of the gallery, which is read-only."""
    draft_id: str = ""
    private: bool = False

    @property
    def may_edit(self) -> bool:
        return (
            self.blueprint is not None
            and self.blueprint.archived_at is None
            and self.principal.may(Permission.EDIT)
        )

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
    def parsed(self) -> Parsed:
        return parse(self.source)

    @property
    def data(self) -> dict[str, Any]:
        """The document as plain values, whatever shape it is in."""
        return self.parsed.data if isinstance(self.parsed.data, dict) else {}

    @cached_property
    def checked(self) -> Validation:
        return validate(self.parsed, builtin_tools())

    @property
    def problems(self) -> list[Problem]:
        return self.checked.problems

    @property
    def document(self) -> Document | None:
        """What can be read of it, for pictures and names; None when nothing can."""
        return self.checked.document or self.checked.remainder

    @cached_property
    def tools(self) -> Mapping[str, ToolSpec]:
        return blueprints.tools_of(self.document) if self.document is not None else builtin_tools()

    def last_changed_by(self, one: Any) -> str:
        return ""

    @property
    def title(self) -> str:
        metadata = self.data.get("metadata")
        written = metadata.get("title") if isinstance(metadata, dict) else ""
        return written if isinstance(written, str) and written.strip() else self.name


@dataclass(frozen=True)
class Applied:
    version: int
    patch: dict[str, Any]


@dataclass(frozen=True)
class Changed:
    """Why an operation was not done: somebody has changed the same thing."""

    by: str | None
    theirs: Any
    mine: Any
    message: str = ""


def apply_operation(opened: Opened, operation: dict[str, Any]) -> Applied | Changed:
    """Do one operation on the draft and open what has become of it in the same `Opened`."""
    raise NotImplementedError


def open_blueprint(principal: Principal, name: str, *, private: bool = False) -> Opened:
    """The draft of a blueprint of this workspace, else the gallery's blueprint of that name, read-only.

    Raises BlueprintNotFound for a stranger, and for a name nobody has.
    """
    try:
        blueprint = blueprints.blueprint_for(principal, name)
    except BlueprintNotFound:
        try:
            item = blueprints.gallery_item(name)
        except BlueprintNotFound:
            item = None
        if item is None:
            raise
        return Opened(principal, name, item.source, 0, None, None)
    newest = blueprints.versions_for(principal, name).first()
    latest = blueprints.versions_for(principal, name).filter(number__isnull=False)
    return Opened(
        principal,
        name,
        newest.source if newest else "",
        0,
        latest.order_by("-number").values_list("number", flat=True).first(),
        blueprint,
        private=private,
    )
