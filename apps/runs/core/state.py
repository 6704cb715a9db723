"""What the engine knows of a run while it decides: the run's flags and its steps, without their payloads.

A run with maps or loops may have ten thousand steps, so a state holds whole *scopes* (`core/plan.py`), and
only those that a decision needs; more are loaded when asked for. What must be known of all steps at once is
counted on the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from apps.runs.core.plan import Plan, enclosing, is_undo, path_of, scope_of
from apps.runs.core.states import RESOLVING, STEP_ENDED, RunStatus, StepStatus, WaitReason

Load = Callable[[str], "Iterable[StepState]"]
"""All steps of one scope, as stored."""


@dataclass
class StepState:
    path: str
    node_id: str
    kind: str
    round: int
    status: StepStatus
    id: int = 0
    """Database id; 0 for a row this transaction inserts."""
    reason: str = ""
    port: str = ""
    taken: tuple[int, ...] = ()
    fence: int = 0
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    slot: str = ""
    """The concurrency key it holds or waits for (`runs/slots.py`)."""
    worker: UUID | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    expires_at: datetime | None = None
    """When all its tries must have ended."""
    memo: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    model_calls: int = 0
    tool_calls: int = 0
    cost_microusd: int = 0
    cost_unknown: bool = False

    @property
    def has_ended(self) -> bool:
        return self.status in STEP_ENDED

    @cached_property
    def scope(self) -> str:
        return scope_of(self.path)  # Asked for a dozen times in each decision; a path never changes.

    @property
    def is_pass(self) -> bool:
        """One item of a map or one round of a loop, not a node."""
        return self.kind in ("item", "round")

    @property
    def is_undo(self) -> bool:
        """A compensation: it takes back what another step of its node has done."""
        return is_undo(self.path)

    @property
    def is_resolving(self) -> bool:
        """Its effect in doubt is about to be looked into, so it is neither cancelled nor failed before."""
        return self.reason == RESOLVING or (self.reason == WaitReason.SLOT and RESOLVING in (self.memo or {}))

    @property
    def counts(self) -> tuple[int, int, int]:
        """What it adds to the run's counters: active, idle, stuck."""
        match self.status:
            case StepStatus.READY | StepStatus.RUNNING:
                return 1, 0, 0
            case StepStatus.WAITING:
                return 0, 1, int(self.reason == WaitReason.PERSON)
            case StepStatus.IN_DOUBT:
                return 0, 1, int(self.due_at is None)
        return 0, 0, 0


