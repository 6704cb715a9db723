"""What limits the work here: prices an operator sets, token buckets, breakers."""

from __future__ import annotations

from django.db import models

from mirrorneuron.base.clock import now


class Price(models.Model):
    """Price of one model in one workspace, in micro-dollars per million tokens."""

    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    model = models.CharField(max_length=120)
    """As written in a blueprint: `provider:model`."""
    input_microusd = models.BigIntegerField()
    output_microusd = models.BigIntegerField()
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "model"], name="one_price")]


class Bucket(models.Model):
    """Tokens for calls of one kind; the arithmetic is `core.buckets`."""

    workspace = models.ForeignKey(
        "workspaces.Workspace", null=True, on_delete=models.CASCADE, related_name="+"
    )
    """Null: of the whole installation, for what all workspaces share (a provider's key)."""
    key = models.CharField(max_length=200)
    """`tool:<name>`, `provider:<name>`, `user:<id>`; `hour:…` from a contract, `retry:…` of a tool."""
    tokens = models.FloatField(default=0.0)
    updated_at = models.DateTimeField(default=now)
    capacity = models.FloatField(null=True)
    """Null: no limit of its own, only what the other side asked for."""
    per_second = models.FloatField(null=True)
    blocked_until = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key"], name="one_bucket"),
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(workspace=None), name="one_shared_bucket"
            ),
        ]


class Breaker(models.Model):
    """Whether something that keeps failing is called at all; the states are in `core.breakers`."""

    workspace = models.ForeignKey(
        "workspaces.Workspace", null=True, on_delete=models.CASCADE, related_name="+"
    )
    """Null: of the whole installation."""
    key = models.CharField(max_length=200)
    """`tool:<name>` or `provider:<name>`."""
    failures = models.IntegerField(default=0)
    window_started_at = models.DateTimeField(null=True)
    open_until = models.DateTimeField(null=True)
    opens = models.IntegerField(default=0)
    probe_until = models.DateTimeField(null=True)
    waiting = models.IntegerField(default=0)
    last_error = models.CharField(max_length=300, blank=True, default="")
    """What the last failed call said; never a secret."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["workspace", "key"], name="one_breaker"),
            models.UniqueConstraint(
                fields=["key"], condition=models.Q(workspace=None), name="one_shared_breaker"
            ),
        ]
