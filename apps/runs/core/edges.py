"""Following edges: what starts, what is skipped and what is cancelled once a step has ended."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

from apps.blueprints.core.document import Node
from apps.runs.core.decision import Decision
from apps.runs.core.plan import EARLY_JOINS, PlanEdge, path_of
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus


@dataclass
class Following(Decision):
    """Edges end as `taken` or `dead`; a node starts when its in-edges have ended (ENGINE rules 17, 18)."""

    _changed: list[str] | None = field(default=None, repr=False)
    """Nodes whose in-edges have changed and that were not looked at yet; None while nobody looks."""

    @abstractmethod
    def fail(self, path: str, error: dict[str, Any], **fields: Any) -> None: ...

    @abstractmethod
    def _cancel(self, step: StepState, reason: str) -> None: ...

    def _taken_edges(self, step: StepState, port: str, output: Any) -> tuple[int, ...]:
        names = {"output": output}
        return tuple(
            e.index
            for e in self.plan.outgoing[step.node_id]
            if self._leaves_by(e, port, output)
            and (not e.is_back or self._rounds_left(e) > 0)
            and (not e.when or bool(self.evaluate(e.when, names)))
        )

    @staticmethod
    def _leaves_by(edge: PlanEdge, port: str, output: Any) -> bool:
        # A router that matches all its routes leaves by several ports at once.
        return edge.port == port or (port == "*" and edge.port in (output or {}).get("routes", ()))

    def _has_edge(self, node: Node, port: str) -> bool:
        return any(e.port == port for e in self.plan.outgoing[node.id])

    def _rounds_left(self, edge: PlanEdge) -> int:
        return max(edge.max_rounds - 1 - self.state.takes(edge.index), 0)

    def _after(self, step: StepState, node: Node) -> None:
        """Follow the edges of a step that has ended."""
        if self._is_stopping:
            return
        for edge in self.plan.outgoing[node.id]:
            if edge.is_back and edge.index in step.taken:
                round = self.state.round_of(self.plan, edge.target)
                self.entry("round.opened", step, {"round": round, "from": node.id, "to": edge.target})
                self._activate(edge.target)
                return  # The other edges belong to the round that has just begun.
        for target in dict.fromkeys(e.target for e in self.plan.outgoing[node.id] if not e.is_back):
            self._consider(target)

    def _edge_state(self, edge: PlanEdge) -> str:
        """`taken`, `dead`, or `pending`."""
        source = self.state.current(self.plan, edge.source)
        if source is None or not source.has_ended:
            return "pending"
        return "taken" if edge.index in source.taken else "dead"

    def _consider(self, node_id: str) -> None:
        """Look at a node whose in-edges have changed, and at all that this changes in turn.

        A list and not recursion: a branch that is skipped may be hundreds of nodes long.
        """
        if self._changed is not None:
            self._changed.append(node_id)
            return
        self._changed = [node_id]
        try:
            for changed in self._changed:
                self._decide(changed)
        finally:
            self._changed = None

    def _decide(self, node_id: str) -> None:
        """Start, skip or leave a node."""
        if self.state.is_failing or self.state.current(self.plan, node_id) is not None:
            return
        node = self.plan.nodes[node_id]
        states = {e: self._edge_state(e) for e in self.plan.incoming[node_id]}
        taken = sum(s == "taken" for s in states.values())
        pending = sum(s == "pending" for s in states.values())
        join = (node.join or "all") if node.kind == "aggregator" else "all"
        if join in EARLY_JOINS:
            need = node.n or 1 if join == "n_of_m" else 1
            if taken >= need:
                self._activate(node_id, memo=self._arrived(states))
                self._cancel_losers(node_id)
                return
            if taken + pending >= need:
                return
            if taken == 0 and not self._any_failed(states):
                self._activate(node_id, skip=True)
            else:
                self._activate(node_id, memo=self._arrived(states) | {"out_of_reach": need})
            return
        if pending:
            return
        settled = join == "all_settled" and self._any_failed(states)
        if taken or settled or not states:
            self._activate(node_id, memo=self._arrived(states) if node.kind == "aggregator" else None)
        else:
            self._activate(node_id, skip=True)

    def _arrived(self, states: dict[PlanEdge, str]) -> dict[str, Any]:
        """Fix a join's inputs: what arrives later changes nothing."""
        arrived = [e.source for e, s in states.items() if s == "taken"]
        failed = [e.source for e, s in states.items() if s == "dead" and self._failed(e.source)]
        return {"arrived": arrived, "failed": failed}

    def _failed(self, node_id: str) -> bool:
        step = self.state.current(self.plan, node_id)
        return step is not None and step.status is StepStatus.FAILED

    def _any_failed(self, states: dict[PlanEdge, str]) -> bool:
        return any(s == "dead" and self._failed(e.source) for e, s in states.items())

    def _activate(self, node_id: str, *, skip: bool = False, memo: dict[str, Any] | None = None) -> None:
        """Insert a node's step in its current round: ready, or skipped and passed on."""
        if self._is_stopping:
            return  # Something before it in this very decision has failed the run.
        node = self.plan.nodes[node_id]
        round = self.state.round_of(self.plan, node_id)
        step = StepState(
            path=path_of(node_id, round), node_id=node_id, kind=node.kind, round=round,
            status=StepStatus.READY, ready_at=self.now, memo=memo,
        )  # fmt: skip
        self.state.steps[step.path] = step
        self.inserts.append(step.path)
        self.updates[step.path] = {}
        error: str = ""
        if not skip and node.when:
            try:
                skip = not self.evaluate(node.when, {"round": round})
            except ValueError as exc:
                error = str(exc)
        if error:
            self.fail(step.path, {"code": "bad_expression", "message": error, "permanent": True})
        elif skip:
            step.status = StepStatus.SKIPPED
            step.reason = "condition" if node.when else "not_taken"
            self.updates[step.path].update(ended_at=self.now)
            self.learn(step.path, None)
            self.entry("step.skipped", step, {"reason": step.reason})
            self._after(step, node)
        else:
            self.entry("step.ready", step, {})

    def _cancel_losers(self, join: str) -> None:
        for node_id in sorted(self.plan.losers(join)):
            step = self.state.current(self.plan, node_id)
            if step is None:
                self._activate_cancelled(node_id)
            elif step.status in (StepStatus.READY, StepStatus.WAITING):
                self._cancel(step, "join_settled")

    def _is_pointless(self, step: StepState) -> bool:
        """Whether all its ways lead into a join that has settled without it (ENGINE rule 17)."""
        return any(
            step.node_id in self.plan.losers(join)
            and (path_of(join, step.round) in self.state.steps or self.state.current(self.plan, join))
            for join in self.plan.early_joins
        )

    def _activate_cancelled(self, node_id: str) -> None:
        round = self.state.round_of(self.plan, node_id)
        step = StepState(
            path=path_of(node_id, round), node_id=node_id, kind=self.plan.nodes[node_id].kind,
            round=round, status=StepStatus.CANCELLED, reason="join_settled",
        )  # fmt: skip
        self.state.steps[step.path] = step
        self.inserts.append(step.path)
        self.updates[step.path] = {"ended_at": self.now}
        self.entry("step.cancelled", step, {"reason": "join_settled"})
