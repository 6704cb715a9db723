"""What the API answers, as types (SPEC section 3).

Times are RFC 3339 in UTC, ids strings, money decimal text in USD.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Json = Any
"""Any JSON value."""


class Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, populate_by_name=True)


# --- runs ---------------------------------------------------------------------------------------------------


class Waiting(Shape):
    step: str
    reason: str
    """timer | retry | signal | poll | approval | child | slot | effect_in_doubt"""
    detail: str = ""
    since: str | None = None
    until: str | None = None


class Run(Shape):
    model_config = ConfigDict(extra="allow")

    id: str
    blueprint: str
    version: int | None
    """Null for an unpublished version (`mn run FILE`)."""
    workflow_class: str = Field("", alias="class")
    status: str
    """queued | running | waiting | paused | cancelling | succeeded | failed | cancelled"""
    needs_attention: bool
    waiting_for: list[Waiting]
    inputs: dict[str, Json]
    output: Json
    error: Json
    cost_usd: str
    cost_unknown: bool
    """True when some model's price is unknown; then `cost_usd` is a lower bound."""
    started_at: str | None
    ended_at: str | None
    seq: int
    """Number of the last event."""
    trace_id: str
    labels: dict[str, Json]
    forked_from: str | None = None
    """The run whose results it took over."""


class Step(Shape):
    model_config = ConfigDict(extra="allow")

    path: str
    """Identity within the run; in URLs its `/` is written `:`."""
    node: str
    kind: str
    status: str
    """blocked | ready | running | waiting | in_doubt | succeeded | failed | cancelled | skipped"""
    reason: str
    attempt: int
    queued_at: str | None
    started_at: str | None
    ended_at: str | None
    due_at: str | None
    input: Json
    output: Json
    error: Json
    model_calls: int
    tool_calls: int
    cost_usd: str
    kept: bool
    """True: its result was taken over, not made by this run (a fork)."""


class Payload(Shape):
    """A large value that lists show by reference."""

    hash: str
    size: int
    """Bytes of its text."""
    type: Literal["text", "json"]
    value: Json


class Event(Shape):
    seq: int
    """1, 2, 3, … without a gap."""
    at: str
    kind: str
    """Past tense: `step.succeeded`, `effect.committed`, `approval.decided`."""
    step: str | None
    attempt: int | None
    data: dict[str, Json]


class Effect(Shape):
    model_config = ConfigDict(extra="allow")

    id: str
    run: str
    step: str
    tool: str
    effect_class: str = Field(alias="class")
    """idempotent | keyed | probe | opaque"""
    state: str
    """intent | in_flight | committed | in_doubt | failed"""
    key: str
    fingerprint: str
    arguments: Json
    result: Json
    attempts: int
    approved_by: Json
    sent_at: str | None
    committed_at: str | None
    duplicates_blocked: int
    inherited_from: str | None = None
    """The effect of another run that a fork took over; nothing was sent for this one."""
    evidence: list[Json]


class Costs(Shape):
    model_config = ConfigDict(extra="allow")


class Explanation(Shape):
    """Why a run is where it is, and what is next."""

    model_config = ConfigDict(extra="allow")

    status: str


class Consequences(Shape):
    """What the call does, or with `?preview=true` would do."""

    model_config = ConfigDict(extra="allow")


class Export(Shape):
    """Everything about one run in one document."""

    run: Run
    blueprint: Json
    source: str
    steps: list[Step]
    events: list[Event]
    effects: list[Effect]
    approvals: list[Json]
    costs: Json


class Signal(Shape):
    """What became of a signal; with `preview`, what would."""

    stored: bool
    duplicate: bool
    """The same key was delivered before; nothing changed."""
    delivered_to: str | None
    """Path of the step that took it; null when it lies in the inbox."""


class StoredSignal(Shape):
    name: str
    key: str | None
    path: str
    body: Json
    source: str
    received_at: str | None
    taken_by: str | None
    refused: Json
    """{step, fields} when it came before its step and does not fit it."""


class AwaitedSignal(Shape):
    step: str
    signal: str
    body_schema: Json = Field(None, alias="schema")
    """JSON Schema of the body; null when any will do."""
    since: str | None
    until: str | None


class Signals(Shape):
    waits_for: list[AwaitedSignal]
    items: list[StoredSignal]
    next: str | None = None


