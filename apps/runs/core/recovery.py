"""What a person may do with a step that stands still: try a failed one again, or skip one with a value. Pure.

A failure is *open* when nothing has handled it: no `failed` edge, no join that tolerates it. Open failures
fail what is around them: the pass, then perhaps the map or loop, then the run. Retry takes that back from the
outside in: the run (`run.reopened`), the containers and passes that failed with it, every step in them that
failed or was stopped for it, and at last what follows steps that ended meanwhile (ENGINE rules 21, 22).

Needs a state in which every step of the run is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from apps.blueprints.core.kinds import main_port, ports
from apps.runs.core.plan import container_of, enclosing, is_undo, pass_path, pass_scope, path_of, scope_of
from apps.runs.core.state import StepState
from apps.runs.core.states import RESOLVING, RunStatus, StepStatus, WaitReason
from apps.runs.core.undoing import Undoing
from mirrorneuron.base.safejson import storable

BY_PERSON = "by_person"
"""Reason of a step that a person skipped with a value."""
STOPPED = frozenset({"run_failed", "item_failed"})
"""Reasons of steps cancelled because something beside them failed; what reopening restores."""
CONTAINERS = frozenset({"map", "loop"})


class CannotRecover(ValueError):
    """The step or its run does not allow this now; `next` says what does."""

    def __init__(self, message: str, next: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next = next


@dataclass
class _Act:
    """One thing a person does, while what failed is taken back from the outside in."""

    path: str
    errors: Mapping[str, dict[str, Any]]
    skip: Callable[[StepState], None] | None = None
    met: list[str] = field(default_factory=list)
    """Failed steps that were taken back."""


class Recovering(Undoing):
    """Retry and skip."""

    def retry(
        self, path: str, *, by: dict[str, Any], errors: Mapping[str, dict[str, Any]] | None = None
    ) -> list[str]:
        """failed → ready, with a fresh count of failures; a run that failed for it goes on.

        by: who and why, for the ledger. errors: the errors of failed steps, kept with their attempts.
        Returns all steps that are tried again: what failed the run beside this one has to be as well.
        Raises CannotRecover.
        """
        step = self._recoverable(path)
        if step.is_undo and step.reason == WaitReason.PERSON and step.status is StepStatus.WAITING:
            self._retry_undo(step, by)
            return [path]
        if step.status is not StepStatus.FAILED:
            raise CannotRecover(
                f'Step "{path}" is {_said(step)}; only a failed step is tried again.', _instead(step)
            )
        act = _Act(path, errors or {})
        self._take_back(step, act, by)
        self.follow()
        return act.met

    def skip(
        self,
        path: str,
        value: Any,
        *,
        by: dict[str, Any],
        port: str = "",
        labels: tuple[str, ...] = (),
        errors: Mapping[str, dict[str, Any]] | None = None,
    ) -> list[str]:
        """failed, in doubt, waiting or blocked → skipped, with `value` as its output; its edges are taken.

        port: the way it leaves by; the kind's main port unless given. Effects in doubt are the caller's to
        settle. Returns the failed steps that are tried again because the run goes on. Raises CannotRecover.
        """
        step = self._recoverable(path)
        leave = self._leaving(step, storable(value), port, labels, by, errors or {})
        if step.status is StepStatus.FAILED:
            act = _Act(path, errors or {}, leave)
            self._take_back(step, act, by)
            act.met.remove(path)
            self.follow()
            return act.met
        if step.status not in (StepStatus.WAITING, StepStatus.IN_DOUBT, StepStatus.BLOCKED):
            raise CannotRecover(
                f'Step "{path}" is {_said(step)}; only one that failed, waits or is in doubt is skipped.',
                _instead(step),
            )
        if self._stops(step.scope) and not step.is_undo:
            raise CannotRecover(
                f'Step "{path}" goes no further, because something beside it has failed.',
                "Retry or skip what failed.",
            )
        if step.status is StepStatus.BLOCKED:
            self._insert(step)
        leave(step)
        if step.node_id in self._plan_of(step).early_joins:
            self._cancel_losers(step.node_id, step.scope)  # A join that has its value waits for nobody.
        self.follow()
        return []

    # --- what is allowed ----------------------------------------------------------------------------------

    def _recoverable(self, path: str) -> StepState:
        state = self.state
        if is_undo(path) and path in state.steps:
            return self._own(path)
        if any(s.is_undo for s in state.steps.values()):
            raise CannotRecover(
                "The run has begun to take back what it did; its other steps stay as they are.",
                "Fork it to do its work again.",
            )
        if state.cancel_requested or state.status is RunStatus.CANCELLED:
            raise CannotRecover("The run was cancelled; its steps stay as they are.", "Fork it.")
        if state.status is RunStatus.SUCCEEDED:
            raise CannotRecover("The run has succeeded; its steps stay as they are.", "Fork it.")
        step = state.find(path) or self._blocked(path)
        if step.is_pass:
            raise CannotRecover(
                f'"{path}" is one pass through "{step.node_id}", not a step.', "Name the step in it."
            )
        return self._own(path) if path in state.steps else step

    def _blocked(self, path: str) -> StepState:
        """The step of a node that has not started. Raises CannotRecover when there is no such node."""
        scope, name = scope_of(path), path.rpartition("/")[2]
        node_id = name.partition("[")[0]
        try:
            plan = self.plan.for_scope(scope)
            node = plan.nodes[node_id]
        except (KeyError, ValueError):
            node = None
        is_open = not scope or ((this := self.state.find(pass_path(scope))) and not this.has_ended)
        if node is None or not is_open:
            raise CannotRecover(f'The run has no step "{path}".', "List its steps to see their paths.")
        round = self.state.round_of(plan, node_id, scope)
        if path != path_of(node_id, round, scope):
            raise CannotRecover(
                f'The run has no step "{path}"; "{node_id}" is in round {round}.',
                f'Its step is "{path_of(node_id, round, scope)}".',
            )
        return StepState(
            path=path, node_id=node_id, kind=node.kind, round=round, status=StepStatus.BLOCKED,
            ready_at=self.now,
        )  # fmt: skip

    def _is_open_failure(self, step: StepState) -> bool:
        """Whether nothing has handled this failure, so that it fails what is around it."""
        edges = self._plan_of(step).outgoing[step.node_id]
        return (
            step.status is StepStatus.FAILED
            and not step.taken
            and not any(e.catches_failure for e in edges)
            and not self._is_pointless(step)
        )

    def _nobody_went_on(self, step: StepState) -> bool:
        """Whether a tolerated failure has not led anywhere yet, so that it can still be taken back."""
        plan, scope = self._plan_of(step), step.scope
        return (
            not step.taken
            and self.state.current(plan, step.node_id, scope) is step
            and not self._is_pointless(step)
            and all(self.state.current(plan, e.target, scope) is None for e in plan.outgoing[step.node_id])
        )

    # --- taking back --------------------------------------------------------------------------------------

    def _take_back(self, step: StepState, act: _Act, by: dict[str, Any]) -> None:
        """Reopen the outermost thing that failed around a failed step, and with it all that failed inside."""
        scopes = [*reversed(enclosing(step.scope))]
        for scope, inner in zip(scopes, [*scopes[1:], None], strict=True):
            if not scope and self.state.is_failing:
                self._reopen_run(by)
                self._reopen_scope(scope, act)
                break
            if scope and self._has_failed(scope):
                container = self._own(container_of(scope))
                if self.state.steps[pass_path(scope)].has_ended:
                    memo = dict(container.memo or {})
                    self._change(container, memo=memo | {"failed": memo["failed"] - 1})
                self._reopen_scope(scope, act)
                break
            top = step if inner is None else self._own(container_of(inner))
            if top.status is StepStatus.FAILED and self._nobody_went_on(top):
                self._reopen_step(top, act)
                break
            if top.has_ended or (inner is not None and self._is_settled(top)):
                break
        if act.path not in act.met:
            raise CannotRecover(
                f'The failure of step "{act.path}" has been dealt with: the run went on without it.',
                "Fork the run to do it again.",
            )

    def _has_failed(self, scope: str) -> bool:
        this = self.state.steps[pass_path(scope)]
        container = self.state.steps[container_of(scope)]
        if container.has_ended or self._is_settled(container):
            return False
        return this.status is StepStatus.FAILED or "error" in (this.memo or {})

    def _reopen_run(self, by: dict[str, Any]) -> None:
        """The only way out of a terminal state (ENGINE rule 22); the run's retry budget starts afresh."""
        was = self.state.error or {}
        self.state.error = None
        self.run_updates["error"] = None
        if self.state.status is RunStatus.FAILED:
            self._run_to(RunStatus.RUNNING)
            self.run_updates.update(ended_at=None, output=None, checks=[])
        self.state.retries_used = 0
        self.run_updates["retries_used"] = 0
        said = {"step": was.get("step", ""), "code": was.get("code", "")}
        self.entry("run.reopened", data={**by, "failed_with": said})

    def _reopen_scope(self, scope: str, act: _Act) -> None:
        """Take back every open failure of a scope, restore what was stopped, start what follows."""
        if scope:
            this = self._own(pass_path(scope))
            memo = {k: v for k, v in (this.memo or {}).items() if k != "error"} or None
            if this.status is StepStatus.WAITING:
                self._change(this, memo=memo)
            else:
                self._wait_again(this, memo)
        for known in self.state.in_scope(scope):
            if known.is_pass or known.is_undo:
                continue
            if self._is_open_failure(known):
                self._reopen_step(self._own(known.path), act)
            elif self._was_stopped(known):
                self._restore(self._own(known.path), act)
        plan = self.plan.for_scope(scope)
        for node in plan.order:
            arrived = [e for e in plan.incoming[node] if self._edge_state(e, scope) != "pending"]
            if arrived or not plan.incoming[node]:
                self._consider(node, scope)
        if scope and scope not in self.touched:
            self.touched.append(scope)

    def _was_stopped(self, step: StepState) -> bool:
        """Whether it was cancelled because something beside it failed, and not as the loser of a join."""
        if step.status is not StepStatus.CANCELLED:
            return False
        return step.reason in STOPPED or (bool(step.scope) and not self._is_pointless(step))

    def _reopen_step(self, step: StepState, act: _Act) -> None:
        act.met.append(step.path)
        if act.skip is not None and step.path == act.path:
            act.skip(step)
        elif self._is_under_way(step):
            self._reopen_container(step, act)
        else:
            self._archive(step, "failed", act.errors.get(step.path))
            self._ready_again(step, "retry")

    def _restore(self, step: StepState, act: _Act) -> None:
        if self._is_under_way(step):
            self._reopen_container(step, act)
        else:
            self._ready_again(step, "restored")

    def _is_under_way(self, step: StepState) -> bool:
        """A map or loop that has opened passes and whose result is not fixed yet."""
        return (
            step.kind in CONTAINERS and bool((step.memo or {}).get("opened")) and not self._is_settled(step)
        )

    def _ready_again(self, step: StepState, why: str) -> None:
        # What a person once decided, or a signal said, was about the attempt that is over.
        kept = {k: v for k, v in (step.memo or {}).items() if k not in ("decision", "signal", RESOLVING)}
        if why == "retry":
            kept["retried_at"] = self.now.isoformat()
        self._move(
            step, StepStatus.READY, reason="", port="", taken=(), failures=0, losses=0, due_at=None,
            ready_at=self.now, memo=kept or None, expires_at=self._fresh_deadline(step),
        )  # fmt: skip
        self.updates[step.path].update(error=None, output=None, ended_at=None)
        self.entry("step.ready", step, {why: True})

    def _fresh_deadline(self, step: StepState) -> datetime | None:
        seconds = self.node_of(step).deadline
        return self.now + timedelta(seconds=seconds) if seconds else None

    def _wait_again(self, step: StepState, memo: dict[str, Any] | None) -> None:
        """A pass or container waits for its steps again."""
        self._move(step, StepStatus.WAITING, reason=WaitReason.CHILD, port="", taken=(), memo=memo)
        self.updates[step.path].update(error=None, output=None, ended_at=None)
        self.entry("step.waiting", step, {"reason": "child", "reopened": True})

    def _reopen_container(self, step: StepState, act: _Act) -> None:
        memo = dict(step.memo or {})
        first = 1 if step.kind == "loop" else 0
        scopes = [pass_scope(step.path, n) for n in range(first, first + memo["opened"])]
        passes = [self.state.steps[pass_path(scope)] for scope in scopes]
        over = [p for p in passes if p.status in (StepStatus.FAILED, StepStatus.CANCELLED)]
        if step.status is StepStatus.FAILED and not over and all(p.has_ended for p in passes):
            raise CannotRecover(
                f'Loop "{step.path}" failed by its own condition or bound, which a retry cannot change.',
                "Skip it with a value, or fork the run to a version with a mended loop.",
            )
        done = sum(p.status is StepStatus.SUCCEEDED for p in passes)
        self._wait_again(step, memo | {"done": done, "failed": 0})
        for this in over:
            self._reopen_scope(this.scope, act)
        step = self._own(step.path)
        if step.kind == "loop":
            if not over and passes[-1].has_ended:
                last = passes[-1]
                self._outputs[last.path] = storable(self.result_of(last.scope))
                self._round_ended(step, last, None)
        elif done == memo["total"]:
            self._settle_map(step)
        else:
            self._open_more(step)

    # --- skipping -----------------------------------------------------------------------------------------

    def _leaving(
        self,
        step: StepState,
        value: Any,
        port: str,
        labels: tuple[str, ...],
        by: dict[str, Any],
        errors: Mapping[str, dict[str, Any]],
    ) -> Callable[[StepState], None]:
        """How the step will be left: checked now, done when the run around it is open again."""
        node = self.node_of(step)
        port = port or main_port(node)
        if port not in ports(node) or port == "failed":
            ways = ", ".join(p for p in ports(node) if p != "failed")
            raise CannotRecover(f'"{node.id}" has no way out "{port}".', f"Choose one of {ways}.")

        def leave(step: StepState) -> None:
            try:
                taken = () if step.is_undo else self._taken_edges(step, port, value)
            except ValueError as exc:
                raise CannotRecover(
                    f'With this value the edges after "{step.path}" cannot be followed: {exc}'
                ) from exc
            if step.status is StepStatus.FAILED:
                self._archive(step, "failed", errors.get(step.path))
            self._move(
                step, StepStatus.SKIPPED, reason=BY_PERSON, port=port, taken=taken, labels=labels,
                due_at=None, deadline_at=None, worker=None,
            )  # fmt: skip
            self.updates[step.path].update(output=value, error=None, ended_at=self.now)
            self.learn(step.path, value)
            self.closed.append(step.path)
            self.entry("step.skipped", step, {"reason": BY_PERSON, "port": port, **by})
            if step.kind in CONTAINERS:
                self._cancel_below(step, "skipped")
            if not step.is_undo:
                self._after(step)

        return leave


def _said(step: StepState) -> str:
    words = {
        StepStatus.BLOCKED: "not started",
        StepStatus.READY: "about to start",
        StepStatus.RUNNING: "being worked on",
        StepStatus.IN_DOUBT: "in doubt",
    }
    return words.get(step.status, str(step.status))


def _instead(step: StepState) -> str:
    """What can be done with a step that cannot be retried or skipped."""
    match step.status:
        case StepStatus.SUCCEEDED | StepStatus.SKIPPED:
            return "Fork the run to do it again, or to give it another output."
        case StepStatus.CANCELLED:
            return "Retry or skip the step that failed; what was stopped for it is restored."
        case StepStatus.IN_DOUBT:
            return "Say what became of its effect; then it goes on by itself."
        case StepStatus.READY | StepStatus.RUNNING:
            return "Wait until it has ended; pause or cancel the run to stop it."
        case StepStatus.WAITING:
            return "It goes on by itself when what it waits for is there; or skip it with a value."
    return ""
