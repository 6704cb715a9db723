"""The blueprint format as types (SPEC section 1). Shape only; meaning is checked in `validate`.

Unknown keys are refused here and reported with the nearest known key by `validate`. Field docstrings become
descriptions in the published JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from apps.blueprints.core.durations import parse_duration

API_VERSION: Final = "mirrorneuron/v1"
ID_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
NAME_PATTERN = r"^[a-z0-9_-]{1,64}$"


class Part(BaseModel):
    # Field docstrings are read by `schema_export`: to have pydantic do it costs every start 0.1 s.
    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    Field(ge=0, json_schema_extra={"examples": ["500ms", "30s", "5m", "4h", "2d"]}),
]
"""Seconds; written `500ms 30s 5m 4h 2d`."""
Identifier = Annotated[str, Field(pattern=ID_PATTERN)]
Schema = dict[str, Any]
"""A JSON Schema (draft 2020-12)."""

NodeKind = Literal[
    "agent", "extract", "tool", "transform", "router", "aggregator", "approval", "check", "timer",
    "sensor", "map", "loop", "subflow", "code",
]  # fmt: skip


class Metadata(Part):
    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    title: str = ""
    workflow_class: str = Field("general", alias="class")
    """Scorecards are kept per class."""
    summary: str = ""
    tags: list[str] = []
    requires: str = ""
    """Runtime versions, such as `>=0.1`; enforced on import."""


class Escalation(Part):
    support: str = ""
    legal: str = ""
    security: str = ""


class Card(Part):
    """The agent card; the first five fields are required to publish."""

    purpose: str = ""
    must_never: list[str] = []
    business_owner: str = ""
    technical_owner: str = ""
    model_steward: str = ""
    escalation: Escalation = Escalation()
    runbook: str = ""


class Criterion(Part):
    text: str
    check: Literal["expression", "schema", "grounded", "person"] | None = None
    args: dict[str, Any] = {}


class SuccessCriteria(Part):
    output: list[str | Criterion] = []
    metrics: dict[str, Any] = {}


class DurableState(Part):
    required: list[str] = []


class ForbiddenAction(Part):
    name: str
    when: str = ""
    """CEL over tool, args, approval and state; empty means always."""


class Boundaries(Part):
    allowed_tools: list[str] = []
    forbidden_actions: list[str | ForbiddenAction] = []


class RecoveryPolicy(Part):
    retry_budget: int = Field(3, ge=0, le=100)
    """Retries per step."""
    run_retry_budget: int = Field(20, ge=0, le=10_000)
    duplicate_side_effect_policy: Literal["block", "ask"] = "block"
    resume_from_last_committed_step: Literal[True] = True


class HumanCheckpoint(Part):
    step: str
    required: bool = True
    timeout_action: Literal["pause", "remind", "escalate", "reject", "edge"] = "pause"


class BudgetLimits(Part):
    per_run_usd: float | None = Field(None, ge=0)
    monthly_usd: float | None = Field(None, ge=0)
    alerts: list[int] = [50, 80, 100]


class ContextPolicy(Part):
    max_tokens: int | None = Field(None, gt=0)
    summarise_over: int | None = Field(None, gt=0)
    never: list[str] = []


class ToolLimit(Part):
    per_run: int | None = Field(None, gt=0)
    per_user_hour: int | None = Field(None, gt=0)


class Contract(Part):
    name: str = ""
    goal: str = ""
    inputs: Schema = {}
    outputs: Schema = {}
    success_criteria: SuccessCriteria = SuccessCriteria()
    durable_state: DurableState = DurableState()
    boundaries: Boundaries = Boundaries()
    recovery_policy: RecoveryPolicy = RecoveryPolicy()
    human_checkpoints: list[HumanCheckpoint] = []
    budget: BudgetLimits = BudgetLimits()
    context: ContextPolicy = ContextPolicy()
    tool_limits: dict[str, ToolLimit] = {}
    run_deadline: Duration | None = Field(None, gt=0)
    """A run that has not ended by then after its start fails."""
    queue_deadline: Duration | None = Field(None, gt=0)
    """A run that has not begun by then after its start fails; the installation's own unless set."""
    metrics: dict[str, Any] = {}