class Schedule(Shape):
    id: str
    name: str
    blueprint: str
    version: int | None
    """Null: the newest published one at each time."""
    cron: str
    every_seconds: int | None
    time_zone: str
    in_words: str
    inputs: dict[str, Json]
    labels: dict[str, Json]
    catch_up: str
    overlap: str
    paused: bool
    next_at: str | None
    next: list[str]
    """The next five times, in the schedule's zone."""
    held: list[str]
    """Times that wait for the run before them to end."""
    last_at: str | None
    last_run: str | None
    last_error: Json
    """{at, code, message, next}: why the last time started nothing."""
    skipped: int
    acts_as: str | None
    """In whose name runs are started."""
    created_at: str | None


class Hook(Shape):
    id: str
    name: str
    target: str
    """start | signal"""
    mapping: dict[str, Json]
    scheme: str
    tolerance_seconds: int
    created_at: str | None
    rotated_at: str | None
    last_at: str | None
    """When it last took a message."""
    last_error: Json
    acts_as: str | None
    """In whose name it acts."""


class OpenedHook(Hook):
    address: str | None
    """Where to post to; shown once."""
    secret: str
    """What to sign with; shown once."""


class Delivery(Shape):
    id: str
    key: str
    state: str
    """received | done | held | ignored | late | failed | expired"""
    received_at: str | None
    expires_at: str | None
    runs: list[str]
    error: Json


class Received(Delivery):
    duplicate: bool
    """It was taken before; nothing happened again."""


class HookDetail(Hook):
    deliveries: list[Delivery]


# --- blueprints ---------------------------------------------------------------------------------------------


class BlueprintProblem(Shape):
    path: str
    line: int | None
    level: Literal["error", "warning"]
    code: str
    message: str
    fix: str
    node: str = ""
    """Id of the node it belongs to."""


class Validation(Shape):
    valid: bool
    problems: list[BlueprintProblem]


class Blueprint(Shape):
    id: str
    name: str
    title: str
    workflow_class: str = Field(alias="class")
    summary: str
    latest_version: int | None
    origin: Json
    """{gallery, hash} when installed from the gallery."""
    created_at: str
    archived: bool


class VersionHead(Shape):
    id: str
    blueprint: str
    version: int | None
    content_hash: str
    notes: str
    created_at: str
    created_by: str | None


class Version(VersionHead):
    document: dict[str, Json]
    source: str
    """The text as written, comments included."""


class Imported(Version):
    problems: list[BlueprintProblem]
    """Warnings, and what an imported contract still lacks."""


class Comparison(Shape):
    """What differs between two states of a blueprint in what they mean."""

    blueprint: str
    from_: Json = Field(alias="from")
    """{reference, label, version, draft_version, readable}"""
    to: Json
    same: bool
    permissions: list[Json]
    """[{kind: added|removed, key, words, allows_more}]"""
    changes: list[Json]
    """[{section, kind: added|removed|changed, subject, title, fields: [{path, kind, before?, after?}]}]"""
    marks: dict[str, dict[str, str]]
    """{nodes: {path: kind}, edges: {id: kind}}, for a picture of both graphs in one."""


class Forked(Shape):
    name: str
    origin: Json


class Review(Shape):
    id: str
    blueprint: str
    state: str
    """open | approved | changes | withdrawn | published"""
    draft_version: int
    base_version: int | None
    note: str
    asked_by: str | None
    asked_at: str
    closed_at: str | None
    changed_since: bool
    """True: the draft means something else now than what was reviewed."""
    answers: list[Json]
    """[{person, verdict: approve|changes|null, words, at}]"""
    comments: list[Json]
    """[{id, node, text, by, at, resolved}]; `node` is empty for the whole."""


class TrialStarted(Shape):
    run: str
    label: str
    """`draft 7, up to review`"""
    simulate: bool


class Overlay(Shape):
    run: str | None
    """The test shown; null when there is none."""
    label: str
    status: str
    simulate: bool
    running: bool
    seq: int
    """Of the run: `/ws/runs/{id}?format=json&after=SEQ` tells what happens next."""
    nodes: dict[str, Json]
    """By path {state?, seconds?, cost_usd?, stale?, pinned?}."""


class Pin(Shape):
    node: str
    output: Json
    port: str
    run: str | None
    """Where it was taken from; null when a person wrote it."""
    by: str | None
    at: str


class PinList(Shape):
    items: list[Pin]


class GalleryItem(Shape):
    name: str
    title: str
    workflow_class: str = Field(alias="class")
    summary: str
    tags: list[str]
    content_hash: str
    readme: str
    samples: dict[str, Json]
    manifest: dict[str, Json]
    """What it reads and writes, which approvals and connections it needs, in words."""


