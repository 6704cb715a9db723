"""A JSON Schema of an object as a list of fields a person can edit: name, type, needed, description.

What the list cannot say stays as it is: a change of one row leaves every other key of the schema alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apps.web.core.inspector.inputs import MISSING, Input, Path, Unreadable, Value

DEEPEST = 3
TYPES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("text", {"type": "string"}),
    "long": ("long text", {"type": "string", "format": "multiline"}),
    "number": ("number", {"type": "number"}),
    "whole": ("whole number", {"type": "integer"}),
    "yes": ("yes or no", {"type": "boolean"}),
    "choice": ("one of a list", {"type": "string", "enum": []}),
    "date": ("date", {"type": "string", "format": "date"}),
    "moment": ("date and time", {"type": "string", "format": "date-time"}),
    "email": ("e-mail address", {"type": "string", "format": "email"}),
    "texts": ("list of texts", {"type": "array", "items": {"type": "string"}}),
    "list": ("list", {"type": "array"}),
    "objects": ("list of objects", {"type": "array", "items": {"type": "object", "properties": {}}}),
    "object": ("object", {"type": "object", "properties": {}}),
    "file": ("file", {"format": "file"}),
    "files": ("files", {"format": "files"}),
    "any": ("anything", {}),
}
_KEPT = ("title", "description")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def type_of(schema: Any) -> str:
    """Which of TYPES a schema is; "" for one the list has no word for."""
    if not isinstance(schema, Mapping):
        return ""
    kind, form = schema.get("type"), schema.get("format")
    if form in ("file", "files"):
        return str(form)
    if isinstance(kind, list):
        return ""
    if isinstance(schema.get("enum"), list):
        return (
            "choice" if kind in ("string", None) and all(isinstance(v, str) for v in schema["enum"]) else ""
        )
    if kind == "string":
        named = {
            "multiline": "long",
            "markdown": "long",
            "date": "date",
            "date-time": "moment",
            "email": "email",
        }
        return named.get(str(form), "text")
    if kind == "array":
        items = schema.get("items")
        inner = items.get("type") if isinstance(items, Mapping) else None
        return {"string": "texts", "object": "objects"}.get(str(inner), "list")
    simple = {"number": "number", "integer": "whole", "boolean": "yes", "object": "object"}
    if kind is None:
        return "any" if not set(schema) - set(_KEPT) - {"default"} else ""
    return simple.get(str(kind), "")


def of_type(schema: Any, key: str) -> dict[str, Any]:
    """A schema of another type that keeps what it is called and what is said of it."""
    if key not in TYPES:
        raise Unreadable(f"“{key}” is not one of the types.")
    kept = (
        {k: v for k, v in schema.items() if k in _KEPT or k.startswith("x-")}
        if isinstance(schema, dict)
        else {}
    )
    fresh = {k: ({} if v == {} else [] if v == [] else v) for k, v in TYPES[key][1].items()}
    return {**fresh, **kept}


def schema_input(
    path: Path, label: str, value: Value, *, hint: str = "", enforces: str = "", depth: int = 0
) -> Input:
    """The list of fields of an object schema, and the schema itself as JSON beside it."""
    raw = Input(
        (*path,), "json", "As JSON", value=value, aspect="json", schema={"type": "object"}, reshapes=True
    )
    rows: tuple[Input, ...] = ()
    shown = value is MISSING or value is None or _is_object(value)
    if shown and depth < DEEPEST:
        properties = value.get("properties") if isinstance(value, dict) else {}
        required = value.get("required") if isinstance(value, dict) else []
        needed = required if isinstance(required, list) else []
        if isinstance(properties, dict):
            rows = tuple(
                _row((*path, "properties", name), name, part, name in needed, depth)
                for name, part in properties.items()
                if isinstance(name, str)
            )
        else:
            shown = False
    return Input(
        path,
        "schema",
        label,
        value,
        hint=hint,
        enforces=enforces,
        inputs=(*rows, raw),
        noun="field",
        closed=not shown,
    )


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and (
        value.get("type") == "object" or ("type" not in value and not set(value) - {"properties", "required"})
    )


def _row(path: Path, name: str, schema: Any, needed: bool, depth: int) -> Input:
    part = schema if isinstance(schema, dict) else {}
    key = type_of(schema)
    options = tuple((k, words) for k, (words, _) in TYPES.items())
    if not key:
        options += (("", "something else"),)
    inputs = [
        Input(path, "text", "Name", name, aspect="key", required=True, reshapes=True),
        Input(path, "choice", "Type", key, aspect="type", options=options, required=True, reshapes=True),
        Input(path, "tick", "Needed", needed, False, aspect="required"),
        Input((*path, "description"), "text", "Description", part.get("description", MISSING)),
        Input((*path, "title"), "text", "Label", part.get("title", MISSING)),
    ]
    if key == "choice":
        inputs.append(Input((*path, "enum"), "lines", "Choices", part["enum"], hint="One per line."))
    if key == "object" and depth + 1 < DEEPEST:
        inputs.append(schema_input(path, f"Fields of {name}", schema, depth=depth + 1))
    if key == "objects" and depth + 1 < DEEPEST:
        inputs.append(
            schema_input((*path, "items"), f"Fields of each of {name}", part["items"], depth=depth + 1)
        )
    return Input(path, "group", name, schema, inputs=tuple(inputs), aspect="row", noun="field")


# --- changes of a schema ------------------------------------------------------------------------------------


def with_type(schema: Any, key: Value) -> dict[str, Any]:
    return of_type(schema, str(key)) if key else dict(schema) if isinstance(schema, dict) else {}


def with_required(schema: Any, name: str, needed: bool) -> dict[str, Any]:
    """An object schema in which one property is needed, or is not."""
    made = dict(schema) if isinstance(schema, dict) else {}
    listed = made.get("required")
    names = [n for n in listed if n != name] if isinstance(listed, list) else []
    if needed:
        known = list(made.get("properties") or ())
        names.append(name)
        names.sort(key=lambda n: known.index(n) if n in known else len(known))
    if names or listed is not None:
        made["required"] = names
    return made


def with_name(schema: Any, name: str, to: Value) -> dict[str, Any]:
    """An object schema with one property called otherwise, needed or not as before. Raises Unreadable."""
    made = dict(schema) if isinstance(schema, dict) else {}
    properties = made.get("properties") or {}
    new = checked_name("" if to is MISSING else to, [n for n in properties if n != name])
    made["properties"] = {(new if n == name else n): part for n, part in properties.items()}
    if isinstance(made.get("required"), list):
        made["required"] = [new if n == name else n for n in made["required"]]
    return made


def with_field(schema: Any) -> tuple[dict[str, Any], str]:
    """An object schema with one more text field, and what that is called."""
    made = dict(schema) if isinstance(schema, dict) else {}
    made.setdefault("type", "object")
    properties = dict(made.get("properties") or {}) if isinstance(made.get("properties"), dict) else {}
    name, count = "field", 1
    while name in properties:
        count += 1
        name = f"field_{count}"
    made["properties"] = {**properties, name: {"type": "string"}}
    return made, name


def without_field(schema: Any, name: str) -> dict[str, Any]:
    made = dict(schema) if isinstance(schema, dict) else {}
    if isinstance(made.get("properties"), dict):
        made["properties"] = {n: part for n, part in made["properties"].items() if n != name}
    if isinstance(made.get("required"), list):
        made["required"] = [n for n in made["required"] if n != name]
    return made


def checked_name(text: Any, taken: list[str]) -> str:
    """A name for a field or an entry. Raises Unreadable in words."""
    name = str(text).strip()
    if not name:
        raise Unreadable("Write a name first: letters, digits and _, beginning with a letter.")
    if not _NAME.fullmatch(name):
        raise Unreadable(f"“{name}” cannot be a name. Write letters, digits and _, beginning with a letter.")
    if name in taken:
        raise Unreadable(f"There is “{name}” already. Choose another name.")
    return name
