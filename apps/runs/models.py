"""The engine's rows. States and the moves between them: `apps.runs.core.states`; rules: ARCHITECTURE.md.

Every transaction that changes a run's steps begins with that run's row and raises its `seq`; so a `seq`
names one exact state of the run, and a worker that knows state N may write N+1 without reading first.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q

from apps.ledger.fields import PayloadField
from apps.runs.core.states import RunStatus, StepStatus
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class Run(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The database does not check these three: at the end of every start each check is a statement of its own
    # and a lock on a row that all runs of the workspace share. They come from rows that were just read.
    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="runs", db_index=False,
        db_constraint=False,
    )  # fmt: skip
    version = models.ForeignKey(
        "blueprints.Version", on_delete=models.PROTECT, related_name="runs", db_index=False,
        db_constraint=False,
    )  # fmt: skip
    blueprint_name = models.CharField(max_length=64)
    workflow_class = models.CharField(max_length=64, blank=True)
    status = models.CharField(max_length=12, default=RunStatus.QUEUED)
    needs_attention = models.BooleanField(default=False)
    """Derived: a step is in doubt, or failed and waiting for a person."""
    pause_requested = models.BooleanField(default=False)
    cancel_requested = models.BooleanField(default=False)
    inputs = PayloadField(default=dict)
    output = PayloadField(null=True)
    error = models.JSONField(null=True)
    checks = models.JSONField(default=list)
    """Success criteria as judged at the end: [{text, result: pass|fail|not_checked, detail}]."""
    labels = models.JSONField(default=dict)
    is_demo = models.BooleanField(default=False)
    simulate = models.BooleanField(default=False)
    forked_from = models.UUIDField(null=True)
    """The run whose results this one took over (ENGINE rule 23)."""
    root_id = models.UUIDField(null=True)
    """The outermost run; effect keys hang off it. Null means this run itself."""
    parent_id = models.UUIDField(null=True)
    """The run whose subflow step started this one."""
    parent_path = models.TextField(blank=True, default="")
    """That step's path."""
    root_path = models.TextField(blank=True, default="")
    """That step's path seen from the outermost run; steps of this run come after it in effect keys."""
    priority = models.SmallIntegerField(default=5)
    deadline_at = models.DateTimeField(null=True)
    """Until when it must have ended; cleared when it has."""
    queue_deadline_at = models.DateTimeField(null=True)
    """If its first step has not been claimed by then, the run fails. Null: none, or it has been."""
    idempotency_key = models.CharField(max_length=200, null=True)
    idempotency_fingerprint = models.CharField(max_length=64, blank=True, default="")
    retries_used = models.IntegerField(default=0)
    active = models.IntegerField(default=0)
    """Steps ready or running; with the next two what the run's status is derived from."""
    idle = models.IntegerField(default=0)
    """Steps waiting or in doubt."""
    stuck = models.IntegerField(default=0)
    """Steps in doubt that only a person can settle."""
    cost_microusd = models.BigIntegerField(default=0)
    cost_unknown = models.BooleanField(default=False)
    trace_id = models.CharField(max_length=32, blank=True, default="")
    started_by = models.ForeignKey(
        "workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False,
        db_constraint=False,
    )  # fmt: skip
    created_at = models.DateTimeField(default=now)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    paused_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)
    """Since then its rows are being removed, or brought back, a batch at a time; nobody finds it meanwhile
    (`apps.runs.retention`)."""
    restored_at = models.DateTimeField(null=True)
    """When it was brought back from an archive; it is kept from then on as if it had just ended."""
    # What every step changes stands together at the end: the database's log of an update begins at the first
    # byte that differs and ends at the last.
    held_worker = models.UUIDField(null=True)
    """Boot id of the process that works on the held step; see `held.py`. Null when nothing is held."""
    seq = models.IntegerField(default=0)
    """Number of the last ledger entry; raised first in every transaction on this run."""
    held_started_at = models.DateTimeField(null=True)
    held_deadline_at = models.DateTimeField(null=True)
    held_path = models.TextField(null=True)
    held_memo = PayloadField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="run_idempotency_key",
            ),
        ]
        indexes = [
            models.Index(fields=["workspace", "-created_at"], name="run_by_workspace"),
            models.Index(fields=["parent_id"], condition=Q(parent_id__isnull=False), name="run_by_parent"),
            models.Index(
                fields=["queue_deadline_at"],
                condition=Q(queue_deadline_at__isnull=False),
                name="run_queue_deadline",
            ),
            models.Index(fields=["deadline_at"], condition=Q(deadline_at__isnull=False), name="run_deadline"),
            models.Index(fields=["held_worker"], condition=Q(held_worker__isnull=False), name="run_holding"),
            models.Index(fields=["root_id"], condition=Q(root_id__isnull=False), name="run_by_root"),
        ]

    @property
    def run_id(self) -> uuid.UUID:
        """Itself: every row with payloads says which run uses them."""
        return self.id


