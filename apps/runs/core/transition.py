"""One decision of the engine: from a run's state and what happened to what is written. Pure.

A `Transition` works on a `RunState` it may change, and collects what the shell has to store: changed fields
per step, new steps, entries in order, changed fields of the run. The same code decides for a worker, for a
person who cancels, and for a preview that changes nothing.

Edges end as `taken` or `dead`. A node starts when all its forward in-edges have ended and one was taken; all
dead means skipped, passed on in the same decision (ENGINE rules 17, 18, 21).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.blueprints.core.kinds import main_port
from apps.runs.core.decision import ArchivedAttempt, IllegalMove, NewEntry
from apps.runs.core.edges import Following
from apps.runs.core.limits import LIMITS
from apps.runs.core.retry import next_retry, retry_policy
from apps.runs.core.state import StepState
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus, WaitReason
from mirrorneuron.base.safejson import storable

__all__ = ["RESOLVING", "ArchivedAttempt", "IllegalMove", "NewEntry", "Transition"]

RESOLVING = "resolving"
"""Reason of a ready step whose effect in doubt is looked into; claimable although its run is stopping."""


class Transition(Following):
    """One decision on one run; each method below is one thing that can happen."""

    # --- what can happen ----------------------------------------------------------------------------------

    def start(self) -> None:
        """A new run: its roots become ready."""
        self.entry("run.started", data={})
        for node in self.plan.roots:
            self._activate(node)
        self.settle()

    def claim(self, path: str, worker: UUID, timeout_seconds: float) -> StepState:
        """ready → running: a new fence and a deadline; the caller has checked that it may."""
        step = self.state.steps[path]
        self._move(
            step,
            StepStatus.RUNNING,
            fence=step.fence + 1,
            attempt=step.attempt + 1,
            worker=worker,
            started_at=self.now,
            deadline_at=self.now + timedelta(seconds=timeout_seconds),
            due_at=None,
            reason="",
        )
        queued = (self.now - step.ready_at).total_seconds() if step.ready_at else 0.0
        self.entry("step.started", step, {"queued_seconds": round(max(queued, 0.0), 3)})
        return step

    def may_claim(self, path: str) -> bool:
        """The one predicate of every claim, chained or not (ENGINE rule 15)."""
        step = self.state.steps.get(path)
        return (
            step is not None
            and step.status is StepStatus.READY
            and not self.state.pause_requested
            and (not self._is_stopping or step.reason == RESOLVING)
            and self.state.status not in RUN_ENDED
        )

    def succeed(
        self, path: str, output: Any, port: str = "", labels: tuple[str, ...] = (), **fields: Any
    ) -> None:
        """The step is done and leaves by `port`; its edges end and what follows starts."""
        step = self.state.steps[path]
        node = self.plan.nodes[step.node_id]
        output = storable(output)  # What follows must see the same value as after a restart.
        port = port or main_port(node)
        if node.kind == "check" and port == "fail" and not self._has_edge(node, port):
            self.fail(
                path,
                {"code": "check_failed", "message": f'Check "{node.id}" did not pass.', "permanent": True,
                 "details": output},
                output=output,
            )  # fmt: skip
            return
        try:
            taken = self._taken_edges(step, port, output)
        except ValueError as exc:
            self.fail(path, {"code": "bad_expression", "message": str(exc), "permanent": True})
            return
        exhausted = [
            e
            for e in self.plan.outgoing[node.id]
            if e.is_back and e.port == port and e.index not in taken and self._rounds_left(e) == 0
        ]
        if exhausted and not taken:
            bound = exhausted[0].max_rounds
            self.fail(
                path,
                {"code": "rounds_exhausted", "permanent": True,
                 "message": f'"{node.id}" left by "{port}" again, but its {bound} rounds are used up.'},
            )  # fmt: skip
            return
        self._move(
            step,
            StepStatus.SUCCEEDED,
            port=port,
            taken=taken,
            labels=labels,
            reason="",
            due_at=None,
            deadline_at=None,
            worker=None,
            **fields,
        )
        self.updates[path].update(output=output, ended_at=self.now, error=None)
        self.learn(path, output)
        self.entry("step.succeeded", step, {"port": port})
        self._after(step, node)

    def fail(self, path: str, error: dict[str, Any], **fields: Any) -> None:
        """The step failed for good: by its `failed` edge, into a tolerant join, or the run fails with it."""
        step = self.state.steps[path]
        node = self.plan.nodes[step.node_id]
        caught = [
            e.index
            for e in self.plan.outgoing[node.id]
            if e.port == "failed" and (not e.is_back or self._rounds_left(e) > 0)
        ]
        self._move(
            step, StepStatus.FAILED, port="failed", taken=tuple(caught),
            reason="", due_at=None, deadline_at=None, worker=None,
        )  # fmt: skip
        self.updates[path].update(error=error, ended_at=self.now, **fields)
        self.learn(path, fields.get("output"))
        self.entry("step.failed", step, {"error": error})
        tolerated = any(e.catches_failure for e in self.plan.outgoing[node.id]) or self._is_pointless(step)
        if caught or tolerated:
            self._after(step, node)
        elif not self._is_stopping:
            self._fail_run(step, error)

    def try_again_or_fail(
        self, path: str, error: dict[str, Any], *, permanent: bool, retry_after: float | None
    ) -> None:
        """A reported failure: it counts, and is tried again while attempts and budgets last."""
        step = self.state.steps[path]
        failures = step.failures + 1
        contract = self.plan.document.contract
        policy = retry_policy(self.plan.nodes[step.node_id], self.plan.document)
        due = (
            None
            if permanent or self._is_stopping or self._is_pointless(step)
            else next_retry(policy, failures, self.now, self.jitter, retry_after)
        )
        if due and self.state.retries_used >= contract.recovery_policy.run_retry_budget:
            due = None
            error = error | {"next": "The run's retry budget is used up; retry the step by hand."}
        if due is None:
            step.failures = failures
            self.fail(path, error, failures=failures)
            return
        self._archive(step, "failed", error)
        self._move(
            step, StepStatus.WAITING, reason=WaitReason.RETRY, failures=failures,
            due_at=due, worker=None, deadline_at=None,
        )  # fmt: skip
        self.updates[path].update(error=error)
        self.state.retries_used += 1
        self.run_updates["retries_used"] = self.state.retries_used
        self.entry("step.retrying", step, {"error": error, "failures": failures, "due_at": due.isoformat()})

    def wait(self, path: str, reason: str, due_at: datetime | None, memo: dict[str, Any] | None) -> None:
        step = self.state.steps[path]
        self._move(
            step, StepStatus.WAITING, reason=reason, due_at=due_at, memo=memo,
            worker=None, deadline_at=None,
        )  # fmt: skip
        self.entry(
            "step.waiting", step, {"reason": reason, **({"until": due_at.isoformat()} if due_at else {})}
        )
        self._cancel_if_unwanted(step)

    def _cancel_if_unwanted(self, step: StepState) -> None:
        """A step that stands still goes on only if its run does and something still waits for it."""
        if self._is_stopping:
            self._cancel(step, "run_failed" if self.state.is_failing else "run_cancelled")
        elif self._is_pointless(step):
            self._cancel(step, "join_settled")

    def doubt(self, path: str, due_at: datetime | None, data: dict[str, Any]) -> None:
        """An effect's outcome is unknown; `due_at` None means only a person can say."""
        step = self.state.steps[path]
        self._move(step, StepStatus.IN_DOUBT, reason="effect", due_at=due_at, worker=None, deadline_at=None)
        self.entry("step.in_doubt", step, data)

    def wake(self, path: str, memo: dict[str, Any] | None = None) -> None:
        """waiting or in doubt → ready: the time has come, or somebody answered."""
        step = self.state.steps[path]
        fields: dict[str, Any] = {"memo": memo} if memo is not None else {}
        reason = RESOLVING if step.status is StepStatus.IN_DOUBT else ""
        self._move(step, StepStatus.READY, reason=reason, due_at=None, ready_at=self.now, **fields)
        self.entry("step.ready", step, {})

    def remind(self, path: str, due_at: datetime | None) -> None:
        """A waiting step goes on waiting, until another time or for a person alone."""
        self._change(self.state.steps[path], due_at=due_at)

    def hand_back(self, path: str) -> None:
        """running → ready without counting anything: the worker stops, or the run is paused."""
        step = self.state.steps[path]
        self._archive(step, "cancelled", None)
        self._move(
            step, StepStatus.READY, fence=step.fence + 1, worker=None, deadline_at=None, ready_at=self.now
        )
        self.entry("attempt.handed_back", step, {})
        self._cancel_if_unwanted(step)

    def lose(self, path: str, why: str, *, counts: bool = True) -> None:
        """running → ready: the worker died or the deadline passed, and no effect is in flight."""
        step = self.state.steps[path]
        losses = step.losses + (1 if counts else 0)
        self._archive(step, "lost", None)
        self.entry("attempt.lost", step, {"why": why, "losses": losses})
        if losses >= LIMITS.poison_losses:
            step.losses = losses
            self.fail(
                path,
                {"code": "poison", "permanent": True,
                 "message": f'Step "{path}" ended its worker {losses} times without a report.',
                 "next": "Look at the worker's log, mend the step, then retry it."},
                losses=losses,
            )  # fmt: skip
            return
        self._move(
            step, StepStatus.READY, fence=step.fence + 1, losses=losses, worker=None,
            deadline_at=None, ready_at=self.now,
        )  # fmt: skip
        self._cancel_if_unwanted(step)

    def recovered(self, path: str, data: dict[str, Any]) -> None:
        """Say what a crash cost: the resume proof line."""
        kept = sum(s.status is StepStatus.SUCCEEDED for s in self.state.steps.values())
        step = self.state.steps.get(path)
        self.entry("run.recovered", step, {"at_step": kept + 1, "kept": kept, **data})

    def pause(self, reason: str = "") -> None:
        self.state.pause_requested = True
        self.run_updates.update(pause_requested=True, paused_at=self.now)
        self.entry("run.paused", data={"reason": reason} if reason else {})

    def resume(self, paused_seconds: float) -> None:
        """Deadlines and due times move by the length of the pause (ENGINE rule 34)."""
        self.state.pause_requested = False
        self.run_updates.update(pause_requested=False, paused_at=None)
        for step in self.state.steps.values():
            moved = {
                name: value + timedelta(seconds=paused_seconds)
                for name, value in (("due_at", step.due_at), ("deadline_at", step.deadline_at))
                if value is not None and not step.has_ended
            }
            if moved:
                self._change(step, **moved)
        self.entry("run.resumed", data={"paused_seconds": round(paused_seconds, 3)})

    def cancel(self, reason: str = "") -> None:
        """What has not started is cancelled at once; what runs settles first (ENGINE rule 35)."""
        self.state.cancel_requested = True
        self.run_updates["cancel_requested"] = True
        if self.state.pause_requested:
            # A pause ends here: a doubt could never be resolved, nor the run be over, while it lasted.
            self.state.pause_requested = False
            self.run_updates.update(pause_requested=False, paused_at=None)
        self.entry("run.cancel_requested", data={"reason": reason} if reason else {})
        self._cancel_idle("run_cancelled")

    def set_cost(self, path: str, **counts: Any) -> None:
        """Absolute counters of the step, and the run's total by what was added."""
        step = self.state.steps[path]
        added = counts.get("cost_microusd", step.cost_microusd) - step.cost_microusd
        self._change(step, **counts)
        if added:
            self.state.cost_microusd += added
            self.run_updates["cost_microusd"] = self.state.cost_microusd
        if counts.get("cost_unknown") and not self.state.cost_unknown:
            self.state.cost_unknown = True
            self.run_updates["cost_unknown"] = True

    def change(self, path: str, **fields: Any) -> None:
        """Change columns that carry no state (input, output kept for show)."""
        step = self.state.steps[path]
        self._expect(step)
        self.updates.setdefault(path, {}).update(fields)

    # --- the end of every decision ------------------------------------------------------------------------

    def settle(self) -> None:
        """Derive the run's status from its steps; the last word of every decision."""
        steps = self.state.steps.values()
        active = any(s.status in (StepStatus.READY, StepStatus.RUNNING) for s in steps)
        idle = any(s.status in (StepStatus.WAITING, StepStatus.IN_DOUBT) for s in steps)
        attention = any(s.status is StepStatus.IN_DOUBT and s.due_at is None for s in steps)
        self.run_updates["needs_attention"] = attention
        if self.state.status in RUN_ENDED:
            return
        started = any(s.attempt or s.has_ended for s in steps)
        if active or idle:
            if self.state.cancel_requested:
                target = RunStatus.CANCELLING
            elif self.state.pause_requested:
                target = RunStatus.PAUSED
            elif active:
                target = RunStatus.RUNNING if started else RunStatus.QUEUED
            else:
                target = RunStatus.WAITING
            self._run_to(target)
            return
        if self.state.cancel_requested:
            self._end(RunStatus.CANCELLED, "run.cancelled", {})
        elif self.state.is_failing:
            self._end(RunStatus.FAILED, "run.failed", {"error": self.state.error})
        else:
            stuck = [n for n in self.plan.order if self.state.current(self.plan, n) is None]
            if stuck:
                self.state.error = {
                    "code": "stalled",
                    "message": f"Nothing is left to do, but {', '.join(stuck)} never became ready.",
                }
                self.run_updates["error"] = self.state.error
                self._end(RunStatus.FAILED, "run.failed", {"error": self.state.error})
            else:
                self.needs_result = True
                self._end(RunStatus.SUCCEEDED, "run.succeeded", {})

    def _end(self, status: RunStatus, kind: str, data: dict[str, Any]) -> None:
        self._run_to(status)
        self.run_updates["ended_at"] = self.now
        self.entry(kind, data=data)

    # --- failing and cancelling ---------------------------------------------------------------------------

    def _fail_run(self, step: StepState, error: dict[str, Any]) -> None:
        """Steps in flight settle, the rest is cancelled, the run fails (ENGINE rule 21)."""
        self.state.error = {"step": step.path, **error}
        self.run_updates["error"] = self.state.error
        self._cancel_idle("run_failed")

    def _cancel_idle(self, reason: str) -> None:
        for step in list(self.state.steps.values()):
            if step.status in (StepStatus.READY, StepStatus.WAITING) and step.reason != RESOLVING:
                self._cancel(step, reason)

    def _cancel(self, step: StepState, reason: str) -> None:
        self._move(step, StepStatus.CANCELLED, reason=reason, due_at=None, deadline_at=None, worker=None)
        self.updates[step.path].update(ended_at=self.now)
        self.closed.append(step.path)
        self.entry("step.cancelled", step, {"reason": reason})
