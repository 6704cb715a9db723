"""The form that tells a run what it waits for, made from the waiting step's schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from django.http import HttpRequest

from apps.web.core.fields import MISSING, Field, draw, draw_one, read, read_one

WHOLE = "body"
"""Name of the one field, where the schema names none."""


@dataclass(frozen=True)
class Awaited:
    """A signal a step waits for, with the form to send it."""

    step: str
    signal: str
    fields: tuple[Field, ...]
    key: str
    """One form sends one signal, however often its button is pressed."""


def awaited_form(
    waits: Mapping[str, Any], values: Any = None, errors: Mapping[str, str] | None = None, key: str = ""
) -> Awaited:
    """waits: as `signals.awaited` gives it. values, errors: what was sent, and what is wrong with it."""
    schema, errors = waits["schema"] or {}, errors or {}
    fields: tuple[Field, ...]
    if _has_names(schema):
        fields = draw(schema, values if isinstance(values, Mapping) else {}, errors)
    else:
        one = draw_one(WHOLE, _whole(schema), MISSING if values is None else values, errors)
        fields = (replace(one, label=schema.get("title") or "What to tell it"),)
    return Awaited(waits["step"], waits["signal"], fields, key or uuid4().hex)


def read_signal(request: HttpRequest, waits: Mapping[str, Any]) -> tuple[Any, dict[str, str]]:
    """The body a form sent, and what could not be read, by path."""
    schema: dict[str, Any] = waits["schema"] or {}
    errors: dict[str, str] = {}
    if _has_names(schema):
        return read(schema, request.POST.getlist)
    try:
        body = read_one(WHOLE, _whole(schema), request.POST.getlist, errors)
    except ValueError as wrong:
        return request.POST.get(f"in.{WHOLE}", ""), {WHOLE: str(wrong)}
    return None if body is MISSING else body, errors


def _has_names(schema: Mapping[str, Any]) -> bool:
    return bool(schema.get("properties"))


def _whole(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Where nothing is said about the body, it is JSON."""
    return dict(schema) if schema.get("type") or schema.get("enum") else {**schema, "type": "object"}
