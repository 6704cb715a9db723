"""Fill a read tool's arguments by name and type from what a step sees; for the offline model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.agents.core.evidence import Evidence
from apps.blueprints.core.patterns import validator_of

QUESTIONS = ("query", "question", "search", "q", "text", "keywords", "terms")
MAX_QUERY = 500


def fill_arguments(parameters: Mapping[str, Any], evidence: Evidence) -> dict[str, Any] | None:
    """Arguments that fit the schema, or None when a required one cannot be filled.

    An argument takes the value of the same name; a search text takes the step's question with its entity
    first; a single file or list of files goes where a file is wanted. Optional ones are filled only by name.
    """
    properties: Mapping[str, Any] = parameters.get("properties", {})
    required = parameters.get("required", [])
    given: dict[str, Any] = {}
    for name, schema in properties.items():
        found = _value(name, schema, evidence, needed=name in required)
        if found is not None:
            given[name] = found
        elif name in required:
            return None
    if any(name not in properties for name in required):
        return None
    return given if validator_of(parameters).is_valid(given) else None


def _value(name: str, schema: Mapping[str, Any], evidence: Evidence, *, needed: bool) -> Any:
    fits = validator_of(schema).is_valid
    for fact in evidence.facts:
        if fact.name == name and fact.value not in (None, "", []) and fits(fact.value):
            return fact.value
    if not needed:
        return None
    if name in QUESTIONS:
        text = " ".join([*evidence.entities, evidence.question]).strip()[:MAX_QUERY]
        return text if text and fits(text) else None
    if (
        name in ("company", "customer", "account", "client", "name")
        and evidence.entities
        and fits(evidence.entities[0])
    ):
        return evidence.entities[0]
    if name in ("document", "file", "document_id", "file_id"):
        for passage in evidence.passages:
            if passage.document and fits(passage.identity):
                return passage.identity
    files = [f.value for f in evidence.facts if _is_file(f.value)]
    lists = [
        f.value
        for f in evidence.facts
        if isinstance(f.value, list) and f.value and all(map(_is_file, f.value))
    ]
    for candidates in (files, lists):
        fitting = [v for v in candidates if fits(v)]
        if len(fitting) == 1 and (_is_file(fitting[0]) or schema.get("type") == "array"):
            return fitting[0]
    return None


def _is_file(value: Any) -> bool:
    return isinstance(value, Mapping) and {"id", "name", "sha256"} <= set(value)
