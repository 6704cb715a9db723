"""A difference of two blueprints as a page shows it: sections of things, each with its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.safestring import SafeString, mark_safe

from apps.approvals.core.diff import Part, as_text, line_diff, text_diff
from apps.blueprints.comparing import Comparison
from apps.blueprints.core import canonical
from apps.blueprints.core.diff import SECTIONS, Change, FieldChange
from apps.blueprints.core.document import Node
from apps.blueprints.core.editing.view import view_of
from apps.blueprints.core.svg import render_svg
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.selectors import tools_of
from apps.web.core.words import humanise

SECTION_WORDS: dict[str, str] = {
    "steps": "Steps",
    "ways": "Ways between steps",
    "contract": "Contract",
    "agents": "Agents",
    "models": "Models",
    "tools": "Tools it declares",
    "connections": "Connections",
    "outputs": "Outputs",
    "card": "Card",
    "metadata": "Name and description",
}
KIND_WORDS = {"added": "New", "removed": "Gone", "changed": "Changed"}
LONGEST = 4000
"""Characters of a value on the page; the API has the whole of it."""


@dataclass(frozen=True)
class Field:
    name: str
    kind: str
    before: str
    after: str
    parts: tuple[Part, ...] = ()
    """A long text with its changes marked, instead of both values."""
    lines: tuple[Part, ...] = ()
    """The same line by line, for texts of several lines."""


@dataclass(frozen=True)
class Thing:
    section: str
    kind: str
    word: str
    subject: str
    title: str
    named: str
    """Its path or name beside the title, where they differ."""
    fields: list[Field] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    name: str
    title: str
    things: list[Thing]


def sections_of(comparison: Comparison) -> list[Section]:
    found = comparison.difference
    return [
        Section(name, SECTION_WORDS[name], [_thing(change) for change in found.of(name)])
        for name in SECTIONS
        if found.of(name)
    ]


def counted(comparison: Comparison) -> str:
    """ "2 new, 1 gone, 3 changed": what happened to steps and ways and all the rest, in one breath."""
    kinds = [change.kind for change in comparison.difference.changes]
    told = [f"{kinds.count(kind)} {KIND_WORDS[kind].lower()}" for kind in KIND_WORDS if kind in kinds]
    return ", ".join(told) or "no change"


def picture_of(comparison: Comparison) -> SafeString | str:
    """Both graphs in one drawing with marks; empty when neither has a step."""
    both = comparison.union
    if not both.graph.nodes:
        return ""
    marks: Any = comparison.difference.marks()
    return mark_safe(render_svg(both, tools=tools_of(both), marks=marks))  # noqa: S308 - it escapes what it draws


def view_of_both(comparison: Comparison) -> dict[str, Any]:
    """The same picture for the canvas: its view model with `diff` on nodes and edges."""
    both = comparison.union
    marks = comparison.difference.marks()
    nodes: dict[str, dict[str, Any]] = {path: {"diff": kind} for path, kind in marks["nodes"].items()}
    for change in comparison.difference.of("steps"):
        if change.renamed_from:
            nodes[change.subject]["renamed"] = renamed_words(change)
    found = view_of(canonical.stored(both), tools=tools_of(both), mode="diff", marks=nodes)
    for name, kind in marks["edges"].items():
        if name in found["edges"]:
            found["edges"][name]["diff"] = kind
    return found


def renamed_words(change: Change) -> str:
    return f"renamed from {change.renamed_from} to {change.subject.rpartition('/')[2]}"


def short_title(node: Node, path: str) -> str:
    """A step's title for a list: expressions as what they stand for, at most 60 characters."""
    text = title_of(node.title, path)
    return text if len(text) <= 60 else text[:59].rstrip() + "…"


def _thing(change: Change) -> Thing:
    titled = (
        humanise(change.title)
        if change.section in ("agents", "tools")
        else title_of(change.title, change.subject)
    )
    named = change.subject if change.section == "steps" and change.subject != change.title else ""
    if change.renamed_from:
        return Thing(
            change.section, change.kind, "Renamed" if len(change.fields) == 1 else "Renamed and changed",
            change.subject, titled, renamed_words(change), [_field(one) for one in change.fields[1:]],
        )  # fmt: skip
    fields = [_field(one) for one in change.fields]
    return Thing(change.section, change.kind, KIND_WORDS[change.kind], change.subject, titled, named, fields)


def _field(one: FieldChange) -> Field:
    before = "" if one.kind == "added" else _shown(one.before)
    after = "" if one.kind == "removed" else _shown(one.after)
    if not one.is_text:
        return Field(one.path, one.kind, before, after)
    if "\n" in before + after:
        return Field(one.path, one.kind, before, after, lines=line_diff(before, after))
    return Field(one.path, one.kind, before, after, parts=text_diff(before, after))


def _shown(value: Any) -> str:
    text = as_text(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
