"""What happened, and what touched the world.

Rows here hold `run_id` and `step_path` as plain columns: the ledger lies below the runs and outlives them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.ledger.core.states import EffectState
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class Entry(models.Model):
    """One line of a run's history. `(run_id, seq)` is gapless; nothing is ever rewritten."""

    id = models.BigAutoField(primary_key=True)
    workspace = models.ForeignKey(
        "workspaces.Workspace", on_delete=models.CASCADE, related_name="+", db_index=False
    )
    run_id = models.UUIDField()
    seq = models.IntegerField()
    at = models.DateTimeField()
    kind = models.CharField(max_length=40)
    """Past tense, `step.succeeded`; the list is in SPEC section 3."""
    step_path = models.TextField(blank=True, default="")
    attempt = models.IntegerField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run_id", "seq"], name="entry_seq_unique")]


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
    arguments = models.JSONField()
    result = models.JSONField(null=True)
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
    body = models.JSONField()
