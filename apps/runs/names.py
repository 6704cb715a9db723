"""The names an expression may use, loaded only as far as it uses them.

Inside the body of a map or loop there are more: `item` and `index`, `round` and `previous`, and `args` of the
container. `steps.<id>` is looked for in the body first, then around it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from apps.blueprints.core import expressions
from apps.ledger.models import Effect
from apps.runs.core.plan import Plan, container_of, enclosing, pass_path, scope_of
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import StepStatus
from apps.runs.errors import StepError
from apps.runs.models import Run, Step
from apps.runs.payloads import whole

OF_PASS = frozenset({"item", "index", "round", "previous", "args"})


class Names:
    """Names of one run: `inputs`, `steps`, `run`, `effects`. Outputs are read once and kept.

    A finished step's output never changes, so what was read stays true while a worker chains through a run.
    """

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run = run
        self.plan = plan
        self.state: RunState | None = None
        self._outputs: dict[str, Any] = {}
        self._known_as: dict[str, StepStatus] = {}
        """What a step was when its output was read: a failed one may be tried again or skipped."""
        self._inputs: dict[str, Any] = {}
        """What passes and containers work on, by path."""

    def know(self, path: str, output: Any) -> None:
        """Remember an output that is about to be, or has been, stored."""
        self._outputs[path] = output
        if self.state is not None and (step := self.state.steps.get(path)) is not None:
            self._known_as[path] = step.status

    def know_input(self, path: str, value: Any) -> None:
        self._inputs[path] = value

    def forget(self) -> None:
        """Drop what belongs to steps that the state has dropped."""
        assert self.state is not None
        for kept in (self._outputs, self._inputs, self._known_as):
            for path in [p for p in kept if p not in self.state.steps]:
                del kept[path]

    def for_references(self, references: Iterable[str], scope: str = "", **extra: Any) -> dict[str, Any]:
        """Exactly the names these dotted references need, seen from a scope."""
        wanted: set[str] = set()
        roots: set[str] = set()
        for reference in references:
            root, _, rest = reference.partition(".")
            roots.add(root)
            if root == "steps":
                wanted.add(rest.partition(".")[0])
        return self._build(None if "" in wanted else wanted, roots, scope, extra)

    def everything(self, scope: str = "", **extra: Any) -> dict[str, Any]:
        return self._build(None, OF_PASS | {"effects"}, scope, extra)

    def _build(
        self, nodes: Collection[str] | None, roots: Collection[str], scope: str, extra: dict[str, Any]
    ) -> dict[str, Any]:
        """nodes: whose steps are wanted; None means all of them."""
        assert self.state is not None
        names = {
            "inputs": self.run.inputs,
            "steps": self._steps(nodes, scope),
            "run": {
                "id": str(self.state.id),
                "started_at": self.run.created_at.isoformat(),
            },
        }
        if scope:
            names |= self._of_passes(roots, scope)
        names |= extra
        if "effects" in roots:
            names["effects"] = self.effects()
        return names

    def _steps(self, nodes: Collection[str] | None, scope: str) -> dict[str, Any]:
        state = self.state
        assert state is not None
        found: dict[str, StepState | None] = {}
        for around in enclosing(scope):
            plan = self.plan.for_scope(around)
            here = [n for n in (plan.nodes if nodes is None else nodes) if n in plan.nodes and n not in found]
            if here:
                ended = state.all_latest_ended(around)
                found.update({n: ended.get(n) for n in here})
        self._read([s.path for s in found.values() if s is not None and not self._knows(s)])
        return {
            node: {"output": None, "status": "blocked", "attempts": 0, "port": ""}
            if step is None
            else {
                "output": self._outputs.get(step.path),
                "status": str(step.status),
                "attempts": step.attempt,
                "port": step.port,
            }
            for node, step in found.items()
        }

    def _of_passes(self, roots: Collection[str], scope: str) -> dict[str, Any]:
        """What a body is given: the nearest item, the nearest round, the nearest container's `with`."""
        assert self.state is not None
        names: dict[str, Any] = {}
        for around in reversed(enclosing(scope)[:-1]):
            this = self.state.find(pass_path(around))
            if this is None:
                continue
            number = this.round
            if this.kind == "item":
                names["index"] = number
                if "item" in roots:
                    names["item"] = (self.input_of(this.path) or {}).get("item")
            else:
                names["round"] = number
                if "previous" in roots:
                    names["previous"] = (self.input_of(this.path) or {}).get("previous")
            if "args" in roots:
                given = (self.input_of(container_of(around)) or {}).get("with")
                if given is not None:
                    names["args"] = given
        return names

    def _knows(self, step: StepState) -> bool:
        return step.path in self._outputs and self._known_as.get(step.path, step.status) is step.status

    def _read(self, paths: list[str]) -> None:
        if paths:
            assert self.state is not None
            self._known_as.update((p, self.state.steps[p].status) for p in paths if p in self.state.steps)
            rows = Step.objects.filter(
                run_id=self.state.id, scope__in={scope_of(p) for p in paths}, path__in=paths
            )
            found = list(rows.values_list("path", "output"))
            outputs = whole([output for _, output in found], self.state.id)
            self._outputs.update(zip([path for path, _ in found], outputs, strict=True))

    def input_of(self, path: str) -> Any:
        """What a pass or a container works on."""
        if path not in self._inputs:
            assert self.state is not None
            rows = Step.objects.filter(run_id=self.state.id, scope=scope_of(path), path=path)
            (self._inputs[path],) = whole([rows.values_list("input", flat=True).first()], self.state.id)
        return self._inputs[path]

    def item_of(self, path: str, index: int) -> Any:
        """One item of a map, as frozen when it began."""
        return self.input_of(path)["items"][index]

    def result_of(self, scope: str) -> Any:
        """What a finished pass hands over: the container's `output`, or what its body ends with.

        Raises ValueError in words.
        """
        container = container_of(scope)
        around = scope_of(container)
        node = self.plan.for_scope(around).nodes[container[len(around) + bool(around) :].partition("[")[0]]
        if node.output is not None:
            try:
                return self.render(node.output, scope)
            except StepError as exc:
                raise ValueError(exc.message) from exc
        sinks = self.plan.for_scope(scope).sinks
        steps = self._steps(sinks, scope)
        if len(sinks) == 1:
            return steps[sinks[0]]["output"]
        return {node: steps[node]["output"] for node in sinks}

    def effects(self) -> list[dict[str, Any]]:
        assert self.state is not None
        return self.effects_of(self.state.id)

    @staticmethod
    def effects_of(run_id: UUID) -> list[dict[str, Any]]:
        rows = Effect.objects.filter(run_id=run_id).order_by("created_at")
        return [
            {
                "tool": e.tool,
                "state": e.state,
                "step": e.step_path,
                "arguments": e.arguments,
                "approved_by": (e.approved_by or {}).get("by"),
                "simulated": e.simulated,
            }
            for e in rows
        ]

    def render(self, template: Any, scope: str = "", **extra: Any) -> Any:
        """Evaluate every `{{ … }}`. Raises StepError (permanent) in words."""
        try:
            return expressions.render(
                template, self.for_references(expressions.references(template), scope, **extra)
            )
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def evaluate(self, source: str, scope: str = "", **extra: Any) -> Any:
        """Evaluate one CEL expression, also when written as `{{ … }}`. Raises StepError (permanent)."""
        try:
            return self._evaluate(source, scope, extra)
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def evaluate_for_decision(self, source: str, extra: dict[str, Any], scope: str) -> Any:
        """The evaluator a `Transition` gets. Raises ValueError in words."""
        try:
            return self._evaluate(source, scope, extra)
        except expressions.ExpressionError as exc:
            raise ValueError(str(exc)) from exc

    def _evaluate(self, source: str, scope: str, extra: dict[str, Any]) -> Any:
        if "{{" in source:
            names = self.for_references(expressions.references(source), scope, **extra)
            return expressions.render(source, names)
        expression = expressions.compile_expression(source)
        return expression.evaluate(self.for_references(expression.references, scope, **extra))
