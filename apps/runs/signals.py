"""Signals: what a run is told from outside, and the sensors that wait for it.

A signal is stored whether or not anybody waits for it. Delivering one and beginning to wait (`inbox`) both
hold the run's row, so neither can miss the other: whoever comes second sees the first. Each is consumed once,
the oldest first; the earliest waiter wins unless a path is given (ENGINE rule 36).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apps.runs import store
from apps.runs.core.checks import field_problems
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import StepState
from apps.runs.core.states import RUN_ENDED, StepStatus, WaitReason
from apps.runs.errors import RunConflict, RunNotFound
from apps.runs.inbox import LABELS, output_of
from apps.runs.inline import go_on, going_on
from apps.runs.models import Run, Signal, Step
from apps.runs.payloads import keep
from apps.runs.transact import RunTransaction, locked_run
from apps.runs.views import moment
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import InvalidInput, TooLarge
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.safejson import storable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
NAME_WORDS = "Up to 64 letters, digits and . _ : -, beginning with a letter or digit."
LISTED = 200


@going_on
def deliver_signal(
    principal: Principal,
    run_id: Any,
    name: str,
    body: Any = None,
    *,
    key: str | None = None,
    path: str = "",
    source: str = "",
    preview: bool = False,
) -> dict[str, Any]:
    """Store a signal, and complete the step that waits for it; a repeated key is the same signal.

    path: only the step with this path may take it. preview: say who would take it and change nothing.
    Returns {stored, duplicate, delivered_to}. Raises InvalidInput, with a sentence per field, when the body
    does not fit the schema of the step that waits for it (nothing is stored then); RunConflict when the run
    has ended (the signal is stored all the same).
    """
    _check(name, key, body)
    body = storable(body)
    principal.require(Permission.OPERATE)
    run_id = _known(run_id, as_uuid(run_id))
    ended = False
    result: dict[str, Any] = {"stored": not preview, "duplicate": False, "delivered_to": None}
    with locked_run(run_id) as tx:
        if tx.run.workspace_id != principal.workspace.id:
            _known(run_id, None)
        if key is not None:
            existing = Signal.objects.filter(run_id=run_id, name=name, key=key).first()
            if existing is not None:
                return {"stored": True, "duplicate": True, "delivered_to": existing.consumed_by}
        ended = tx.state.status in RUN_ENDED
        waiter = None if ended else _waiter(tx, name, path)
        if waiter is not None:
            _refuse_misfit(waiter, name, body)
            result["delivered_to"] = waiter.path
        if preview:
            _refuse_late(run_id, ended)
            return result
        signal = Signal(
            run_id=run_id, name=name, key=key, path=path, received_at=now(), source=source,
            body=keep(tx.state.workspace_id, run_id, body),
            consumed_by=waiter.path if waiter else None,
        )  # fmt: skip
        tx.entry("signal.received", path, {"name": name, "key": key, "by": principal.label})
        if waiter is not None:
            tx.complete_step(waiter.path, output_of(signal), "", LABELS.get(source, ()))
            go_on(tx)
        store.insert(signal)
    _refuse_late(run_id, ended)
    return result


# --- looking ----------------------------------------------------------------------------------------------


def awaited(run: Run) -> list[dict[str, Any]]:
    """What a run waits to be told: {step, signal, schema, since, until} of each step, the earliest first."""
    waiting = Step.objects.filter(run=run, status=StepStatus.WAITING, reason=WaitReason.SIGNAL)
    return [
        {
            "step": step.path,
            "signal": step.memo["waits_for"],
            "schema": step.memo.get("schema"),
            "since": moment(step.started_at),
            "until": step.memo.get("expires_at"),
        }
        for step in waiting.order_by("started_at", "id")
        if step.memo and "waits_for" in step.memo
    ]


def signals_of(run: Run) -> list[dict[str, Any]]:
    """The latest signals a run was given, oldest first: taken, waiting to be taken, or refused."""
    return [
        {
            "name": s.name,
            "key": s.key,
            "path": s.path,
            "body": s.body,
            "source": s.source,
            "received_at": moment(s.received_at),
            "taken_by": s.consumed_by,
            "refused": s.refused,
        }
        for s in reversed(Signal.objects.filter(run=run).order_by("-id")[:LISTED])
    ]


# --- deciding ---------------------------------------------------------------------------------------------


def _waiter(tx: RunTransaction, name: str, path: str) -> StepState | None:
    """The step that has waited longest for this signal."""
    waiting = [
        step
        for step in tx.state.steps.values()
        if step.status is StepStatus.WAITING
        and step.reason == WaitReason.SIGNAL
        and (step.memo or {}).get("waits_for") == name
        and (not path or step.path == path)
    ]
    return min(waiting, key=lambda s: (s.started_at or tx.transition.now, s.id), default=None)


def _refuse_misfit(waiter: StepState, name: str, body: Any) -> None:
    schema: Mapping[str, Any] | None = (waiter.memo or {}).get("schema")
    problems = field_problems(body, schema) if schema else {}
    if problems:
        raise InvalidInput(
            f'Signal "{name}" does not fit what step "{waiter.path}" waits for: '
            + " ".join(f"{path}: {text}" for path, text in problems.items()),
            code="signal_does_not_fit",
            fields=problems,
            next="Correct the body and send it again; nothing was stored.",
        )


def _refuse_late(run_id: UUID, ended: bool) -> None:
    if ended:
        raise RunConflict(
            f"Run {run_id} has ended; the signal was stored but nobody will read it.",
            code="run_ended",
            next="Start a new run if there is still something to do.",
        )


def _check(name: str, key: str | None, body: Any) -> None:
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:80]!r} is not a name for a signal.",
            fields={"name": NAME_WORDS},
            next="Correct the name.",
        )
    if key is not None and not (0 < len(key) <= 200 and key.isprintable()):
        raise InvalidInput(
            "The key of a signal has 1 to 200 printable characters.",
            fields={"key": "1 to 200 printable characters."},
            next="Send a shorter key, such as a UUID.",
        )
    try:
        size = len(json.dumps(body, default=str))
    except (ValueError, RecursionError) as exc:
        raise InvalidInput(f"The body is not JSON: {exc}.", fields={"body": "It must be JSON."}) from exc
    if size > LIMITS.max_inputs_bytes:
        raise TooLarge(
            f"The body has {size:,} bytes; at most {LIMITS.max_inputs_bytes:,} are allowed.",
            next="Send a reference to large content, not the content.",
        )


def _known(run_id: Any, identity: UUID | None) -> UUID:
    if identity is None:
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return identity
