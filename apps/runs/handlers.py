"""Handlers of the kinds that need nothing from outside: conditions, joins, templates, timers, maps, loops."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from apps.blueprints.core.durations import parse_duration
from apps.runs.context import StepContext
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import EARLY_JOINS
from apps.runs.core.states import WaitReason
from apps.runs.errors import StepError
from apps.runs.ports import Context, Done, Open, Outcome, Wait, register_handler
from mirrorneuron.base.clock import now


def transform(context: Context) -> Outcome:
    node = context.node
    extra = _with(context)
    return Done(context.render(node.output, **extra), labels=_labels(context, node.output, node.with_))


def _labels(context: Context, *templates: Any) -> tuple[str, ...]:
    """Where all these come from. `args` stands for the step's own `with`, so that is one of them."""
    given = [context.labels_of(template) for template in templates if template is not None]
    return tuple(given[0]) if len(given) == 1 else tuple(sorted({x for some in given for x in some}))


def router(context: Context) -> Outcome:
    """First or all matching conditions; `else` when none holds. A model's choice is `agents`' business."""
    node = context.node
    extra = _with(context)
    hits = []
    for route in node.routes:
        if route.when and context.evaluate(route.when, **extra):
            hits.append(route.name)
            if node.match == "first":
                break
    if not hits:
        return Done({"route": "else", "routes": ["else"]}, port="else")
    if node.match == "all":
        return Done({"route": hits[0], "routes": hits}, port="*")
    return Done({"route": hits[0], "routes": hits}, port=hits[0])


def aggregator(context: Context) -> Outcome:
    """Joins what had arrived when the join was settled; later arrivals change nothing."""
    node, memo = context.node, context.memo or {}
    if "out_of_reach" in memo:
        need = memo["out_of_reach"]
        raise StepError(
            f'Join "{node.id}" needs {need} to succeed, and that can no longer happen '
            f"(arrived: {_names(memo['arrived'])}; failed: {_names(memo['failed'])}).",
            code="join_out_of_reach", permanent=True,
        )  # fmt: skip
    steps = context.names()["steps"]
    arrived, failed = memo.get("arrived", []), memo.get("failed", [])
    if (node.join or "all") in ("any", "first_success"):
        arrived = arrived[:1]
    results = {source: steps[source]["output"] for source in arrived}
    failures = {source: steps[source]["status"] for source in failed}
    context.set_input({"arrived": arrived, "failed": failed})
    if node.merge is None:
        output: Any = results if not failures else {"results": results, "failed": failures}
    else:
        output = context.render(_template(node.merge), results=results, failed=failures)
    return Done(output, labels=_labels(context, node.merge, *(f"steps.{one}.output" for one in arrived)))


def _names(nodes: list[str]) -> str:
    return ", ".join(nodes) or "none"


def check(context: Context) -> Outcome:
    """Every check runs; the step leaves by `pass` only if all of them pass."""
    node = context.node
    extra = _with(context)
    if not isinstance(context, StepContext):
        raise TypeError("the engine's own context is needed")
    outcomes = []
    for item in node.checks:
        result = context.check(item.kind, item.args, **extra)
        outcomes.append(
            {
                "check": item.kind,
                "text": item.text or item.kind,
                "passed": result.passed,
                "score": result.score,
                "detail": result.detail,
                "unsupported": result.unsupported,
            }
        )
    passed = all(o["passed"] for o in outcomes)
    labels = _labels(context, node.with_, *(item.args for item in node.checks))
    return Done({"passed": passed, "checks": outcomes}, port="pass" if passed else "fail", labels=labels)


def timer(context: Context) -> Outcome:
    node = context.node
    extra = _with(context)
    if node.until:
        due = time_of(context, node.until, extra)
    else:
        due = now() + timedelta(seconds=_seconds(context, node.duration, extra))
    context.set_input({"until": due.isoformat()})
    return Wait(WaitReason.TIMER, due)


def time_of(context: Context, until: str, extra: dict[str, Any]) -> datetime:
    """The time a node's `until` means, written out or as an expression. Raises StepError (permanent)."""
    kind, node = context.node.kind.capitalize(), context.node
    value = context.render(until, **extra) if "{{" in until else until
    try:
        due = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as exc:
        raise StepError(
            f'{kind} "{node.id}": until is {value!r}; expected an RFC 3339 time with a zone.',
            code="bad_time", permanent=True,
        ) from exc  # fmt: skip
    if due.tzinfo is None:
        raise StepError(
            f'{kind} "{node.id}": until is {value!r}, which has no time zone.',
            code="bad_time", permanent=True, next="Write it like 2026-05-01T09:00:00Z.",
        )  # fmt: skip
    return due


