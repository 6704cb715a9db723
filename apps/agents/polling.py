"""Sensors that look for themselves: a read tool is asked again and again until a condition holds.

Between two looks nobody works on the step; its row holds when it looks next. The journal keeps the first look
and the one that ended the wait; how many there were, and what the latest saw, stands with the waiting step.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from apps.agents import gateway
from apps.blueprints.core.document import ToolCall
from apps.runs.core.retry import retry_policy
from apps.runs.errors import StepError
from apps.runs.ports import Context, Done, Outcome, StepHandler, Wait
from apps.runs.sensor import Watch, expired, has_signal, looked, simulated, watch_of
from mirrorneuron.base.clock import now
from mirrorneuron.base.safejson import canonical

LAST_AT_MOST = 2000
"""Characters of the latest answer that a waiting step shows."""


def sensor_with(waiting: StepHandler) -> StepHandler:
    """A sensor handler that polls where the node says so, and leaves the rest to the engine's own."""

    def sensor(context: Context) -> Outcome:
        call = context.node.poll
        return waiting(context) if call is None else _look(context, call)

    return sensor


def _look(context: Context, call: ToolCall) -> Outcome:
    """One look; then done, or waiting for the next one, for a signal, or for the end."""
    watch = watch_of(context)
    if not context.simulate:
        if has_signal(context, watch):
            return watch.wait(now())  # Beginning to wait takes it.
        if watch.is_over:
            return expired(context, watch)
    node, made = context.node, int(watch.memo.get("polls", 0))
    args = {"args": context.render(node.with_)} if node.with_ is not None else {}
    arguments = {k: v for k, v in context.render(call.with_, **args).items() if v is not None}
    labels = {name: context.labels_of(call.with_[name]) for name in arguments}
    try:
        output = gateway.call_tool(context, call.tool, arguments, labels=labels, poll=made)
    except StepError as exc:
        return _after_failure(context, watch, exc)
    if context.simulate:
        return simulated(context, output)
    if not _holds(context, output, args):
        return _again(context, watch, failed=0, last=_shown(output))
    if made:
        gateway.keep_poll(context, call.tool, arguments, output, made)
    found = {*gateway.labels_added(context, call.tool), *(x for one in labels.values() for x in one)}
    return Done(looked(output, made + 1), labels=tuple(sorted(found)))


def _holds(context: Context, output: Any, args: dict[str, Any]) -> bool:
    value = context.evaluate(context.node.condition, output=output, **args)
    if not isinstance(value, bool):
        raise StepError(
            f'The condition of sensor "{context.node.id}" gives {value!r}, expected true or false.',
            code="bad_condition",
            permanent=True,
        )
    return value


def _after_failure(context: Context, watch: Watch, exc: StepError) -> Wait:
    """A look that failed is a look that saw nothing, as long as not too many fail in a row."""
    failed = int(watch.memo.get("failed", 0)) + 1
    policy = retry_policy(context.node, context.document)
    if exc.permanent or context.simulate:
        raise exc
    if failed >= policy.max_attempts:
        raise StepError(
            f'Sensor "{context.node.id}" looked {failed} times in a row in vain: {exc.message}',
            code=exc.code,
            permanent=True,
            next=exc.next,
        ) from exc
    return _again(context, watch, failed=failed, last={"error": exc.message}, pause=exc.retry_after or 0.0)


def _again(context: Context, watch: Watch, *, failed: int, last: dict[str, Any], pause: float = 0.0) -> Wait:
    """Wait for the next look. Looks keep their rhythm: one that took long, or came late, moves none."""
    every = timedelta(seconds=max(context.node.every or 1.0, 1.0))
    at = now()
    began = datetime.fromisoformat(watch.memo["began_at"])
    following = began + ((at - began) // every + 1) * every
    following = max(following, at + timedelta(seconds=pause))
    polls = int(watch.memo.get("polls", 0)) + 1
    return watch.wait(following, polls=polls, failed=failed, last={"at": at.isoformat(), **last})


def _shown(output: Any) -> dict[str, Any]:
    text = canonical(output)
    return {"output": output} if len(text) <= LAST_AT_MOST else {"output": text[:LAST_AT_MOST] + "…"}
