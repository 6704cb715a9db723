"""The functions of expressions: the language's own, and the usual text functions.

None knows a clock or chance. Every function is charged for its work before it does it.

`matches` is the one piece of work left to the Rust library `cel`: its regular expressions need linear time,
those of Python can be made to run for hours.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from apps.blueprints.core.cel_values import (
    CelError,
    Meter,
    checked,
    inward,
    is_number,
    kind,
    number_text,
    text,
)

MAX_PATTERN = 300
"""Characters of a regular expression."""

Function = Callable[..., Any]
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_UPPER = {lower: upper for upper, lower in _LOWER.items()}
_DURATION = re.compile(r"([+-])?((?:\d+(?:\.\d+)?(?:ns|us|ms|h|m|s|d))+)")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|h|m|s|d)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TYPE_NAMES: dict[type, str] = {
    bool: "bool", int: "int", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map",
    datetime: "google.protobuf.Timestamp", timedelta: "google.protobuf.Duration",
}  # fmt: skip
_REPEAT = re.compile(r"(\))?\{(\d+)(?:,(\d*))?\}")
_CLASSES = {
    "d": "[0-9]", "w": "[0-9A-Za-z_]", "s": r"[\t\n\f\r ]", "b": r"(?-u:\b)",
    "D": "[^0-9]", "W": "[^0-9A-Za-z_]", "S": r"[^\t\n\f\r ]", "B": r"(?-u:\B)",
}  # fmt: skip
r"""`\d \w \s \b` mean ASCII, as in RE2; the library's own Unicode tables for them cost 1,000 times more."""


@lru_cache(maxsize=1)
def _matcher() -> Any:
    # Imported on first use: the package brings a terminal interface with it, and a restart after a crash has
    # no 0.15 s to give away.
    import cel

    return cel.compile("text.matches(pattern)")


def _needs(value: Any, kinds: type | tuple[type, ...], function: str) -> None:
    # True is an int in Python and not in CEL.
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise CelError(f"{function}() cannot be used on {kind(value)}")


def _size(meter: Meter, value: Any) -> int:
    _needs(value, (str, bytes, list, dict), "size")
    return len(value)


def _contains(meter: Meter, whole: Any, part: Any) -> bool:
    _needs(whole, str, "contains")
    _needs(part, str, "contains")
    meter.work(len(whole) >> 8)
    return part in whole


def _starts(meter: Meter, whole: Any, part: Any) -> bool:
    _needs(whole, str, "startsWith")
    _needs(part, str, "startsWith")
    return bool(whole.startswith(part))


def _ends(meter: Meter, whole: Any, part: Any) -> bool:
    _needs(whole, str, "endsWith")
    _needs(part, str, "endsWith")
    return bool(whole.endswith(part))


