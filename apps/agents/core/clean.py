"""Which schemas are narrow enough that no instruction fits through: the idea behind `extract`.

A model without tools, forced into enumerations, numbers, dates and ids, cannot pass on what an untrusted text
tells it to. Free text can; a schema with any of it keeps its labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import Any
from uuid import UUID

from jsonschema import FormatChecker

from apps.blueprints.core.patterns import validator_of

MAX_ID_LENGTH = 64
_ID = re.compile(
    r"\^(?:[A-Za-z0-9_-]|\\[dw-]|[()|?+*]|\{\d+(?:,\d*)?\}"
    r"|\[(?:[a-z]-[a-z]|[A-Z]-[A-Z]|[0-9]-[0-9]|[A-Za-z0-9_]|\\[dw-]|-(?=\]))+\])+\$"
)
"""Patterns that admit letters, digits, `_` and `-` only: an address or a sentence fits through no other."""
_DURATION = re.compile(r"P(?=[\dT])(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
_FORMATS = FormatChecker(formats=())
"""Strict, and all there: the library leaves some formats unchecked unless further packages are installed."""


def _reads(read: Any) -> Any:
    def check(value: Any) -> bool:
        if not isinstance(value, str):
            return True
        try:
            return bool(value.isascii() and read(value))
        except ValueError:
            return False

    return check


_FORMATS.checks("date")(_reads(date.fromisoformat))
_FORMATS.checks("date-time")(_reads(datetime.fromisoformat))
_FORMATS.checks("time")(_reads(lambda text: str(time.fromisoformat(text))))
_FORMATS.checks("uuid")(_reads(UUID))
_FORMATS.checks("duration")(_reads(_DURATION.fullmatch))
_NARROW_FORMATS = frozenset(_FORMATS.checkers)


def is_clean(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether no instruction can be in a value: its schema is narrow, and the value fits it, formats too."""
    return cleans(schema) and bool(validator_of(schema, _FORMATS).is_valid(value))


def cleans(schema: Any) -> bool:
    """Whether every value such a schema admits is enumerated, numeric, a date, a boolean or an id."""
    if not isinstance(schema, Mapping):
        return schema is False
    if "const" in schema or schema.get("enum"):
        return True
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return all(cleans(part) for part in schema[key])
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or ())
    return bool(kinds) and all(_narrow(kind, schema) for kind in kinds)


def _narrow(kind: str, schema: Mapping[str, Any]) -> bool:
    if kind in ("number", "integer", "boolean", "null"):
        return True
    if kind == "string":
        return schema.get("format") in _NARROW_FORMATS or _is_id(schema)
    if kind == "array":
        first = schema.get("prefixItems") or ()
        return isinstance(schema.get("items"), Mapping) and all(map(cleans, [*first, schema["items"]]))
    if kind == "object":
        # Names that a pattern admits are free text, too.
        closed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
        return closed and all(cleans(part) for part in schema.get("properties", {}).values())
    return False


def _is_id(schema: Mapping[str, Any]) -> bool:
    """A short string bound from end to end to a pattern of nothing but letters, digits, `_` and `-`."""
    pattern = schema.get("pattern", "")
    bounded = isinstance(schema.get("maxLength"), int) and schema["maxLength"] <= MAX_ID_LENGTH
    return bounded and _ID.fullmatch(pattern) is not None and not _has_open_choice(pattern)


def _has_open_choice(pattern: str) -> bool:
    """`^a|b$` is bound at one end of each choice only; inside brackets it is bound by what is around."""
    depth = 0
    for c in pattern:
        depth += (c == "(") - (c == ")")
        if c == "|" and depth == 0:
            return True
    return False
