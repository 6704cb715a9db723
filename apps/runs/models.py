"""The engine's rows. States and the moves between them: `apps.runs.core.states`; rules: ARCHITECTURE.md.

Every transaction that changes a run's steps begins with that run's row and raises its `seq`; so a `seq`
names one exact state of the run, and a worker that knows state N may write N+1 without reading first.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.runs.core.states import RunStatus, StepStatus
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class Run(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="runs")
    version = models.ForeignKey("blueprints.Version", on_delete=models.PROTECT, related_name="runs")
    blueprint_name = models.CharField(max_length=64)
    workflow_class = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=12, default=RunStatus.QUEUED)
    needs_attention = models.BooleanField(default=False)
    """Derived: a step is in doubt, or failed and waiting for a person."""
    seq = models.IntegerField(default=0)
    """Number of the last ledger entry; raised first in every transaction on this run."""
    pause_requested = models.BooleanField(default=False)
    cancel_requested = models.BooleanField(default=False)
    inputs = models.JSONField(default=dict)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    checks = models.JSONField(default=list)
    """Success criteria as judged at the end: [{text, result: pass|fail|not_checked, detail}]."""
    labels = models.JSONField(default=dict)
    is_demo = models.BooleanField(default=False)
    simulate = models.BooleanField(default=False)
    root_id = models.UUIDField(null=True)
    """The outermost run; effect keys hang off it. Null means this run itself."""
    priority = models.SmallIntegerField(default=5)
    idempotency_key = models.CharField(max_length=200, null=True)
    idempotency_fingerprint = models.CharField(max_length=64, blank=True, default="")
    retries_used = models.IntegerField(default=0)
    cost_microusd = models.BigIntegerField(default=0)
    cost_unknown = models.BooleanField(default=False)
    trace_id = models.CharField(max_length=32, blank=True, default="")
    started_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=now)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    paused_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="run_idempotency_key",
            ),
        ]
        indexes = [models.Index(fields=["workspace", "-created_at"], name="run_by_workspace")]


class Step(models.Model):
    """One node within one run and round. A row exists from the moment the step can start (or is skipped)."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="steps", db_index=False)
    path = models.TextField()
    """Identity within the run: `draft`, `draft[2]` in round 2."""
    node_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=16)
    round = models.IntegerField(default=1)
    status = models.CharField(max_length=12, default=StepStatus.READY)
    reason = models.CharField(max_length=24, blank=True, default="")
    """While waiting: timer retry signal approval child slot. When cancelled or skipped: why."""
    port = models.CharField(max_length=64, blank=True, default="")
    """The out-port a finished step left by."""
    taken = models.JSONField(default=list)
    """Indexes into the graph's edges that this step ended as taken; its other edges are dead."""
    fence = models.BigIntegerField(default=0)
    attempt = models.IntegerField(default=0)
    """Claims so far, lost ones included."""
    failures = models.IntegerField(default=0)
    """Reported failures: what the retry budget counts."""
    losses = models.IntegerField(default=0)
    """Attempts that died without a report: what poison counts."""
    queue = models.CharField(max_length=40, default="default")
    priority = models.SmallIntegerField(default=5)
    worker = models.UUIDField(null=True)
    """Boot id of the process that runs it."""
    created_at = models.DateTimeField(default=now)
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    """When a waiting or in-doubt step moves by itself."""
    deadline_at = models.DateTimeField(null=True)
    """End of the running attempt, in database time."""
    input = models.JSONField(null=True)
    output = models.JSONField(null=True)
    error = models.JSONField(null=True)
    labels = models.JSONField(default=list)
    """Where the output came from: `user`, `tool:<name>`; empty means trusted."""
    memo = models.JSONField(null=True)
    """What a waiting step needs to go on (an approval's proposal, feedback of a round)."""
    model_calls = models.IntegerField(default=0)
    tool_calls = models.IntegerField(default=0)
    cost_microusd = models.BigIntegerField(default=0)
    cost_unknown = models.BooleanField(default=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "path"], name="step_path_unique")]
        indexes = [
            models.Index(
                fields=["queue", "priority", "ready_at"], condition=Q(status="ready"), name="step_ready"
            ),
            models.Index(fields=["due_at"], condition=Q(status__in=["waiting", "in_doubt"]), name="step_due"),
            models.Index(fields=["deadline_at"], condition=Q(status="running"), name="step_running"),
        ]


class Attempt(models.Model):
    """An earlier try at a step; the latest one lives on the step's own row."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="attempts")
    number = models.IntegerField()
    fence = models.BigIntegerField()
    status = models.CharField(max_length=12)
    """failed | lost | cancelled"""
    worker = models.UUIDField(null=True)
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField()
    error = models.JSONField(null=True)


class Call(models.Model):
    """One model request or tool call of a step, not of an attempt: a retry continues it (ENGINE rule 24)."""

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="calls")
    turn = models.IntegerField()
    ordinal = models.IntegerField(default=0)
    kind = models.CharField(max_length=8)
    """model | tool"""
    name = models.CharField(max_length=120)
    """`provider:model` or the tool's name."""
    request_hash = models.CharField(max_length=64)
    request = models.JSONField(null=True)
    response = models.JSONField(null=True)
    error = models.JSONField(null=True)
    attempt = models.IntegerField(default=1)
    started_at = models.DateTimeField()
    latency_ms = models.IntegerField()
    input_tokens = models.IntegerField(default=0)
    output_tokens = models.IntegerField(default=0)
    cached_tokens = models.IntegerField(default=0)
    unit_prices = models.JSONField(null=True)
    """{input, output, cached: micro-dollars per million tokens, source}; null when unknown."""
    cost_microusd = models.BigIntegerField(null=True)
    """Null means unknown, never zero."""
    effect_key = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["step", "turn", "ordinal", "kind"], name="call_unique"),
        ]


class Signal(models.Model):
    """Something from outside, stored whether or not anybody waits for it yet."""

    id = models.BigAutoField(primary_key=True)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="signals")
    name = models.CharField(max_length=64)
    key = models.CharField(max_length=200, null=True)
    """Deduplicates; null means none."""
    path = models.TextField(blank=True, default="")
    body = models.JSONField(null=True)
    received_at = models.DateTimeField(default=now)
    consumed_by = models.TextField(null=True)
    """Path of the step that took it."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "name", "key"], condition=Q(key__isnull=False), name="signal_key_unique"
            ),
        ]


class Worker(models.Model):
    """One worker process. A missing row means dead; rows are kept for a week."""

    boot = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    embedded = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)
    kill_requested_at = models.DateTimeField(null=True)
    """The demo's kill button; the process answers with SIGKILL to itself."""
    kill_run = models.UUIDField(null=True)
    """The run whose page asked for it and waits for its resume proof line."""