class Step(models.Model):
    """One node within one run and round. A row exists from the moment the step can start (or is skipped)."""

    # Wide numbers, narrow ones, texts: in this order none of the largest table is lost to alignment.
    id = models.BigAutoField(primary_key=True)
    fence = models.BigIntegerField(default=0)
    ready_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    due_at = models.DateTimeField(null=True)
    """When a waiting or in-doubt step moves by itself."""
    deadline_at = models.DateTimeField(null=True)
    """End of the running attempt, in database time."""
    expires_at = models.DateTimeField(null=True)
    """When all its tries must have ended; null for no such deadline."""
    cost_microusd = models.BigIntegerField(default=0)
    round = models.IntegerField(default=1)
    attempt = models.IntegerField(default=0)
    """Claims so far, lost ones included."""
    failures = models.IntegerField(default=0)
    """Reported failures: what the retry budget counts."""
    losses = models.IntegerField(default=0)
    """Attempts that died without a report: what poison counts."""
    model_calls = models.IntegerField(default=0)
    tool_calls = models.IntegerField(default=0)
    priority = models.SmallIntegerField(default=5)
    """0 is the most urgent, 9 the least; the node's own, else the run's."""
    cost_unknown = models.BooleanField(default=False)
    kept = models.BooleanField(default=False)
    """Its end was taken over from the run this one was forked from; it cost nothing here."""
    # Not checked by the database: a step is only ever written together with its run's row.
    run = models.ForeignKey(
        Run, on_delete=models.CASCADE, related_name="steps", db_index=False, db_constraint=False
    )
    workspace_id = models.UUIDField()
    """The run's; copied, because claiming is fair between workspaces."""
    worker = models.UUIDField(null=True)
    """Boot id of the process that runs it."""
    scope = models.TextField(blank=True, default="")
    """Which pass through which body it is part of: `each[17]`; empty at the top of the graph."""
    path = models.TextField()
    """Identity within the run: `draft`, `draft[2]` in round 2, `each[17]/draft` in a body, and `each[17]/.`
    for the pass through that body itself. Its scope is what comes before the last `/`."""
    node_id = models.CharField(max_length=64)
    kind = models.CharField(max_length=16)
    status = models.CharField(max_length=12, default=StepStatus.READY)
    reason = models.CharField(max_length=24, blank=True, default="")
    """While waiting: timer retry signal approval child slot. When cancelled or skipped: why."""
    port = models.CharField(max_length=64, blank=True, default="")
    """The out-port a finished step left by."""
    queue = models.CharField(max_length=40, default="default")
    slot = models.CharField(max_length=200, blank=True, default="")
    """The concurrency key it holds while running, or waits for; empty for all that have ended."""
    taken = models.JSONField(default=list)
    """Indexes into the graph's edges that this step ended as taken; its other edges are dead."""
    labels = models.JSONField(default=list)
    """Where the output came from: `user`, `tool:<name>`; empty means trusted."""
    input = PayloadField(null=True)
    output = PayloadField(null=True)
    error = models.JSONField(null=True)
    memo = PayloadField(null=True)
    """What a waiting step needs to go on (an approval's proposal, feedback of a round)."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "scope", "path"], name="step_path_unique")]
        indexes = [
            models.Index(
                fields=["queue", "workspace_id", "priority", "ready_at"],
                condition=Q(status="ready"),
                name="step_ready",
            ),
            # Conditions in a form that SQLite too finds in a query: it does not look into lists.
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="step_due"),
            models.Index(fields=["deadline_at"], condition=Q(status="running"), name="step_running"),
            models.Index(
                fields=["expires_at"],
                condition=Q(ended_at__isnull=True) & Q(expires_at__isnull=False),
                name="step_expires",
            ),
            models.Index(
                fields=["workspace_id", "slot", "priority", "ready_at"],
                condition=~Q(slot=""),
                name="step_slot",
            ),
            models.Index(
                fields=["queue", "ready_at"],
                condition=Q(status="ready") & Q(losses__gt=0),
                name="step_lossy",
            ),
        ]


class Attempt(models.Model):
    """An earlier try at a step; the latest one lives on the step's own row."""

    # Not checked by the database: each check locks the step's row, and a step's row may go (`held.py`).
    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="attempts", db_constraint=False)
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

    step = models.ForeignKey(Step, on_delete=models.CASCADE, related_name="calls", db_constraint=False)
    turn = models.IntegerField()
    ordinal = models.IntegerField(default=0)
    kind = models.CharField(max_length=8)
    """model | tool"""
    name = models.CharField(max_length=120)
    """`provider:model` or the tool's name."""
    request_hash = models.CharField(max_length=64)
    request = PayloadField(null=True)
    response = PayloadField(null=True)
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
    body = PayloadField(null=True)
    received_at = models.DateTimeField(default=now)
    consumed_by = models.TextField(null=True)
    """Path of the step that took it."""
    source = models.CharField(max_length=16, blank=True, default="")
    """`webhook` when a webhook brought it; empty when a member sent it."""
    refused = models.JSONField(null=True)
    """Why no step takes it: {step, fields} of the sensor whose schema its body does not fit."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "name", "key"], condition=Q(key__isnull=False), name="signal_key_unique"
            ),
        ]
        indexes = [
            models.Index(
                fields=["received_at"],
                condition=Q(name="child.ended", consumed_by__isnull=True),
                name="signal_child_ended",
            ),
        ]


class Slot(models.Model):
    """How many steps with one concurrency key run at once, and how many may."""

    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    in_use = models.IntegerField(default=0)
    """Steps that are running with this key."""
    cap = models.IntegerField()
    """As the blueprint whose step came last has it."""
    is_wanted = models.BooleanField(default=False)
    """A step may be waiting for it; cleared when nobody is found."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key"], name="one_slot"),
            models.CheckConstraint(condition=Q(in_use__gte=0), name="slot_in_use_not_negative"),
        ]
        indexes = [models.Index(fields=["key"], condition=Q(is_wanted=True), name="slot_wanted")]


