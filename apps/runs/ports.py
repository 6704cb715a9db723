"""What the engine needs of the rooms above: handlers for node kinds, and a desk where people decide.

`agents` and `approvals` register themselves in `AppConfig.ready()`; the engine never imports them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from apps.blueprints.core.document import Document, Node
from apps.governance.flow import Outgoing, Reply, Ticket
from apps.ledger.core.states import EffectClass

# --- what a handler returns -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """The step succeeded and leaves by `port`."""

    output: Any
    port: str = ""
    """Empty means the kind's main port."""
    labels: tuple[str, ...] = ()
    """Where the output came from: `user`, `tool:<name>`, `user:<id>`; empty means trusted."""


@dataclass(frozen=True)
class Wait:
    """The step waits without holding a worker, until `due_at` or somebody completes it."""

    reason: str
    due_at: datetime | None = None
    memo: dict[str, Any] | None = None


@dataclass(frozen=True)
class Ask:
    """The step asks people; the request is created by the ApprovalDesk in the same transaction."""

    question: Question


@dataclass(frozen=True)
class InDoubt:
    """An effect's outcome is unknown. due_at: when it can be resolved by itself; None: only by a person."""

    effect_key: str
    due_at: datetime | None


@dataclass(frozen=True)
class Open:
    """The step is a map or a loop: its body is run, for each item or round after round."""

    input: dict[str, Any]
    """`items`, frozen from here on, for a map; `with` as rendered, if the node has one."""
    total: int | None = None
    """Items of a map; None for a loop."""
    labels: tuple[str, ...] = ()
    """Where the items came from; the body's own come on top."""


@dataclass(frozen=True)
class Child:
    """The step starts another run, inserted in the same transaction, and waits for its end."""

    run: Any
    """A `runs.models.Run` that is not stored yet."""


@dataclass(frozen=True)
class HandBack:
    """The step is given back untouched: its run was paused or is stopping."""


Outcome = Done | Open | Child | Wait | Ask | InDoubt | HandBack
"""A failure is raised as `StepError`."""


@dataclass(frozen=True)
class Question:
    """What an approval request is made from. Fields as in `approvals.models.ApprovalRequest`."""

    title: str
    proposal: dict[str, Any]
    tool: str = ""
    effect_summary: str = ""
    evidence: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, list[str]] = field(default_factory=dict)
    assign: dict[str, Any] = field(default_factory=dict)
    quorum: list[dict[str, Any]] = field(default_factory=list)
    verbs: list[str] = field(default_factory=lambda: ["approve", "reject"])
    due_at: datetime | None = None
    timeout_action: str = "pause"
    ordinal: int = 0
    round: int = 1
    answer_schema: dict[str, Any] | None = None


# --- what a handler is given ------------------------------------------------------------------------------


@dataclass(frozen=True)
class CallRecord:
    """One journalled model request or tool call; `runs.models.Call` with plain fields."""

    kind: str
    name: str
    turn: int
    ordinal: int
    request_hash: str
    request: Any
    response: Any
    started_at: datetime
    latency_ms: int
    error: dict[str, Any] | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    unit_prices: dict[str, Any] | None = None
    cost_microusd: int | None = 0
    """None means unknown."""
    effect_key: str = ""
    attempt: int = 1


@dataclass(frozen=True)
class Answer:
    """What a probe or an execution found. state: `present` (with result), `absent`, `unknown`."""

    state: str
    result: Any = None
    detail: str = ""


@dataclass(frozen=True)
class EffectCall:
    """One call that changes the world, as the gateway has cleared it; the engine runs the ledger protocol.

    execute(key): does it, passing `key` to the remote; returns the result. Raises `DefiniteFailure` when
    nothing can have happened, anything else means nobody knows.
    probe(key): asks the remote whether it happened; None when the tool has no probe.
    needs_grant: an approval for exactly these arguments must exist and is consumed when it goes in flight.
    question: asked when `needs_grant` and there is no grant yet.
    """

    tool: str
    effect_class: EffectClass
    arguments: dict[str, Any]
    execute: Callable[[str], Any]
    timeout_seconds: float
    turn: int = 0
    ordinal: int = 0
    probe: Callable[[str], Answer] | None = None
    business_key: str = ""
    key_ttl_seconds: float = 86400.0
    needs_grant: bool = False
    question: Question | None = None
    on_duplicate: str = "block"
    admit: Callable[[], None] = lambda: None
    """Called right before it goes in flight for the first time; raises `Suspended` when it has to wait."""


@dataclass(frozen=True)
class Happened:
    """One thing a step has done to the world."""

    tool: str
    arguments: Any
    result: Any


@dataclass(frozen=True)
class Undone:
    """What a compensation takes back: the step's output, and its effects, the latest first."""

    output: Any
    effects: list[Happened]


