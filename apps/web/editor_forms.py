"""The editor's forms with what stands beside each field: problems in words, previews, tokens, names."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from urllib.parse import urlencode

from apps.blueprints.core.problems import Path, Problem, path_parts
from apps.web.core.inspector.forms import Form, Subject, form_of
from apps.web.core.inspector.inputs import MISSING, Input, spoken_duration
from apps.web.core.inspector.preview import Preview, estimated_tokens, preview
from apps.web.editing import Opened
from apps.web.known_values import KnownValues


@dataclass
class Drawn:
    """One input with everything around it."""

    one: Input
    parts: list[Drawn] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    preview: Preview | None = None

    @property
    def id(self) -> str:
        return self.one.id

    @property
    def tokens(self) -> int:
        return estimated_tokens(self.one.text)

    @property
    def has_errors(self) -> bool:
        return any(p.level == "error" for p in self.problems)

    @property
    def plain_parts(self) -> list[Drawn]:
        return [part for part in self.parts if part.one.aspect != "json"]

    @property
    def folded_parts(self) -> list[Drawn]:
        """Raw JSON beside what can be said with fields."""
        return [part for part in self.parts if part.one.aspect == "json"]

    @property
    def can_add(self) -> bool:
        return self.one.widget in ("rows", "entries", "map", "schema") and not self.one.closed

    @property
    def needs_key(self) -> bool:
        return self.one.widget in ("map", "entries")

    @property
    def is_keyed(self) -> bool:
        return bool(self.one.path) and isinstance(self.one.path[-1], str)

    @property
    def is_numbered(self) -> bool:
        return bool(self.one.path) and isinstance(self.one.path[-1], int)

    @property
    def row_title(self) -> str:
        """What an entry is called: its key, or the first text in it."""
        if self.is_keyed:
            return self.one.label
        for part in self.parts:
            if part.one.widget in ("text", "long", "choice", "whole") and part.one.is_set and part.one.text:
                return part.one.text if len(part.one.text) <= 60 else part.one.text[:59] + "…"
        return self.one.label

    @property
    def row_words(self) -> str:
        """Of a field of a schema its type, and whether it is needed; of a named thing what it uses."""
        if self.one.noun != "field":
            told = [
                p.one.text for p in self.parts if p.one.path[-1:] in (("model",), ("use",), ("description",))
            ]
            return ", ".join(filter(None, told))[:80] if self.is_keyed else ""
        words = [
            text for part in self.parts if part.one.aspect == "type" for _, text, on in part.one.choices if on
        ]
        words += ["needed" for part in self.parts if part.one.aspect == "required" and part.one.ticked]
        return ", ".join(words)

    @property
    def nothing_to_choose(self) -> bool:
        """Is it a choice among agents, and there is none yet?"""
        return self.one.path == ("agent",) and self.one.widget == "choice" and not self.one.choices

    @property
    def must_choose(self) -> bool:
        """Is there always a value, so that "none" is no choice?"""
        return self.one.default is not MISSING or self.one.aspect == "type"

    @property
    def placeholder(self) -> str:
        default = self.one.default
        if default is MISSING or default is None or isinstance(default, (dict, list, bool)):
            return ""
        if self.one.widget == "duration":
            return spoken_duration(default)
        return str(default)

    @property
    def is_open(self) -> bool:
        """Is a foldable container worth unfolding?"""
        return bool(self.problems) or any(part.is_open or part.problems for part in self.parts)


@dataclass
class DrawnForm:
    form: Form
    first: list[Drawn]
    rest: list[Drawn]
    problems: list[Problem]
    """Those of the subject as a whole."""
    values_from: str
    """Where previews come from, in words; empty when there are none."""
    private: bool = False
    bare: bool = False
    """Without its heading: the page has one."""

    @property
    def id(self) -> str:
        subject = self.form.subject
        return f"form-{subject.kind}-{zlib.crc32(subject.key.encode('utf-8', 'surrogatepass')):08x}"

    @property
    def address(self) -> str:
        """The query that names the subject."""
        query = {self.form.subject.kind: self.form.subject.key}
        more = {"private": self.private, "bare": self.bare}
        return urlencode(query | {key: "1" for key, holds in more.items() if holds})

    @property
    def all(self) -> list[Drawn]:
        return [*_flat(self.first), *_flat(self.rest)]


def draw(opened: Opened, subject: Subject, *, bare: bool = False) -> DrawnForm | None:
    """The form of a subject as the draft now is; None when the draft has no such thing."""
    form = form_of(subject, opened.data, opened.tools)
    if form is None:
        return None
    first, rest = [Drawn(i) for i in form.first], [Drawn(i) for i in form.rest]
    for top in [*first, *rest]:
        _unfold(top)
    drawn = DrawnForm(form, first, rest, [], "", opened.private, bare)
    _place_problems(opened, drawn)
    if opened.may_edit:
        _preview(drawn, KnownValues(opened))
    return drawn


def _unfold(drawn: Drawn) -> None:
    for inner in drawn.one.inputs:
        part = Drawn(inner)
        drawn.parts.append(part)
        _unfold(part)


def _flat(drawn: list[Drawn]) -> list[Drawn]:
    found = []
    for one in drawn:
        found.append(one)
        found += _flat(one.parts)
    return found


def _place_problems(opened: Opened, drawn: DrawnForm) -> None:
    """Each problem goes to the innermost field it is about; what fits none belongs to the whole."""
    base = drawn.form.base
    if not base and drawn.form.subject.kind != "part":
        return
    fields = drawn.all
    for problem in opened.problems:
        path = path_parts(problem.path)
        if path[: len(base)] != base:
            continue
        rest = path[len(base) :]
        if problem.lacks and (at := _of(fields, (*rest, *problem.lacks))) is not None:
            # Beside its own empty field nobody needs to be told how to write it in YAML.
            at.problems.append(replace(problem, fix=""))
            continue
        if drawn.form.subject.kind == "node" and rest[:1] == ("body",) and len(rest) > 1:
            continue
        about = [
            one
            for one in fields
            if one.one.aspect in ("", "row", "key", "id") and one.one.path == rest[: len(one.one.path)]
        ]
        best = max(about, key=lambda one: (len(one.one.path), not one.one.is_container), default=None)
        if best is not None:
            best.problems.append(problem)
        elif drawn.form.subject.kind != "part" and rest == ():
            drawn.problems.append(problem)


def _of(fields: list[Drawn], path: Path) -> Drawn | None:
    """The field or group of exactly this path."""
    return next((one for one in fields if one.one.path == path and one.one.aspect == ""), None)


def _preview(drawn: DrawnForm, known: KnownValues) -> None:
    subject = drawn.form.subject
    for one in drawn.all:
        if not one.one.speaks or not isinstance(one.one.value, str):
            continue
        names = known.names_for(subject, one.one)
        if names is None:
            continue
        drawn.values_from = drawn.values_from or known.source
        found = preview(one.one, names)
        # What is wrong with it is said already.
        one.preview = None if found is not None and found.is_error and one.has_errors else found
