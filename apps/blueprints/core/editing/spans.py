"""Where every value, key and item of a blueprint stands in its text, kept up to date change by change.

`read` reads a text once and in full. `advance` takes splices and reads only the entries of block collections
that they touch: a pure YAML reader needs half a second for a document of 300 nodes, a changed entry a
millisecond. What cannot be read on its own (what aliases repeat, directives, JSON, a text with problems, an
entry whose change spills over its borders) is read in full, so both ways always give the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from apps.blueprints.core.editing.splices import Splice, apply_splices
from apps.blueprints.core.parse import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Parsed,
    Refused,
    compose,
    parse,
    plain_values,
)
from apps.blueprints.core.problems import Path, Problem, path_parts

MERGE = "<<"
NEAR = 120
"""Splices closer than so many characters are looked at together."""
MOST_PIECES = 60
"""A change in more places than this is read in full."""
_COLON = re.compile(r"[ \t]*:")
_ANCHOR = re.compile(r"(?:^|[\s\[{,:?-])[&*][^\s&*]", re.MULTILINE)
_BLOCK = re.compile(r"[|>][-+\d]* *(?:#.*)?\r?$", re.MULTILINE)
_KEEPS = re.compile(r"[|>]\d?\+")
_MARKER = re.compile(r"^(?:---|\.\.\.)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Span:
    """One value. Places are counted from its own start, so that what did not change keeps its span."""

    kind: Literal["map", "seq", "scalar", "odd"]
    """odd: an alias, or a mapping whose keys are no texts; it is replaced as a whole or not at all."""
    size: int
    flow: bool = False
    style: str = ""
    """Of a scalar: its quote, `|` or `>`; empty for a plain one."""
    keys: tuple[str, ...] = ()
    marks: tuple[tuple[int, int], ...] = ()
    """Where each key stands; of a block sequence each dash."""
    at: tuple[int, ...] = ()
    """Where each child starts."""
    children: tuple[Span, ...] = ()
    count: int = 1
    """Values in it, itself included."""

    def index(self, key: str | int) -> int | None:
        if isinstance(key, int):
            return key if self.kind == "seq" and 0 <= key < len(self.children) else None
        return self.keys.index(key) if self.kind == "map" and key in self.keys else None


@dataclass(frozen=True)
class Source:
    """A draft's text together with what it says and where. Immutable; `advance` gives the next one."""

    text: str
    data: Any
    """Plain JSON values; None when the text could not be read."""
    root: Span | None
    start: int
    """Where the root begins."""
    problems: tuple[Problem, ...]
    is_json: bool
    by_entry: bool
    """Entries can be read on their own."""
    full: Parsed | None = field(default=None, repr=False, compare=False)
    shared: tuple[tuple[int, int], ...] = ()
    """Where the values stand that aliases repeat: a change there is one in other places too."""
    extra: int = 0
    """Values that are there only because an alias repeats them."""

    @property
    def readable(self) -> bool:
        return self.root is not None

    @cached_property
    def parsed(self) -> Parsed:
        """For `validate`. What an alias repeats has the alias's line, however the text was read."""
        if self.full is not None and not self.shared:
            return self.full
        return _Located(
            text=self.text, data=self.data, problems=list(self.problems), is_json=self.is_json, source=self
        )

    def find(self, path: Path) -> tuple[Span, int] | None:
        """The span of a value and its start in the text; None where there is none of its own."""
        if self.root is None:
            return None
        span, start = self.root, self.start
        for part in path:
            index = span.index(part)
            if index is None:
                return None
            start += span.at[index]
            span = span.children[index]
        return span, start

    def value(self, path: Path, default: Any = None) -> Any:
        found: Any = self.data
        for part in path:
            if isinstance(found, dict):
                has = part in found
            else:
                has = isinstance(found, list) and isinstance(part, int) and 0 <= part < len(found)
            if not has:
                return default
            found = found[part]
        return found

    def line_of(self, path: Path) -> int:
        """The line of a key or item, counted from 1; of the nearest thing around it when it is not there."""
        assert self.root is not None
        span, start = self.root, self.start
        shown = start
        for part in path:
            index = span.index(part)
            if index is None:
                break
            shown = start + (span.marks[index][0] if span.kind == "map" else span.at[index])
            start += span.at[index]
            span = span.children[index]
        return self.text.count("\n", 0, shown) + 1


