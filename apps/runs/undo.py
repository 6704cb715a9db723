"""What a run that stops has to take back, read from its effects (the deciding is `core.undoing`)."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apps.blueprints.core.document import Node, ToolCall
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.runs.core.plan import Plan, is_undo, scope_of
from apps.runs.models import Step
from apps.runs.ports import Happened, Undone


def undoable(run_id: UUID, plan: Plan) -> list[str]:
    """Steps that have done something which can be taken back, the latest first."""
    if not plan.can_undo:
        return []
    found = _committed(run_id).values_list("step_path", "tool")
    return list(dict.fromkeys(path for path, tool in found if call_for(plan, path, tool) is not None))


def call_for(plan: Plan, path: str, tool: str) -> ToolCall | None:
    """The call that takes back what a step did with a tool: its node's `compensate`, or the tool's `undo`."""
    node = _node(plan, path)
    if node is None:
        return None
    declared = plan.document.tools.get(tool)
    return node.compensate or (declared.undo if declared is not None else None)


def undone(run_id: UUID, path: str) -> Undone:
    """What the step at `path` has done."""
    row = Step.objects.filter(run_id=run_id, scope=scope_of(path), path=path).first()
    effects = _committed(run_id).filter(step_path=path)
    return Undone(
        output=row.output if row is not None else None,
        effects=[Happened(e.tool, e.arguments, e.result) for e in effects],
    )


def _committed(run_id: UUID) -> Any:
    """What really happened here: nothing simulated, nothing taken over from another run."""
    return Effect.objects.filter(
        run_id=run_id, state=EffectState.COMMITTED, simulated=False, inherited_from=None
    ).order_by("-committed_at", "-created_at", "-id")


def _node(plan: Plan, path: str) -> Node | None:
    if is_undo(path):
        return None  # Taking back is not taken back.
    scope = scope_of(path)
    try:
        nodes = plan.for_scope(scope).nodes
    except KeyError:
        return None
    return nodes.get(path[len(scope) + bool(scope) :].partition("[")[0])
