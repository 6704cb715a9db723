"""A person's changes to a proposal: merged, typed, checked before anything closes.

An edit is a JSON merge patch (RFC 7396): objects merge, every other value replaces, null removes. The result
must satisfy the schema of the proposed tool, or keep the types of the proposal where there is no schema, so
that a wrong answer brings the form back and never fails the run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jsonschema
from jsonschema.exceptions import SchemaError

from apps.blueprints.core.patterns import validator_of
from apps.runs.core.checks import words_for

MAX_PROBLEMS = 50


def merge(proposal: Any, edits: Any) -> Any:
    """The proposal with the edits laid over it; neither is changed. Source: RFC 7396."""
    if not isinstance(edits, Mapping):
        return edits
    merged = dict(proposal) if isinstance(proposal, Mapping) else {}
    for key, value in edits.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def patch_between(before: Any, after: Any) -> Any:
    """The merge patch that turns one value into the other, for a form that edits a whole object.

    `merge(before, patch_between(before, after)) == after`, as far as RFC 7396 can say it: a member that is
    null in `after` is removed.
    """
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        if name not in before or not _same(before[name], value):
            patch[name] = patch_between(before.get(name), value)
    return patch


def changed_fields(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Top-level arguments that differ, in the order of the result, removed ones last."""
    missing = object()
    return [
        key
        for key in [*after, *(k for k in before if k not in after)]
        if not _same(before.get(key, missing), after.get(key, missing))
    ]


def problems(value: Any, schema: Mapping[str, Any] | None) -> dict[str, str]:
    """What keeps a value from being used, by path (`lines[0].amount`); empty when it can be."""
    if not schema:
        return {}
    found: dict[str, str] = {}
    try:
        validator = validator_of(schema)
        for error in validator.iter_errors(value):
            path = _path(error.absolute_path)
            if error.validator == "required" and isinstance(error.instance, Mapping):
                for name in list(error.schema["required"]):
                    if name not in error.instance:
                        found.setdefault(f"{path}.{name}".lstrip("."), "is required")
            else:
                found.setdefault(path, _sentence(error))
            if len(found) >= MAX_PROBLEMS:
                break
    except SchemaError as exc:
        found[""] = f"the schema of this question is not valid: {exc.message}"
    return found


def edit_problems(
    proposal: Mapping[str, Any], final: Any, schema: Mapping[str, Any] | None
) -> dict[str, str]:
    """Everything wrong with edited arguments, by path.

    Besides the schema: fields nobody declared are refused, and where a field has no schema it keeps the type
    the proposal gave it (an amount of 12 never becomes the text "12").
    """
    if not isinstance(final, Mapping):
        return {"": "must be an object with the arguments by name"}
    found = problems(final, schema)
    declared = dict((schema or {}).get("properties") or {})
    for name, value in final.items():
        if name in found:
            continue
        if name not in declared and name not in proposal:
            known = ", ".join(sorted({*declared, *proposal})) or "none"
            found[name] = f"is not an argument of this action; known are: {known}"
        elif name not in declared and name in proposal and proposal[name] is not None:
            expected, given = type_name(proposal[name]), type_name(value)
            if expected != given:
                found[name] = f"must stay of type {expected}, found {given}"
    return found


def type_name(value: Any) -> str:
    """The JSON type of a value; a whole number is a number."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, Mapping) else "array"


def _same(left: Any, right: Any) -> bool:
    # 1 == True in Python, not in JSON.
    if isinstance(left, bool) is not isinstance(right, bool):
        return False
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left) and math.isnan(right):
        return True
    return bool(left == right)


def _path(parts: Iterable[str | int]) -> str:
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _sentence(error: jsonschema.ValidationError) -> str:
    if error.validator == "type":
        wanted = error.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return f"must be of type {wanted}, found {type_name(error.instance)}"
    if error.validator == "enum":
        allowed: Any = error.validator_value
        return "must be one of " + ", ".join(str(v) for v in allowed)
    if error.validator == "minLength" and error.validator_value == 1:
        return "must not be empty"
    said = words_for(error)
    return f"does not fit: {said[:1].lower()}{said[1:]}".rstrip(".")