@dataclass
class _Located(Parsed):
    """Values whose lines are looked up when somebody asks."""

    source: Source | None = None

    def line(self, path: str | Path) -> int | None:
        assert self.source is not None
        return self.source.line_of(path_parts(path) if isinstance(path, str) else path)


def read(text: str) -> Source:
    """Read a text in full. Never raises for what it contains."""
    parsed = parse(text)
    if not parsed.readable or not isinstance(parsed.data, (dict, list)):
        return Source(text, None, None, 0, tuple(parsed.problems), parsed.is_json, False, parsed)
    if parsed.is_json:
        scanner = _JsonSpans(text)
        start, span = scanner.value()
        return Source(text, parsed.data, span, start, tuple(parsed.problems), True, False, parsed)
    assert parsed.root is not None
    start, span = _Spans(text, parsed).of(parsed.root)
    by_entry = not (parsed.problems or span.flow or span.kind == "odd" or text.startswith("%"))
    by_entry = by_entry and "\n---" not in text
    shared = tuple(
        (line_start(text, node.start_mark.index), node.end_mark.index) for node in parsed.repeated.values()
    )
    extra = _count(parsed.data) - span.count if shared else 0
    problems = tuple(parsed.problems)
    return Source(text, parsed.data, span, start, problems, False, by_entry, parsed, shared, extra)


def advance(source: Source, splices: Sequence[Splice]) -> Source:
    """The source after a change. The same as reading the new text in full, in a fraction of the time."""
    text = apply_splices(source.text, splices)
    if not splices:
        return source
    if source.by_entry and len(text) <= MAX_BYTES and len(text.encode("utf-8", "replace")) <= MAX_BYTES:
        for near in (0, NEAR):
            found = _by_piece(source, _pieces(source.text, splices, near))
            if found is not None and found.root is not None and found.root.count + found.extra <= MAX_VALUES:
                return found
    return read(text)


def _by_piece(source: Source, pieces: Sequence[Splice]) -> Source | None:
    """The pieces one by one, the last of them first, so that the others stay in place."""
    if len(pieces) > MOST_PIECES:
        return None
    found: Source | None = source
    for piece in reversed(pieces):
        found = _Entry(found, piece).read() if found is not None else None
    return found


def _pieces(text: str, splices: Sequence[Splice], near: int) -> list[Splice]:
    """Splices on one line, or so near to each other, as one: one may only make sense with the other."""
    result: list[Splice] = []
    for splice in splices:
        between = text[result[-1].end : splice.start] if result else ""
        if result and (len(between) < near or "\n" not in between):
            last = result[-1]
            result[-1] = Splice(last.start, splice.end, last.text + between + splice.text)
        else:
            result.append(splice)
    return result


def line_start(text: str, place: int) -> int:
    start = text.rfind("\n", 0, place) + 1
    # A byte order mark is no column of its own.
    return 1 if start == 0 and place and text[0] == "\ufeff" else start


def line_end(text: str, place: int) -> int:
    """Before the line break, whichever kind it is."""
    end = text.find("\n", place)
    if end < 0:
        return len(text)
    return end - 1 if end > place and text[end - 1] == "\r" else end


def column(text: str, place: int) -> int:
    return place - line_start(text, place)


# --- building -----------------------------------------------------------------------------------------------


