"""Blueprints, their immutable versions, drafts with their logs, and the gallery as synced from disk."""

from __future__ import annotations

from typing import Any

from django.db import models

from apps.blueprints.fields import OrderedJSONField
from apps.blueprints.review_models import Pin, Review, ReviewAnswer, ReviewComment
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7

__all__ = ["Blueprint", "GalleryItem", "Pin", "Review", "ReviewAnswer", "ReviewComment", "Version"]


class Blueprint(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="blueprints")
    name = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    workflow_class = models.CharField(max_length=64, blank=True)
    summary = models.TextField(blank=True)
    origin = models.JSONField(null=True)
    """{gallery, hash} when installed from the gallery; {fork_of, version, hash} when forked."""
    created_at = models.DateTimeField(default=now)
    created_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="one_blueprint_name")]

    def __str__(self) -> str:
        return self.name


class Version(models.Model):
    """One immutable state of a blueprint. `number` is null for an unpublished one (`mn run FILE`)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    blueprint = models.ForeignKey(Blueprint, on_delete=models.CASCADE, related_name="versions")
    number = models.IntegerField(null=True)
    content_hash = models.CharField(max_length=64)
    document = models.JSONField()
    """`Document.model_dump(mode="json", by_alias=True, exclude_unset=True)`."""
    source = models.TextField()
    """The text as written, comments and layout included."""
    notes = models.TextField(blank=True)
    is_trial = models.BooleanField(default=False, db_default=False)
    """Derived from a draft to test it: run, never shown as the blueprint's text, never published."""
    created_at = models.DateTimeField(default=now)
    created_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["blueprint", "number"], name="one_version_number"),
            models.UniqueConstraint(fields=["blueprint", "content_hash"], name="one_version_content"),
        ]

    def __str__(self) -> str:
        return f"{self.blueprint.name}@{self.number if self.number is not None else 'unpublished'}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert only: runs are pinned to versions, so a stored one never changes."""
        if not self._state.adding:
            raise TypeError("A version never changes once stored; store another one.")
        super().save(*args, **kwargs)

    def give_number(self, number: int, notes: str = "") -> None:
        """Publish an unpublished version: the one change a version knows, once."""
        changed = Version.objects.filter(pk=self.pk, number=None).update(number=number, notes=notes)
        if changed != 1:
            raise TypeError("A published version keeps its number.")
        self.number, self.notes = number, notes


class GalleryItem(models.Model):
    """One folder of `blueprints/`, synced at start; the disk is the source, this is a copy."""

    name = models.CharField(max_length=64, primary_key=True)
    content_hash = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    workflow_class = models.CharField(max_length=64, blank=True)
    summary = models.TextField(blank=True)
    tags = models.JSONField(default=list)
    document = models.JSONField()
    source = models.TextField()
    readme = models.TextField(blank=True)
    position = models.IntegerField(default=0)
    samples = models.JSONField(default=dict)
    """`inputs/sample.json` as written; file inputs are paths relative to the `inputs/` folder."""
    synced_at = models.DateTimeField(default=now)


class Draft(models.Model):
    """What becomes the next version: a text, and the log of every operation that led to it."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    blueprint = models.ForeignKey(Blueprint, on_delete=models.CASCADE, related_name="drafts")
    owner = models.ForeignKey(
        "workspaces.User", null=True, blank=True, on_delete=models.CASCADE, related_name="+"
    )
    """Whose private draft it is; null: the one that all editors share."""
    source = models.TextField()
    version = models.IntegerField(default=0)
    """`seq` of the last operation."""
    started_from = models.ForeignKey(Version, null=True, on_delete=models.SET_NULL, related_name="+")
    base_version = models.IntegerField(null=True)
    """Of a private draft: the version of the shared one that it was copied from."""
    base_source = models.TextField(blank=True)
    """Of a private draft: the text that it was copied from."""
    last_test = models.UUIDField(null=True, editable=False)
    """The run that tested it last; retention may have taken it away."""
    created_at = models.DateTimeField(default=now)
    updated_at = models.DateTimeField(default=now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["blueprint"], condition=models.Q(owner=None), name="one_shared_draft"
            ),
            models.UniqueConstraint(fields=["blueprint", "owner"], name="one_private_draft"),
        ]

    def __str__(self) -> str:
        return f"{self.blueprint.name}: draft {self.version}"


class DraftOperation(models.Model):
    """One line of a draft's log. Only `undone` ever changes."""

    id = models.BigAutoField(primary_key=True)
    draft = models.ForeignKey(Draft, on_delete=models.CASCADE, related_name="operations")
    seq = models.IntegerField()
    """1, 2, 3, … without gaps."""
    op_id = models.UUIDField()
    """Made by the client; sent twice, it is done once."""
    actor = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    actor_label = models.CharField(max_length=254)
    kind = models.CharField(max_length=20)
    """One of `operations.KINDS`, or undo, redo, restore, merge."""
    payload = OrderedJSONField()
    """As applied, keys in their order, so that it can be done again to the byte.

    Of undo, redo, restore, merge and set_source it holds `splices`, [[start, end, text]] of the text before.
    """
    inverse = models.JSONField()
    """[[start, end, text]] in the text after it: gives the bytes before it back."""
    undoes = models.UUIDField(null=True)
    """Of undo and redo: the operation that was taken back."""
    undone = models.BooleanField(default=False)
    undo_group = models.CharField(max_length=64, blank=True)
    """Operations of one group are taken back together."""
    at = models.DateTimeField(default=now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["draft", "seq"], name="one_draft_seq"),
            models.UniqueConstraint(fields=["draft", "op_id"], name="one_draft_operation"),
        ]
        indexes = [models.Index(fields=["draft", "actor", "-seq"], name="draft_operations_of_actor")]


class DraftState(models.Model):
    """A moment of a draft that somebody gave a name, to come back to."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    draft = models.ForeignKey(Draft, on_delete=models.CASCADE, related_name="states")
    seq = models.IntegerField()
    title = models.CharField(max_length=200)
    source = models.TextField()
    created_at = models.DateTimeField(default=now)
    created_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return self.title


class DraftPresence(models.Model):
    """A page that lies open on a draft. Forgotten when nothing was heard of it for a while."""

    connection = models.UUIDField(primary_key=True)
    draft = models.ForeignKey(Draft, on_delete=models.CASCADE, related_name="present")
    user = models.ForeignKey("workspaces.User", on_delete=models.CASCADE, related_name="+")
    selected = models.JSONField(default=list)
    """Paths of nodes."""
    at = models.DateTimeField(default=now)