class ModelChoice(Part):
    use: str
    """`provider:model`."""
    fallback: str = ""
    """Name of another entry of `models`."""
    max_output_tokens: int | None = Field(None, gt=0)
    temperature: float | None = None


class Probe(Part):
    method: str = "GET"
    url: str
    headers: dict[str, str] = {}
    present: str
    """CEL over status and body; true when the effect is there."""


class ToolCall(Part):
    tool: str
    with_: dict[str, Any] = Field({}, alias="with")


class DeclaredTool(Part):
    kind: Literal["http", "openapi", "mcp", "python"] = "http"
    description: str = ""
    parameters: Schema = {"type": "object", "properties": {}}
    output: Schema | None = None
    method: str = "GET"
    url: str = ""
    headers: dict[str, str] = {}
    query: dict[str, Any] = {}
    body: Any = None
    """Template of the JSON body; `{{ args }}` when absent and the method carries one."""
    effect: Literal["read", "idempotent", "keyed", "probe", "opaque"] | None = None
    """`read` for GET, `opaque` for everything else unless declared."""
    key_header: str = "Idempotency-Key"
    key_ttl: Duration = 86400.0
    open_world: bool = True
    sinks: list[str] = []
    actions: list[str] = []
    timeout: Duration = 30.0
    probe: Probe | None = None
    undo: ToolCall | None = None
    simulate: Any = None


class ConnectionNeed(Part):
    kind: str
    fields: list[str] = []
    hosts: list[str] = []


class Agent(Part):
    model: str = ""
    instructions: str = ""
    tools: list[str] = []
    max_turns: int = Field(8, ge=1, le=100)
    sees: list[str] = []
    """Expressions such as `inputs` or `steps.retrieve.output`; empty means what the prompt names."""


class Retry(Part):
    max_attempts: int | None = Field(None, ge=1, le=100)
    """First try included; the contract's retry_budget + 1 unless set."""
    base: Duration = 1.0
    factor: float = Field(2.0, ge=1, le=10)
    max: Duration = 60.0


class Concurrency(Part):
    key: str
    limit: int = Field(1, ge=1)


class Route(Part):
    name: Identifier
    when: str = ""
    description: str = ""


class Check(Part):
    kind: Literal["expression", "schema", "grounded"] = Field("expression", alias="check")
    text: str = ""
    args: dict[str, Any] = {}


class Quorum(Part):
    count: int = Field(1, ge=1)
    of: str = ""
    """Name of a group; empty means anybody who may decide."""


class Assign(Part):
    groups: list[str] = []
    users: list[str] = []


