"""Which schemas are narrow enough that no instruction fits through: the idea behind `extract`.

A model without tools, forced into enumerations, numbers, dates and ids, cannot pass on what an untrusted text
tells it to. Free text can; a schema with any of it keeps its labels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_NARROW_FORMATS = frozenset({"date", "date-time", "time", "uuid", "duration"})
MAX_ID_LENGTH = 64


def cleans(schema: Mapping[str, Any]) -> bool:
    """Whether every value such a schema admits is enumerated, numeric, a date, a boolean or an id."""
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
        return isinstance(schema.get("items"), Mapping) and cleans(schema["items"])
    if kind == "object":
        closed = schema.get("additionalProperties") is False
        return closed and all(cleans(part) for part in schema.get("properties", {}).values())
    return False


def _is_id(schema: Mapping[str, Any]) -> bool:
    """A short string bound to a pattern without spaces and without a wildcard."""
    pattern = schema.get("pattern", "")
    bounded = isinstance(schema.get("maxLength"), int) and schema["maxLength"] <= MAX_ID_LENGTH
    anchored = pattern.startswith("^") and pattern.endswith("$")
    return bounded and anchored and not re.search(r"(?<!\\)\.|\\s|\\S|\\W|\\D| |\[\^", pattern)
