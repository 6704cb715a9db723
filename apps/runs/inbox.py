"""A run's inbox, as its steps see it: signals that lie there, taken by the step that waits for them.

Delivering is another matter: `signals`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from apps.runs.core.checks import field_problems
from apps.runs.core.states import WaitReason
from apps.runs.models import Run, Signal
from apps.runs.ports import Wait
from apps.runs.transact import RunTransaction
from apps.runs.views import moment

WEBHOOK = "webhook"
LABELS = {"": ("user",), WEBHOOK: ("tool:webhook",)}
"""Where a body came from: a member typed it, or a system outside sent it."""
BY_HOOK = "hook"
"""The label of a run that a webhook started: which one."""
INPUTS_FROM = "inputs_from"
"""The label of a subflow's run: the untrusted sources its inputs were made of."""


def sources_of_inputs(run: Run) -> set[str]:
    """The untrusted sources of a run's inputs, as labels of values; empty when its own people gave them."""
    found = {x for x in str(run.labels.get(INPUTS_FROM, "")).split() if x.startswith("tool:")}
    if run.parent_id is None and BY_HOOK in run.labels:
        found.update(LABELS[WEBHOOK])
    return found


def take_signal(tx: RunTransaction, path: str, wait: Wait) -> bool:
    """Let a step that is about to wait take what already lies in the inbox; False when nothing fits.

    Called with the step still running, inside the transaction that would make it wait.
    """
    memo = wait.memo or {}
    name = memo.get("waits_for")
    if wait.reason != WaitReason.SIGNAL or not name:
        return False
    tx.hold()
    for signal in inbox(tx.state.id, name, path).order_by("id"):
        problems = field_problems(signal.body, memo["schema"]) if memo.get("schema") else {}
        if problems:
            # Nobody was there to refuse it when it came; the sender finds it in the list of signals.
            refused = {"step": path, "fields": problems}
            Signal.objects.filter(id=signal.pk).update(refused=refused)
            tx.entry("signal.refused", path, {"name": name, "key": signal.key, "fields": problems})
            continue
        Signal.objects.filter(id=signal.pk).update(consumed_by=path)
        tx.complete_step(path, output_of(signal), "", LABELS.get(signal.source, ()))
        return True
    return False


def inbox(run_id: UUID, name: str, path: str) -> QuerySet[Signal]:
    """Signals of a name that nobody has taken and this step may take."""
    return Signal.objects.filter(
        run_id=run_id, name=name, consumed_by=None, refused__isnull=True, path__in=["", path]
    )


def output_of(signal: Signal) -> dict[str, Any]:
    """What a step that took a signal puts out."""
    return {
        "by": "signal",
        "signal": signal.name,
        "body": signal.body,
        "key": signal.key,
        "at": moment(signal.received_at),
    }


def shift(tx: RunTransaction, seconds: float) -> None:
    """Move the ends of waits by the length of a pause; their due times are moved with all others."""
    for step in tx.state.steps.values():
        memo = step.memo or {}
        if memo.get("expires_at") and not step.has_ended:
            until = datetime.fromisoformat(memo["expires_at"]) + timedelta(seconds=seconds)
            tx.transition.change(step.path, memo={**memo, "expires_at": until.isoformat()})
