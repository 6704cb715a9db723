"""Nodes that wait: timers and sensors."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime

from apps.blueprints.core.document import Node
from apps.blueprints.core.durations import parse_duration
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.expressions import is_template
from apps.blueprints.core.problems import Path, shown
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import Scope, check_condition, check_template
from apps.blueprints.core.rules.said import missing
from apps.blueprints.core.rules.tools import check_call, report_schema
from apps.blueprints.core.schemas import types, words

_SIGNAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""As `runs.signals` takes them."""


def check_timer(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if node.duration is None and not node.until:
        missing(case, node, path, "duration or until", "duration: 30s, or until: with a time")
    if node.duration is not None and node.until:
        case.error(
            (*path, "until"),
            "too_many_fields",
            f'Timer "{node.id}" has a duration and a time to wait until.',
            "Keep one of them.",
            node=node.id,
        )
    _check_duration(case, node, (*path, "duration"), scope)
    if node.until and is_template(node.until):
        check_template(case, node.until, (*path, "until"), scope)
    elif node.until and not _is_time(node.until):
        _bad_time(case, node, path)


def check_sensor(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.signal and node.poll is None:
        missing(
            case, node, path, "signal or poll", "signal: with a name, or poll: {tool: …} with a tool to ask"
        )
    check_template(case, node.signal, (*path, "signal"), scope)
    if node.signal and not is_template(node.signal) and not _SIGNAL.fullmatch(node.signal):
        case.error(
            (*path, "signal"),
            "bad_name",
            f"{shown(node.signal)} is not a name for a signal.",
            "Use up to 64 letters, digits and . _ : -, as in payment.received.",
            node=node.id,
        )
    if node.schema_ is not None:
        report_schema(case, node.schema_, (*path, "schema"), node=node.id)
    if node.until and is_template(node.until):
        check_template(case, node.until, (*path, "until"), scope)
    elif node.until and not _is_time(node.until):
        _bad_time(case, node, path)
    _check_poll(case, node, path, scope)
    ends = node.due is not None or bool(node.until)
    leaves = any(case.shape.port(e) == "expired" for _, e in case.shape.outgoing[node.id])
    if ends and not leaves:
        case.warning(
            path,
            "expiry_not_handled",
            f'When the time of "{node.id}" is over, nothing says what follows, so the run fails.',
            f"Add an edge from {node.id}.expired.",
            node=node.id,
        )
    elif leaves and not ends:
        case.warning(
            path,
            "never_expires",
            f'"{node.id}" has an edge for its expiry, but waits without end.',
            "Add due: 2d, or until: with a time.",
            node=node.id,
        )


def _check_poll(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if node.poll is None:
        for field in ("every", "condition"):
            if field in node.model_fields_set:
                case.warning(
                    (*path, field),
                    "field_not_used",
                    f'{field} has no effect on "{node.id}": it polls nothing.',
                    f"Add poll: {{tool: …}}, or remove {field}.",
                    node=node.id,
                )
        return
    check_call(case, node.poll, (*path, "poll"), scope)
    spec = case.tools.get(node.poll.tool)
    if spec is not None and spec.is_write and not spec.by_arguments:
        case.error(
            (*path, "poll", "tool"),
            "poll_writes",
            f'"{node.id}" would call {node.poll.tool} again and again, but it changes something outside.',
            "Poll a tool that reads.",
            node=node.id,
        )
    if node.every is None or node.every < 1:
        what = "is missing" if node.every is None else "is under a second"
        case.error(
            (*path, "every") if node.every is not None else path,
            "bad_duration",
            f'every, the time between two polls of "{node.id}", {what}.',
            "Write it like 30s or 5m.",
            node=node.id,
        )
    if not node.condition:
        missing(case, node, path, "condition", 'condition: with what ends it, as in output.status == "paid"')
    else:
        inside = replace(scope, names=scope.names | {"output"})
        check_condition(case, node.condition, (*path, "condition"), inside)
    if node.due is None and not node.until:
        case.error(
            path,
            "unbounded_poll",
            f'"{node.id}" would poll for ever.',
            "Add due: 2d, or until: with a time.",
            node=node.id,
        )


def _bad_time(case: Case, node: Node, path: Path) -> None:
    case.error(
        (*path, "until"),
        "bad_time",
        f"until is {shown(node.until)}, which is not a time with its zone.",
        'Write it like "2026-05-01T09:00:00Z", or as an expression in {{ }}.',
        node=node.id,
    )


def _check_duration(case: Case, node: Node, path: Path, scope: Scope) -> None:
    value = node.duration
    if isinstance(value, str) and is_template(value):
        check_template(case, value, path, scope)
        have = types(type_of_template(value, case.lookup))
        if have is not None and not have & {"number", "integer", "string"}:
            case.error(
                path,
                "type_clash",
                f"duration takes seconds or a text like 30s, but gets {words(have)}.",
                "Name a field that is a number of seconds.",
                node=node.id,
            )
        return
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0
    if isinstance(value, str):
        try:
            good = parse_duration(value) >= 0
        except ValueError:
            good = False
    if value is not None and not good:
        case.error(
            path,
            "bad_duration",
            f"duration is {shown(value)}, which is not a duration.",
            "Write it like 500ms, 30s, 5m, 4h or 2d.",
            node=node.id,
        )


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).tzinfo is not None
    except ValueError:
        return False