def map_over(context: Context) -> Outcome:
    """Freeze the items and open the body; once the result is fixed, put it together.

    Output: the list of what the items handed over, in their order. With `join: any` or `first_success` what
    the first one did, with `n_of_m` a list of those that did, with `all_settled` `{results, failed}`.
    """
    node = context.node
    if not isinstance(context, StepContext):
        raise TypeError("the engine's own context is needed")
    if (context.memo or {}).get("settled"):
        return _joined(context)
    extra = _with(context)
    items = context.render(_template(node.items), **extra)
    if not isinstance(items, list):
        raise StepError(
            f'Map "{node.id}": items is {_kind_of(items)}; expected a list.',
            code="bad_items", permanent=True, next="Write an expression that gives a list.",
        )  # fmt: skip
    most = node.max_items or LIMITS.map_items
    if len(items) > most:
        raise StepError(
            f'Map "{node.id}" has {len(items):,} items; at most {most:,} are allowed.',
            code="too_many_items", permanent=True, next="Raise max_items, or split the work.",
        )  # fmt: skip
    if not items and node.join in EARLY_JOINS:
        raise StepError(
            f'Map "{node.id}" has no items, so none of them can succeed.',
            code="join_out_of_reach", permanent=True,
        )  # fmt: skip
    if not items:
        return Done(_merged(context, [], []), labels=_labels(context, node.items, node.with_, node.merge))
    given = {"with": extra["args"]} if extra else {}
    return Open({"items": items, **given}, len(items), _labels(context, node.items, node.with_))


def _joined(context: StepContext) -> Outcome:
    join, winners = context.node.join or "all", (context.memo or {}).get("winners", [])
    outputs, failures = context.passes()
    if join in ("any", "first_success"):
        results: Any = outputs.get(winners[0]) if winners else None
    elif join == "n_of_m":
        results = [outputs.get(index) for index in sorted(winners)]
    elif join == "all_settled":
        results = [outputs.get(index) for index in range((context.memo or {}).get("total", 0))]
    else:
        results = [outputs[index] for index in sorted(outputs)]
    failed = [{"index": index, "error": failures[index]} for index in sorted(failures)]
    labels = {*context.claim.step.labels, *_labels(context, context.node.merge)}
    return Done(_merged(context, results, failed), labels=tuple(sorted(labels)))


def _merged(context: Context, results: Any, failed: list[dict[str, Any]]) -> Any:
    node = context.node
    if node.merge is not None:
        return context.render(_template(node.merge), results=results, failed=failed)
    return {"results": results, "failed": failed} if node.join == "all_settled" else results


def loop(context: Context) -> Outcome:
    """Open the first round; each round decides whether there is another.

    Output: `{result, rounds, reason}`, reason being `condition` or `max_rounds`.
    """
    extra = _with(context)
    return Open({"with": extra["args"]} if extra else {}, labels=tuple(context.labels_of(context.node.with_)))


def _kind_of(value: Any) -> str:
    return {dict: "an object", str: "a text", type(None): "null", bool: "a truth value"}.get(
        type(value), "a number"
    )


def _seconds(context: Context, duration: Any, extra: dict[str, Any]) -> float:
    value = context.render(duration, **extra) if isinstance(duration, str) and "{{" in duration else duration
    try:
        seconds = parse_duration(value) if isinstance(value, str) else float(value)
    except (TypeError, ValueError) as exc:
        raise StepError(
            f'Timer "{context.node.id}": duration is {value!r}; expected seconds or a text like 30s.',
            code="bad_duration", permanent=True,
        ) from exc  # fmt: skip
    if seconds < 0:
        raise StepError(
            f'Timer "{context.node.id}": duration is {seconds:g} s; it cannot be negative.',
            code="bad_duration", permanent=True,
        )  # fmt: skip
    return seconds


def _with(context: Context) -> dict[str, Any]:
    """A node's own `with`, usable by name in its expressions as `args`."""
    if context.node.with_ is None:
        return {}
    value = context.render(context.node.with_)
    context.set_input(value)
    return {"args": value}


def _template(merge: Any) -> Any:
    # `merge: results.a + results.b` is an expression; anything with {{ }} or structure is a template.
    return "{{ " + merge + " }}" if isinstance(merge, str) and "{{" not in merge else merge


def register() -> None:
    register_handler("transform", transform)
    register_handler("router", router)
    register_handler("aggregator", aggregator)
    register_handler("check", check)
    register_handler("timer", timer)
    register_handler("map", map_over)
    register_handler("loop", loop)