class Context(Protocol):
    """Everything a handler may use. Writes go through it, fenced, in the engine's own transactions."""

    run_id: UUID
    workspace_id: UUID
    path: str
    node: Node
    document: Document
    attempt: int
    round: int
    simulate: bool
    memo: dict[str, Any] | None
    """What the step kept while it waited; for a decided question `{"decision": {...}}`."""
    started_by: UUID | None

    def names(self) -> dict[str, Any]:
        """Names for expressions: inputs, steps, run, round, effects."""
        ...

    def render(self, template: Any, **extra: Any) -> Any:
        """Evaluate every `{{ … }}` in a template. Raises StepError(permanent) that names the expression."""
        ...

    def evaluate(self, expression: str, **extra: Any) -> Any: ...

    def labels_of(self, template: Any) -> list[str]:
        """Labels of everything a template or expression mentions, sorted."""
        ...

    def set_input(self, value: Any) -> None:
        """What this step worked on; shown on the run page, stored with the next write."""
        ...

    def entry(self, kind: str, data: dict[str, Any]) -> None:
        """A ledger entry, written with the next transaction of this step."""
        ...

    def recorded(self, kind: str, turn: int, ordinal: int = 0) -> CallRecord | None:
        """A call this step already made, in this or an earlier attempt. Replay it, never repeat it."""
        ...

    def record(self, call: CallRecord) -> None:
        """Journal a call; committed by the next `flush`, effect, or the end of the step."""
        ...

    def flush(self) -> None:
        """Commit what was journalled. Call before anything else leaves the process."""
        ...

    def admit(self, call: Outgoing, turn: int, ordinal: int = 0) -> Ticket:
        """Ask whether a call may leave now; say with `called` how it went.

        Raises `Suspended` (never catch it) when the step has to wait for a limit or for the other side.
        """
        ...

    def called(
        self, ticket: Ticket, reply: Reply, *, retry_after: float | None = None, error: str = ""
    ) -> None:
        """How an admitted call went; see `governance.flow.report`."""
        ...

    def effect(self, call: EffectCall) -> Any:
        """Run one effect through the ledger; returns its recorded result.

        Raises `Suspended` (never catch it) when the step must wait for a person or for clarity, and
        StepError on a definite failure or a rejected approval.
        """
        ...

    def progress(self, note: str = "", *, at_least: float = 0.0) -> None:
        """Show that the step gets on: moves its `progress` deadline, if the node has one. Cheap; call it
        often. at_least: seconds the next thing may take without a sign. Journalled calls count by themselves.
        Raises StaleStep when the step is somebody else's by now."""
        ...

    def undoes(self) -> Undone:
        """Of a compensation: what the step did that it takes back, the latest first."""
        ...

    def file_bytes(self, file_id: str) -> bytes:
        """Bytes of a file of this workspace. Raises StepError(permanent) when there is none."""
        ...

    def seconds_left(self) -> float:
        """Until this attempt's deadline."""
        ...


class StepHandler(Protocol):
    def __call__(self, context: Context) -> Outcome: ...


class ApprovalDesk(Protocol):
    """Called inside the engine's transactions, with the run's row locked."""

    def open(self, *, workspace_id: UUID, run_id: UUID, step_path: str, question: Question) -> UUID:
        """Create the request, or return the one that exists for this step and ordinal."""
        ...

    def grant(self, *, run_id: UUID, tool: str, fingerprint: str) -> dict[str, Any] | None:
        """An approved, unconsumed request whose final action has this hash: {request, by, at}."""
        ...

    def consume(self, *, request_id: str) -> bool:
        """Use the grant up; False when somebody else did."""
        ...

    def close_all(self, *, run_id: UUID, step_paths: list[str], state: str) -> None:
        """Cancel or supersede the pending requests of these steps (all of the run's when empty)."""
        ...

    def shift(self, *, run_id: UUID, seconds: float) -> None:
        """Move due dates by the length of a pause."""
        ...

    def missing_requests(self, *, limit: int) -> list[tuple[UUID, str]]:
        """(run, path) of steps that wait for an approval nobody was asked for; there must be none."""
        ...

    def expire(self, *, run_id: UUID, step_path: str) -> str:
        """The due date has passed: returns the timeout action to apply: pause, reject, edge, remind."""
        ...


_handlers: dict[str, StepHandler] = {}
_desk: ApprovalDesk | None = None


def register_handler(kind: str, handler: StepHandler) -> None:
    _handlers[kind] = handler


def handler_for(kind: str) -> StepHandler | None:
    return _handlers.get(kind)


def register_desk(desk: ApprovalDesk) -> None:
    global _desk
    _desk = desk


def desk() -> ApprovalDesk:
    assert _desk is not None, "apps.approvals registers the desk in ready()"
    return _desk
