"""The blueprint format as a JSON Schema (draft 2020-12), for editors and other programs."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise
from typing import Any

from apps.blueprints.core import document
from apps.blueprints.core.document import Document
from apps.blueprints.core.kinds import RUNNABLE, fields

SCHEMA_ID = "urn:mirrorneuron:v1:blueprint"
_DURATION: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*(ms|s|m|h|d)\s*$"},
        {"type": "number", "minimum": 0},
    ],
    "examples": ["500ms", "30s", "5m", "4h", "2d"],
}


@cache
def _schema() -> dict[str, Any]:
    schema = Document.model_json_schema(by_alias=True, mode="validation")
    _describe(schema)
    _spell_durations(schema)
    node = schema["$defs"]["Node"]
    node["x-fields-of-kind"] = {kind: sorted(fields(kind)) for kind in node["properties"]["kind"]["enum"]}
    node["x-runnable-kinds"] = sorted(RUNNABLE)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **schema}


def blueprint_schema() -> dict[str, Any]:
    """The schema published at `/api/v1/schema/blueprint.json` and written by `mn schema`; read-only.

    It says what fits; what makes sense (`validate`) needs more than a schema. `x-fields-of-kind` lists which
    fields each kind of node uses.
    """
    return _schema()


def _describe(schema: dict[str, Any]) -> None:
    """Give every field its docstring."""
    parts = {"Document": schema, **schema["$defs"]}
    for part in ast.parse(inspect.getsource(document)).body:
        if not isinstance(part, ast.ClassDef) or part.name not in parts:
            continue
        fields_of = getattr(document, part.name).model_fields
        for field, told in pairwise(part.body):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant):
                name = field.target.id
                shown = parts[part.name]["properties"][fields_of[name].alias or name]
                shown.setdefault("description", inspect.cleandoc(str(told.value.value)))


def _spell_durations(value: Any) -> None:
    """People write durations as text; pydantic only knows the seconds they become."""
    if isinstance(value, dict):
        for key, item in list(value.items()):
            if isinstance(item, dict) and item.get("examples") == _DURATION["examples"]:
                kept = {k: v for k, v in item.items() if k in ("title", "description", "default")}
                value[key] = {**_DURATION, **kept}
            else:
                _spell_durations(item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict) and item.get("examples") == _DURATION["examples"]:
                value[index] = dict(_DURATION)
            else:
                _spell_durations(item)
