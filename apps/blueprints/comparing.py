"""Two states of a blueprint beside each other: versions by number, the draft, one's own, the gallery's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from apps.blueprints.core.diff import Difference, diff, union
from apps.blueprints.core.document import Document, Metadata
from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing.apply import Applied, apply
from apps.blueprints.core.editing.spans import read
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.renames import Known, across, chained, moved, renames_between
from apps.blueprints.draft_merging import would_merge
from apps.blueprints.drafts import draft_for, has_private, private_draft, renames_of, renames_until
from apps.blueprints.models import Version
from apps.blueprints.ports import builtin_tools
from apps.blueprints.selectors import blueprint_for, document_of, gallery_item, version_for
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import uuid7

MOST_NESTED_RENAMES = 8
"""Rounds of looking for renamed steps: one that mentions another is found after that one."""
DRAFT, PRIVATE, GALLERY, NOTHING = "draft", "private", "gallery", "nothing"


@dataclass(frozen=True)
class Side:
    """One state of a blueprint."""

    reference: str
    """`3`, `draft`, `private`, `gallery`, or `nothing` before the first version."""
    label: str
    """"Version 3", "The draft"; "The shared draft" for whoever keeps one of their own."""
    document: Document
    source: str
    version: Version | None = None
    draft_version: int | None = None
    """Of the draft, when this is the draft."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with a draft as it stands, as publishing sees it."""
    readable: bool = True
    """False: the draft is not whole, and only what could be read of it is compared."""
    renames: Known = ()
    """What the draft's log knows to have been renamed on the way here."""

    def as_json(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "label": self.label,
            "version": self.version.number if self.version else None,
            "draft_version": self.draft_version,
            "readable": self.readable,
        }


@dataclass(frozen=True)
class Comparison:
    name: str
    before: Side
    after: Side
    difference: Difference
    older: Document
    """That of `before`, with the names that steps have in `after`."""

    @property
    def union(self) -> Document:
        """Both graphs as one, for a picture with `difference.marks()`."""
        return union(self.older, self.after.document)

    def as_json(self) -> dict[str, Any]:
        return {
            "blueprint": self.name,
            "from": self.before.as_json(),
            "to": self.after.as_json(),
            **self.difference.as_json(),
        }


def compare(principal: Principal, name: str, before: str = "", after: str = "") -> Comparison:
    """What differs between two states.

    before, after: a version's number, `draft` (the shared one), `private` (this person's own) or `gallery`.
    Without `after` the shared draft; without `before` the newest version that is not `after` itself, or
    nothing at all when there is none.
    Raises BlueprintNotFound, VersionNotFound, StateNotFound for a private draft that is not there,
    InvalidInput for a reference that is none of these.
    """
    blueprint_for(principal, name)
    newer = side(principal, name, after or DRAFT)
    older = side(principal, name, before) if before else _before(principal, name, newer)
    if {older.reference, newer.reference} == {DRAFT, PRIVATE}:
        newer = replace(newer, renames=_between_drafts(principal, name, to=newer.reference))
    return comparison(name, older, newer)


def merging(principal: Principal, name: str) -> tuple[Comparison, list[dict[str, Any]]]:
    """What merging this person's private draft would change in the shared one, and what would be left out."""
    shared = draft_side(principal, name)
    text, conflicts = would_merge(principal, name)
    merged = of_text(name, text, label="The shared draft with yours merged", reference="merged")
    mine = private_draft(principal, name)
    merged = replace(merged, renames=tuple(chained(renames_of(mine))))
    return comparison(name, shared, merged), conflicts


def _between_drafts(principal: Principal, name: str, *, to: str) -> Known:
    """What the shared and the private draft call differently: either may have renamed since they parted."""
    mine = private_draft(principal, name)
    theirs = chained(renames_of(draft_for(principal, name), after=mine.base_version or 0))
    ours = chained(renames_of(mine))
    return tuple(across(theirs, ours) if to == PRIVATE else across(ours, theirs))


def comparison(name: str, before: Side, after: Side) -> Comparison:
    older, renamed = _with_names_of(before, after)
    found = diff(older, after.document, builtin_tools(), renamed)
    return Comparison(name, before, after, found, older)


