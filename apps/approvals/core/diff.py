"""What changed between two proposals, for a card: one line a field, words marked inside texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import Match, SequenceMatcher
from itertools import accumulate
from typing import Any, Literal

from apps.approvals.core.edits import changed_fields

MAX_TOKENS = 1500
"""Above this a text is compared line by line: comparing is quadratic."""
MAX_LINES = 3000
MAX_WORK = 8_000_000
"""Pairs of equal tokens looked at, about two seconds; a text rewritten word by word needs less."""
_WORDS = re.compile(r"\s+|[^\s\w]|\w+")


@dataclass(frozen=True)
class Part:
    op: Literal["same", "added", "removed"]
    text: str


@dataclass(frozen=True)
class Change:
    path: str
    kind: Literal["same", "changed", "added", "removed"]
    before: Any
    after: Any
    parts: tuple[Part, ...] = ()
    """The text with its changes; empty when the value is the same, new or gone."""


def diff(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Every field of both, nested objects by dotted path, in the order of the newer one."""
    changes: list[Change] = []
    for key in [*after, *(k for k in before if k not in after)]:
        if key not in before:
            changes.append(Change(key, "added", None, after[key]))
        elif key not in after:
            changes.append(Change(key, "removed", before[key], None))
        elif not changed_fields({key: before[key]}, {key: after[key]}):
            changes.append(Change(key, "same", before[key], after[key]))
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            changes += [
                Change(f"{key}.{c.path}", c.kind, c.before, c.after, c.parts)
                for c in diff(before[key], after[key])
            ]
        else:
            parts = text_diff(as_text(before[key]), as_text(after[key]))
            changes.append(Change(key, "changed", before[key], after[key], parts))
    return changes


def text_diff(before: str, after: str) -> tuple[Part, ...]:
    """Both texts in one run of parts: without the added it is `before`, without the removed `after`."""
    old, new = _WORDS.findall(before), _WORDS.findall(after)
    if max(len(old), len(new)) > MAX_TOKENS:
        old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return _compared(before, after, old, new)


def line_diff(before: str, after: str) -> tuple[Part, ...]:
    """Both texts by whole lines, one part a line and without its line break."""
    parts = _compared(before, after, before.split("\n"), after.split("\n"), glue="\n")
    return tuple(Part(part.op, line) for part in parts for line in part.text.split("\n"))


def _compared(before: str, after: str, old: list[str], new: list[str], *, glue: str = "") -> tuple[Part, ...]:
    if max(len(old), len(new)) > MAX_LINES:
        return _replaced(before, after)
    try:
        found = _Matcher(old, new).get_opcodes()
    except _TooAlike:
        return _replaced(before, after)
    parts: list[Part] = []
    for tag, i1, i2, j1, j2 in found:
        if tag == "equal":
            parts.append(Part("same", glue.join(old[i1:i2])))
            continue
        if i2 > i1:
            parts.append(Part("removed", glue.join(old[i1:i2])))
        if j2 > j1:
            parts.append(Part("added", glue.join(new[j1:j2])))
    return tuple(parts)


def _replaced(before: str, after: str) -> tuple[Part, ...]:
    """Without a comparison: all of the one gone, all of the other new."""
    removed = (Part("removed", before),) if before else ()
    return (*removed, Part("added", after)) if after else removed


class _TooAlike(Exception):
    """Comparing would take too long."""


class _Matcher(SequenceMatcher[str]):
    """Gives up after MAX_WORK: two texts of the same few words, over and over, take minutes to compare."""

    def __init__(self, old: list[str], new: list[str]) -> None:
        super().__init__(None, old, new, autojunk=False)
        places = Counter(new)
        self._work = [0, *accumulate(places[token] for token in old)]
        self._left = MAX_WORK

    def find_longest_match(
        self, alo: int = 0, ahi: int | None = None, blo: int = 0, bhi: int | None = None
    ) -> Match:
        self._left -= self._work[-1 if ahi is None else ahi] - self._work[alo]
        if self._left < 0:
            raise _TooAlike
        return super().find_longest_match(alo, ahi, blo, bhi)


def as_text(value: Any) -> str:
    """A value as a person reads it: texts as they are, everything else as indented JSON."""
    return (
        value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    )


def as_json(changes: list[Change]) -> list[dict[str, Any]]:
    return [asdict(change) for change in changes]