class Worker(models.Model):
    """One worker process. A missing row means dead; rows are kept for a week."""

    boot = models.UUIDField(primary_key=True)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    place = models.CharField(max_length=120, blank=True, default="")
    birth = models.CharField(max_length=40, blank=True, default="")
    """With `pid` these name the process for ever (`mirrorneuron.base.process`)."""
    queues = models.JSONField(default=list)
    slots = models.IntegerField(default=0)
    version = models.CharField(max_length=40, blank=True, default="")
    """Of the program it runs."""
    embedded = models.BooleanField(default=False)
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    stopped_at = models.DateTimeField(null=True)
    kill_requested_at = models.DateTimeField(null=True)
    """The demo's kill button; the process answers with SIGKILL to itself."""
    kill_run = models.UUIDField(null=True)
    """The run whose page asked for it and waits for its resume proof line."""


class Schedule(models.Model):
    """Starts a run of a blueprint again and again (`core.schedule` says when)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=64)
    blueprint_name = models.CharField(max_length=64)
    version_number = models.IntegerField(null=True)
    """Null: the newest published one at each time."""
    cron = models.CharField(max_length=120, blank=True, default="")
    every_seconds = models.IntegerField(null=True)
    """Either a cron expression or an interval, counted from `anchor_at`."""
    anchor_at = models.DateTimeField(default=now)
    time_zone = models.CharField(max_length=64, default="UTC")
    inputs = models.JSONField(default=dict)
    labels = models.JSONField(default=dict)
    catch_up = models.CharField(max_length=8, default="one")
    overlap = models.CharField(max_length=16, default="skip")
    paused_at = models.DateTimeField(null=True)
    next_at = models.DateTimeField(null=True)
    """The next nominal time; null when there will be none."""
    due_at = models.DateTimeField(null=True)
    """When somebody has to look: `next_at`, or earlier while a time waits for its turn; null while paused."""
    held = models.JSONField(default=list)
    """Nominal times that wait for the run before them to end (overlap `queue`), oldest first."""
    active = models.JSONField(default=list)
    """Ids of runs it started that had not ended when it was last looked at."""
    last_at = models.DateTimeField(null=True)
    """Nominal time of the last run it started."""
    last_run = models.UUIDField(null=True)
    last_error = models.JSONField(null=True)
    """Why the last time started nothing: {at, code, message, next}; null after a start."""
    skipped = models.IntegerField(default=0)
    """Nominal times that started nothing because of `catch_up` or `overlap`."""
    created_at = models.DateTimeField(default=now)
    acts_as = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    """In whose name runs are started: who made it, or changed what it does."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="one_schedule_name")]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="schedule_due"),
        ]


