"""Runs one check with its arguments rendered; the judging itself is pure (`core.checks`)."""

from __future__ import annotations

from typing import Any

from apps.runs.core.checks import CheckResult, check_schema, grounded
from apps.runs.errors import StepError
from apps.runs.names import Names


def run_check(kind: str, args: dict[str, Any], names: Names, scope: str = "", /, **extra: Any) -> CheckResult:
    """expression: {that: CEL}. schema: {value, schema}. grounded: {claim, sources}.

    Raises StepError (permanent) when an argument is missing or cannot be evaluated.
    """
    match kind:
        case "expression":
            that = _need(kind, args, "that")
            passed = bool(names.evaluate(that, scope, **extra))
            return CheckResult(passed=passed, score=float(passed), detail=that)
        case "schema":
            return check_schema(
                names.render(_need(kind, args, "value"), scope, **extra), _need(kind, args, "schema")
            )
        case "grounded":
            claim = names.render(_need(kind, args, "claim"), scope, **extra)
            sources = names.render(_need(kind, args, "sources"), scope, **extra)
            return grounded(
                claim if isinstance(claim, str) else str(claim or ""),
                sources if isinstance(sources, list) else [sources],
            )
        case _:
            raise StepError(
                f'Check "{kind}" is unknown; expected expression, schema or grounded.', permanent=True
            )


def _need(kind: str, args: dict[str, Any], name: str) -> Any:
    if name not in args:
        raise StepError(f'Check "{kind}" has no argument "{name}".', code="bad_check", permanent=True)
    return args[name]
