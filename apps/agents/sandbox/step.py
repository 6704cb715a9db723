"""The handler of the kind `code`: Python over given inputs, outside this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.agents.sandbox import full, small
from apps.agents.sandbox.base import MAX_SECONDS, CodeFailed
from apps.blueprints.core.code import is_name
from apps.runs.core.checks import schema_problems
from apps.runs.errors import StepError
from apps.runs.ports import Context, Done, Outcome

_MARGIN_SECONDS = 2.0
"""Left of the attempt's time for what comes after the code."""


def code(context: Context) -> Outcome:
    """Run the node's code over its `with`; its labels are those of everything it was given."""
    node = context.node
    given = context.render(node.with_) if node.with_ is not None else {}
    context.set_input(given)
    names = _names(node.id, given)
    left = context.seconds_left() - _MARGIN_SECONDS
    seconds = max(0.1, min(left, node.timeout or MAX_SECONDS))
    runner = full if node.python == "full" else small
    try:
        ran = runner.run(node.code, names, seconds=seconds)
    except CodeFailed as exc:
        exc.message = f'Step "{node.id}": {exc.message[:1].lower()}{exc.message[1:]}'
        raise
    problems = schema_problems(ran.value, node.output) if isinstance(node.output, dict) else []
    if problems:
        raise StepError(
            f'Step "{node.id}": its result does not fit its output schema: {"; ".join(problems[:3])}.',
            code="bad_output",
            permanent=True,
            next="Correct the code, or the schema.",
        )
    if ran.printed:
        cut = {"left_out": ran.left_out} if ran.left_out else {}
        context.entry("code.printed", {"text": ran.printed, **cut})
    return Done(ran.value, labels=tuple(context.labels_of(node.with_)))


def _names(node_id: str, given: Any) -> dict[str, Any]:
    """What the code can call by name: `args`, and each part of a mapping."""
    if not isinstance(given, Mapping):
        return {"args": given}
    wrong = [str(name) for name in given if not is_name(str(name))]
    if wrong:
        raise StepError(
            f'Step "{node_id}" gives its code "{wrong[0]}", which is no name in Python.',
            code="bad_arguments",
            permanent=True,
            next="Write `with` as a mapping of names such as rows or amount_eur.",
        )
    return {"args": dict(given), **given}
