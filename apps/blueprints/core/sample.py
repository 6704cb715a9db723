"""A small value of the shape a JSON Schema describes, for simulated runs and examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sample(schema: Mapping[str, Any], depth: int = 0) -> Any:
    """The schema's own example where it gives one, else the smallest of its kind, else None."""
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    if schema.get("enum"):
        return schema["enum"][0]
    if schema.get("examples"):
        return schema["examples"][0]
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind == "object" or (kind is None and "properties" in schema):
        if depth > 8:
            return {}
        return {name: sample(part, depth + 1) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema["items"], depth + 1)] if schema.get("items") and depth <= 8 else []
    return {"string": "simulated", "integer": 0, "number": 0, "boolean": False}.get(str(kind))
