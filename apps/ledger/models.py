"""What happened, and what touched the world.

Rows here hold `run_id` and `step_path` as plain columns: the ledger lies below the runs and outlives them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.ledger.core.states import EffectState
from apps.ledger.fields import PayloadField
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class EntryBatch(models.Model):
    """All entries of one transaction on a run, in one row: what a commit costs is counted in rows.

    `(run_id, seq)` is the number of the last of them; batches tile a run's numbers from 1 on without gap or
    overlap, and nothing is ever rewritten. Read them as entries, through `apps.ledger.selectors`.
    """

    pk = models.CompositePrimaryKey("run_id", "seq")
    run_id = models.UUIDField()
    seq = models.IntegerField()
    # The database does not check it: each check locks the workspace's row, in every transaction of every run.
    workspace = models.ForeignKey(
        "workspaces.Workspace",
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    at = models.DateTimeField()
    lines = models.TextField()
    """JSON without spaces, a list for each entry; `core.lines` tells its form. Text, since nothing asks the
    database to look inside, and jsonb is larger and dearer to write."""


class Effect(models.Model):
    """One call that changes the world, from intent to proof. States: `apps.ledger.core.states`."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    run_id = models.UUIDField(db_index=True)
    step_path = models.TextField()
    turn = models.IntegerField(default=0)
    ordinal = models.IntegerField(default=0)
    generation = models.IntegerField(default=0)
    """Rises only after a definite failure, after "did not happen", or by a recorded consent to repeat."""
    key = models.CharField(max_length=64)
    """ENGINE rule 23; also what the remote gets as its idempotency key."""
    fingerprint = models.CharField(max_length=64)
    """Hash of tool and exact arguments; what an approval is bound to."""
    tool = models.CharField(max_length=64)
    effect_class = models.CharField(max_length=16)
    """idempotent | keyed | probe | opaque"""
    state = models.CharField(max_length=12, default=EffectState.INTENT)
    fence = models.BigIntegerField(default=0)
    """Fence of the attempt that put it in flight."""
    arguments = PayloadField()
    result = PayloadField(null=True)
    error = models.JSONField(null=True)
    business_key = models.CharField(max_length=200, blank=True, default="")
    simulated = models.BooleanField(default=False)
    has_probe = models.BooleanField(default=False)
    """The tool can be asked whether it happened."""
    sends = models.IntegerField(default=0)
    """How often bytes left; more than one only for same-key resends."""
    duplicates_blocked = models.IntegerField(default=0)
    approved_by = models.JSONField(null=True)
    """{request, by: [emails or rule], at} of the consumed grant."""
    created_at = models.DateTimeField(default=now)
    sent_at = models.DateTimeField(null=True)
    call_deadline_at = models.DateTimeField(null=True)
    key_expires_at = models.DateTimeField(null=True)
    committed_at = models.DateTimeField(null=True)
    inherited_from = models.UUIDField(null=True)
    """The effect of another run that a fork has taken over as a result; this row itself was never sent."""
    resolution = models.JSONField(null=True)
    """{outcome, by, reason, reference, at} once a doubt was resolved."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key"], name="effect_key_unique"),
            models.UniqueConstraint(
                fields=["workspace", "tool", "business_key", "simulated"],
                condition=Q(state__in=["in_flight", "in_doubt", "committed"]) & ~Q(business_key=""),
                name="effect_business_key_unique",
            ),
        ]
        indexes = [
            models.Index(fields=["workspace", "state"], name="effect_by_state"),
        ]


class Evidence(models.Model):
    """What anybody learned about an effect; append-only, also from a worker that lost its fence."""

    id = models.BigAutoField(primary_key=True)
    effect = models.ForeignKey(Effect, on_delete=models.CASCADE, related_name="evidence")
    at = models.DateTimeField(default=now)
    source = models.CharField(max_length=12)
    """worker | probe | person | webhook"""
    fence = models.BigIntegerField(null=True)
    body = PayloadField()


class Payload(models.Model):
    """One large value of a workspace, by the hash of its content; see `apps.ledger.payloads`."""

    pk = models.CompositePrimaryKey("hash", "workspace_id")
    hash = models.CharField(max_length=64)
    workspace_id = models.UUIDField()
    type = models.CharField(max_length=4)
    """text: the string itself; json: the JSON of an object or list, which may hold references."""
    size = models.BigIntegerField()
    """Bytes of the text as it is read."""
    encoding = models.CharField(max_length=8, blank=True, default="")
    """zlib, or empty for the plain UTF-8 text."""
    data = models.BinaryField()
    created_at = models.DateTimeField(default=now)
    used_at = models.DateTimeField(default=now)
    """When a run last began to use it, to within an hour."""

    class Meta:
        indexes = [models.Index(fields=["used_at"], name="payload_by_use")]


class PayloadUse(models.Model):
    """A run uses a payload. Written before anything of the run refers to it, deleted with the run."""

    pk = models.CompositePrimaryKey("run_id", "hash", "outlives")
    run_id = models.UUIDField()
    hash = models.CharField(max_length=64)
    outlives = models.BooleanField(default=False)
    """An effect uses it, and the effect ledger outlives the run."""
    workspace_id = models.UUIDField()

    class Meta:
        indexes = [models.Index(fields=["hash", "workspace_id"], name="payload_use_by_hash")]