class Node(Part):
    """One step of the graph. Which fields a kind uses is listed in `kinds.FIELDS`."""

    id: Identifier
    kind: NodeKind
    title: str = ""
    notes: str = ""
    label: str = ""
    when: str = ""
    with_: Any = Field(None, alias="with")
    output: Any = None
    """agent, extract: JSON Schema of the result. transform: the value. aggregator: see `merge`."""
    timeout: Duration | None = None
    deadline: Duration | None = Field(None, gt=0)
    """For all tries of the step together, its waits included."""
    progress: Duration | None = Field(None, gt=0)
    """An attempt that shows no progress for so long has failed."""
    retry: Retry | None = None
    queue: str = ""
    concurrency: Concurrency | None = None
    priority: int | None = Field(None, ge=0, le=9)
    tier: Literal[0, 1, 2] | None = None
    compensate: ToolCall | None = None
    # agent, extract, router
    agent: str = ""
    model: str = ""
    prompt: str = ""
    # tool
    tool: str = ""
    business_key: str = ""
    # router
    routes: list[Route] = []
    match: Literal["first", "all"] = "first"
    # aggregator, map
    join: Literal["all", "any", "n_of_m", "all_settled", "first_success"] | None = None
    n: int | None = Field(None, ge=1)
    merge: Any = None
    """Expression or template over `results`: {node: output}; null gives the results themselves."""
    # approval
    proposes: str = ""
    show: list[str] = []
    assign: Assign = Assign()
    quorum: list[Quorum] = []
    due: Duration | None = None
    verbs: list[Literal["approve", "reject", "request_changes", "answer"]] = []
    schema_: Schema | None = Field(None, alias="schema")
    """approval: JSON Schema of an answer or of the editable arguments. sensor: of a signal's body."""
    # check
    checks: list[Check] = []
    # timer
    duration: Any = None
    """timer: `30s`, or an expression that gives seconds."""
    until: str = ""
    """timer, sensor: RFC 3339 time or an expression that gives one."""
    # sensor
    signal: str = ""
    """Name of the signal that ends the wait; may be a template."""
    poll: ToolCall | None = None
    """A read tool that is asked until `condition` holds."""
    every: Duration | None = None
    """Time between two polls; a second or more."""
    condition: str = ""
    """sensor: expression over `output`, what the polled tool gave. loop: when to stop."""
    # map, loop, subflow, code
    items: Any = None
    max_parallel: int | None = Field(None, ge=1)
    max_items: int | None = Field(None, ge=1)
    retry_budget: int | None = Field(None, ge=0)
    """map: retries its items have together; a tenth of the items unless set."""
    max_rounds: int | None = Field(None, ge=1)
    body: Graph | None = None
    blueprint: str = ""
    """subflow: `name@version`; without a version the newest when the step starts."""
    on_cancel: Literal["cancel", "wait", "abandon"] = "cancel"
    """subflow: what becomes of the child when this run is stopped."""
    code: str = ""
    """code: Python. Its result is `result` if it sets that, else the value of its last expression."""
    python: Literal["small", "full"] = "small"
    """code: `small` runs anywhere; `full`, with the standard library, needs bubblewrap on the worker."""


class Edge(Part):
    from_: str = Field(alias="from")
    """`node` (its main port) or `node.port`."""
    to: Identifier
    when: str = ""
    max_rounds: int | None = Field(None, ge=1)
    """Required on a back edge: how many rounds its body may run in all."""
    label: str = ""
    handoff: dict[str, Any] | None = None

    @property
    def source(self) -> str:
        return self.from_.partition(".")[0]

    @property
    def port(self) -> str:
        """The named port, or empty for the node's main port (see `kinds.MAIN_PORT`)."""
        return self.from_.partition(".")[2]


class Graph(Part):
    nodes: list[Node] = []
    edges: list[Edge] = []


class Position(Part):
    x: float
    y: float


class Note(Part):
    """A text pinned to the canvas."""

    text: str = ""
    x: float = 0
    y: float = 0
    w: float | None = None
    h: float | None = None


class Group(Part):
    """A frame around nodes that belong together."""

    title: str = ""
    description: str = ""
    nodes: list[str] = []
    """Paths of nodes."""
    collapsed: bool = False


class Canvas(Part):
    """What the editor keeps besides the graph. Like `layout`, no part of what a blueprint means."""

    notes: dict[str, Note] = {}
    groups: dict[str, Group] = {}
    collapsed: list[str] = []
    """Paths of containers drawn small."""


class Document(Part):
    """One blueprint."""

    apiVersion: Literal["mirrorneuron/v1"] = API_VERSION  # noqa: N815
    kind: Literal["Blueprint"] = "Blueprint"
    metadata: Metadata
    card: Card = Card()
    contract: Contract = Contract()
    models: dict[Identifier, ModelChoice] = {}
    tools: dict[Identifier, DeclaredTool] = {}
    connections: dict[Identifier, ConnectionNeed] = {}
    agents: dict[Identifier, Agent] = {}
    graph: Graph = Graph()
    outputs: dict[str, Any] = {}
    layout: dict[str, Position] = {}
    canvas: Canvas = Canvas()

    def node(self, node_id: str) -> Node | None:
        return next((n for n in self.graph.nodes if n.id == node_id), None)


Node.model_rebuild()
