"""What a run hands over when all its steps are done: its outputs, and its success criteria as judged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apps.blueprints.core.document import Criterion
from apps.runs.checks import run_check
from apps.runs.errors import StepError

if TYPE_CHECKING:
    from apps.runs.transact import RunTransaction


def run_result(tx: RunTransaction) -> tuple[Any, list[dict[str, Any]], dict[str, Any] | None]:
    """(output, checks, error). error is set when the blueprint's own `outputs` cannot be formed."""
    document = tx.plan.document
    try:
        output = tx.names.render(document.outputs)
    except StepError as exc:
        return None, [], {"code": "bad_outputs", "message": f"The run's outputs: {exc.message}"}
    checks = [judge(tx, c) for c in document.contract.success_criteria.output]
    return output, checks, None


def judge(tx: RunTransaction, criterion: str | Criterion) -> dict[str, Any]:
    """One success criterion: pass, fail, or not_checked.

    Not checked is plain text, which a person judges, and a claim that was never made: a run that drafted
    nothing has not failed to keep to its sources.
    """
    if isinstance(criterion, str):
        return {"text": criterion, "result": "not_checked", "detail": "Judged by a person."}
    if criterion.check in (None, "person"):
        return {"text": criterion.text, "result": "not_checked", "detail": "Judged by a person."}
    try:
        result = run_check(criterion.check, criterion.args, tx.names)
    except StepError as exc:
        return {"text": criterion.text, "result": "fail", "detail": exc.message}
    if not result.applies:
        return {"text": criterion.text, "result": "not_checked", "detail": "Nothing was written to check."}
    return {
        "text": criterion.text,
        "result": "pass" if result.passed else "fail",
        "detail": result.detail,
    }
