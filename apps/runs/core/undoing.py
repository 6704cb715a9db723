"""Compensations: a run that stops takes back what it has done, the latest first (ENGINE rule 35). Pure.

They begin when nothing of a cancelled or failing run is under way or in doubt any more. Each is a step of its
own, `<path>/undo`, worked one after the other like any other step: it retries, its effects go through the
ledger, a crash in the middle resumes it. The run ends only when all are done. One that fails for good waits
for a person, who retries or skips it; what it would have taken back before it stays until then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from apps.runs.core.bodies import Bodies
from apps.runs.core.plan import undo_of
from apps.runs.core.state import StepState
from apps.runs.core.states import RunStatus, StepStatus, WaitReason


@dataclass
class Undoing(Bodies):
    undoable: Callable[[], Sequence[str]] = lambda: ()
    """Paths of steps whose effects can be taken back, the latest first; asked only when a run stops."""

    def _begin_undo(self) -> bool:
        """Start the next compensation of a run that would end now; False when there is none left."""
        for path in self.undoable():
            origin = self.state.find(path)
            if origin is None or self.state.find(undo_of(path)) is not None:
                continue
            step = StepState(
                path=undo_of(path), node_id=origin.node_id, kind="tool", round=origin.round,
                status=StepStatus.READY, ready_at=self.now,
            )  # fmt: skip
            self._insert(step)
            self.entry("step.ready", step, {"undoes": path})
            state = self.state
            self.run_updates |= {"active": state.active, "idle": state.idle, "stuck": state.stuck}
            if state.cancel_requested:
                self._run_to(RunStatus.CANCELLING)
            else:
                self._run_to(RunStatus.PAUSED if state.pause_requested else RunStatus.RUNNING)
            return True
        return False

    def _undone(self, step: StepState, output: Any, labels: tuple[str, ...], **fields: Any) -> None:
        """A compensation is done; nothing follows it but the next one, or the end of the run."""
        self._move(
            step, StepStatus.SUCCEEDED, reason="", labels=labels, due_at=None, deadline_at=None, worker=None,
            **fields,
        )  # fmt: skip
        self.updates[step.path].update(output=output, ended_at=self.now, error=None)
        self.learn(step.path, output)
        self.entry("step.succeeded", step, {})

    def _undo_failed(self, step: StepState, error: dict[str, Any], **fields: Any) -> None:
        """It cannot take back what was done: from here on a person decides."""
        fields |= {"reason": WaitReason.PERSON, "due_at": None, "deadline_at": None, "worker": None}
        if step.status is StepStatus.WAITING:
            self._tally(step.counts, -1)
            self._change(step, reason=fields["reason"])
            self._set(step, {"due_at": None})
            self._tally(step.counts, 1)
        else:
            self._move(step, StepStatus.WAITING, **fields)
        self.updates[step.path].update(error=error)
        self.entry("step.waiting", step, {"reason": str(WaitReason.PERSON), "error": error})

    def _retry_undo(self, step: StepState, by: dict[str, Any]) -> None:
        self._move(
            step, StepStatus.READY, reason="", failures=0, losses=0, due_at=None, ready_at=self.now,
            memo={"retried_at": self.now.isoformat()},
        )  # fmt: skip
        self.updates[step.path].update(error=None)
        self.entry("step.ready", step, {"retry": True, **by})
