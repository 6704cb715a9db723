"""Bodies of maps and loops: passes that open, end and are counted on their container.

A pass is one item of a map or one round of a loop: a row of its own that waits for the steps in its scope. A
container opens no more passes than may run at once and keeps only counters, so ten thousand items or rounds
cost no more memory than ten (ENGINE rule 19). Steps of a body never reach outside it: its edges, joins and
back edges are its own, and a failure nobody catches fails its pass, then perhaps its container.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from apps.runs.core.edges import Following
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import EARLY_JOINS, container_of, enclosing, pass_path, pass_scope
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus, WaitReason
from mirrorneuron.base.safejson import storable


class Bodies(Following):
    """What happens inside maps and loops; `follow` is called at the end of everything that can happen."""

    _is_following = False

    @abstractmethod
    def succeed(
        self, path: str, output: Any, port: str = "", labels: tuple[str, ...] = (), **fields: Any
    ) -> None: ...

    # --- opening ------------------------------------------------------------------------------------------

    def open_body(self, path: str, *, total: int | None, labels: tuple[str, ...] = ()) -> None:
        """A container has begun: it waits for its passes and opens the first of them.

        total: items of a map; None for a loop, whose rounds open one after the other.
        labels: where the items came from; what the body's steps add comes on top as passes end.
        """
        step = self._own(path)
        memo: dict[str, Any] = {"opened": 0, "done": 0, "failed": 0}
        if total is not None:
            memo |= {"total": total, "retries": 0}
        self._move(
            step, StepStatus.WAITING, reason=WaitReason.CHILD, memo=memo, labels=labels, worker=None,
            deadline_at=None, due_at=None,
        )  # fmt: skip
        self.entry("body.opened", step, {"total": total} if total is not None else {})
        if self._stops(step.scope) or self._is_pointless(step):
            self._cancel(step, self._why_stopped())
            return
        with self._following_later():
            self._open_more(step)
        self.follow()

    def _open_more(self, step: StepState) -> None:
        node, memo = self.node_of(step), dict(step.memo or {})
        if node.kind == "loop":
            wanted = [memo["opened"] + 1]
        else:
            running = memo["opened"] - memo["done"] - memo["failed"]
            width = (node.max_parallel or LIMITS.map_parallel) - running
            wanted = list(range(memo["opened"], min(memo["opened"] + width, memo["total"])))
        if not wanted:
            return
        memo["opened"] += len(wanted)
        self._change(step, memo=memo)
        for number in wanted:
            self._open_pass(step, number)

    def _open_pass(self, container: StepState, number: int) -> None:
        scope = pass_scope(container.path, number)
        kind = "round" if container.kind == "loop" else "item"
        value: dict[str, Any]
        if kind == "round":
            value = {"round": number, "previous": self._last_output(container, number)}
        else:
            value = {"index": number, "item": self.item_of(container.path, number)}
        this = StepState(
            path=pass_path(scope), node_id=container.node_id, kind=kind, round=number,
            status=StepStatus.WAITING, reason=WaitReason.CHILD, ready_at=self.now, started_at=self.now,
        )  # fmt: skip
        self.state.add_scope(scope, ())
        self._insert(this, input=value)
        self.learn_input(this.path, value)
        self.entry(f"{kind}.opened", this, {"number": number})
        body = self.plan.for_scope(scope)
        for node in body.roots:
            self._activate(node, scope)
        if not body.roots and scope not in self.touched:
            self.touched.append(scope)

    def _last_output(self, container: StepState, number: int) -> Any:
        """What the round before handed over; null in the first."""
        if number == 1:
            return None
        return self._outputs.get(pass_path(pass_scope(container.path, number - 1)))

    # --- following ----------------------------------------------------------------------------------------

    def follow(self) -> None:
        """End every pass whose steps have all ended, innermost first, and go on with its container.

        One after the other: a pass that ends in the moment it opens must neither end its container while the
        next is being opened, nor nest as deep as there are passes.
        """
        if self._is_following:
            return
        with self._following_later():
            while self.touched:
                scope = self.touched.pop(0)
                this = self.state.find(pass_path(scope))
                if this is None or this.has_ended:
                    continue
                if any(not step.has_ended for step in self.state.in_scope(scope) if not step.is_pass):
                    continue
                self._end_pass(self._own(this.path), scope)

    @contextmanager
    def _following_later(self) -> Iterator[None]:
        """Meanwhile `follow` does nothing: whoever holds this follows in the end."""
        before, self._is_following = self._is_following, True
        try:
            yield
        finally:
            self._is_following = before

    def _end_pass(self, this: StepState, scope: str) -> None:
        container = self._own(container_of(scope))
        error = (this.memo or {}).get("error")
        unwanted = container.has_ended or self._is_settled(container) or self._outer_stops(scope)
        if error is None and (self._is_stopping or unwanted):
            self._close_pass(this, StepStatus.CANCELLED, reason=self._why_stopped())
        elif error is None:
            error = self._finish_pass(this, scope)
        if error is not None and not this.has_ended:
            self._close_pass(this, StepStatus.FAILED, error=error)
            self.entry(f"{this.kind}.failed", this, {"number": this.round, "error": error})
        if not container.has_ended and not self._is_settled(container):
            self._pass_ended(container, this, error)

    def _outer_stops(self, scope: str) -> bool:
        """Whether something around this pass, itself left out, goes no further."""
        return any(around and self._pass_is_over(around) for around in enclosing(scope)[1:])

    def _finish_pass(self, this: StepState, scope: str) -> dict[str, Any] | None:
        """The pass did all it could: form its output. Returns an error when it cannot be formed."""
        plan = self.plan.for_scope(scope)
        never = [n for n in plan.order if self.state.current(plan, n, scope) is None]
        if never:
            return {
                "code": "stalled", "permanent": True,
                "message": f"Nothing is left to do, but {', '.join(never)} never became ready.",
            }  # fmt: skip
        try:
            output = storable(self.result_of(scope))
        except ValueError as exc:
            return {"code": "bad_expression", "message": str(exc), "permanent": True}
        labels = {label for step in self.state.in_scope(scope) for label in step.labels}
        self._change(this, labels=tuple(sorted(labels)))
        self._close_pass(this, StepStatus.SUCCEEDED, output=output)
        self.learn(this.path, output)
        self._outputs[this.path] = output
        self.entry(f"{this.kind}.succeeded", this, {"number": this.round})
        return None

    def _close_pass(self, this: StepState, status: StepStatus, *, reason: str = "", **columns: Any) -> None:
        self._move(this, status, reason=reason)
        self.updates[this.path].update(ended_at=self.now, **columns)

    # --- counting -----------------------------------------------------------------------------------------

    def _pass_ended(self, container: StepState, this: StepState, error: dict[str, Any] | None) -> None:
        memo = dict(container.memo or {})
        memo["done" if error is None else "failed"] += 1
        labels = tuple(sorted({*container.labels, *this.labels}))
        self._change(container, memo=memo, labels=labels)
        if self._stops(container.scope):
            if memo["opened"] == memo["done"] + memo["failed"]:
                self._cancel(container, self._why_stopped())
        elif container.kind == "loop":
            self._round_ended(container, this, error)
        else:
            self._item_ended(container, this, error)

    def _round_ended(self, loop: StepState, this: StepState, error: dict[str, Any] | None) -> None:
        node = self.node_of(loop)
        if error is not None:
            self.fail(loop.path, error | {"round": this.round})
            return
        output = self._outputs.get(this.path)
        names = {"output": output, "round": this.round}
        try:
            over = not node.condition or bool(self.evaluate(node.condition, names, this.scope))
        except ValueError as exc:
            self.fail(loop.path, {"code": "bad_expression", "message": str(exc), "permanent": True})
            return
        result = {"result": output, "rounds": this.round, "reason": "max_rounds"}
        if over and node.condition:
            result["reason"] = "condition"
            self.succeed(loop.path, result, "done", loop.labels)
        elif this.round < (node.max_rounds or 1):
            self._open_more(loop)
        elif not node.condition:
            self.succeed(loop.path, result, "done", loop.labels)
        elif self._has_edge(loop, "exhausted"):
            self.succeed(loop.path, result, "exhausted", loop.labels)
        else:
            self.fail(
                loop.path,
                {"code": "rounds_exhausted", "permanent": True,
                 "message": f'Loop "{node.id}" has used up its {node.max_rounds} rounds and its condition '
                            "does not hold.",
                 "next": "Give it more rounds, or an edge from its port `exhausted`."},
                output=result,
            )  # fmt: skip

    def _item_ended(self, step: StepState, this: StepState, error: dict[str, Any] | None) -> None:
        node, memo = self.node_of(step), dict(step.memo or {})
        join = node.join or "all"
        need = {"all": memo["total"], "n_of_m": node.n or 1}.get(join, 1)
        if error is None and join in EARLY_JOINS:
            winners = [*memo.get("winners", ()), this.round]
            self._change(step, memo=memo | {"winners": winners})
            if len(winners) >= need:
                self._settle_map(step)
                return
        if error is not None and join == "all":
            self._fail_map(step, error | {"item": this.round})
        elif join in EARLY_JOINS and memo["total"] - memo["failed"] < need:
            self._fail_map(
                step,
                {"code": "join_out_of_reach", "permanent": True,
                 "message": f'Map "{node.id}" needs {need} items to succeed, and {memo["failed"]} of '
                            f"{memo['total']} have failed.", "item": this.round},
            )  # fmt: skip
        elif memo["done"] + memo["failed"] == memo["total"]:
            self._settle_map(step)
        else:
            self._open_more(step)

    def _settle_map(self, step: StepState) -> None:
        """Its result is fixed: the map is claimed once more to put it together; losers are cancelled."""
        self._change(step, memo=dict(step.memo or {}) | {"settled": True})
        self._move(step, StepStatus.READY, reason="", ready_at=self.now)
        self.entry("step.ready", step, {})
        self._cancel_below(step, "join_settled")

    def _fail_map(self, step: StepState, error: dict[str, Any]) -> None:
        self.fail(step.path, error)
        self._cancel_below(step, "item_failed")

    def _fail_pass(self, step: StepState, error: dict[str, Any]) -> None:
        """A step in a body failed and no edge caught it: its pass will fail once all in it has settled."""
        scope = step.scope
        this = self._own(pass_path(scope))
        self._change(this, memo={"error": {"step": step.path, **error}})
        self._cancel_idle([s for s in self.state.in_scope(scope) if not s.is_pass], "run_failed")
        if scope not in self.touched:
            self.touched.append(scope)

    # --- cancelling ---------------------------------------------------------------------------------------

    def _cancel_below(self, container: StepState, reason: str) -> None:
        """Cancel what stands still in a container's open passes; what runs settles by itself."""
        prefix = f"{container.path}["
        for scope in self.state.open_scopes(prefix):
            self._cancel_idle(self.state.in_scope(scope), reason)
            if scope not in self.touched:
                self.touched.append(scope)

    def _cancel_idle(self, steps: Iterable[StepState], reason: str) -> None:
        """Cancel of these what stands still. A container ends when the last of its passes has."""
        for known in list(steps):
            step = self.state.steps[known.path]
            if step.status not in (StepStatus.READY, StepStatus.WAITING) or step.is_pass or step.is_undo:
                continue
            if step.is_resolving:
                continue
            if step.reason == WaitReason.CHILD and step.kind in ("map", "loop"):
                self._cancel_below(step, reason)
                if not self._has_open_passes(step):
                    self._cancel(step, reason)
                continue
            if step.reason == WaitReason.CHILD and self._leave_to_child(step):
                continue
            self._cancel(step, reason)

    def _leave_to_child(self, step: StepState) -> bool:
        """Whether a subflow waits for its child's end although its run stops; due, it asks it to stop."""
        policy = self.node_of(step).on_cancel
        if policy == "cancel":
            self._change(self._own(step.path), due_at=self.now)
        return policy != "abandon"

    def _has_open_passes(self, container: StepState) -> bool:
        memo = container.memo or {}
        return bool(memo.get("opened", 0) > memo.get("done", 0) + memo.get("failed", 0))

    def _why_stopped(self) -> str:
        if self.state.cancel_requested:
            return "run_cancelled"
        return "run_failed" if self.state.is_failing else "join_settled"