def _map(
    start: int,
    end: int,
    keys: Sequence[str],
    marks: Sequence[tuple[int, int]],
    children: Sequence[tuple[int, Span]],
    flow: bool,
    kind: Literal["map", "seq"],
) -> tuple[int, Span]:
    """A collection from places in the text; of a block one the end is that of its last child."""
    if not flow:
        start = marks[0][0] if marks else start
        end = max([start, *(b for _, b in marks), *(at + span.size for at, span in children)])
    return start, Span(
        kind,
        end - start,
        flow,
        keys=tuple(keys),
        marks=tuple((a - start, b - start) for a, b in marks),
        at=tuple(at - start for at, _ in children),
        children=tuple(span for _, span in children),
        count=1 + sum(span.count for _, span in children),
    )


class _Spans:
    """Spans from YAML's own nodes. moved: what to add to their marks to get places of the text."""

    def __init__(self, text: str, parsed: Parsed, moved: int = 0) -> None:
        self.text = text
        self.aliases = parsed.aliases
        self.moved = moved

    def of(self, node: Node) -> tuple[int, Span]:
        start, end = node.start_mark.index + self.moved, node.end_mark.index + self.moved
        if isinstance(node, ScalarNode):
            style = str(node.style or "")
            if style in ("|", ">"):
                end = self.end_of_block(start, end)
            return start, Span("scalar", max(end - start, 0), style=style)
        flow = bool(node.flow_style)  # type: ignore[attr-defined]
        if isinstance(node, SequenceNode):
            return self.sequence(node, start, end, flow)
        assert isinstance(node, MappingNode)
        return self.mapping(node, start, end, flow)

    def child(self, parent: Node, place: int | Node, node: Node) -> tuple[int, Span]:
        alias = self.aliases.get((id(parent), place if isinstance(place, int) else id(place)))
        if alias is not None:
            return alias[0] + self.moved, Span("odd", alias[1] - alias[0])
        return self.of(node)

    def sequence(self, node: SequenceNode, start: int, end: int, flow: bool) -> tuple[int, Span]:
        children = [self.child(node, index, item) for index, item in enumerate(node.value)]
        marks: list[tuple[int, int]] = []
        if not flow:
            at = start if self.text[start : start + 1] == "-" else self.text.find("-", start)
            wide = column(self.text, at)
            dash = re.compile(rf"^ {{{wide}}}-(?=\s|\Z)", re.MULTILINE)
            for index, (place, span) in enumerate(children):
                if index:
                    found = dash.search(self.text, at)
                    at = found.end() - 1 if found is not None else place
                marks.append((at, at + 1))
                if _is_nothing(span):
                    place = at + 1
                    children[index] = (place, span)
                at = max(at + 1, place + span.size)
        return _map(start, end, (), marks, children, flow, "seq")

    def mapping(self, node: MappingNode, start: int, end: int, flow: bool) -> tuple[int, Span]:
        keys: list[str] = []
        marks: list[tuple[int, int]] = []
        children: list[tuple[int, Span]] = []
        is_odd = False
        for key, value in node.value:
            is_odd = is_odd or not isinstance(key, ScalarNode) or (id(node), None) in self.aliases
            mark = (key.start_mark.index + self.moved, key.end_mark.index + self.moved)
            merges = isinstance(key, ScalarNode) and str(key.tag).endswith(":merge")
            keys.append(MERGE if merges else str(key.value) if isinstance(key, ScalarNode) else "")
            marks.append(mark)
            place, span = self.child(node, key, value)
            colon = _COLON.match(self.text, mark[1])
            if not flow and colon is not None and _is_nothing(span):
                # The reader says that it stands where the next thing does, whatever that is.
                place = colon.end()
            children.append((place, span))
        place, span = _map(start, end, keys, marks, children, flow, "map")
        return place, replace(span, kind="odd") if is_odd else span

    def end_of_block(self, start: int, end: int) -> int:
        """Of a block scalar: before the line break that ends it; with `+` the blank lines below are its."""
        keeps = "+" in self.text[start : line_end(self.text, start)].partition("#")[0]
        if not keeps:
            return start + len(self.text[start:end].rstrip())
        stop = end - 1 if self.text[end - 1 : end] == "\n" else end
        return stop - 1 if self.text[stop - 1 : stop] == "\r" else stop


