"""The names an expression may use, loaded only as far as it uses them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apps.blueprints.core import expressions
from apps.ledger.models import Effect
from apps.runs.core.plan import Plan
from apps.runs.core.state import RunState
from apps.runs.errors import StepError
from apps.runs.models import Run, Step


class Names:
    """Names of one run: `inputs`, `steps`, `run`, `effects`. Outputs are read once and kept.

    A finished step's output never changes, so what was read stays true while a worker chains through a run.
    """

    def __init__(self, run: Run, plan: Plan) -> None:
        self.run = run
        self.plan = plan
        self.state: RunState | None = None
        self._outputs: dict[str, Any] = {}

    def know(self, path: str, output: Any) -> None:
        """Remember an output that is about to be, or has been, stored."""
        self._outputs[path] = output

    def for_references(self, references: Iterable[str], **extra: Any) -> dict[str, Any]:
        """Exactly the names these dotted references need."""
        wanted, needs_effects = set(), False
        for reference in references:
            root, _, rest = reference.partition(".")
            if root == "steps":
                wanted.add(rest.partition(".")[0])
            needs_effects = needs_effects or root == "effects"
        return self._build(wanted & set(self.plan.nodes) if "" not in wanted else set(self.plan.nodes),
                           needs_effects, extra)  # fmt: skip

    def everything(self, **extra: Any) -> dict[str, Any]:
        return self._build(set(self.plan.nodes), True, extra)

    def _build(self, nodes: set[str], effects: bool, extra: dict[str, Any]) -> dict[str, Any]:
        state = self.state
        assert state is not None
        ended = state.all_latest_ended()
        missing = [s.path for n, s in ended.items() if n in nodes and s.path not in self._outputs]
        if missing:
            rows = Step.objects.filter(run_id=state.id, path__in=missing).values_list("path", "output")
            self._outputs.update(dict(rows))
        steps: dict[str, Any] = {}
        for node in self.plan.nodes:
            step = ended.get(node)
            if step is None:
                steps[node] = {"output": None, "status": "blocked", "attempts": 0, "port": ""}
            else:
                steps[node] = {
                    "output": self._outputs.get(step.path),
                    "status": str(step.status),
                    "attempts": step.attempt,
                    "port": step.port,
                }
        names = {
            "inputs": self.run.inputs,
            "steps": steps,
            "run": {
                "id": str(state.id),
                "started_at": self.run.created_at.isoformat(),
            },
            **extra,
        }
        if effects:
            names["effects"] = self.effects()
        return names

    def effects(self) -> list[dict[str, Any]]:
        assert self.state is not None
        rows = Effect.objects.filter(run_id=self.state.id).order_by("created_at")
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

    def render(self, template: Any, **extra: Any) -> Any:
        """Evaluate every `{{ … }}`. Raises StepError (permanent) in words."""
        try:
            return expressions.render(
                template, self.for_references(expressions.references(template), **extra)
            )
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def evaluate(self, source: str, **extra: Any) -> Any:
        """Evaluate one CEL expression, also when written as `{{ … }}`. Raises StepError (permanent)."""
        try:
            return self._evaluate(source, extra)
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def evaluate_for_decision(self, source: str, extra: dict[str, Any]) -> Any:
        """The evaluator a `Transition` gets. Raises ValueError in words."""
        try:
            return self._evaluate(source, extra)
        except expressions.ExpressionError as exc:
            raise ValueError(str(exc)) from exc

    def _evaluate(self, source: str, extra: dict[str, Any]) -> Any:
        if "{{" in source:
            return expressions.render(source, self.for_references(expressions.references(source), **extra))
        expression = expressions.compile_expression(source)
        return expression.evaluate(self.for_references(expression.references, **extra))
