"""Questions to people and their answers."""

from __future__ import annotations

from typing import Any

from django.db import models

from apps.approvals.core.states import PENDING, RequestState
from apps.ledger.fields import PayloadField
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7


class ApprovalRequest(models.Model):
    """One question of one run, bound to the hash of the exact action it is about."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    workspace = models.ForeignKey("workspaces.Workspace", on_delete=models.CASCADE, related_name="+")
    run = models.ForeignKey("runs.Run", on_delete=models.CASCADE, related_name="approval_requests")
    step_path = models.TextField()
    ordinal = models.IntegerField(default=0)
    """Several questions of one step (an agent's calls) count up."""
    state = models.CharField(max_length=20, default=RequestState.OPEN)
    revision = models.IntegerField(default=1)
    """Rises with each change of the action; approvals count for one revision, and `If-Match` compares it."""
    title = models.TextField()
    tool = models.CharField(max_length=64, blank=True, default="")
    """The tool that will run if approved; empty for a plain question."""
    effect_summary = models.TextField(blank=True, default="")
    """What will happen if approved, one sentence."""
    proposal = PayloadField()
    """The exact arguments as proposed."""
    action_hash = models.CharField(max_length=64)
    """fingerprint({tool, arguments}) of the current revision; the grant holds for exactly this."""
    final = PayloadField(null=True)
    """The arguments as edited so far, and as approved in the end; null while nobody edited or approved."""
    evidence = PayloadField(default=list)
    """[{step, title, output}] of the nodes named in `show`."""
    labels = models.JSONField(default=dict)
    """Where each argument came from: {argument: [label]}."""
    assign = models.JSONField(default=dict)
    quorum = models.JSONField(default=list)
    verbs = models.JSONField(default=list)
    answer_schema = models.JSONField(null=True)
    """JSON Schema of an answer, where the verb `answer` is offered."""
    previous = PayloadField(null=True)
    """The proposal of the round before, for the diff."""
    feedback = models.TextField(blank=True, default="")
    round = models.IntegerField(default=1)
    created_at = models.DateTimeField(default=now)
    due_at = models.DateTimeField(null=True)
    timeout_action = models.CharField(max_length=12, default="pause")
    claimed_by = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    claimed_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    consumed_at = models.DateTimeField(null=True)
    """When the grant was used up by an effect going in flight; at most once."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "step_path", "ordinal"], name="one_request_per_question")
        ]
        indexes = [models.Index(fields=["workspace", "state", "created_at"], name="request_queue")]

    def __str__(self) -> str:
        return self.title

    @property
    def is_pending(self) -> bool:
        return self.state in PENDING

    @property
    def arguments(self) -> dict[str, Any]:
        """The action as it stands: edited if somebody edited it."""
        return self.proposal if self.final is None else self.final


class Decision(models.Model):
    """One answer; append-only. The first decisive one stands."""

    id = models.BigAutoField(primary_key=True)
    request = models.ForeignKey(ApprovalRequest, on_delete=models.CASCADE, related_name="decisions")
    at = models.DateTimeField(default=now)
    user = models.ForeignKey("workspaces.User", null=True, on_delete=models.SET_NULL, related_name="+")
    actor_label = models.CharField(max_length=254)
    verb = models.CharField(max_length=20)
    reason = models.TextField(blank=True, default="")
    comment = models.TextField(blank=True, default="")
    edits = PayloadField(null=True)
    """What the person changed, as given; for an answer, the answer."""
    shown_hash = models.CharField(max_length=64)
    """Hash of the arguments the person was shown."""
    final_hash = models.CharField(max_length=64)
    revision = models.IntegerField()
    channel = models.CharField(max_length=12, default="web")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.verb} by {self.actor_label}"