def _is_nothing(span: Span) -> bool:
    """Whether a key or a dash has no value at all."""
    return span.kind == "scalar" and not span.size and not span.style


class _JsonSpans:
    """Spans of a text already known to be JSON."""

    TOKEN = re.compile(r'[\s,:\ufeff]*("(?:[^"\\]|\\.)*"|[\[\]{}]|[^\s,:\[\]{}"]+)', re.DOTALL)

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def token(self) -> tuple[int, str]:
        found = self.TOKEN.match(self.text, self.at)
        assert found is not None, "the text has been read before"
        self.at = found.end()
        return found.start(1), found[1]

    def value(self) -> tuple[int, Span]:
        return self.value_of(*self.token())

    def value_of(self, start: int, token: str) -> tuple[int, Span]:
        if token not in ("{", "["):
            return start, Span("scalar", len(token), style='"' if token[0] == '"' else "")
        close = "}" if token == "{" else "]"  # noqa: S105 - a token of the text
        keys: list[str] = []
        marks: list[tuple[int, int]] = []
        children: list[tuple[int, Span]] = []
        while (inner := self.token())[1] != close:
            if close == "}":
                keys.append(str(json.loads(inner[1])))
                marks.append((inner[0], inner[0] + len(inner[1])))
                inner = self.token()
            children.append(self.value_of(*inner))
        return _map(start, self.at, keys, marks, children, True, "map" if close == "}" else "seq")


# --- one entry ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Level:
    """A block collection on the way to the change."""

    path: Path
    span: Span
    start: int
    stop: int
    """Where the region of its last entry ends."""
    first: int
    last: int
    """The entries that the change touches."""


