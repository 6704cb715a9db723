"""One decision of the engine: from a run's state and what happened to what is written. Pure.

A `Transition` works on a `RunState` it may change, and collects what the shell has to store: changed fields
per step, new steps, entries in order, changed fields of the run. The same code decides for a worker, for a
person who cancels, and for a preview that changes nothing.

Edges end as `taken` or `dead`. A node starts when all its forward in-edges have ended and one was taken; all
dead means skipped, passed on in the same decision (ENGINE rules 17, 18, 21).
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.blueprints.core.kinds import main_port
from apps.runs.core.decision import ArchivedAttempt, IllegalMove, NewEntry
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import container_of, enclosing
from apps.runs.core.recovery import Recovering
from apps.runs.core.retry import next_retry, retry_policy
from apps.runs.core.state import StepState
from apps.runs.core.states import RESOLVING, RUN_ENDED, RunStatus, StepStatus, WaitReason
from mirrorneuron.base.safejson import storable

__all__ = ["RESOLVING", "ArchivedAttempt", "IllegalMove", "NewEntry", "Transition"]


class Transition(Recovering):
    """One decision on one run; each method below is one thing that can happen."""

    # --- what can happen ----------------------------------------------------------------------------------

    def start(self) -> None:
        """A new run: its roots become ready."""
        self.entry("run.started", data={})
        for node in self.plan.roots:
            self._activate(node, "")
        self.settle()

    def claim(self, path: str, worker: UUID | None, timeout_seconds: float) -> StepState:
        """ready → running: a new fence and a deadline; the caller has checked that it may."""
        step = self._own(path)
        until = self.now + timedelta(seconds=timeout_seconds)
        if step.expires_at and not step.is_resolving:  # A doubt is cleared up however late it is.
            until = min(until, step.expires_at)
        self.has_started = True
        self._move(
            step,
            StepStatus.RUNNING,
            fence=step.fence + 1,
            attempt=step.attempt + 1,
            worker=worker,
            started_at=self.now,
            deadline_at=until,
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
            and (step.is_resolving or step.is_undo or not self._stops(step.scope))
            and self.state.status not in RUN_ENDED
        )

    def succeed(
        self, path: str, output: Any, port: str = "", labels: tuple[str, ...] = (), **fields: Any
    ) -> None:
        """The step is done and leaves by `port`; its edges end and what follows starts."""
        step = self._own(path)
        node = self.node_of(step)
        plan = self._plan_of(step)
        output = storable(output)  # What follows must see the same value as after a restart.
        if step.is_undo:
            self._undone(step, output, labels, **fields)
            return
        port = port or main_port(node)
        if node.kind == "check" and port == "fail" and not self._has_edge(step, port):
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
            for e in plan.outgoing[node.id]
            if e.is_back and e.port == port and e.index not in taken and not self._rounds_left(e, step.scope)
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
        self._after(step)
        self.follow()

    def fail(self, path: str, error: dict[str, Any], **fields: Any) -> None:
        """The step failed for good: by its `failed` edge, into a tolerant join, or the run fails with it."""
        step = self._own(path)
        if step.is_undo:
            self._undo_failed(step, error, **{k: v for k, v in fields.items() if k != "output"})
            return
        edges = self._plan_of(step).outgoing[step.node_id]
        caught = [
            e.index
            for e in edges
            if e.port == "failed" and (not e.is_back or self._rounds_left(e, step.scope) > 0)
        ]
        self._move(
            step, StepStatus.FAILED, port="failed", taken=tuple(caught),
            reason="", due_at=None, deadline_at=None, worker=None,
        )  # fmt: skip
        self.updates[path].update(error=error, ended_at=self.now, **fields)
        self.learn(path, fields.get("output"))
        self.entry("step.failed", step, {"error": error})
        tolerated = any(e.catches_failure for e in edges) or self._is_pointless(step)
        if step.kind in ("map", "loop"):
            self._cancel_below(step, "item_failed")
        if caught or tolerated:
            self._after(step)
        elif self._stops(step.scope):
            pass
        elif step.scope:
            self._fail_pass(step, error)
        else:
            self._fail_run(step, error)
        self.follow()

    def try_again_or_fail(
        self, path: str, error: dict[str, Any], *, permanent: bool, retry_after: float | None
    ) -> None:
        """A reported failure: it counts, and is tried again while attempts and budgets last."""
        step = self._own(path)
        failures = step.failures + 1
        policy = retry_policy(self.node_of(step), self.plan.document)
        due = (
            None
            if permanent or (not step.is_undo and (self._stops(step.scope) or self._is_pointless(step)))
            else next_retry(policy, failures, self.now, self.jitter, retry_after)
        )
        if due and not step.is_undo and not self._use_retry(step):
            due = None
            error = error | {"next": "The retry budget is used up; retry the step by hand."}
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
        self.entry("step.retrying", step, {"error": error, "failures": failures, "due_at": due.isoformat()})

    def _use_retry(self, step: StepState) -> bool:
        """Draw on the budget of the run, or inside a map on the map's own (ENGINE rule 19)."""
        for scope in enclosing(step.scope)[:-1]:
            if self.state.steps[container_of(scope)].kind == "map":
                container = self._own(container_of(scope))
                memo, node = dict(container.memo or {}), self.node_of(container)
                budget = node.retry_budget
                if budget is None:
                    budget = max(math.ceil(memo.get("total", 0) * LIMITS.map_retry_share), 1)
                if memo.get("retries", 0) >= budget:
                    return False
                self._change(container, memo=memo | {"retries": memo.get("retries", 0) + 1})
                return True
        if self.state.retries_used >= self.plan.document.contract.recovery_policy.run_retry_budget:
            return False
        self.state.retries_used += 1
        self.run_updates["retries_used"] = self.state.retries_used
        return True

    def wait(
        self,
        path: str,
        reason: str,
        due_at: datetime | None,
        memo: dict[str, Any] | None,
        *,
        has_child: bool = False,
    ) -> None:
        """has_child: the child it waits for is under way already, and has to be stopped or waited for."""
        step = self._own(path)
        self._move(
            step, StepStatus.WAITING, reason=reason, due_at=due_at, memo=memo,
            worker=None, deadline_at=None,
        )  # fmt: skip
        self.entry(
            "step.waiting", step, {"reason": reason, **({"until": due_at.isoformat()} if due_at else {})}
        )
        self._cancel_if_unwanted(step, has_child=has_child)

    def wait_for_slot(self, path: str, key: str) -> None:
        """ready → waiting: as many steps with this concurrency key run as may."""
        step = self._own(path)
        kept = {"memo": (step.memo or {}) | {RESOLVING: True}} if step.is_resolving else {}
        self._move(step, StepStatus.WAITING, reason=WaitReason.SLOT, slot=key, due_at=None, **kept)
        self.entry("step.waiting", step, {"reason": WaitReason.SLOT, "key": key})
        if not kept:
            self._cancel_if_unwanted(step)

    def let_in(self, path: str, until: datetime) -> None:
        """waiting for a slot → ready, with the age it had; its place is kept free until then."""
        step = self._own(path)
        fields: dict[str, Any] = {"reason": ""}
        if step.is_resolving:
            memo = {name: value for name, value in (step.memo or {}).items() if name != RESOLVING}
            fields = {"reason": RESOLVING, "memo": memo or None}
        self._move(step, StepStatus.READY, due_at=until, **fields)
        self.entry("step.ready", step, {})

    def hold_slot(self, path: str, key: str) -> None:
        """Note the concurrency key a step runs with; empty when it lets go of it."""
        self._change(self._own(path), slot=key)

    def _cancel_if_unwanted(self, step: StepState, *, has_child: bool = False) -> None:
        """A step that stands still goes on only if its run does and something still waits for it."""
        unwanted = not step.is_undo and (self._stops(step.scope) or self._is_pointless(step))
        if not unwanted or (has_child and self._leave_to_child(step)):
            pass
        elif self._stops(step.scope):
            self._cancel(step, self._why_stopped())
        else:
            self._cancel(step, "join_settled")
        self.follow()

    def doubt(self, path: str, due_at: datetime | None, data: dict[str, Any]) -> None:
        """An effect's outcome is unknown; `due_at` None means only a person can say."""
        step = self._own(path)
        self._move(step, StepStatus.IN_DOUBT, reason="effect", due_at=due_at, worker=None, deadline_at=None)
        self.entry("step.in_doubt", step, data)

    def wake(self, path: str, memo: dict[str, Any] | None = None) -> None:
        """waiting or in doubt → ready: the time has come, or somebody answered."""
        step = self._own(path)
        fields: dict[str, Any] = {"memo": memo} if memo is not None else {}
        reason = RESOLVING if step.status is StepStatus.IN_DOUBT else ""
        self._move(step, StepStatus.READY, reason=reason, due_at=None, ready_at=self.now, **fields)
        self.entry("step.ready", step, {})

    def remind(self, path: str, due_at: datetime | None) -> None:
        """A waiting step goes on waiting, until another time or for a person alone."""
        self._change(self._own(path), due_at=due_at)

    def hand_back(self, path: str) -> None:
        """running → ready without counting anything: the worker stops, or the run is paused."""
        step = self._own(path)
        self._archive(step, "cancelled", None)
        self._move(
            step, StepStatus.READY, fence=step.fence + 1, worker=None, deadline_at=None, ready_at=self.now
        )
        self.entry("attempt.handed_back", step, {})
        self._cancel_if_unwanted(step)

    def lose(self, path: str, why: str, *, counts: bool = True) -> None:
        """running → ready: the worker died or the deadline passed, and no effect is in flight."""
        step = self._own(path)
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
        """Say what a crash cost: the resume proof line. data: `kept` and what else was counted."""
        step = self.state.steps.get(path)
        self.entry("run.recovered", step, {"at_step": data["kept"] + 1, **data})

    def pause(self, reason: str = "") -> None:
        self.state.pause_requested = True
        self.run_updates.update(pause_requested=True, paused_at=self.now)
        self.entry("run.paused", data={"reason": reason} if reason else {})

    def resume(self, paused_seconds: float) -> None:
        """Deadlines and due times move by the length of the pause (ENGINE rule 34)."""
        self.state.pause_requested = False
        self.run_updates.update(pause_requested=False, paused_at=None)
        self.state.open_scopes()
        for path, known in list(self.state.steps.items()):
            moved = {
                name: value + timedelta(seconds=paused_seconds)
                for name, value in (
                    ("due_at", known.due_at),
                    ("deadline_at", known.deadline_at),
                    ("expires_at", known.expires_at),
                )
                if value is not None and not known.has_ended
            }
            if moved:
                self._change(self._own(path), **moved)
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
        self._cancel_all("run_cancelled")

    def set_cost(self, path: str, **counts: Any) -> None:
        """Absolute counters of the step, and the run's total by what was added."""
        step = self._own(path)
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
        self._expect(self._own(path))
        self.updates.setdefault(path, {}).update(fields)

    # --- the end of every decision ------------------------------------------------------------------------

    def settle(self) -> None:
        """Derive the run's status from the count of its steps; the last word of every decision."""
        self.follow()
        state = self.state
        self.run_updates |= {"active": state.active, "idle": state.idle, "stuck": state.stuck}
        self.run_updates["needs_attention"] = state.stuck > 0
        if state.status in RUN_ENDED:
            return
        active, idle = state.active > 0, state.idle > 0
        started = (
            self.has_started
            or state.status not in (RunStatus.QUEUED, RunStatus.PAUSED)
            or any(s.attempt or s.has_ended for s in state.steps.values())
        )
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
        if self._is_stopping and self._begin_undo():
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

    def fail_run(self, error: dict[str, Any]) -> None:
        """The run fails as a whole, by none of its steps; what has not started never will."""
        self.state.error = error
        self.run_updates["error"] = error
        self._cancel_all("run_failed")

    def _fail_run(self, step: StepState, error: dict[str, Any]) -> None:
        """Steps in flight settle, the rest is cancelled, the run fails (ENGINE rule 21)."""
        self.state.error = {"step": step.path, **error}
        self.run_updates["error"] = self.state.error
        self._cancel_all("run_failed")

    def _cancel_all(self, reason: str) -> None:
        for scope in reversed(self.state.open_scopes()):
            self._cancel_idle(self.state.in_scope(scope), reason)
        self.follow()

    def _cancel(self, step: StepState, reason: str) -> None:
        step = self._own(step.path)
        self._move(step, StepStatus.CANCELLED, reason=reason, due_at=None, deadline_at=None, worker=None)
        self.updates[step.path].update(ended_at=self.now)
        self.closed.append(step.path)
        self.entry("step.cancelled", step, {"reason": reason})
