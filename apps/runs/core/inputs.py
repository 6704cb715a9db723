"""Inputs of a run against the contract's JSON Schema, with `format: file` and `files` for documents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jsonschema import FormatChecker
from referencing.exceptions import Unresolvable

from apps.blueprints.core.patterns import validator_of
from apps.runs.core.checks import words_for

FILE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["id", "name", "sha256", "media_type", "size"],
    "properties": {"id": {"type": "string"}, "name": {"type": "string"}},
}


def resolve_files(
    schema: dict[str, Any], inputs: dict[str, Any], value_of: Callable[[str], dict[str, Any] | None]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Replace file ids by file values, as the schema's `format: file|files` says.

    value_of: a file's value by id, None when there is none for this person.
    Returns (inputs, problems by input name). Defaults of the schema are filled in on the way.
    """
    values, problems = dict(inputs), {}
    for name, part in (schema.get("properties") or {}).items():
        if not isinstance(part, dict):
            continue
        if name not in values:
            if "default" in part:
                values[name] = part["default"]
            continue
        kind = part.get("format")
        if kind == "file" and values[name] is not None:
            value = _file(values[name], value_of)
            if value is None:
                problems[name] = f'Input "{name}": no file {_id(values[name])!r}.'
            values[name] = value
        elif kind == "files":
            given = values[name] if isinstance(values[name], list) else [values[name]]
            files = [_file(item, value_of) for item in given]
            missing = [str(_id(item)) for item, value in zip(given, files, strict=True) if value is None]
            if missing:
                problems[name] = f'Input "{name}": no file {", ".join(missing)}.'
            values[name] = [f for f in files if f is not None]
    return values, problems


def _id(item: Any) -> Any:
    return item.get("id") if isinstance(item, dict) else item


def _file(item: Any, value_of: Callable[[str], dict[str, Any] | None]) -> dict[str, Any] | None:
    return value_of(str(_id(item)))


def input_problems(schema: dict[str, Any], values: dict[str, Any]) -> dict[str, str]:
    """One sentence per input that does not fit, by dotted path; empty when all fit."""
    if not schema:
        return {}
    validator = validator_of(_with_file_types(schema), FormatChecker())
    problems: dict[str, str] = {}
    try:
        errors = list(validator.iter_errors(values))
    except (Unresolvable, RecursionError) as exc:
        return {"inputs": f"The contract's schema of inputs cannot be used ({type(exc).__name__})."}
    for error in errors:
        if error.validator == "required":
            for name in error.validator_value:
                if isinstance(error.instance, dict) and name not in error.instance:
                    path = ".".join([*map(str, error.absolute_path), name])
                    problems.setdefault(path, f'Input "{path}" is missing.')
            continue
        path = ".".join(map(str, error.absolute_path))
        if error.validator == "additionalProperties" and not path and error.validator_value is False:
            known = list(schema.get("properties") or {})
            for name in [n for n in values if n not in known]:
                listed = f"; known are: {', '.join(known)}" if known else ""
                problems.setdefault(str(name), f'Input "{name}" is not one of the blueprint\'s{listed}.')
            continue
        problems.setdefault(path or "inputs", f'Input "{path or "inputs"}": {words_for(error)}')
    return problems


def _with_file_types(schema: dict[str, Any]) -> dict[str, Any]:
    properties = {}
    for name, part in (schema.get("properties") or {}).items():
        if isinstance(part, dict) and part.get("format") == "file":
            properties[name] = (
                {"anyOf": [FILE_SCHEMA, {"type": "null"}]} if part.get("nullable") else FILE_SCHEMA
            )
        elif isinstance(part, dict) and part.get("format") == "files":
            extra = {k: v for k, v in part.items() if k in ("minItems", "maxItems")}
            properties[name] = {"type": "array", "items": FILE_SCHEMA, **extra}
        else:
            properties[name] = part
    return {**schema, "properties": properties}
