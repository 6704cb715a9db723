"""What people say about a draft before it is published, and the data a test of it uses.

Neither is ever part of a blueprint's text: they hang off its row, and no export, fork or version has them.
"""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apps.blueprints.core.reviewing import ReviewState, Verdict
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class Review(models.Model):
    """Somebody asks others to look at one state of a draft."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    blueprint = models.ForeignKey("blueprints.Blueprint", on_delete=models.CASCADE, related_name="reviews")
    base = models.ForeignKey("blueprints.Version", null=True, on_delete=models.SET_NULL, related_name="+")
    """The newest published version when it was asked; null when there was none."""
    draft_version = models.IntegerField()
    source = models.TextField()
    """The draft's text as it stood when it was asked: what the answers are about."""
    content_hash = models.CharField(max_length=64)
    """Of what it means, so that a note moved on the canvas is no new state."""
    note = models.TextField(blank=True)
    state = models.CharField(max_length=12, default=ReviewState.OPEN)
    asked_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    asked_at = models.DateTimeField(default=now)
    closed_at = models.DateTimeField(null=True)
    """When it was withdrawn, replaced by a newer one, or its draft published."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["blueprint"], condition=Q(closed_at__isnull=True), name="one_review_at_a_time"
            )
        ]


class ReviewAnswer(models.Model):
    """One person who was asked, and what they said; changing one's mind changes the row."""

    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="answers")
    person = models.ForeignKey("workspaces.User", on_delete=models.CASCADE, related_name="+")
    verdict = models.CharField(max_length=12, blank=True, default=Verdict.NONE)
    words = models.TextField(blank=True)
    answered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["review", "person"], name="one_answer_a_person")]


class ReviewComment(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    review = models.ForeignKey(Review, on_delete=models.CASCADE, related_name="comments")
    node = models.CharField(max_length=400, blank=True)
    """Path of the step it is about; empty for the whole. The step may be gone by now."""
    text = models.TextField()
    author = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=now)
    resolved_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    resolved_at = models.DateTimeField(null=True)


class Pin(models.Model):
    """The output a step of the draft has in tests, instead of running."""

    blueprint = models.ForeignKey("blueprints.Blueprint", on_delete=models.CASCADE, related_name="pins")
    node = models.CharField(max_length=400)
    """Path of the step."""
    output = models.JSONField(null=True)
    port = models.CharField(max_length=64, blank=True)
    """The port it left by when it was captured; empty for its main port."""
    origin = models.CharField(max_length=64, blank=True)
    """Id of the run it was taken from; empty when a person wrote it."""
    created_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["blueprint", "node"], name="one_pin_a_step")]
