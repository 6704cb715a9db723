"""Durations as people write them: `500ms 30s 5m 4h 2d`."""

from __future__ import annotations

import re

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*$")


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError that shows the allowed forms."""
    match = _PATTERN.match(text)
    if not match:
        raise ValueError(f"{text!r} is not a duration; write it like 500ms, 30s, 5m, 4h or 2d")
    return float(match[1]) * UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """The shortest exact text: `90s`, `4h`."""
    for unit in ("d", "h", "m", "s"):
        if seconds >= UNITS[unit] and seconds % UNITS[unit] == 0:
            return f"{int(seconds / UNITS[unit])}{unit}"
    return f"{round(seconds * 1000)}ms" if seconds < 1 else f"{seconds:g}s"
