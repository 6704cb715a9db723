"""Entries as they are stored: the lines of one transaction as one compact JSON text.

The text is searched with LIKE before it is read, so its form is fixed: no spaces, and a line begins with
`["<kind>",`, where the kinds that every step brings are one letter. Inside a string a quote is escaped, so no
text that somebody wrote can look like that; a value can, so what LIKE finds is looked at again after reading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mirrorneuron.base.safejson import storable

LETTERS = {"step.ready": "r", "step.started": "b", "step.succeeded": "s"}
"""How kinds of entries are written that stand in every transaction. A letter never changes its meaning."""
_KINDS = {letter: kind for kind, letter in LETTERS.items()}
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True)
class Line:
    """One entry before it has its number."""

    kind: str
    step_path: str
    attempt: int | None
    data: dict[str, Any]


def packed(lines: Sequence[Line]) -> str:
    """The text that holds these lines, whatever their data contains."""
    return _encode(
        [
            (LETTERS.get(line.kind, line.kind), line.step_path, line.attempt, storable(line.data))
            for line in lines
        ]
    )


def unpacked(text: str) -> list[Line]:
    return [Line(_KINDS.get(kind, kind), *fields) for kind, *fields in json.loads(text)]


def marks_of_kind(kind: str) -> tuple[str, ...]:
    """Every text that has an entry of this kind has one of these: before there were letters all were written
    out."""
    written = (LETTERS[kind], kind) if kind in LETTERS else (kind,)
    return tuple(f'["{form}",' for form in written)


def mark_of_path(path: str) -> str:
    """Part of every text that has an entry of this step."""
    return f",{_encode(path)},"
