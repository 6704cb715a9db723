"""From a draft to a version: publish what was looked at; fork.

Publishing freezes the draft at the version a person has seen. Whoever changed it meanwhile changed something
nobody agreed to, so it is refused, and the page shows what happened since.
"""

from __future__ import annotations

import re
from typing import Any

from django.db import transaction

from apps.blueprints import draft_log, drafts, services
from apps.blueprints.core.reviewing import warning_before_publishing
from apps.blueprints.errors import BlueprintNotFound, NameTaken, PrivateDraft, ReviewStands
from apps.blueprints.models import Blueprint, GalleryItem, Version
from apps.blueprints.reviews import close_published, current_review, has_changed
from apps.blueprints.selectors import blueprint_for, gallery_item, version_for
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.errors import InvalidInput

_NAME_LINE = re.compile(r"^(?P<before>[^\n:]*\bname['\"]?\s*:\s*)(?P<value>\"[^\"\n]*\"|'[^'\n]*'|[^\s#,}]+)")


@transaction.atomic
def publish_draft(
    principal: Principal,
    name: str,
    *,
    draft_version: int,
    draft_text: str = "",
    notes: str = "",
    anyway: bool = False,
    private: bool = False,
) -> Version:
    """Publish the draft as it stood at this version of it; identical content gives the version that has it.

    draft_text: fingerprint of the text that was looked at, from who has it.
    anyway: although a review is open, refused, or older than the draft; the audit says so.
    private: whether the person means a draft of their own, which is merged first and never published itself.
    Raises BlueprintInvalid with every problem, DraftMoved when somebody changed it since, ReviewStands,
    PrivateDraft.
    """
    principal.require(Permission.EDIT)
    blueprint_for(principal, name)
    if private:
        raise PrivateDraft(name, "What is published")
    draft = draft_log.locked_as_seen(principal, name, version=draft_version, text=draft_text)
    review = current_review(principal, name)
    warning = ""
    if review is not None:
        warning = warning_before_publishing(review.state, changed_since=has_changed(review, draft.source))
        if warning and not anyway:
            raise ReviewStands(
                warning,
                next="Settle the review, or publish anyway: that is recorded.",
                review=str(review.id),
            )
    version = services.publish(principal, name, draft.source, notes)
    if review is not None:
        close_published(review)
        if warning:
            audit(
                principal,
                "blueprint.published_without_review",
                f"{name}@{version.number}",
                {"review": str(review.id), "why": warning},
            )
    return version


def publish_as_it_stands(
    principal: Principal, name: str, *, notes: str = "", anyway: bool = False
) -> Version:
    """Publish the shared draft as it is at this moment, for who names no state of it, as a command does.

    A draft nobody has touched is the newest version, also one without a number. Raises as `publish_draft`.
    """
    principal.require(Permission.EDIT)
    seen = drafts.draft_for(principal, name).version
    return publish_draft(principal, name, draft_version=seen, notes=notes, anyway=anyway)


@transaction.atomic
def fork(principal: Principal, name: str, *, number: int | None = None, to: str = "") -> Blueprint:
    """Copy a version of a blueprint, or a gallery blueprint, under a new name; it remembers where from.

    to: the new name; one is made from the old one when it is empty.
    Raises BlueprintNotFound, VersionNotFound, NameTaken.
    """
    principal.require(Permission.EDIT)
    source, origin = _original(principal, name, number)
    taken = {
        *Blueprint.objects.filter(workspace=principal.workspace).values_list("name", flat=True),
        *GalleryItem.objects.values_list("name", flat=True),
    }
    if to in taken:
        raise NameTaken(f'The name "{to}" is taken.', next="Choose another name for the copy.")
    text = renamed(source, to or _free_name(name, taken))
    document = services.checked(text)
    version = services.store_copy(principal, text, document, origin)
    audit(principal, "blueprint.forked", version.blueprint.name, origin)
    return version.blueprint


def renamed(source: str, name: str) -> str:
    """The text with another `metadata.name`; everything else stays as it was written wherever it can."""
    from apps.blueprints.core.parse import parse

    parsed = parse(source)
    line = parsed.lines.get(("metadata", "name"))
    if line is not None and not parsed.is_json:
        lines = source.split("\n")
        lines[line - 1], changed = _NAME_LINE.subn(lambda m: f"{m['before']}{name}", lines[line - 1], count=1)
        text = "\n".join(lines)
        again = parse(text)
        if changed and again.readable and _with_name(parsed.data, name) == again.data:
            return text
    if not isinstance(parsed.data, dict) or not isinstance(parsed.data.get("metadata"), dict):
        raise InvalidInput(
            "The text of this version has no metadata to be given another name, so it cannot be copied.",
            next="Look at it with `mn blueprint export`.",
        )
    parsed.tree["metadata"]["name"] = name
    return parsed.dump()


def _with_name(data: Any, name: str) -> Any:
    return {**data, "metadata": {**data["metadata"], "name": name}}


def _original(principal: Principal, name: str, number: int | None) -> tuple[str, dict[str, Any]]:
    try:
        blueprint_for(principal, name)
    except BlueprintNotFound:
        item = gallery_item(name)
        return item.source, {"fork_of": name, "gallery": True, "hash": item.content_hash}
    version = version_for(principal, name, number)
    return version.source, {"fork_of": name, "version": version.number, "hash": version.content_hash}


def _free_name(name: str, taken: set[str]) -> str:
    stem = re.sub(r"_fork(_\d+)?$", "", name)[:55]
    tries = (f"{stem}_fork" + (f"_{n}" if n > 1 else "") for n in range(1, len(taken) + 2))
    return next(one for one in tries if one not in taken)
