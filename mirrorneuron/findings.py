"""What one check of `mn doctor` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Result:
    name: str
    level: Level
    found: str
    """No full stop at its end."""
    next: str = ""
    """What to do, as a sentence; empty when there is nothing to do."""
