"""A fork: a new run that takes over what another one has done, as far as it still holds. Pure.

The recorded ends of steps are played into an empty state in the order in which they happened, by the same
rules that made them: edges, joins, rounds and conditions decide again what follows. A step that is redone,
and all that depends on it, is not played, so it is ready or blocked in the new run. An edited step is played
with the new output, and what depends on it is left to be done.

A map or loop that ended is taken over whole. One that had not ended, or in which something is redone, is
taken over pass by pass.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from apps.blueprints.core.kinds import main_port
from apps.runs.core.plan import EARLY_JOINS, Plan, pass_path, pass_scope, scope_of
from apps.runs.core.recovery import BY_PERSON, CONTAINERS, CannotRecover
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus, WaitReason
from apps.runs.core.transition import Transition
from mirrorneuron.base.safejson import storable


class Payload(Protocol):
    """What a step worked on and gave; read when it is needed."""

    @property
    def input(self) -> Any: ...
    @property
    def output(self) -> Any: ...
    @property
    def error(self) -> Any: ...


@dataclass(frozen=True)
class Recorded:
    """One step of the run that is forked, as it stood."""

    step: StepState
    payload: Payload
    order: tuple[Any, ...] = ()
    """When it ended; steps are played in this order."""


@dataclass
class Forking(Transition):
    """The first decision of a forked run."""

    source: Mapping[str, Recorded] = field(default_factory=dict)
    redo: Collection[str] = ()
    edits: Mapping[str, Any] = field(default_factory=dict)
    """New outputs by path."""
    edited_by: tuple[str, ...] = ()
    """Labels of edited outputs."""
    kept: list[str] = field(default_factory=list)
    """Steps whose end was taken over."""
    copied: list[str] = field(default_factory=list)
    """Containers and passes taken over whole: everything below them is copied as it is."""

    def fork(self, data: dict[str, Any]) -> None:
        """Play what holds; the rest is ready or blocked. Raises CannotRecover."""
        self.entry("run.started", data=data)
        for node in self.plan.roots:
            self._activate(node, "")
        self._play("")
        self.follow()
        kept = set(self.kept)
        self.entries = [e for e in self.entries if e.kind != "step.ready" or e.path not in kept]

    # --- one scope ----------------------------------------------------------------------------------------

    def _play(self, scope: str) -> None:
        plan = self.plan.for_scope(scope)
        stale: dict[str, int] = {}
        seen: set[str] = set()
        waiting: list[tuple[tuple[Any, ...], str]] = []
        while True:
            for step in self.state.in_scope(scope):
                if step.status is not StepStatus.READY or step.path in seen:
                    continue
                seen.add(step.path)
                if step.path in self.redo:
                    self._outdate(plan, stale, step)
                elif (known := self._recorded(step)) is not None:
                    waiting.append((known.order, step.path))
            waiting = [w for w in waiting if self._holds(w[1], stale)]
            if not waiting:
                return
            waiting.remove(first := min(waiting))
            step = self._own(first[1])
            known = self.source[step.path]
            if step.path in self.edits:
                self._outdate(plan, stale, step)
                self._take_over(step, known)
            elif self._is_open(known):
                self._take_apart(step, known)
            else:
                self._take_over(step, known)

    def _recorded(self, step: StepState) -> Recorded | None:
        """How this step ended, if that can be taken over."""
        known = self.source.get(step.path)
        if known is None or known.step.kind != step.kind:
            return None
        if step.path in self.edits or self._is_open(known):
            return known
        match known.step.status:
            case StepStatus.SUCCEEDED:
                return known
            case StepStatus.SKIPPED:
                return known if known.step.reason == BY_PERSON else None
            case StepStatus.FAILED:
                caught = known.step.taken or any(
                    e.catches_failure for e in self._plan_of(step).outgoing[step.node_id]
                )
                return known if caught else None
        return None

    def _holds(self, path: str, stale: Mapping[str, int]) -> bool:
        step = self.state.steps[path]
        return step.status is StepStatus.READY and stale.get(step.node_id, math.inf) > step.round

    def _outdate(self, plan: Plan, stale: dict[str, int], step: StepState) -> None:
        """From here on nothing recorded holds that depends on this step: what follows it in this round, and
        every later round."""
        forward = _reach(plan, step.node_id, back=False) - {step.node_id}
        for node in _reach(plan, step.node_id, back=True) | {step.node_id}:
            first = self.state.round_of(plan, node, step.scope) + (node not in forward)
            stale[node] = min(stale.get(node, first), first)

    def _take_over(self, step: StepState, known: Recorded) -> None:
        """The step has ended in the new run as it had in the other one, or as it was edited."""
        was, edited = known.step, step.path in self.edits
        status, port, output, error = was.status, was.port, known.payload.output, known.payload.error
        labels, reason = was.labels, was.reason
        if edited:
            output, labels, error = storable(self.edits[step.path]), self.edited_by, None
            if status not in (StepStatus.SUCCEEDED, StepStatus.SKIPPED) or not port:
                port = main_port(self.node_of(step))
            status, reason = StepStatus.SUCCEEDED, ""
        try:
            taken = self._ways(step, status, port, output)
        except ValueError as exc:
            raise CannotRecover(
                f'The edges after "{step.path}" cannot be followed: {exc}', "Redo this step as well."
            ) from exc
        self._tally(step.counts, -1)
        self._set(
            step,
            {
                "status": status, "port": port, "taken": taken, "labels": labels, "reason": reason,
                "attempt": was.attempt, "memo": None if edited else was.memo,
            },
        )  # fmt: skip
        self._tally(step.counts, 1)
        self._ended(step)
        self.updates[step.path].update(
            input=known.payload.input, output=output, error=error, ended_at=self.now, kept=True
        )
        self.kept.append(step.path)
        if step.kind in CONTAINERS and not edited:
            self.copied.append(step.path)
        self.learn(step.path, output)
        said: dict[str, Any] = {"edited_by": list(labels)} if edited else {"kept": True}
        match status:
            case StepStatus.FAILED:
                self.entry("step.failed", step, said | {"error": error})
            case StepStatus.SKIPPED:
                self.entry("step.skipped", step, said | {"reason": reason, "port": port})
            case _:
                self.entry("step.kept", step, said | {"port": port})
        self._after(step)

    def _ways(self, step: StepState, status: StepStatus, port: str, output: Any) -> tuple[int, ...]:
        edges = self._plan_of(step).outgoing[step.node_id]
        if status is StepStatus.FAILED:
            return tuple(e.index for e in edges if e.port == "failed" and not e.is_back)
        taken = self._taken_edges(step, port, output)
        spent = [e for e in edges if e.is_back and e.port == port and not self._rounds_left(e, step.scope)]
        if spent and not taken:
            raise ValueError(f"its {spent[0].max_rounds} rounds are used up")
        return taken

    # --- maps and loops -----------------------------------------------------------------------------------

    def _is_open(self, known: Recorded) -> bool:
        """A map or loop whose passes are taken over one by one."""
        step = known.step
        if step.kind not in CONTAINERS or not (step.memo or {}).get("opened") or step.path in self.edits:
            return False
        is_over = step.status is StepStatus.SUCCEEDED or step.reason == BY_PERSON or bool(step.taken)
        return not is_over or self._is_touched(step.path)

    def _is_touched(self, path: str) -> bool:
        """Whether something below a container or in a pass is redone or edited."""
        return any(p.startswith((f"{path}[", f"{path}/")) for p in (*self.redo, *self.edits))

    def _take_apart(self, step: StepState, known: Recorded) -> None:
        was = dict(known.step.memo or {})
        first = 1 if step.kind == "loop" else 0
        numbers = list(range(first, first + was["opened"]))
        whole = [n for n in numbers if self._is_whole(pass_scope(step.path, n))]
        if step.kind == "loop":
            # Rounds follow from each other: the first that is not whole is the last that was opened.
            broken = next((n for n in numbers if n not in whole), None)
            numbers = numbers if broken is None else numbers[: numbers.index(broken) + 1]
            whole = [n for n in numbers if n in whole]
        memo: dict[str, Any] = {"opened": len(numbers), "done": len(whole), "failed": 0}
        if step.kind == "map":
            memo |= {"total": was["total"], "retries": 0}
            if (self.node_of(step).join or "all") in EARLY_JOINS:
                memo["winners"] = whole
        self._tally(step.counts, -1)
        self._set(
            step,
            {
                "status": StepStatus.WAITING, "reason": WaitReason.CHILD, "memo": memo,
                "attempt": known.step.attempt, "labels": known.step.labels,
            },
        )  # fmt: skip
        self._tally(step.counts, 1)
        self.updates[step.path].update(input=known.payload.input)
        self.learn_input(step.path, known.payload.input)
        self.entry("body.kept", step, {"kept": len(whole), "opened": len(numbers)})
        self.entry("step.waiting", step, {"reason": "child"})
        for number in whole:
            scope = pass_scope(step.path, number)
            self.copied.append(scope)
            self._outputs[pass_path(scope)] = self.source[pass_path(scope)].payload.output
        for number in numbers:
            if number not in whole:
                self._open_pass(step, number)
                self._play(pass_scope(step.path, number))
        self._go_on(self._own(step.path), whole)

    def _is_whole(self, scope: str) -> bool:
        known = self.source.get(pass_path(scope))
        return known is not None and known.step.status is StepStatus.SUCCEEDED and not self._is_touched(scope)

    def _go_on(self, step: StepState, whole: list[int]) -> None:
        """Open what may be open besides, or settle, when the passes taken over are enough."""
        memo, node = step.memo or {}, self.node_of(step)
        if step.kind == "loop":
            if len(whole) == memo["opened"]:
                scope = pass_scope(step.path, whole[-1])
                self.state.add_scope(scope, [k.step for k in self.source.values() if k.step.scope == scope])
                self._round_ended(step, self.source[pass_path(scope)].step, None)
            return
        need = {"all": memo["total"], "n_of_m": node.n or 1}.get(node.join or "all", 1)
        early = (node.join or "all") in EARLY_JOINS
        if memo["done"] == memo["total"] or (early and memo["done"] >= need):
            self._settle_map(step)
        else:
            self._open_more(step)


def _reach(plan: Plan, start: str, *, back: bool) -> set[str]:
    """Nodes that can be reached from a node, itself included."""
    seen, stack = {start}, [start]
    while stack:
        for edge in plan.outgoing[stack.pop()]:
            if edge.target not in seen and (back or not edge.is_back):
                seen.add(edge.target)
                stack.append(edge.target)
    return seen


def vanished(plan: Plan, kept: Collection[str], source: Mapping[str, Recorded]) -> str:
    """Why these steps cannot be taken over into another version; empty when they all can."""
    for path in kept:
        step = source[path].step
        if step.is_pass:
            continue
        try:
            node = plan.for_scope(scope_of(path)).nodes.get(step.node_id)
        except KeyError:
            node = None
        if node is None:
            return f'Step "{path}" has succeeded, and the version has no node "{step.node_id}" there.'
        if node.kind != step.kind:
            return f'Step "{path}" is of kind {step.kind}, and in the version "{node.id}" is {node.kind}.'
    return ""
