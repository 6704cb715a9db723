"""Prices an operator sets; they win over the public price list."""

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
