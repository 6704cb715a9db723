"""Following edges: what starts, what is skipped and what is cancelled once a step has ended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from apps.runs.core.decision import Decision
from apps.runs.core.plan import EARLY_JOINS, PlanEdge, path_of
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus


@dataclass
class Following(Decision):
    """Edges end as `taken` or `dead`; a node starts when its in-edges have ended (ENGINE rules 17, 18)."""

    _changed: list[tuple[str, str]] | None = field(default=None, repr=False)
    """(node, scope) whose in-edges have changed and that were not looked at yet; None while nobody looks."""

    @abstractmethod
    def fail(self, path: str, error: dict[str, Any], **fields: Any) -> None: ...

    @abstractmethod
    def _cancel(self, step: StepState, reason: str) -> None: ...

    @abstractmethod
    def _cancel_idle(self, steps: Iterable[StepState], reason: str) -> None: ...

    def _taken_edges(self, step: StepState, port: str, output: Any) -> tuple[int, ...]:
        names = {"output": output}
        return tuple(
            e.index
            for e in self._plan_of(step).outgoing[step.node_id]
            if self._leaves_by(e, port, output)
            and (not e.is_back or self._rounds_left(e, step.scope) > 0)
            and (not e.when or bool(self.evaluate(e.when, names, step.scope)))
        )

    @staticmethod
    def _leaves_by(edge: PlanEdge, port: str, output: Any) -> bool:
        # A router that matches all its routes leaves by several ports at once.
        return edge.port == port or (port == "*" and edge.port in (output or {}).get("routes", ()))

    def _has_edge(self, step: StepState, port: str) -> bool:
        return any(e.port == port for e in self._plan_of(step).outgoing[step.node_id])

    def _rounds_left(self, edge: PlanEdge, scope: str) -> int:
        return max(edge.max_rounds - 1 - self.state.takes(edge.index, scope), 0)

    def _after(self, step: StepState) -> None:
        """Follow the edges of a step that has ended."""
        plan, scope = self._plan_of(step), step.scope
        if self._stops(scope):
            return
        for edge in plan.outgoing[step.node_id]:
            if edge.is_back and edge.index in step.taken:
                round = self.state.round_of(plan, edge.target, scope)
                self.entry("round.opened", step, {"round": round, "from": step.node_id, "to": edge.target})
                self._activate(edge.target, scope)
                return  # The other edges belong to the round that has just begun.
        for target in dict.fromkeys(e.target for e in plan.outgoing[step.node_id] if not e.is_back):
            self._consider(target, scope)

    def _edge_state(self, edge: PlanEdge, scope: str) -> str:
        """`taken`, `dead`, or `pending`."""
        source = self.state.current(self.plan.for_scope(scope), edge.source, scope)
        if source is None or not source.has_ended:
            return "pending"
        return "taken" if edge.index in source.taken else "dead"

    def _consider(self, node_id: str, scope: str) -> None:
        """Look at a node whose in-edges have changed, and at all that this changes in turn.

        A list and not recursion: a branch that is skipped may be hundreds of nodes long.
        """
        if self._changed is not None:
            self._changed.append((node_id, scope))
            return
        self._changed = [(node_id, scope)]
        try:
            for changed in self._changed:
                self._decide(*changed)
        finally:
            self._changed = None

    def _decide(self, node_id: str, scope: str) -> None:
        """Start, skip or leave a node."""
        plan = self.plan.for_scope(scope)
        if self._stops(scope) or self.state.current(plan, node_id, scope) is not None:
            return
        node = plan.nodes[node_id]
        join = (node.join or "all") if node.kind == "aggregator" else "all"
        if join not in EARLY_JOINS and self._is_awaited(node_id, scope):
            return
        states = {e: self._edge_state(e, scope) for e in plan.incoming[node_id]}
        taken = sum(s == "taken" for s in states.values())
        pending = sum(s == "pending" for s in states.values())
        if join in EARLY_JOINS:
            need = node.n or 1 if join == "n_of_m" else 1
            if taken >= need:
                self._activate(node_id, scope, memo=self._arrived(states, scope))
                self._cancel_losers(node_id, scope)
                return
            if taken + pending >= need:
                return
            if taken == 0 and not self._any_failed(states, scope):
                self._activate(node_id, scope, skip=True)
            else:
                self._activate(node_id, scope, memo=self._arrived(states, scope) | {"out_of_reach": need})
            self._cancel_losers(node_id, scope)  # What it never hears of would stand there for ever.
            return
        settled = join == "all_settled" and self._any_failed(states, scope)
        if taken or settled or not states:
            memo = self._arrived(states, scope) if node.kind == "aggregator" else None
            self._activate(node_id, scope, memo=memo)
        else:
            self._activate(node_id, scope, skip=True)

    def _is_awaited(self, node_id: str, scope: str) -> bool:
        """Whether one of a node's in-edges is pending. The one that was last time is asked first: a wide join
        would else look at all its edges at each end of one."""
        edges = self.plan.for_scope(scope).incoming[node_id]
        last = self.state.awaited.get(scope, {}).get(node_id, 0)
        for i in (*range(last, len(edges)), *range(last)):
            if self._edge_state(edges[i], scope) == "pending":
                if i != last:
                    self.state.awaited.setdefault(scope, {})[node_id] = i
                return True
        return False

    def _arrived(self, states: dict[PlanEdge, str], scope: str) -> dict[str, Any]:
        """Fix a join's inputs: what arrives later changes nothing."""
        arrived = [e.source for e, s in states.items() if s == "taken"]
        failed = [e.source for e, s in states.items() if s == "dead" and self._failed(e.source, scope)]
        return {"arrived": arrived, "failed": failed}

    def _failed(self, node_id: str, scope: str) -> bool:
        step = self.state.current(self.plan.for_scope(scope), node_id, scope)
        return step is not None and step.status is StepStatus.FAILED

    def _any_failed(self, states: dict[PlanEdge, str], scope: str) -> bool:
        return any(s == "dead" and self._failed(e.source, scope) for e, s in states.items())

    def _activate(
        self, node_id: str, scope: str, *, skip: bool = False, memo: dict[str, Any] | None = None
    ) -> None:
        """Insert a node's step in its current round: ready, or skipped and passed on."""
        if self._stops(scope):
            return  # Something before it in this very decision has failed the run.
        plan = self.plan.for_scope(scope)
        node = plan.nodes[node_id]
        round = self.state.round_of(plan, node_id, scope)
        step = StepState(
            path=path_of(node_id, round, scope), node_id=node_id, kind=node.kind, round=round,
            status=StepStatus.READY, ready_at=self.now, memo=memo,
            expires_at=self.now + timedelta(seconds=node.deadline) if node.deadline else None,
        )  # fmt: skip
        error: str = ""
        if not skip and node.when:
            try:
                skip = not self.evaluate(node.when, {"round": round} if round > 1 or not scope else {}, scope)
            except ValueError as exc:
                error = str(exc)
        if skip:
            step.status = StepStatus.SKIPPED
            step.reason = "condition" if node.when else "not_taken"
            self._insert(step, ended_at=self.now)
            self.learn(step.path, None)
            self.entry("step.skipped", step, {"reason": step.reason})
            self._after(step)
            return
        self._insert(step)
        if error:
            self.fail(step.path, {"code": "bad_expression", "message": error, "permanent": True})
        else:
            self.entry("step.ready", step, {})

    def _cancel_losers(self, join: str, scope: str) -> None:
        plan = self.plan.for_scope(scope)
        standing = []
        for node_id in sorted(plan.losers(join)):
            step = self.state.current(plan, node_id, scope)
            if step is None:
                self._activate_cancelled(node_id, scope)
            else:
                standing.append(step)
        self._cancel_idle(standing, "join_settled")

    def _is_pointless(self, step: StepState) -> bool:
        """Whether all its ways lead into a join that has settled without it (ENGINE rule 17)."""
        plan, scope = self._plan_of(step), step.scope
        return any(
            step.node_id in plan.losers(join)
            and (
                path_of(join, step.round, scope) in self.state.steps or self.state.current(plan, join, scope)
            )
            for join in plan.early_joins
        )

    def _activate_cancelled(self, node_id: str, scope: str) -> None:
        plan = self.plan.for_scope(scope)
        round = self.state.round_of(plan, node_id, scope)
        step = StepState(
            path=path_of(node_id, round, scope), node_id=node_id, kind=plan.nodes[node_id].kind,
            round=round, status=StepStatus.CANCELLED, reason="join_settled",
        )  # fmt: skip
        self._insert(step, ended_at=self.now)
        self.entry("step.cancelled", step, {"reason": "join_settled"})
