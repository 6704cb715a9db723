"""Entries as they are stored: the lines of one transaction as one compact JSON text.

A line is `[kind, step path, attempt, data]`, and what its kind nearly always has is left out from the right:
a step that follows another costs a letter and its path. The text is searched with LIKE before it is read, so
its form is fixed: no spaces, and a line begins with `["<kind>"`. Inside a string a quote is escaped, so no
text that somebody wrote can look like that; a value can, so what LIKE finds is looked at again after reading.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mirrorneuron.base.safejson import storable

LETTERS = {
    "step.ready": "r", "step.started": "b", "step.succeeded": "s", "run.started": "o", "run.succeeded": "e",
}  # fmt: skip
"""How kinds of entries are written that every run brings. A letter never changes its meaning."""
AT_ONCE = "n"
"""A step became ready and was started in the same transaction: two entries, written as one."""
_KINDS = {letter: kind for kind, letter in LETTERS.items()}
_USUAL: dict[str, tuple[int | None, dict[str, Any]]] = {
    "step.ready": (0, {}),
    "step.started": (1, {"queued_seconds": 0.0}),
    "step.succeeded": (1, {"port": "done"}),
}
"""Attempt and data of a line that says neither. Never changed either."""
_PLAIN: tuple[int | None, dict[str, Any]] = (None, {})
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
    written: list[list[Any]] = []
    for line in lines:
        short = _short(line)
        before = written[-1] if written else None
        if before == ["r", line.step_path] and short == ["b", line.step_path]:
            before[0] = AT_ONCE
        else:
            written.append(short)
    return _encode(written)


def _short(line: Line) -> list[Any]:
    kind = LETTERS.get(line.kind, line.kind)
    attempt, data = _USUAL.get(line.kind, _PLAIN)
    if not _same(line.data, data):
        return [kind, line.step_path, line.attempt, storable(line.data)]
    if line.attempt != attempt:
        return [kind, line.step_path, line.attempt]
    return [kind, line.step_path] if line.step_path else [kind]


def _same(data: dict[str, Any], usual: dict[str, Any]) -> bool:
    """Equal, and of the same types: 0 is not 0.0 to who reads it back."""
    return data == usual and all(type(data[name]) is type(value) for name, value in usual.items())


def unpacked(text: str) -> list[Line]:
    found: list[Line] = []
    for kind, *rest in json.loads(text):
        path = rest[0] if rest else ""
        if kind == AT_ONCE:
            found.append(Line("step.ready", path, *_usual("step.ready")))
            kind = "step.started"
        kind = _KINDS.get(kind, kind)
        attempt, data = _usual(kind)
        if len(rest) > 1:
            attempt = rest[1]
        found.append(Line(kind, path, attempt, rest[2] if len(rest) > 2 else data))
    return found


def _usual(kind: str) -> tuple[int | None, dict[str, Any]]:
    attempt, data = _USUAL.get(kind, _PLAIN)
    return attempt, {**data}  # Whoever reads an entry may keep it and change it.


def marks_of_kind(kind: str) -> tuple[str, ...]:
    """Every text that has an entry of this kind has one of these: before there were letters all were written
    out."""
    if kind not in LETTERS:
        return (f'["{kind}"',)
    both = (AT_ONCE,) if kind in ("step.ready", "step.started") else ()
    return tuple(f'["{form}"' for form in (LETTERS[kind], kind, *both))


def marks_of_path(path: str) -> tuple[str, ...]:
    """Every text that has an entry of this step has one of these; of the run itself, every text may."""
    return (f",{_encode(path)},", f",{_encode(path)}]")