class _Entry:
    """Reads again what one splice touches: the fewest entries of the innermost block collection that can
    be read on their own."""

    def __init__(self, source: Source, splice: Splice) -> None:
        self.source = source
        self.splice = splice
        self.text = apply_splices(source.text, [splice])

    def read(self) -> Source | None:
        if "\t" in self.splice.text or not self.is_alone(self.splice.text):
            return None
        if any(at <= self.splice.end and end >= self.splice.start for at, end in self.source.shared):
            return None
        levels = self.levels()[::-1]
        # What stands above may be long, so all that can do without it comes first.
        for attempt in (self.inserted, self.attempt):
            for level in levels:
                found = attempt(level)
                if found is not None:
                    return found
        return None

    def inserted(self, level: _Level) -> Source | None:
        """New entries below a whole one, read without it."""
        text, chunk, place = self.source.text, self.splice.text, self.splice.start
        span, above = level.span, level.span.children[level.first]
        ended = level.start + max(span.marks[level.first][1], span.at[level.first] + above.size)
        if self.splice.end != place or level.first != level.last or place < ended or MERGE in span.keys:
            return None
        if "\t" in text[ended:place] or "\t" in text[place : line_end(text, place)]:
            return None
        if text[place - 1] != "\n" or not (chunk.endswith("\n") or place == len(text)):
            return None
        # A line further in, or one without content, may belong to what stands above.
        begins = {column(text, level.start + span.marks[index][0]) for index in (0, level.first)}
        wide = begins.pop()
        head = chunk[: wide + 1]
        if begins or head.strip(" ") != head[wide:] or not head[wide:].strip(" #\r\n"):
            return None
        if any("?" in self.before(level, index) for index in (0, level.first)):
            return None
        # A text of several lines takes comments and blank lines below it, some only in the end.
        follows = place == len(text) or re.match(rf" {{0,{wide}}}[^ #\r\n\t]", text[place : place + wide + 2])
        parted = self.is_parted(above, level.start + span.at[level.first], place)
        if _KEEPS.search(chunk) or (not follows and (parted is not None or _BLOCK.search(chunk))):
            return None
        if parted is False or _MARKER.search(chunk) or _MARKER.search(text, ended, place):
            return None
        fresh = self.entries(chunk, level, place)
        below = level.first + 1
        return self.joined(replace(level, first=below, last=below - 1), *fresh) if fresh is not None else None

    def is_alone(self, chunk: str) -> bool:
        """Whether a text neither repeats anything nor gives what is repeated elsewhere another meaning."""
        return not self.source.shared or _ANCHOR.search(chunk) is None

    def before(self, level: _Level, index: int) -> str:
        """What stands on the line of a key or dash before it."""
        place = level.start + level.span.marks[index][0]
        return self.source.text[line_start(self.source.text, place) : place]

    def is_parted(self, span: Span, start: int, place: int) -> bool | None:
        """Whether a value that ends in a text of several lines has surely ended; else None."""
        while span.children and not span.flow:
            start, span = start + span.at[-1], span.children[-1]
        if span.style not in ("|", ">"):
            return None
        text = self.source.text
        between = text[start + span.size : place].strip("\r")
        return between == "\n" and not _KEEPS.search(text, start, line_end(text, start))

    def levels(self) -> list[_Level]:
        assert self.source.root is not None
        span, start, stop = self.source.root, self.source.start, len(self.source.text)
        path: Path = ()
        result: list[_Level] = []
        while span.kind in ("map", "seq") and not span.flow and span.children:
            touched = self.touched(span, start, stop)
            if touched is None:
                break
            first, last = touched
            result.append(_Level(path, span, start, stop, first, last))
            if first != last:
                break
            stop = self.begin(span, start, first + 1) if first + 1 < len(span.children) else stop
            part: str | int = span.keys[first] if span.kind == "map" else first
            path = (*path, part)
            start, span = start + span.at[first], span.children[first]
        return result

    def begin(self, span: Span, start: int, index: int) -> int:
        """Where the region of an entry begins: its line, or for a first entry beside a dash its key."""
        place = start + span.marks[index][0]
        line = line_start(self.source.text, place)
        return line if index or not self.source.text[line:place].strip(" ") else place

    def touched(self, span: Span, start: int, stop: int) -> tuple[int, int] | None:
        begins = [self.begin(span, start, index) for index in range(len(span.children))]
        if self.splice.start < begins[0] or self.splice.end > stop:
            return None
        # What is put between two entries belongs to the end of the first, as its indentation decides.
        inserts = self.splice.start == self.splice.end
        first = max(
            i
            for i, begin in enumerate(begins)
            if begin < self.splice.start or (begin == self.splice.start and not (inserts and i))
        )
        last = max((i for i, begin in enumerate(begins) if begin < self.splice.end), default=first)
        if first and self.splice.start == begins[first]:
            # The entry above may end in a text that keeps the blank lines below it.
            return first - 1, max(first, last)
        return first, max(first, last)

    def attempt(self, level: _Level) -> Source | None:
        span, begin = level.span, self.begin(level.span, level.start, level.first)
        following = level.last + 1
        stop = self.begin(span, level.start, following) if following < len(span.children) else level.stop
        pad = begin - line_start(self.source.text, begin)
        end = stop + self.splice.grows
        chunk = " " * pad + self.text[begin:end]
        if end < len(self.text) and self.text[end - 1] != "\n":
            return None  # The change reaches into what follows.
        if _MARKER.search(chunk) or "\t" in chunk or not self.is_alone(chunk):
            return None
        if MERGE in span.keys:
            return None
        if len(chunk) > max(20_000, len(self.text) // 2) and level.path == ():
            return None
        moved = begin - pad
        fresh = self.entries(chunk, level, moved)
        if fresh is None:
            return None
        keys, marks, children, values = fresh
        return self.joined(level, keys, marks, children, values)

    def entries(self, chunk: str, level: _Level, moved: int) -> Any:
        """(keys, marks, children, values) of the entries in a chunk; None when it is not made of entries."""
        if not re.search(r"^\s*[^\s#]", chunk, re.MULTILINE):
            whole = level.last - level.first + 1 == len(level.span.children)
            return None if whole else ([], [], [], {} if level.span.kind == "map" else [])
        parsed = Parsed(text=chunk)
        try:
            node = compose(parsed)
            values = plain_values(parsed, node) if node is not None else None
        except (Refused, YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError):
            return None
        wanted = MappingNode if level.span.kind == "map" else SequenceNode
        if not isinstance(node, wanted) or node.flow_style or parsed.aliases:
            return None
        wide = column(self.source.text, level.start + level.span.marks[0][0])
        if node.start_mark.column != wide:
            return None
        if parsed.problems or values is None or _depth(values) + len(level.path) > MAX_DEPTH:
            return None
        start, span = _Spans(self.text, parsed, moved).of(node)
        if span.kind == "odd" or MERGE in span.keys:
            return None
        marks = [(start + a, start + b) for a, b in span.marks]
        children = [(start + at, child) for at, child in zip(span.at, span.children, strict=True)]
        return list(span.keys), marks, children, values

    def joined(
        self,
        level: _Level,
        keys: list[str],
        marks: list[tuple[int, int]],
        children: list[tuple[int, Span]],
        values: Any,
    ) -> Source | None:
        """The whole source with new entries in the place of the old ones."""
        source, grows = self.source, self.splice.grows
        old = level.span
        head, tail = slice(None, level.first), slice(level.last + 1, None)
        all_keys = [*old.keys[head], *keys, *old.keys[tail]]
        if len(set(all_keys)) != len(all_keys):
            return None

        def places(chosen: slice, by: int) -> list[tuple[int, int]]:
            return [(a + level.start + by, b + level.start + by) for a, b in old.marks[chosen]]

        def spans(chosen: slice, by: int) -> list[tuple[int, Span]]:
            return [
                (a + level.start + by, s) for a, s in zip(old.at[chosen], old.children[chosen], strict=True)
            ]

        start, span = _map(
            level.start,
            level.start,
            all_keys,
            [*places(head, 0), *marks, *places(tail, grows)],
            [*spans(head, 0), *children, *spans(tail, grows)],
            False,
            old.kind,  # type: ignore[arg-type]
        )
        data = source.value(level.path)
        if old.kind == "map":
            kept = {k: data[k] for k in old.keys[head]} | values | {k: data[k] for k in old.keys[tail]}
        else:
            kept = [*data[head], *values, *data[tail]]
        for depth in range(len(level.path) - 1, -1, -1):
            path, part = level.path[:depth], level.path[depth]
            found = source.find(path)
            assert found is not None
            outer, outer_start = found
            index = outer.index(part)
            assert index is not None
            outer_marks = [
                (a + outer_start + (grows if i > index else 0), b + outer_start + (grows if i > index else 0))
                for i, (a, b) in enumerate(outer.marks)
            ]
            outer_children = [
                (at + outer_start + (grows if i > index else 0), child)
                for i, (at, child) in enumerate(zip(outer.at, outer.children, strict=True))
            ]
            outer_children[index] = (start, span)
            start, span = _map(
                outer_start, outer_start, outer.keys, outer_marks, outer_children, False,
                outer.kind,  # type: ignore[arg-type]
            )  # fmt: skip
            around = source.value(path)
            around = around.copy()
            around[part] = kept
            kept = around
        shared = tuple(
            (at, end) if end < self.splice.start else (at + grows, end + grows) for at, end in source.shared
        )
        return Source(self.text, kept, span, start, (), False, True, None, shared, source.extra)


def _count(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, inner))


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0