# --- approvals ----------------------------------------------------------------------------------------------


class QuorumRule(Shape):
    count: int
    of: str
    """Name of a group; empty means anybody who may decide."""
    have: int
    met: bool


class Decision(Shape):
    at: str
    by: str
    verb: str
    reason: str
    comment: str
    edits: Json
    revision: int
    shown_hash: str
    final_hash: str
    channel: str


class Approval(Shape):
    id: str
    run: str
    blueprint: str
    version: int | None
    step: str
    state: str
    """One of `apps.approvals.core.states.RequestState`."""
    revision: int
    """Send it as `If-Match` with the decision."""
    title: str
    tool: str
    effect: str
    """What will happen if approved, one sentence."""
    proposal: dict[str, Json]
    arguments: dict[str, Json]
    """The action as it stands: the proposal with the edits so far."""
    final: dict[str, Json] | None
    action_hash: str
    evidence: list[Json]
    labels: dict[str, list[str]]
    """Where each argument came from."""
    assign: dict[str, Json]
    quorum: list[QuorumRule]
    verbs: list[str]
    answer_schema: dict[str, Json] | None
    round: int
    previous: dict[str, Json] | None
    """The proposal of the round before."""
    feedback: str
    created_at: str
    due_at: str | None
    overdue: bool
    timeout_action: str
    claimed_by: str | None
    claimed_until: str | None
    decided_at: str | None
    decisions: list[Decision]


class ApprovalCard(Approval):
    """One request with what a card shows besides."""

    fields: list[Json]
    diff: list[Json]
    """What changed since the round before."""
    edited: list[Json]
    """What changed since the proposal."""
    leads_to: dict[str, list[str]]
    may_decide: bool
    why_not: str


# --- the rest -----------------------------------------------------------------------------------------------


class File(Shape):
    id: str
    name: str
    sha256: str
    media_type: str
    size: int


class Tool(Shape):
    name: str
    description: str
    permission: str
    parameters: dict[str, Json]
    output: dict[str, Json] | None
    effect: str
    """read | idempotent | keyed | probe | opaque"""
    sinks: list[str]
    actions: list[str]
    open_world: bool
    reversible: bool


class Model(Shape):
    provider: str
    ready: bool
    """False: a key or an address is missing; `detail` says which."""
    detail: str
    models: list[str]
    """Models known by name; others may work."""


class Token(Shape):
    id: str
    name: str
    prefix: str
    """First characters, to recognise it."""
    user: str
    scopes: list[str]
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    revoked_at: str | None


class Connection(Shape):
    id: str
    name: str
    kind: str
    hosts: list[str]
    created_at: str
    rotated_at: str | None


class NewToken(Token):
    secret: str
    """Shown this once; only its digest is stored."""


class Health(Shape):
    status: str
    version: str
    boot: str
    """Random id of this process."""


class Readiness(Shape):
    status: str
    checks: dict[str, str]


# --- flow control -------------------------------------------------------------------------------------------


class Limit(Shape):
    key: str
    """`tool:<name>`, `tool:<name>@<host>`, `provider:<name>`, `model:<name>`, `user:<address>`, `hour:…` of a
    contract, `retry:…` of a tool."""
    shared: bool
    """True: of the whole installation."""
    calls: float | None
    """So many at once and in `per_seconds`; null when no limit was set."""
    per_seconds: float | None
    left: float | None
    waiting: int
    rests_until: str | None
    """The other side asked to be left alone until then."""
    breaker: str
    """closed | open | half_open"""
    open_until: str | None
    failures: int
    last_error: str


class ConcurrencyKey(Shape):
    key: str
    in_use: int
    limit: int
    waiting: int


class Limits(Shape):
    weight: int
    """The workspace's share of the workers."""
    items: list[Limit]
    next: None = None
    concurrency: list[ConcurrencyKey]


class DeadLetters(Shape):
    code: str
    blueprint: str
    count: int
    first_at: str | None
    last_at: str | None
    run: str
    """The latest of them."""


class Refusal(Shape):
    run: str
    code: str
    message: str


class Redrive(Shape):
    run: str
    as_: str = Field(alias="as")
    """The run that goes on: the same, or one started in its place."""


class Redriven(Shape):
    redriven: list[Redrive]
    refused: list[Refusal]
    left: int
    stopped: str
    """Why it went no further; empty when it did all."""