def _matches(meter: Meter, whole: Any, pattern: Any) -> bool:
    _needs(whole, str, "matches")
    _needs(pattern, str, "matches")
    if len(pattern) > MAX_PATTERN:
        raise CelError(f"matches() takes a pattern of at most {MAX_PATTERN} characters")
    meter.work(100 + _weight(pattern) + len(whole) // 16)
    ascii_pattern = re.sub(r"\\(.)", lambda m: _CLASSES.get(m[1], m[0]), pattern, flags=re.DOTALL)
    try:
        return bool(_matcher().execute({"text": whole, "pattern": ascii_pattern}))
    except (RuntimeError, ValueError, TypeError):
        raise CelError(f"{pattern!r} is not a regular expression that matches() can use") from None


def _weight(pattern: str) -> int:
    """About what reading the pattern costs, on every call: counted repeats unfold."""
    atoms, groups = len(pattern), 1
    for after_group, low, high in _REPEAT.findall(pattern):
        count = max(int(high or low), 1)
        if after_group:
            groups *= count
        else:
            atoms += count
    wide = 50 if r"\p" in pattern.lower() else 10 if "." in pattern or "[^" in pattern else 1
    return atoms * groups * wide


def _string(meter: Meter, value: Any) -> str:
    if isinstance(value, (list, dict)):
        raise CelError(f"string() cannot be used on {kind(value)}; {{{{ … }}}} inserts it as JSON")
    result = text(value)
    meter.build(len(result))
    return result


def _int(meter: Meter, value: Any) -> int:
    try:
        if isinstance(value, str) and len(value) <= 30 and re.fullmatch(r"\s*[+-]?\d+\s*", value):
            return int(checked(int(value)))
        if isinstance(value, datetime):
            return int(value.timestamp())
        if isinstance(value, timedelta):
            return int(value.total_seconds())
        if is_number(value):
            return int(checked(int(value)))
    except (OverflowError, ValueError):
        pass
    raise CelError(f"int() cannot read {_shown(value)}")


def _uint(meter: Meter, value: Any) -> int:
    number = _int(meter, value)
    if number < 0:
        raise CelError(f"uint() cannot hold {number}")
    return number


def _double(meter: Meter, value: Any) -> float:
    try:
        if is_number(value) or (isinstance(value, str) and len(value) <= 60 and "_" not in value):
            return float(checked(float(value)))
    except ValueError:
        pass
    raise CelError(f"double() cannot read {_shown(value)}")


def _bool(meter: Meter, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise CelError(f"bool() cannot read {_shown(value)}")


def _bytes(meter: Meter, value: Any) -> bytes:
    _needs(value, (str, bytes), "bytes")
    meter.build(len(value))
    return value.encode("utf-8", "replace") if isinstance(value, str) else bytes(value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:39] + "…")
    return number_text(value) if is_number(value) else kind(value)


def _type(meter: Meter, value: Any) -> str:
    if value is None:
        return "null_type"
    return next(name for known, name in _TYPE_NAMES.items() if isinstance(value, known))


def timestamp(meter: Meter, value: Any) -> datetime:
    """A moment from RFC 3339 text or from seconds since 1970. Without an offset it is taken as UTC."""
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and len(value) <= 40:
            moment = datetime.fromisoformat(value.strip())
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if is_number(value):
            return datetime.fromtimestamp(value, UTC)
    except (ValueError, OverflowError, OSError):
        pass
    raise CelError(f"timestamp() cannot read {_shown(value)}; write it like 2026-01-31T12:00:00Z")


def duration(meter: Meter, value: Any) -> timedelta:
    """A span from text such as `1h30m`, `500ms` or `2d`."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and len(value) <= 60 else None
    if match is None:
        raise CelError(f"duration() cannot read {_shown(value)}; write it like 30s, 1h30m or 2d")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(match[2]))
    try:
        return timedelta(seconds=-seconds if match[1] == "-" else seconds)
    except OverflowError:
        raise CelError(f"duration() cannot hold {_shown(value)}") from None


def _part(
    name: str, of_moment: Callable[[datetime], int], of_span: Callable[[timedelta], int] | None = None
) -> Function:
    def read(meter: Meter, value: Any) -> int:
        if isinstance(value, str):
            value = timestamp(meter, value)
        if isinstance(value, datetime):
            return of_moment(value.astimezone(UTC))
        if isinstance(value, timedelta) and of_span is not None:
            return of_span(value)
        raise CelError(f"{name}() cannot be used on {kind(value)}")

    return read


def _lower(meter: Meter, value: Any) -> str:
    _needs(value, str, "lowerAscii")
    meter.build(len(value))
    return str(value).translate(_LOWER)


def _upper(meter: Meter, value: Any) -> str:
    _needs(value, str, "upperAscii")
    meter.build(len(value))
    return str(value).translate(_UPPER)


def _trim(meter: Meter, value: Any) -> str:
    _needs(value, str, "trim")
    meter.build(len(value))
    return str(value.strip())


def _split(meter: Meter, value: Any, separator: Any) -> list[str]:
    _needs(value, str, "split")
    _needs(separator, str, "split")
    meter.build(8 * (value.count(separator) + 1))
    parts = value.split(separator) if separator else list(value)
    meter.build(len(value))
    return list(parts)


def _join(meter: Meter, items: Any, separator: Any = "") -> str:
    _needs(items, list, "join")
    _needs(separator, str, "join")
    meter.work(len(items))
    for item in items:
        if not isinstance(item, str):
            raise CelError(f"join() takes a list of texts, found {kind(inward(item))}; use string()")
        meter.build(len(item) + len(separator))
    return str(separator.join(items))


def _replace(meter: Meter, value: Any, old: Any, new: Any) -> str:
    _needs(value, str, "replace")
    _needs(old, str, "replace")
    _needs(new, str, "replace")
    meter.work(len(value) >> 8)
    meter.build(len(value) + value.count(old) * len(new))
    return str(value.replace(old, new))


def _substring(meter: Meter, value: Any, start: Any, end: Any = None) -> str:
    _needs(value, str, "substring")
    _needs(start, int, "substring")
    end = len(value) if end is None else end
    _needs(end, int, "substring")
    if not 0 <= start <= end <= len(value):
        raise CelError(f"substring({start}, {end}) is outside a text of {len(value)} characters")
    meter.build(end - start)
    return str(value[start:end])


def _index_of(meter: Meter, value: Any, part: Any) -> int:
    _needs(value, str, "indexOf")
    _needs(part, str, "indexOf")
    meter.work(len(value) >> 8)
    return int(value.find(part))


def _dyn(meter: Meter, value: Any) -> Any:
    return value


GLOBAL: dict[str, tuple[Function, int, int]] = {
    "size": (_size, 1, 1),
    "string": (_string, 1, 1),
    "int": (_int, 1, 1),
    "uint": (_uint, 1, 1),
    "double": (_double, 1, 1),
    "bool": (_bool, 1, 1),
    "bytes": (_bytes, 1, 1),
    "type": (_type, 1, 1),
    "dyn": (_dyn, 1, 1),
    "timestamp": (timestamp, 1, 1),
    "duration": (duration, 1, 1),
    "matches": (_matches, 2, 2),
}
"""Function name → (function, fewest, most arguments)."""

METHODS: dict[str, tuple[Function, int, int]] = {
    "size": (_size, 0, 0),
    "contains": (_contains, 1, 1),
    "startsWith": (_starts, 1, 1),
    "endsWith": (_ends, 1, 1),
    "matches": (_matches, 1, 1),
    "lowerAscii": (_lower, 0, 0),
    "upperAscii": (_upper, 0, 0),
    "trim": (_trim, 0, 0),
    "split": (_split, 1, 1),
    "join": (_join, 0, 1),
    "replace": (_replace, 2, 2),
    "substring": (_substring, 1, 2),
    "indexOf": (_index_of, 1, 1),
    "getFullYear": (_part("getFullYear", lambda m: m.year), 0, 0),
    "getMonth": (_part("getMonth", lambda m: m.month - 1), 0, 0),
    "getDate": (_part("getDate", lambda m: m.day), 0, 0),
    "getDayOfMonth": (_part("getDayOfMonth", lambda m: m.day - 1), 0, 0),
    "getDayOfWeek": (_part("getDayOfWeek", lambda m: (m.weekday() + 1) % 7), 0, 0),
    "getDayOfYear": (_part("getDayOfYear", lambda m: m.timetuple().tm_yday - 1), 0, 0),
    "getHours": (_part("getHours", lambda m: m.hour, lambda d: int(d.total_seconds() // 3600)), 0, 0),
    "getMinutes": (_part("getMinutes", lambda m: m.minute, lambda d: int(d.total_seconds() // 60)), 0, 0),
    "getSeconds": (_part("getSeconds", lambda m: m.second, lambda d: int(d.total_seconds())), 0, 0),
    "getMilliseconds": (
        _part("getMilliseconds", lambda m: m.microsecond // 1000, lambda d: d.microseconds // 1000), 0, 0
    ),
}  # fmt: skip
"""Method name → (function, fewest, most arguments besides the target)."""
