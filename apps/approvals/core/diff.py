"""What changed between two proposals, for a card: one line a field, words marked inside texts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Literal

from apps.approvals.core.edits import changed_fields

MAX_TOKENS = 1500
"""Above this a text is compared line by line: comparing is quadratic."""
MAX_LINES = 3000
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
    if max(len(old), len(new)) > MAX_LINES:
        return tuple(Part(op, text) for op, text in (("removed", before), ("added", after)) if text)  # type: ignore[arg-type]
    parts: list[Part] = []
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            parts.append(Part("same", "".join(old[i1:i2])))
            continue
        if i2 > i1:
            parts.append(Part("removed", "".join(old[i1:i2])))
        if j2 > j1:
            parts.append(Part("added", "".join(new[j1:j2])))
    return tuple(parts)


def as_text(value: Any) -> str:
    """A value as a person reads it: texts as they are, everything else as indented JSON."""
    return (
        value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True)
    )


def as_json(changes: list[Change]) -> list[dict[str, Any]]:
    return [asdict(change) for change in changes]
