"""Answers already given, so that a repeated unsafe call gets the first answer again."""

from __future__ import annotations

from django.db import models

from mirrorneuron.base.clock import now


class IdempotencyRecord(models.Model):
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    """Hash of method, path and body; the same key with another one is a 422."""
    status = models.IntegerField(null=True)
    body = models.JSONField(null=True)
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "key"], name="one_idempotency_key")]
