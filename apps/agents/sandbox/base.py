"""What both sandboxes promise, and how they fail.

StepError (apps.runs.errors)
├── NoSandbox    this machine has nothing safe to run the code in
├── CodeFailed   the code raised, ran out of time or memory, or gave something that cannot be stored
└── SandboxDied  the sandbox itself went away; another try may go well
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from apps.runs.core.limits import LIMITS
from apps.runs.errors import StepError

MAX_SECONDS = 10.0
"""How long code may run unless its node has a time-out of its own."""
MAX_MEMORY = 256 * 1024 * 1024
"""Bytes the code's values may take."""
MAX_DEPTH = 500
"""Of calls inside calls."""
MAX_PRINTED = 8_000
"""Characters of printed text that are kept; more is counted, not kept."""
_MAX_MESSAGE = 500
_MAX_BITS = 13_000


class NoSandbox(StepError):
    code = "no_sandbox"


class SandboxDied(StepError):
    code = "sandbox_died"


class CodeFailed(StepError):
    """line: where in the code, 1 is its first line; None when nobody knows. error: the exception's name."""

    code = "code_failed"

    def __init__(self, error: str, text: str, line: int | None, *, next: str = "") -> None:
        where = f" in line {line}" if line else ""
        said = f": {text}" if text else ""
        message = f"The code failed{where} with {error}{said}"
        super().__init__(
            message[:_MAX_MESSAGE].rstrip() + ("…" if len(message) > _MAX_MESSAGE else ""),
            permanent=True,
            error=error,
            line=line,
            next=next or "Correct the code; running the same code on the same inputs fails the same way.",
        )


@dataclass(frozen=True)
class Ran:
    value: Any
    printed: str = ""
    left_out: int = 0
    """Characters printed beyond what is kept."""


class Printed:
    """Keeps the beginning of what code prints."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.size = 0

    def __call__(self, stream: str, text: str) -> None:
        left = MAX_PRINTED - self.size
        if left > 0:
            self.parts.append(text[:left])
        self.size += len(text)

    @property
    def text(self) -> str:
        return "".join(self.parts)

    @property
    def left_out(self) -> int:
        return max(0, self.size - MAX_PRINTED)


def plain(value: Any) -> Any:
    """A result as JSON knows it: tuples and sets become lists (sets in order), dates and decimals text.

    Raises CodeFailed for anything else: an object whose text would change from run to run is no result. So
    does what is too large once written out: a list that holds one list many times, and that another, takes
    little room where it was made.
    """
    return _Plain().of(value)


class _Plain:
    def __init__(self) -> None:
        self.left = LIMITS.max_output_bytes

    def of(self, value: Any, depth: int = 0) -> Any:
        self.spend(2)
        if isinstance(value, int):
            if value.bit_length() > _MAX_BITS:
                raise CodeFailed("ValueError", "the result holds a number of more than 4,000 digits", None)
            self.spend(value.bit_length() // 4)
            return value
        if isinstance(value, (datetime, date, time)):
            value = value.isoformat()
        elif isinstance(value, Decimal):
            value = str(value)
        if isinstance(value, (str, bytes)):
            self.spend(len(value))
            return value
        if value is None or isinstance(value, float):
            return value
        if isinstance(value, timedelta):
            return value.total_seconds()
        if depth > 90:
            raise CodeFailed("ValueError", "the result is nested more than 90 levels deep", None)
        if isinstance(value, Mapping):
            return {self.key(k): self.of(v, depth + 1) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.of(v, depth + 1) for v in value]
        if isinstance(value, Set):
            found = [self.of(v, depth + 1) for v in value]
            return sorted(found, key=lambda v: (type(v).__name__, str(v)))
        raise CodeFailed(
            "TypeError",
            f"the result holds {type(value).__name__}, which cannot be stored",
            None,
            next="Give numbers, texts, lists and dictionaries.",
        )

    def key(self, key: Any) -> str:
        text = _key(key)
        self.spend(len(text) + 2)
        return text

    def spend(self, characters: int) -> None:
        self.left -= characters
        if self.left < 0:
            raise CodeFailed(
                "ValueError",
                f"the result has more than {LIMITS.max_output_bytes // 10**6} MB",
                None,
                next="Give less, or give it in parts from several steps.",
            )


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool) or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, (int, float, Decimal, date)):
        return str(key)
    raise CodeFailed(
        "TypeError",
        f"the result has a key of type {type(key).__name__}",
        None,
        next="Use texts or numbers as keys.",
    )