class Hook(models.Model):
    """An address outside systems post to; what they sign starts a run or becomes a signal."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="hooks")
    name = models.CharField(max_length=64)
    digest = models.CharField(max_length=64, unique=True)
    """Of the token in the address, which is shown once."""
    sealed = models.BinaryField()
    """Encrypted secrets, newest first: [{secret, until}]; a replaced one is valid `until` then."""
    scheme = models.CharField(max_length=16, default="standard")
    tolerance_seconds = models.IntegerField(default=300)
    target = models.CharField(max_length=8)
    """`start` or `signal`."""
    mapping = models.JSONField(default=dict)
    """What becomes of a delivery, as templates over `body` and `headers` (`core.mapping`)."""
    created_at = models.DateTimeField(default=now)
    rotated_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    last_error = models.JSONField(null=True)
    acts_as = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="one_hook_name")]


class Delivery(models.Model):
    """One message a hook accepted. A repeat of it finds this row and changes nothing."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    hook = models.ForeignKey(Hook, on_delete=models.CASCADE, related_name="deliveries")
    key = models.CharField(max_length=200)
    """The sender's id of it, or the hash of its body."""
    state = models.CharField(max_length=12, default="received")
    """As `hooks.DeliveryState` says."""
    body = models.JSONField(null=True)
    headers = models.JSONField(default=dict)
    received_at = models.DateTimeField(default=now)
    due_at = models.DateTimeField(null=True)
    """When somebody looks at it again, while it is not dealt with."""
    expires_at = models.DateTimeField()
    """When a held one is given up, and when this row may be forgotten."""
    runs = models.JSONField(default=list)
    """Ids of runs it started or reached."""
    error = models.JSONField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["hook", "key"], name="one_delivery")]
        indexes = [
            models.Index(fields=["due_at"], condition=Q(due_at__isnull=False), name="delivery_due"),
            models.Index(fields=["expires_at"], name="delivery_expiry"),
        ]


class RemovedRun(models.Model):
    """What stays of a run that was removed: enough to find its archive, and to know its key again."""

    id = models.UUIDField(primary_key=True, editable=False)
    """The run's."""
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    blueprint_name = models.CharField(max_length=64)
    workflow_class = models.CharField(max_length=64, blank=True, default="")
    status = models.CharField(max_length=12)
    ended_at = models.DateTimeField()
    removed_at = models.DateTimeField()
    archive = models.TextField(blank=True, default="")
    """The file it lies in; empty when it was removed without one."""
    forked_from = models.UUIDField(null=True)
    """As the run's: what it was forked from is asked about by the forks of it that are still there."""
    idempotency_key = models.CharField(max_length=200, null=True)
    idempotency_fingerprint = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="removed_run_key",
            ),
        ]
        indexes = [models.Index(fields=["removed_at"], name="removed_run_by_time")]
