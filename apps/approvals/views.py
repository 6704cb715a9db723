"""The shape of an approval request for the API, the command line and the pages."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from apps.approvals.core.quorum import Tally, evaluate, rules_from
from apps.approvals.core.states import RequestState
from apps.approvals.models import ApprovalRequest, Decision
from mirrorneuron.base.clock import now

CLAIM_LASTS = timedelta(minutes=30)


def request_view(request: ApprovalRequest, tally: Tally | None = None) -> dict[str, Any]:
    """One request as JSON-ready values.

    tally: how far the quorum is; without it `have` is 0 while the request is pending.
    """
    at = now()
    claimed = holds_claim(request, at)
    state = RequestState.OPEN if request.state == RequestState.CLAIMED and not claimed else request.state
    counted = tally or evaluate(rules_from(request.quorum), ())
    return {
        "id": str(request.id),
        "run": str(request.run_id),
        "blueprint": request.run.blueprint_name,
        "version": request.run.version.number,
        "step": request.step_path,
        "state": str(state),
        "revision": request.revision,
        "title": request.title,
        "tool": request.tool,
        "effect": request.effect_summary,
        "proposal": request.proposal,
        "arguments": request.arguments,
        "final": request.final,
        "action_hash": request.action_hash,
        "evidence": request.evidence,
        "labels": request.labels,
        "assign": request.assign,
        "quorum": [
            {"count": s.rule.count, "of": s.rule.of, "have": s.have, "met": s.is_met} for s in counted.rules
        ],
        "verbs": request.verbs if request.is_pending else [],
        "answer_schema": request.answer_schema,
        "round": request.round,
        "previous": request.previous,
        "feedback": request.feedback,
        "created_at": stamp(request.created_at),
        "due_at": stamp(request.due_at),
        "overdue": bool(request.is_pending and request.due_at and request.due_at <= at),
        "timeout_action": request.timeout_action,
        "claimed_by": request.claimed_by.email if claimed and request.claimed_by else None,
        "claimed_until": stamp(request.claimed_at + CLAIM_LASTS) if claimed and request.claimed_at else None,
        "decided_at": stamp(request.decided_at),
        "decisions": [decision_view(decision) for decision in request.decisions.all()],
    }


def decision_view(decision: Decision) -> dict[str, Any]:
    return {
        "at": stamp(decision.at),
        "by": decision.actor_label,
        "verb": decision.verb,
        "reason": decision.reason,
        "comment": decision.comment,
        "edits": decision.edits,
        "revision": decision.revision,
        "shown_hash": decision.shown_hash,
        "final_hash": decision.final_hash,
        "channel": decision.channel,
    }


def holds_claim(request: ApprovalRequest, at: datetime) -> bool:
    """Whether somebody's claim still stands; it lapses by itself, nobody has to clean up."""
    return bool(
        request.state == RequestState.CLAIMED
        and request.claimed_by_id
        and request.claimed_at
        and at < request.claimed_at + CLAIM_LASTS
    )


def stamp(at: datetime | None) -> str | None:
    """RFC 3339 in UTC with a Z, milliseconds kept."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
