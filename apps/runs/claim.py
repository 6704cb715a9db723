"""A step that is a worker's own, and what the worker knows of its run."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from apps.blueprints.core.document import Node
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import RunState, StepState
from apps.runs.models import Run
from apps.runs.names import Names
from apps.runs.together import Together, together_on
from apps.runs.transact import RunTransaction


@dataclass
class Claim:
    """A step that is ours, with all we know of its run, so that finishing it needs no reading."""

    run: Run
    state: RunState
    step: StepState
    names: Names
    fence: int
    resumed: bool
    """The step has a past (an earlier attempt, or it waited), so its journal must be read."""
    together: Together = field(init=False, repr=False)
    """With whom of this process the run is worked."""
    is_last: bool = False
    """When the chain that began with it ended, nothing else was ready in its worker's queues."""

    def __post_init__(self) -> None:
        self.together = together_on(self.run.id)

    @property
    def path(self) -> str:
        return self.step.path

    @property
    def node(self) -> Node:
        return self.names.plan.for_scope(self.step.scope).nodes[self.step.node_id]

    @property
    def priority(self) -> int:
        """As on the step's row: the node's own, else its run's."""
        node = self.names.plan.for_scope(self.step.scope).nodes.get(self.step.node_id)
        return node.priority if node is not None and node.priority is not None else self.run.priority


def timeout_of(node: Node) -> float:
    return node.timeout or LIMITS.step_timeout_seconds


def claim_in(tx: RunTransaction, path: str, worker: UUID | None) -> Claim:
    """Claim a step inside a decision that has found it claimable."""
    step = tx.step(path)
    resumed = step.attempt > 0
    node = tx.transition.node_of(step)
    seconds = timeout_of(node)
    step = tx.transition.claim(path, worker, min(seconds, node.progress) if node.progress else seconds)
    return Claim(run=tx.run, state=tx.state, step=step, names=tx.names, fence=step.fence, resumed=resumed)
