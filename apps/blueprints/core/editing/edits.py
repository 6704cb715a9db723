"""Collects changes of values as splices of a text, each as small as the text allows.

Every change is addressed by its path in the values of the unchanged text, and all of one operation are made
together. What the text's form does not allow (an alias, a key that is a mapping) raises `Refusal`, and so
does a result that does not say what was wanted: a safety net under the writing, so that a draft never says
something else than its editor.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from apps.blueprints.core.editing import writing
from apps.blueprints.core.editing.spans import Source, Span, advance, column, line_end, line_start
from apps.blueprints.core.editing.splices import Splice, trimmed
from apps.blueprints.core.problems import Path, path_text

Places = set[int]
GONE = object()
"""Stands for "no such key" among expected values."""
_COMMENT = re.compile(r"[ ]*#[^\n]*\n?")


class Refusal(Exception):
    """Why a change cannot be made, in words for the person who wanted it."""

    def __init__(self, message: str, *, theirs: Any = None, mine: Any = None) -> None:
        super().__init__(message)
        self.message, self.theirs, self.mine = message, theirs, mine


class Edits:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.text = source.text
        self.newline = "\r\n" if "\r\n" in source.text else "\n"
        self.splices: list[tuple[int, int, int, Splice]] = []
        self.expected: list[tuple[Path, Any]] = []

    # What may be asked for

    def set(self, path: Path, value: Any, *, small: bool = True) -> None:
        """Give a key or item a value; keys that are missing on the way are made."""
        self.expected.append((path, value))
        self._set(path, value, small)

    def set_all(self, path: Path, values: Mapping[str, Any]) -> None:
        """Several keys of one mapping, which is made when it is missing."""
        if not values:
            return
        for key, value in values.items():
            self.expected.append(((*path, key), value))
        held = self.source.value(path)
        if not isinstance(held, dict) or not held:
            self._set(path, dict(values), True)
            return
        for key in values:
            if key in held:
                self._set((*path, key), values[key], True)
        self._add_keys(path, {k: v for k, v in values.items() if k not in held}, True)

    def append(self, path: Path, values: list[Any], *, small: bool = True) -> None:
        """New items at the end of a list, which is made when it is missing."""
        if not values:
            return
        held = self.source.value(path)
        if held is not None and not isinstance(held, list):
            raise Refusal(f"{path_text(path)} is not a list, so nothing can be added to it.", theirs=held)
        for index, value in enumerate(values):
            self.expected.append(((*path, len(held or []) + index), value))
        if held:
            self._add_items(path, values, small)
        else:
            self._set(path, values, small and any(isinstance(value, dict) for value in values))

    def drop(self, path: Path, chosen: Iterable[str | int], *, comments: bool = False) -> None:
        """Take keys out of a mapping or items out of a list.

        comments: those directly above go along; else every comment above stays.
        """
        span, start = self._own(path)
        wanted: Places = set()
        for part in chosen:
            index = span.index(part)
            if index is None:
                raise self._odd((*path, part))
            wanted.add(index)
        if not wanted:
            return
        held = self.source.value(path)
        if isinstance(held, dict):
            left: Any = {k: v for k, v in held.items() if span.index(k) not in wanted}
            self.expected += [((*path, k), GONE) for k in held if k not in left]
        else:
            left = [v for i, v in enumerate(held) if i not in wanted]
            self.expected.append((path, left))
        if len(wanted) == len(span.children):
            if not path:
                raise Refusal("A blueprint cannot be empty.")
            self._replace(path, left, True)
        elif span.flow:
            self._drop_flow(span, start, wanted, len(path))
        else:
            self._drop_block(span, start, wanted, len(path), comments)

    def rename_key(self, path: Path, old: str, new: str) -> None:
        span, start = self._own(path)
        index = span.index(old)
        if index is None:
            raise self._odd((*path, old))
        if span.index(new) is not None:
            raise Refusal(f'The key "{new}" is taken in {path_text(path)}.')
        first, last = span.marks[index]
        self._splice(start + first, start + last, writing.key(new, is_json=self.source.is_json), len(path))
        self.expected += [((*path, old), GONE), ((*path, new), self.source.value((*path, old)))]

    def within(self, path: Path, splices: Iterable[Splice], value: Any) -> None:
        """Splices inside one value, which says `value` then."""
        self.expected.append((path, value))
        for splice in splices:
            self._splice(*splice, len(path))

    # The result

    def done(self) -> tuple[list[Splice], Source]:
        """The splices and the source after them. Raises Refusal when that would not say what was wanted."""
        ordered = [s for *_, s in sorted(self.splices, key=lambda s: s[:3])]
        at = 0
        for splice in ordered:
            if splice.start < at:
                raise Refusal(_FORM)
            at = splice.end
        # Trimming must not reorder insertions at one place.
        splices = [t for s in ordered for t in trimmed(self.text, [s])]
        found = advance(self.source, splices)
        if not found.readable or (found.problems and not self.source.problems):
            worst = next((p.message for p in found.problems), "")
            raise Refusal(f"{_FORM} {worst}".strip())
        final = {path_text(path): (path, value) for path, value in self.expected}
        for path, value in final.values():
            if not _same(found.value(path, GONE), value):
                raise Refusal(_FORM)
        return splices, found

    # How it is written

    def _own(self, path: Path) -> tuple[Span, int]:
        found = self.source.find(path)
        if found is None or found[0].kind == "odd":
            raise self._odd(path)
        return found

    def _odd(self, path: Path) -> Refusal:
        return Refusal(
            f"{path_text(path) or 'The document'} is written as an alias, or in another form that only the "
            "YAML view can change."
        )

    def _splice(self, start: int, end: int, text: str, depth: int) -> None:
        # At one place the deeper change stands first, then the earlier one.
        self.splices.append((start, -depth, len(self.splices), Splice(start, end, text)))

    def _set(self, path: Path, value: Any, small: bool) -> None:
        if not path:
            raise Refusal("The document itself cannot be replaced; use the YAML view.")
        parent, part = path[:-1], path[-1]
        held = self.source.value(parent)
        if isinstance(part, int) and not isinstance(held, list):
            raise Refusal(f"{path_text(parent)} is not a list, so it has no item {part}.", theirs=held)
        if (isinstance(held, dict) and part in held) or isinstance(held, list):
            if self.source.value(path, GONE) is GONE:
                raise Refusal(f"{path_text(path)} does not exist.")
            self._replace(path, value, small)
        elif isinstance(held, dict) and held:
            self._add_keys(parent, {str(part): value}, small)
        elif held is None or held == {}:
            self._set(parent, {str(part): value}, small)
        else:
            raise Refusal(
                f"{path_text(parent)} is not a mapping, so it has no {path_text(path)}.", theirs=held
            )

    def _replace(self, path: Path, value: Any, small: bool) -> None:
        found = self.source.find(path)
        if found is None:
            raise self._odd(path)
        span, start = found
        parent, parent_start = self._own(path[:-1])
        index = parent.index(path[-1])
        assert index is not None
        end, depth = start + span.size, len(path)
        if parent.flow:
            text = self._inline(value, start, span.style)
            gap = "" if span.size or self.text[start - 1 : start] in (" ", "[", "{") else " "
            if (
                not span.size
                and parent.kind == "map"
                and ":" not in self.text[parent_start + parent.marks[index][1] : start]
            ):
                gap = ": "
            self._splice(start, end, gap + text, depth)
            return
        mark = parent_start + parent.marks[index][1]
        after = mark if parent.kind == "seq" else self.text.index(":", mark) + 1
        indent = column(self.text, parent_start + parent.marks[index][0]) + 2
        if parent.kind == "seq":
            text = writing.item(value, indent - 2, self.newline, small=small)
        else:
            text = writing.block(value, indent, self.newline, small=small)
        rest = self.text[end : line_end(self.text, end)]
        if "\n" in text and "#" in rest and isinstance(value, str):
            text = " " + writing.quoted(value)
        one_line = "\n" not in text
        stands_inline = span.size and "\n" not in self.text[after:start]
        if one_line and stands_inline and (span.kind == "scalar" or span.flow):
            if span.kind == "scalar" and span.style == '"' and isinstance(value, str):
                text = " " + writing.quoted(value)
            self._splice(start, end, text[1:], depth)
        else:
            self._splice(after, max(end, after), text, depth)

    def _inline(self, value: Any, place: int, style: str = "") -> str:
        if self.source.is_json:
            line = self.text[line_start(self.text, place) :]
            return writing.pretty_json(value, len(line) - len(line.lstrip(" ")), self.newline)
        if isinstance(value, str):
            return writing.scalar(value, quote=style)
        return writing.flow(value)

    def _add_keys(self, path: Path, values: Mapping[str, Any], small: bool) -> None:
        if not values:
            return
        span, start = self._own(path)
        end, depth = start + span.size, len(path)
        if span.flow:
            last = start + span.at[-1] + span.children[-1].size
            joint = self._joint(span, start)
            pieces = [
                joint + writing.key(k, is_json=self.source.is_json) + ": " + self._inline(v, last)
                for k, v in values.items()
            ]
            self._splice(last, last, "".join(pieces), depth)
            return
        indent = column(self.text, start + span.marks[0][0])
        pad = " " * indent
        lines = [
            f"{pad}{writing.key(k)}:{writing.block(v, indent + 2, self.newline, small=small)}"
            for k, v in values.items()
        ]
        self._insert_lines(end, lines, depth)

    def _add_items(self, path: Path, values: list[Any], small: bool) -> None:
        span, start = self._own(path)
        end, depth = start + span.size, len(path)
        if span.flow:
            last = start + span.at[-1] + span.children[-1].size
            joint = self._joint(span, start)
            self._splice(last, last, "".join(joint + self._inline(v, last) for v in values), depth)
            return
        indent = column(self.text, start + span.marks[0][0])
        self._insert_lines(end, writing.items(values, indent, self.newline, small=small), depth)

    def _insert_lines(self, end: int, lines: list[str], depth: int) -> None:
        # Whole lines, so that taking away the line above leaves them alone.
        place = self.text.find("\n", end) + 1
        if place:
            self._splice(place, place, "".join(line + self.newline for line in lines), depth)
        else:
            self._splice(
                len(self.text), len(self.text), "".join(self.newline + line for line in lines), depth
            )

    def _joint(self, span: Span, start: int) -> str:
        """What stands between two entries of a flow collection."""
        if len(span.children) > 1:
            last = span.marks[-1][0] if span.marks else span.at[-1]
            between = self.text[start + span.at[-2] + span.children[-2].size : start + last]
            if between.count(",") == 1 and between.strip(" \r\n") == ",":
                return between
        elif span.children:
            first = span.marks[0][0] if span.marks else span.at[0]
            head = self.text[start + 1 : start + first]
            if "\n" in head and not head.strip(" \r\n"):
                return "," + head
        return ", "

    def _drop_flow(self, span: Span, start: int, wanted: Places, depth: int) -> None:
        begins = [start + (m[0]) for m in span.marks] or [start + at for at in span.at]
        ends = [start + at + child.size for at, child in zip(span.at, span.children, strict=True)]
        index = 0
        while index < len(ends):
            if index not in wanted:
                index += 1
                continue
            last = index
            while last + 1 in wanted:
                last += 1
            if last + 1 < len(ends):
                self._splice(begins[index], begins[last + 1], "", depth)
            else:
                self._splice(ends[index - 1], ends[last], "", depth)
            index = last + 1

    def _drop_block(self, span: Span, start: int, wanted: Places, depth: int, comments: bool) -> None:
        text = self.text
        places = [start + mark[0] for mark in span.marks]
        ends = [
            max(start + at + child.size, start + mark[1])
            for at, child, mark in zip(span.at, span.children, span.marks, strict=True)
        ]
        first_line = line_start(text, places[0])
        if 0 in wanted and text[first_line : places[0]].strip(" "):
            survivor = min(i for i in range(len(places)) if i not in wanted)
            self._splice(places[0], places[survivor], "", depth)
            wanted = {i for i in wanted if i > survivor}
        for index in sorted(wanted):
            begin = line_start(text, places[index])
            if comments:
                begin = self._with_comments(
                    begin, places[index] - begin, line_end(text, ends[index - 1]) if index else 0
                )
            stop = text.find("\n", ends[index])
            if stop < 0:
                # The last line of a text that does not end in a line break.
                begin, stop = line_end(text, line_start(text, begin) - 2) if begin else 0, len(text)
                begin = max(begin, line_end(text, ends[index - 1])) if index else begin
            else:
                stop += 1
            self._splice(begin, stop, "", depth)

    def _with_comments(self, begin: int, indent: int, floor: int) -> int:
        """Where the comment lines directly above a line begin; those indented like it."""
        while begin > floor + 1:
            above = line_start(self.text, begin - 1)
            line = self.text[above:begin]
            if above <= floor - 1 or not line.startswith(" " * indent + "#"):
                break
            begin = above
        return begin


_FORM = "The text is written in a form that does not allow this change here; make it in the YAML view."


def _same(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(v, other[k]) for k, v in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


same = _same
