"""The desk as the engine sees it (`apps.runs.ports.ApprovalDesk`). Every call runs under the run's lock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef

from apps.approvals.core.states import PENDING, RequestState, Verb
from apps.approvals.models import ApprovalRequest
from apps.approvals.services import action_hash
from apps.runs.core.states import StepStatus, WaitReason
from apps.runs.models import Step
from apps.runs.payloads import keep
from apps.runs.ports import Question
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.safejson import storable


class Desk:
    def open(self, *, workspace_id: UUID, run_id: UUID, step_path: str, question: Question) -> UUID:
        """Create the request, or bring the one of this step and ordinal to what is asked now.

        Asked again with the same action, a pending request stays as it is. Another action is a new revision:
        what was approved before is void. A closed request is opened again, its decisions are kept.
        """
        same = {"run_id": run_id, "step_path": step_path, "ordinal": question.ordinal}
        proposal: Any = storable(question.proposal)
        asked = {
            "title": question.title,
            "tool": question.tool,
            "effect_summary": question.effect_summary,
            "proposal": keep(workspace_id, run_id, proposal),
            "action_hash": action_hash(question.tool, proposal),
            "evidence": keep(workspace_id, run_id, question.evidence),
            "labels": question.labels,
            "assign": question.assign,
            "quorum": question.quorum,
            "verbs": question.verbs,
            "answer_schema": question.answer_schema,
            "round": question.round,
            "due_at": question.due_at,
            "timeout_action": question.timeout_action,
            **_round_before(workspace_id, run_id, step_path, question),
        }
        try:
            with transaction.atomic():
                return ApprovalRequest.objects.create(workspace_id=workspace_id, **same, **asked).id
        except IntegrityError:
            known = ApprovalRequest.objects.get(**same)
        if known.is_pending and action_hash(known.tool, known.proposal) == asked["action_hash"]:
            return known.id
        ApprovalRequest.objects.filter(id=known.id).update(
            **asked,
            state=RequestState.OPEN,
            revision=known.revision + 1,
            final=None,
            claimed_by=None,
            claimed_at=None,
            decided_at=None,
            consumed_at=None,
        )
        return known.id

    def grant(self, *, run_id: UUID, tool: str, fingerprint: str) -> dict[str, Any] | None:
        """The oldest approval of exactly this action that nothing has used up yet."""
        request = (
            ApprovalRequest.objects.filter(
                run_id=run_id,
                tool=tool,
                action_hash=fingerprint,
                state=RequestState.APPROVED,
                consumed_at=None,
            )
            .order_by("decided_at")
            .first()
        )
        if request is None or request.decided_at is None:
            return None
        given = request.decisions.filter(verb=Verb.APPROVE, revision=request.revision)
        by = list(dict.fromkeys(given.values_list("actor_label", flat=True)))
        if not by:  # Only what people approved counts; a row without a decision is no grant.
            return None
        return {"request": str(request.id), "by": by, "at": request.decided_at.isoformat()}

    def consume(self, *, request_id: str) -> bool:
        """Use the grant up; the row count says who was first."""
        return (
            ApprovalRequest.objects.filter(
                id=request_id, state=RequestState.APPROVED, consumed_at=None
            ).update(consumed_at=now())
            == 1
        )

    def close_all(self, *, run_id: UUID, step_paths: list[str], state: str) -> None:
        """Withdraw pending requests, so that the inbox never shows what nobody waits for."""
        pending = ApprovalRequest.objects.filter(run_id=run_id, state__in=PENDING)
        if step_paths:
            pending = pending.filter(step_path__in=step_paths)
        pending.update(state=RequestState(state), decided_at=now())

    def shift(self, *, run_id: UUID, seconds: float) -> None:
        """Move due dates by the length of a pause (ENGINE rule 34)."""
        for request in ApprovalRequest.objects.filter(
            run_id=run_id, state__in=PENDING, due_at__isnull=False
        ).only("id", "due_at"):
            assert request.due_at is not None
            ApprovalRequest.objects.filter(id=request.id).update(
                due_at=request.due_at + timedelta(seconds=seconds)
            )

    def expire(self, *, run_id: UUID, step_path: str) -> str:
        """The due date has passed. Returns what the engine does now: pause, reject, edge or remind.

        Nothing is ever approved by a clock. Paused and reminded requests stay open and can still be decided;
        escalation opens the question to everybody who may decide, whose approvals still have to satisfy the
        quorum.
        """
        pending = ApprovalRequest.objects.filter(run_id=run_id, step_path=step_path, state__in=PENDING)
        request = pending.order_by("ordinal").first()
        if request is None:
            return "remind"
        action = request.timeout_action
        if action in ("reject", "edge"):
            pending.update(state=RequestState.EXPIRED, decided_at=now())
        elif action == "escalate":
            pending.update(assign={}, state=RequestState.OPEN, claimed_by=None, claimed_at=None)
        audit(
            None,
            "approval.due",
            str(request.id),
            {"run": str(run_id), "step": step_path, "action": action},
            workspace=request.workspace_id,
            label="due date",
        )
        return "remind" if action == "escalate" else action

    def missing_requests(self, *, limit: int = 100) -> list[tuple[UUID, str]]:
        """Steps that wait for a decision nobody is asked for (invariant I2): (run, path)."""
        asked = ApprovalRequest.objects.filter(
            run_id=OuterRef("run_id"), step_path=OuterRef("path"), state__in=PENDING
        )
        waiting = Step.objects.filter(status=StepStatus.WAITING, reason=WaitReason.APPROVAL)
        return list(waiting.filter(~Exists(asked)).order_by("id").values_list("run_id", "path")[:limit])


def _round_before(workspace_id: UUID, run_id: UUID, step_path: str, question: Question) -> dict[str, Any]:
    """The proposal and the feedback of the round before, for the diff on the card."""
    if question.round < 2:
        return {"previous": None, "feedback": ""}
    base = step_path.rpartition("[")[0] if step_path.endswith("]") else step_path
    earlier = base if question.round == 2 else f"{base}[{question.round - 1}]"
    before = ApprovalRequest.objects.filter(
        run_id=run_id, step_path=earlier, ordinal=question.ordinal
    ).first()
    if before is None:
        return {"previous": None, "feedback": ""}
    said = before.decisions.filter(verb=Verb.REQUEST_CHANGES).last()
    previous = keep(workspace_id, run_id, before.arguments)
    return {"previous": previous, "feedback": said.reason if said else ""}