@dataclass
class RunState:
    """Exactly the run at entry `seq`; every transaction that changes it raises `seq`."""

    id: UUID
    workspace_id: UUID
    status: RunStatus
    seq: int
    pause_requested: bool = False
    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    """Set as soon as the run is going to fail, while steps in flight still settle."""
    retries_used: int = 0
    cost_microusd: int = 0
    cost_unknown: bool = False
    started_at: datetime | None = None
    active: int = 0
    """Steps ready or running, in all scopes."""
    idle: int = 0
    """Steps waiting or in doubt, in all scopes."""
    stuck: int = 0
    """Steps in doubt that only a person can settle."""
    held: str = ""
    """Path of the step that has no row of its own yet (`runs/held.py`)."""
    steps: dict[str, StepState] = field(default_factory=dict)
    """Of the scopes that are loaded. Added by `add`, changed by a decision only after `own`."""
    load: Load | None = field(default=None, repr=False, compare=False)
    """How to get a scope that is not loaded; None means that all steps are here."""
    load_open: Callable[[str], Iterable[str]] | None = field(default=None, repr=False, compare=False)
    """Scopes beginning with a prefix that have steps which have not ended; None as above."""
    _scopes: dict[str, dict[str, None]] = field(default_factory=dict, repr=False, compare=False)
    """Paths by scope, in order of coming into being; a key says that the scope is loaded."""
    _rounds: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)
    """Rounds by scope and node, counted once until the next edge is taken."""
    _owned: set[str] = field(default_factory=set, repr=False, compare=False)
    awaited: dict[str, dict[str, int]] = field(default_factory=dict, repr=False, compare=False)
    """By scope and node the place of the in-edge that was pending when the node was last looked at. Where to
    look first and no more, so all copies share it."""

    def __post_init__(self) -> None:
        if not self._scopes:
            for path in self.steps:
                self._scopes.setdefault(scope_of(path), {})[path] = None

    def copy(self) -> RunState:
        """A state to decide on; the original stays true if the decision is not stored.

        Steps are shared until `own` makes one's own.
        """
        made = object.__new__(RunState)  # As `own` does: to set thirty fields one by one takes much longer.
        made.__dict__.update(self.__dict__)
        made.steps = dict(self.steps)
        made._scopes = {scope: dict(paths) for scope, paths in self._scopes.items()}
        made._rounds = {}
        made._owned = set()
        return made

    # --- what is loaded -----------------------------------------------------------------------------------

    def in_scope(self, scope: str) -> list[StepState]:
        """All steps of a scope, its pass included; loads it when it is not here."""
        if scope not in self._scopes:
            self.add_scope(scope, self.load(scope) if self.load is not None else ())
        return [self.steps[path] for path in self._scopes[scope]]

    def open_scopes(self, prefix: str = "") -> list[str]:
        """Scopes beginning with `prefix` in which something has not ended, loaded, outermost first."""
        if self.load_open is not None:
            for scope in self.load_open(prefix):
                for around in enclosing(scope):
                    self.in_scope(around)
        found = {s.scope for s in self.steps.values() if not s.has_ended and s.scope.startswith(prefix)}
        return sorted(found, key=lambda scope: (scope.count("/"), scope))

    def find(self, path: str) -> StepState | None:
        """A step by its path, loading its scope if need be."""
        step = self.steps.get(path)
        if step is None and self.load is not None and (scope := scope_of(path)) not in self._scopes:
            self.in_scope(scope)
            step = self.steps.get(path)
        return step

    def add_scope(self, scope: str, steps: Iterable[StepState]) -> None:
        """Take in a scope just read; what this state already knows of it is newer and stays."""
        known = self._scopes.setdefault(scope, {})
        for step in steps:
            if step.path not in known:
                known[step.path] = None
                self.steps[step.path] = step

    def add(self, step: StepState) -> None:
        """A step that has just come into being."""
        self.steps[step.path] = step
        self._scopes.setdefault(scope_of(step.path), {})[step.path] = None
        self._owned.add(step.path)

    def own(self, path: str) -> StepState:
        """A step to change: this state's own copy. Raises KeyError when the run has no such step."""
        step = self.steps[path]
        if path not in self._owned:
            own = object.__new__(StepState)
            own.__dict__.update(step.__dict__)
            step = self.steps[path] = own
            self._owned.add(path)
        return step

    def forget(self, keep: str) -> None:
        """Drop scopes that have ended, but for those around `keep`: they are of no use to the steps after."""
        around = {keep[:i] for i, c in enumerate(keep) if c == "/"} | {"", scope_of(keep)}
        for scope in [s for s in self._scopes if s not in around]:
            if all(self.steps[path].has_ended for path in self._scopes[scope]):
                self.awaited.pop(scope, None)
                for path in self._scopes.pop(scope):
                    del self.steps[path]

    # --- questions ----------------------------------------------------------------------------------------

    @property
    def is_failing(self) -> bool:
        return self.error is not None

    def takes(self, edge_index: int, scope: str = "") -> int:
        """How often an edge was taken."""
        return sum(edge_index in step.taken for step in self.in_scope(scope))

    def round_of(self, plan: Plan, node: str, scope: str = "") -> int:
        """The round a node is in: one more than the back edges taken around it (ENGINE rule 18).

        plan: the scope's own.
        """
        if not plan.back_edges:
            return 1
        rounds = self._rounds.get(scope)
        if rounds is None:
            rounds = self._rounds[scope] = {}
            for edge in plan.back_edges:
                for member in plan.body[edge.index] if (takes := self.takes(edge.index, scope)) else ():
                    rounds[member] = rounds.get(member, 1) + takes
        return rounds.get(node, 1)

    def edges_taken(self, scope: str) -> None:
        """A step ended by edges: rounds have to be counted again."""
        self._rounds.pop(scope, None)

    def current(self, plan: Plan, node: str, scope: str = "") -> StepState | None:
        """The node's step in its current round; None while blocked."""
        return self.find(path_of(node, self.round_of(plan, node, scope), scope))

    def all_latest_ended(self, scope: str = "") -> dict[str, StepState]:
        """What `steps.<node>` means in an expression, of every node of a scope that has one: the latest
        finished round."""
        latest: dict[str, StepState] = {}
        for step in self.in_scope(scope):
            if step.is_pass or step.is_undo or not step.has_ended:
                continue
            if step.node_id not in latest or latest[step.node_id].round < step.round:
                latest[step.node_id] = step
        return latest
