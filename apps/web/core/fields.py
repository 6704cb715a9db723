"""Form fields from a JSON Schema, and JSON values from what a form sent.

Pure both ways: no uploads, no database. A file field's values are ids, put in by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from apps.web.core.words import humanise

LONG_TEXT = 80
MISSING = object()
Getter = Callable[[str], list[str]]
"""All values a form sent under one name; an empty list when the name was not sent."""


@dataclass(frozen=True)
class Field:
    """One input of a form. `name` is its path in the value (`address.city`), `id` what HTML calls it."""

    name: str
    label: str
    widget: str
    """text, textarea, number, tick, choice, date, moment, email, file, files, lines, json, group"""
    required: bool = False
    hint: str = ""
    value: Any = ""
    error: str = ""
    options: tuple[tuple[str, str], ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    """HTML attributes that help before the server checks: min, max, step, maxlength."""
    fields: tuple[Field, ...] = ()
    labels: tuple[str, ...] = ()
    """Where the value came from, for an approval."""
    kept: tuple[Mapping[str, Any], ...] = ()
    """Files already stored by an earlier try of the same form."""

    @property
    def id(self) -> str:
        return "in-" + self.name.replace(".", "-")

    @property
    def key(self) -> str:
        return "in." + self.name


def widget_of(schema: Mapping[str, Any], value: Any = None) -> str:
    """Which input suits a schema; a value helps where the schema says little."""
    form = schema.get("format")
    if form in ("file", "files"):
        return str(form)
    items = schema.get("items")
    if isinstance(items, Mapping) and items.get("format") == "file":
        return "files"
    if "enum" in schema:
        return "choice"
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "string")
    if kind == "boolean":
        return "tick"
    if kind in ("number", "integer"):
        return "number"
    if kind == "object":
        return "group" if schema.get("properties") else "json"
    if kind == "array":
        plain = isinstance(items, Mapping) and items.get("type") in ("string", "number", "integer")
        return "lines" if plain or (items is None and _is_text_list(value)) else "json"
    if kind is None and value is not None and not isinstance(value, str):
        return widget_of({"type": _type_name(value)}, value)
    if form in ("date", "email"):
        return str(form)
    if form == "date-time":
        return "moment"
    long = isinstance(value, str) and (len(value) > LONG_TEXT or "\n" in value)
    return "textarea" if long or form in ("multiline", "markdown") else "text"


def _is_text_list(value: Any) -> bool:
    return isinstance(value, Sequence) and all(isinstance(v, str) and "\n" not in v for v in value)


def _type_name(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    return "array" if isinstance(value, list) else "object"


def draw(
    schema: Mapping[str, Any],
    values: Mapping[str, Any],
    errors: Mapping[str, str],
    *,
    prefix: str = "",
) -> tuple[Field, ...]:
    """The fields of an object schema, filled with values and with errors at their field."""
    required = set(schema.get("required") or ())
    drawn = []
    for name, part in (schema.get("properties") or {}).items():
        drawn.append(draw_one(prefix + name, part or {}, values.get(name, MISSING), errors, name in required))
    return tuple(drawn)


def draw_one(
    path: str,
    schema: Mapping[str, Any],
    value: Any,
    errors: Mapping[str, str],
    required: bool = False,
    labels: Sequence[str] = (),
) -> Field:
    if value is MISSING:
        value = schema.get("default")
    widget = widget_of(schema, value)
    name = path.rpartition(".")[2]
    parts: tuple[Field, ...] = ()
    if widget == "group":
        inner = value if isinstance(value, Mapping) else {}
        parts = draw(schema, inner, errors, prefix=path + ".")
    limits = {
        attribute: str(schema[key])
        for key, attribute in (("minimum", "min"), ("maximum", "max"), ("maxLength", "maxlength"))
        if key in schema
    }
    if widget == "number":
        limits["step"] = "1" if schema.get("type") == "integer" else "any"
    options = tuple((_shown(option), _shown(option)) for option in schema.get("enum") or ())
    return Field(
        name=path,
        label=str(schema.get("title") or humanise(name)),
        widget=widget,
        required=required,
        hint=str(schema.get("description") or ""),
        value=_as_text(value, widget),
        error=errors.get(path, ""),
        options=options,
        limits=limits,
        fields=parts,
        labels=tuple(labels),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_text(value: Any, widget: str) -> Any:
    if widget in ("file", "files", "group"):
        return ""
    if widget == "tick":
        return bool(value)
    if value is None:
        return ""
    if widget == "lines" and isinstance(value, list):
        return "\n".join(_shown(v) for v in value)
    if widget == "json":
        return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return value if isinstance(value, str) else _shown(value)


def read(
    schema: Mapping[str, Any], sent: Getter, *, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, str]]:
    """The value a form sent for an object schema, and what could not be read, by path.

    A field left empty is left out; a required one that is empty is an error. Everything else (lengths,
    patterns) is checked by the service, against the same schema.
    """
    required = set(schema.get("required") or ())
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, part in (schema.get("properties") or {}).items():
        path = prefix + name
        try:
            found = read_one(path, part or {}, sent, errors)
        except ValueError as wrong:
            errors[path] = str(wrong)
            continue
        if found is not MISSING:
            values[name] = found
        elif name in required and path not in errors:
            errors[path] = "Choose a file." if widget_of(part or {}) in ("file", "files") else "Fill this in."
    return values, errors


def read_one(
    path: str, schema: Mapping[str, Any], sent: Getter, errors: dict[str, str], current: Any = None
) -> Any:
    """One field's value or MISSING. Raises ValueError with a sentence for the person."""
    widget = widget_of(schema, current)
    given = sent("in." + path)
    if widget == "group":
        inner, wrong = read(schema, sent, prefix=path + ".")
        errors.update(wrong)
        return inner if inner or wrong else MISSING
    if widget == "tick":
        return bool(given) if sent(f"in.{path}.shown") or given else MISSING
    if widget == "files":
        return given or MISSING
    text = given[0] if given else ""
    text = text.replace("\r\n", "\n")
    if widget not in ("textarea", "lines", "json") and not (widget == "text" and isinstance(current, str)):
        text = text.strip()
    if text == "":
        return MISSING
    if widget == "number":
        return _number(text, whole=schema.get("type") == "integer")
    if widget == "choice":
        return _chosen(text, schema["enum"])
    if widget == "date":
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            raise ValueError(f"“{text}” is not a date such as 2026-04-30.") from None
    if widget == "lines":
        return _lines(text, schema)
    if widget == "json":
        try:
            return json.loads(text, parse_constant=_refuse)
        except RecursionError:
            raise ValueError("This is nested too deep.") from None
        except ValueError as wrong:
            raise ValueError(f"This is not JSON: {wrong}.") from None
    return text


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def _number(text: str, *, whole: bool) -> int | float:
    try:
        number = float(text.replace(",", ".") if text.count(",") == 1 and "." not in text else text)
        if number != number or number in (float("inf"), float("-inf")):
            raise ValueError
    except ValueError:
        raise ValueError(f"“{text}” is not a number.") from None
    if number.is_integer() and (whole or "." not in text):
        return int(number)
    if whole:
        raise ValueError(f"“{text}” is not a whole number.")
    return number


def _chosen(text: str, options: Sequence[Any]) -> Any:
    for option in options:
        if _shown(option) == text:
            return option
    raise ValueError(f"“{text}” is not one of the choices.")


def _lines(text: str, schema: Mapping[str, Any]) -> list[Any]:
    items = schema.get("items") or {}
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if items.get("type") in ("number", "integer"):
        return [_number(line, whole=items["type"] == "integer") for line in lines]
    return lines
