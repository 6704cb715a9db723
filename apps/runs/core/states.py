"""Every state of the engine and every move between them. What is not listed cannot happen.

run
  queued     → running | paused | cancelling | cancelled
  running    → waiting | paused | cancelling | succeeded | failed
  waiting    → running | paused | cancelling | succeeded | failed    (only waiting steps left)
  paused     → queued | running | waiting | cancelling | failed | succeeded  (what runs may still finish)
  cancelling → cancelled                                     once effects in flight and in doubt are settled
  failed     → running                                       only by run.reopened
step
  blocked    → ready | skipped | cancelled                   (no row is stored while blocked)
  ready      → running                                       claim: fence + 1, deadline set
  ready      → waiting                                       as many with its concurrency key run as may
  ready      → cancelled | skipped
  ready      → failed                                its own condition cannot be evaluated
  running    → succeeded | failed                            by its fence holder
  running    → waiting                                       timer, retry, signal, poll, approval
  running    → in_doubt                                      an effect's outcome is unknown
  running    → ready                                         lost: its worker died, no effect in flight
  running    → cancelled
  waiting    → ready | running | succeeded | failed | cancelled | skipped
  in_doubt   → ready | failed | cancelled | skipped
  in_doubt   → waiting                               for a person, when a compensation is given up
  failed     → ready | waiting | skipped                     retry or skip by a person
  cancelled  → ready | waiting                               restored when its run is reopened
"""

from __future__ import annotations

from enum import StrEnum


class RunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepStatus(StrEnum):
    BLOCKED = "blocked"
    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    IN_DOUBT = "in_doubt"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class WaitReason(StrEnum):
    TIMER = "timer"
    RETRY = "retry"
    SIGNAL = "signal"
    POLL = "poll"
    APPROVAL = "approval"
    CHILD = "child"
    SLOT = "slot"
    PERSON = "person"
    """A compensation has failed for good: a person retries or skips it."""


RESOLVING = "resolving"
"""Reason of a ready step whose effect in doubt is looked into; claimable although its run is stopping. In the
memo of one that waits for its slot it says the same."""
RUN_ENDED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})
STEP_ENDED = frozenset({StepStatus.SUCCEEDED, StepStatus.FAILED, StepStatus.CANCELLED, StepStatus.SKIPPED})

_R, _S = RunStatus, StepStatus
RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    _R.QUEUED: frozenset(
        {_R.RUNNING, _R.WAITING, _R.PAUSED, _R.CANCELLING, _R.CANCELLED, _R.SUCCEEDED, _R.FAILED}
    ),
    _R.RUNNING: frozenset({_R.WAITING, _R.PAUSED, _R.CANCELLING, _R.CANCELLED, _R.SUCCEEDED, _R.FAILED}),
    _R.WAITING: frozenset({_R.RUNNING, _R.PAUSED, _R.CANCELLING, _R.CANCELLED, _R.SUCCEEDED, _R.FAILED}),
    _R.PAUSED: frozenset(
        {_R.QUEUED, _R.RUNNING, _R.WAITING, _R.CANCELLING, _R.CANCELLED, _R.SUCCEEDED, _R.FAILED}
    ),
    _R.CANCELLING: frozenset({_R.CANCELLED}),
    _R.SUCCEEDED: frozenset(),
    _R.FAILED: frozenset({_R.RUNNING}),
    _R.CANCELLED: frozenset(),
}
STEP_MOVES: dict[StepStatus, frozenset[StepStatus]] = {
    _S.BLOCKED: frozenset({_S.READY, _S.SKIPPED, _S.CANCELLED}),
    _S.READY: frozenset({_S.RUNNING, _S.WAITING, _S.FAILED, _S.CANCELLED, _S.SKIPPED}),
    _S.RUNNING: frozenset({_S.SUCCEEDED, _S.FAILED, _S.WAITING, _S.IN_DOUBT, _S.READY, _S.CANCELLED}),
    _S.WAITING: frozenset({_S.READY, _S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED, _S.SKIPPED}),
    _S.IN_DOUBT: frozenset({_S.READY, _S.WAITING, _S.FAILED, _S.CANCELLED, _S.SKIPPED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset({_S.READY, _S.WAITING, _S.SKIPPED}),  # WAITING: a map or loop that is reopened
    _S.CANCELLED: frozenset({_S.READY, _S.WAITING}),  # restored by run.reopened (ENGINE rule 21)
    _S.SKIPPED: frozenset(),
}
