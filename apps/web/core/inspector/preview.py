"""What a field's expressions give for values that are there, and how long a prompt is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.expressions import ExpressionError, compile_expression, references, render
from apps.web.core.inspector.inputs import Input

LONGEST = 280


@dataclass(frozen=True)
class Preview:
    text: str
    is_error: bool = False


def preview(one: Input, names: Mapping[str, Any]) -> Preview | None:
    """The value of an expression or a template; None for a field without any expression."""
    text = one.value
    if not isinstance(text, str) or not text.strip():
        return None
    if not one.is_expression and "{{" not in text:
        return None
    try:
        found = compile_expression(text).evaluate(names) if one.is_expression else render(text, names)
    except ExpressionError as error:
        return Preview(error.message[:LONGEST], True)
    shown = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    return Preview(shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…")


def readable(one: Input) -> frozenset[str]:
    """What a field's expressions read; nothing when they cannot be read."""
    text = one.value
    if not isinstance(text, str):
        return frozenset()
    try:
        if one.is_expression:
            return compile_expression(text).references if text.strip() else frozenset()
        return references(text)
    except ExpressionError:
        return frozenset()


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has: four characters each."""
    return (len(text) + 3) // 4