def _with_names_of(before: Side, after: Side) -> tuple[Document, dict[str, str]]:
    """The older document with the newer one's names, and by path what its steps were called.

    The names are changed as somebody would change them in the editor, all that mentions them included.
    """
    from apps.blueprints.services import check_source

    older, renamed = before.document, dict[str, str]()
    source, tried, known = None, set[tuple[str, str]](), after.renames
    for _ in range(MOST_NESTED_RENAMES):
        wanted = [one for one in renames_between(older, after.document, known) if one not in tried]
        if not wanted:
            break
        tried |= set(wanted)
        source = source or read(before.source)
        for path, new_id in wanted:
            op = ops.Rename(op_id=uuid7(), kind="rename", node=path, to=new_id)
            done = apply(source, op) if source.readable else None
            if not isinstance(done, Applied):
                continue
            source = done.source
            scope, _, old_id = path.rpartition("/")
            to = f"{scope}/{new_id}" if scope else new_id
            renamed = {moved(one, path, to): name for one, name in renamed.items()} | {to: old_id}
            known = [(moved(was, path, to), now) for was, now in known]
        checked = check_source(source.text)
        older = checked.document or checked.remainder or before.document
    return older, renamed


def side(principal: Principal, name: str, reference: str) -> Side:
    """One state by its reference. Raises as `compare` does."""
    if reference == PRIVATE:
        private_draft(principal, name)  # Looking at it is no reason to begin one.
    if reference in (DRAFT, PRIVATE):
        return draft_side(principal, name, private=reference == PRIVATE)
    if reference == GALLERY:
        item = gallery_item(name)
        return Side(GALLERY, "The gallery's blueprint", document_of(item), item.source)
    if reference == NOTHING:
        return nothing(name)
    if not (reference.isdecimal() and len(reference) <= 9):
        raise InvalidInput(
            f'"{reference[:60]}" is no state of a blueprint.',
            fields={"from": 'A version\'s number, "draft", "private" or "gallery".'},
            next="Write a version's number, or draft.",
        )
    return of_version(version_for(principal, name, int(reference)))


def of_version(version: Version) -> Side:
    label = f"Version {version.number}" if version.number else "An unpublished version"
    return Side(str(version.number or version.pk), label, document_of(version), version.source, version)


def nothing(name: str) -> Side:
    """The empty blueprint everything is new to."""
    return Side(NOTHING, "Nothing", Document(metadata=Metadata(name=name)), "")


def newest(principal: Principal, name: str) -> Version | None:
    """The newest published version, if there is one."""
    found = blueprint_for(principal, name).versions.filter(number__isnull=False)
    return found.select_related("blueprint").order_by("-number").first()


def of_text(
    name: str, text: str, *, label: str, reference: str = DRAFT, draft_version: int | None = None
) -> Side:
    """A text as it stands, however wrong; what cannot be read of it is not compared."""
    from apps.blueprints.services import check_source

    checked = check_source(text, publishing=True)
    document = checked.document or checked.remainder
    return Side(
        reference,
        label,
        document or Document(metadata=Metadata(name=name)),
        text,
        draft_version=draft_version,
        problems=tuple(checked.problems),
        readable=checked.document is not None,
    )


def draft_side(principal: Principal, name: str, *, private: bool = False) -> Side:
    """The draft as it stands: the shared one, or this person's own."""
    found = draft_for(principal, name, private=private)
    if private:
        label, reference = "Your private draft", PRIVATE
    else:
        label = "The shared draft" if has_private(principal, name) else "The draft"
        reference = DRAFT
    made = of_text(name, found.source, label=label, reference=reference, draft_version=found.version)
    return replace(made, renames=renames_until(found))


def _before(principal: Principal, name: str, newer: Side) -> Side:
    versions = blueprint_for(principal, name).versions.filter(number__isnull=False)
    if newer.version is not None:
        versions = versions.filter(number__lt=newer.version.number)
    found = versions.select_related("blueprint").order_by("-number").first()
    return of_version(found) if found is not None else nothing(name)
