"""One thing to fix in a blueprint: where it is, what is wrong, what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["error", "warning"]
"""error: it cannot run or breaks its own contract. warning: it can, and never blocks."""
Path = tuple[str | int, ...]
"""Keys and list positions from the top of the document."""

MOST = 500
"""Problems in one answer; what comes after is counted, not listed."""

_PLAIN_KEY = re.compile(r"^[A-Za-z_][A-Za-z0-9_-]*$")
_PIECE = re.compile(r'\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]')


@dataclass(frozen=True)
class Problem:
    path: str
    """Into the document: `graph.nodes[2].with.to`; empty for the document as a whole."""
    line: int | None
    """Counted from 1; None when the document did not come from text."""
    level: Level
    code: str
    """Stable, snake_case."""
    message: str
    fix: str
    """What to write, one sentence."""
    node: str = ""
    """Id of the node it belongs to, so that a picture can point at it."""
    lacks: Path = ()
    """What is missing, from `path` on, so that a form can say so at its field: `("with", "to")`."""

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "line": self.line,
            "level": self.level,
            "code": self.code,
            "message": self.message,
            "fix": self.fix,
            "node": self.node,
        }


class Problems:
    """Collects problems and finds their lines; the same problem is listed once."""

    def __init__(self, line: Callable[[Path], int | None] = lambda path: None) -> None:
        self._line = line
        self._seen: set[tuple[str, str, str]] = set()
        self.left_out = 0
        self.found: list[Problem] = []

    def error(
        self, path: Path, code: str, message: str, fix: str, *, node: str = "", lacks: Path = ()
    ) -> None:
        self.add(path, "error", code, message, fix, node=node, lacks=lacks)

    def warning(
        self, path: Path, code: str, message: str, fix: str, *, node: str = "", lacks: Path = ()
    ) -> None:
        self.add(path, "warning", code, message, fix, node=node, lacks=lacks)

    def add(
        self,
        path: Path,
        level: Level,
        code: str,
        message: str,
        fix: str,
        *,
        node: str = "",
        lacks: Path = (),
    ) -> None:
        place = path_text(path)
        if (place, code, message) in self._seen:
            return
        if len(self.found) >= MOST:
            self.left_out += 1
            return
        self._seen.add((place, code, message))
        self.found.append(Problem(place, self._line(path), level, code, message, fix, node, lacks))

    def line_of(self, path: Path) -> int | None:
        return self._line(path)

    def sorted(self) -> list[Problem]:
        """In the order of the text, errors first on the same line; as found where there are no lines."""
        return sorted(self.found, key=lambda p: (p.line or 0, p.level != "error"))


def path_text(path: Path) -> str:
    """`("graph", "nodes", 2, "with")` as `graph.nodes[2].with`; odd keys are quoted."""
    pieces: list[str] = []
    for part in path:
        if isinstance(part, int):
            pieces.append(f"[{part}]")
        elif _PLAIN_KEY.match(part):
            pieces.append(f".{part}" if pieces else part)
        else:
            quoted = part.replace("\\", "\\\\").replace('"', '\\"')
            pieces.append(f'["{quoted}"]')
    return "".join(pieces)


def path_parts(text: str) -> Path:
    """The reverse of `path_text`; what cannot be read is left out."""
    return tuple(
        int(m[2]) if m[2] is not None else m[1] if m[1] is not None else re.sub(r"\\(.)", r"\1", m[3])
        for m in _PIECE.finditer(text)
    )


def shown(value: Any) -> str:
    """A value in a message: short, on one line."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "…"


def article(word: str) -> str:
    """`an agent`, `a tool`."""
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"
