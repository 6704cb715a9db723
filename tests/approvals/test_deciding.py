"""What a decision does, and what it never does twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.approvals import selectors, services
from apps.approvals.errors import (
    AlreadyDecided,
    AnswerInvalid,
    NotYours,
    RequestClosed,
    RequestNotFound,
    StaleRevision,
)
from apps.approvals.models import ApprovalRequest, Decision
from apps.approvals.services import action_hash
from apps.approvals.views import request_view
from apps.ledger import selectors as ledger
from apps.runs.ports import desk
from apps.runs.services import cancel_run
from apps.workspaces.access import Principal
from apps.workspaces.models import AuditEntry, Membership, User, Workspace
from mirrorneuron.base.errors import Forbidden
from tests.approvals.conftest import PROPOSAL, Ask, step_of
from tests.runs.engine import work_all

PrincipalOf = Callable[..., Principal]


def entries(request: ApprovalRequest, kind: str) -> list[dict[str, Any]]:
    return [e.data for e in ledger.entries(request.run_id, kinds=[kind])]


def test_the_question_shows_the_exact_action_and_binds_to_its_hash(ask: Ask) -> None:
    request = ask(proposes="send", show=["draft"], due=3600)
    assert request.proposal == PROPOSAL and request.tool == "mail"
    assert request.action_hash == action_hash("mail", PROPOSAL)
    assert request.evidence == [{"step": "draft", "title": "draft", "output": {"text": "drafted in round 1"}}]
    assert request.verbs == ["approve", "reject"]
    assert request.due_at is not None and request.timeout_action == "pause"
    assert request.effect_summary
    assert len(entries(request, "approval.requested")) == 1


def test_an_approval_ends_the_step_with_exactly_the_arguments(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    request = ask(proposes="send")
    decided = services.decide(principal(alice), request.id, verb="approve")
    assert decided.state == "approved" and decided.final == PROPOSAL
    step = step_of(request)
    assert (step.status, step.port, step.output) == ("succeeded", "approved", PROPOSAL)
    assert step_of(request, "send").status == "ready"
    assert entries(request, "approval.decided")[0]["by"] == "alice@example.com"
    assert AuditEntry.objects.filter(action="approval.approve", target=str(request.id)).count() == 1


def test_a_double_click_changes_nothing(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask(proposes="send")
    edits = {"body": "Dear Ada, edited."}
    first = services.decide(principal(alice), request.id, verb="approve", edits=edits, if_revision=1)
    again = services.decide(principal(alice), request.id, verb="approve", edits=edits, if_revision=1)
    assert (again.state, again.final, again.decided_at) == (first.state, first.final, first.decided_at)
    assert Decision.objects.count() == 1
    assert len(entries(request, "approval.decided")) == 1


def test_a_second_decision_names_the_winner(ask: Ask, alice: User, bob: User, principal: PrincipalOf) -> None:
    request = ask()
    services.decide(principal(bob), request.id, verb="reject", reason="Wrong customer")
    for late in (
        lambda: services.decide(principal(alice), request.id, verb="approve"),
        lambda: services.decide(principal(bob), request.id, verb="approve"),
        lambda: services.decide(principal(alice), request.id, verb="reject", reason="Wrong customer"),
        lambda: services.claim(principal(alice), request.id),
    ):
        with pytest.raises(AlreadyDecided) as caught:
            late()
        assert "rejected by bob@example.com" in caught.value.message
        assert "Wrong customer" in caught.value.message
        assert caught.value.attributes["winner"]["verb"] == "reject"
    assert step_of(request).port == "rejected"


def test_a_rejection_needs_a_reason_and_hands_it_on(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask()
    with pytest.raises(AnswerInvalid) as caught:
        services.decide(principal(alice), request.id, verb="reject", reason="  ")
    assert "reason" in caught.value.fields
    services.decide(principal(alice), request.id, verb="reject", reason="Too early")
    work_all()
    assert step_of(request, "stopped").output == {"reason": "Too early", "proposal": PROPOSAL}
    assert step_of(request, "send").status == "skipped"


def test_an_edit_is_typed_checked_and_keeps_the_original(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    request = ask(proposes="send")
    with pytest.raises(AnswerInvalid) as caught:
        services.decide(
            principal(alice), request.id, verb="approve", edits={"copies": "2", "to": "", "cc": "x"}
        )
    assert set(caught.value.fields) >= {"copies", "to"}
    request.refresh_from_db()
    assert request.state == "open" and not Decision.objects.exists()

    decided = services.decide(principal(alice), request.id, verb="approve", edits={"copies": 2})
    final = PROPOSAL | {"copies": 2}
    assert decided.proposal == PROPOSAL and decided.final == final
    assert decided.revision == 2 and decided.action_hash == action_hash("mail", final)
    decision = decided.decisions.get()
    assert (decision.shown_hash, decision.final_hash) == (action_hash("mail", PROPOSAL), decided.action_hash)
    assert step_of(request).output == final
    assert step_of(request).labels == [f"user:{alice.id}"]
    assert entries(request, "approval.decided")[0]["edited"] == ["copies"]


def test_a_proposal_that_cannot_run_cannot_be_approved_as_it_is(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    request = ask(proposes="send", proposal={"to": "", "body": "Hello"})
    with pytest.raises(AnswerInvalid):
        services.decide(principal(alice), request.id, verb="approve")
    decided = services.decide(principal(alice), request.id, verb="approve", edits={"to": "ada@example.com"})
    assert decided.state == "approved"


def test_the_nodes_own_schema_binds_edits(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    schema = {"type": "object", "properties": {"copies": {"type": "integer", "maximum": 1}}}
    request = ask(schema=schema)
    with pytest.raises(AnswerInvalid) as caught:
        services.decide(principal(alice), request.id, verb="approve", edits={"copies": 2})
    assert "copies" in caught.value.fields


def test_changes_open_another_round_with_the_feedback_and_a_diff(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    back = [{"from": "ask.changes", "to": "draft", "max_rounds": 2}]
    request = ask(edges=back, proposal={"body": "{{ steps.draft.output.text }}"})
    assert "request_changes" in request.verbs
    with pytest.raises(AnswerInvalid):
        services.decide(principal(alice), request.id, verb="request_changes")
    services.decide(principal(alice), request.id, verb="request_changes", reason="Friendlier, please")
    work_all()
    second = ApprovalRequest.objects.get(run_id=request.run_id, round=2)
    assert second.step_path == "ask[2]" and second.feedback == "Friendlier, please"
    assert second.previous == {"body": "drafted in round 1"}
    assert "request_changes" not in second.verbs
    change = selectors.card(second, principal(alice))["diff"][0]
    assert change["path"] == "body" and change["kind"] == "changed"
    assert [p["text"] for p in change["parts"] if p["op"] == "added"] == ["2"]


def test_an_answer_is_taken_only_where_declared_and_only_if_it_fits(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    plain = ask()
    with pytest.raises(AnswerInvalid) as caught:
        services.decide(principal(alice), plain.id, verb="answer", edits={"x": 1})
    assert "verb" in caught.value.fields
    schema = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}}}
    request = ask(verbs=["answer"], schema=schema)
    with pytest.raises(AnswerInvalid):
        services.decide(principal(alice), request.id, verb="answer", edits={"price": "12"})
    services.decide(principal(alice), request.id, verb="answer", edits={"price": 12})
    step = step_of(request)
    assert (step.port, step.output) == ("answered", {"price": 12})


def test_a_stale_revision_is_refused(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask()
    with pytest.raises(StaleRevision):
        services.decide(principal(alice), request.id, verb="approve", if_revision=7)
    assert services.decide(principal(alice), request.id, verb="approve", if_revision=1).state == "approved"


# --- quorum -------------------------------------------------------------------------------------------------


@pytest.fixture
def team(workspace: Workspace) -> dict[str, User]:
    people = {}
    for name, groups in {
        "fay": ["finance"],
        "finn": ["finance"],
        "lee": ["legal"],
        "flo": ["finance", "legal"],
    }.items():
        user = User.objects.create_user(f"{name}@example.com")
        Membership.objects.create(workspace=workspace, user=user, roles=["approver"], groups=groups)
        people[name] = user
    return people


QUORUM = [{"count": 2, "of": "finance"}, {"count": 1, "of": "legal"}]


def test_two_of_finance_and_one_of_legal_must_agree(
    ask: Ask, team: dict[str, User], principal: PrincipalOf
) -> None:
    request = ask(quorum=QUORUM)
    for name, state in [("fay", "open"), ("fay", "open"), ("flo", "open"), ("finn", "approved")]:
        assert services.decide(principal(team[name]), request.id, verb="approve").state == state
    assert len(entries(request, "approval.counted")) == 2
    assert Decision.objects.count() == 3


def test_an_edit_voids_what_others_approved_before(
    ask: Ask, team: dict[str, User], principal: PrincipalOf
) -> None:
    request = ask(quorum=[{"count": 2, "of": "finance"}])
    services.decide(principal(team["fay"]), request.id, verb="approve")
    edited = services.decide(principal(team["finn"]), request.id, verb="approve", edits={"copies": 5})
    assert (edited.state, edited.revision) == ("open", 2)
    with pytest.raises(StaleRevision) as caught:
        services.decide(principal(team["flo"]), request.id, verb="approve", if_revision=1)
    assert "finn@example.com edited it" in caught.value.message
    done = services.decide(principal(team["fay"]), request.id, verb="approve", if_revision=2)
    assert done.state == "approved" and done.final == PROPOSAL | {"copies": 5}


def test_one_rejection_ends_a_quorum(ask: Ask, team: dict[str, User], principal: PrincipalOf) -> None:
    request = ask(quorum=QUORUM)
    services.decide(principal(team["fay"]), request.id, verb="approve")
    assert services.decide(principal(team["lee"]), request.id, verb="reject", reason="No").state == "rejected"


def test_an_approval_that_would_not_count_is_refused(
    ask: Ask, bob: User, team: dict[str, User], principal: PrincipalOf
) -> None:
    request = ask(quorum=QUORUM)
    with pytest.raises(NotYours):
        services.decide(principal(bob), request.id, verb="approve")
    with pytest.raises(NotYours):
        services.decide(principal(bob), request.id, verb="reject", reason="no")
    assigned = ask(assign={"users": ["bob@example.com"]}, quorum=QUORUM)
    with pytest.raises(NotYours) as caught:
        services.decide(principal(bob), assigned.id, verb="approve")
    assert "2 of finance" in caught.value.message


def test_owners_stand_in_for_a_group_without_members_only(
    ask: Ask, alice: User, team: dict[str, User], principal: PrincipalOf
) -> None:
    empty = ask(assign={"groups": ["press"]}, quorum=[{"count": 1, "of": "press"}])
    assert services.decide(principal(alice), empty.id, verb="approve").state == "approved"
    held = ask(assign={"groups": ["legal"]}, quorum=[{"count": 1, "of": "legal"}])
    with pytest.raises(NotYours):
        services.decide(principal(alice), held.id, verb="approve")


# --- people and closed questions ----------------------------------------------------------------------------


def test_a_stranger_finds_nothing(ask: Ask, charlie: User, principal: PrincipalOf) -> None:
    request = ask()
    for call in (
        lambda: services.decide(principal(charlie), request.id, verb="approve"),
        lambda: services.claim(principal(charlie), request.id),
        lambda: services.release(principal(charlie), request.id),
        lambda: services.assign(principal(charlie), request.id, users=["alice@example.com"]),
        lambda: selectors.request_for(principal(charlie), "not-an-id"),
    ):
        with pytest.raises(RequestNotFound):
            call()
    assert selectors.inbox_count(principal(charlie)) == 0


def test_a_viewer_sees_and_may_not_decide(ask: Ask, workspace: Workspace, principal: PrincipalOf) -> None:
    request = ask()
    vera = User.objects.create_user("vera@example.com")
    Membership.objects.create(workspace=workspace, user=vera, roles=["viewer"])
    assert selectors.request_for(principal(vera), request.id) == request
    assert selectors.card(request, principal(vera))["may_decide"] is False
    for call in (
        lambda: services.decide(principal(vera), request.id, verb="approve"),
        lambda: services.claim(principal(vera), request.id),
        lambda: services.assign(principal(vera), request.id, users=["vera@example.com"]),
    ):
        with pytest.raises(Forbidden):
            call()


def test_a_question_for_a_group_is_not_for_others(
    ask: Ask, bob: User, team: dict[str, User], principal: PrincipalOf
) -> None:
    request = ask(assign={"groups": ["legal"]})
    with pytest.raises(NotYours):
        services.decide(principal(bob), request.id, verb="approve")
    assert not selectors.requests_for(principal(bob), mine=True).exists()
    assert selectors.requests_for(principal(team["lee"]), mine=True).get() == request


def test_an_expired_question_says_so(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask(
        due=60, document={"contract": {"human_checkpoints": [{"step": "ask", "timeout_action": "reject"}]}}
    )
    assert desk().expire(run_id=request.run_id, step_path="ask") == "reject"
    with pytest.raises(RequestClosed) as caught:
        services.decide(principal(alice), request.id, verb="approve")
    assert caught.value.attributes["state"] == "expired" and "expired" in caught.value.message
    assert not Decision.objects.exists()


@pytest.mark.parametrize(
    ("action", "told"), [("pause", "pause"), ("remind", "remind"), ("escalate", "remind")]
)
def test_no_clock_ever_approves(
    ask: Ask, alice: User, principal: PrincipalOf, action: str, told: str
) -> None:
    checkpoint = {"contract": {"human_checkpoints": [{"step": "ask", "timeout_action": action}]}}
    request = ask(due=60, assign={"groups": ["sales"]}, document=checkpoint)
    assert desk().expire(run_id=request.run_id, step_path="ask") == told
    assert services.decide(principal(alice), request.id, verb="approve").state == "approved"


def test_a_cancelled_run_withdraws_its_questions(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask()
    cancel_run(principal(alice), request.run_id, reason="Not needed")
    work_all()
    assert selectors.inbox_count(principal(alice)) == 0
    with pytest.raises(RequestClosed) as caught:
        services.decide(principal(alice), request.id, verb="approve")
    assert caught.value.attributes["state"] == "cancelled"
    assert not Decision.objects.exists()


# --- the desk -----------------------------------------------------------------------------------------------


def test_a_grant_holds_for_the_exact_action_and_is_used_once(
    ask: Ask, alice: User, principal: PrincipalOf
) -> None:
    request = ask(proposes="send")
    asked = {"run_id": request.run_id, "tool": "mail"}
    assert desk().grant(**asked, fingerprint=request.action_hash) is None
    services.decide(principal(alice), request.id, verb="approve", edits={"copies": 3})
    assert desk().grant(**asked, fingerprint=request.action_hash) is None
    grant = desk().grant(**asked, fingerprint=action_hash("mail", PROPOSAL | {"copies": 3}))
    assert grant is not None and grant["by"] == ["alice@example.com"]
    assert desk().consume(request_id=grant["request"]) is True
    assert desk().consume(request_id=grant["request"]) is False
    assert desk().grant(**asked, fingerprint=action_hash("mail", PROPOSAL | {"copies": 3})) is None


def test_no_step_waits_for_a_question_nobody_asked(ask: Ask) -> None:
    request = ask()
    assert desk().missing_requests(limit=5) == []
    ApprovalRequest.objects.filter(id=request.id).update(state="expired")
    assert desk().missing_requests(limit=5) == [(request.run_id, "ask")]


def test_a_pause_moves_the_due_date(ask: Ask) -> None:
    request = ask(due=60)
    desk().shift(run_id=request.run_id, seconds=30)
    moved = ApprovalRequest.objects.get(id=request.id)
    assert moved.due_at and request.due_at
    assert (moved.due_at - request.due_at).total_seconds() == 30


def test_an_approval_costs_ten_statements(ask: Ask, alice: User, principal: PrincipalOf) -> None:
    request = ask(proposes="send")
    person = principal(alice)
    with CaptureQueriesContext(connection) as queries:
        services.decide(person, request.id, verb="approve")
    said = [q["sql"] for q in queries]
    # To find its run, and under the run's lock; its decisions only once.
    assert len([sql for sql in said if 'FROM "approvals_approvalrequest"' in sql]) == 2
    assert len([sql for sql in said if '"approvals_decision"' in sql and sql.startswith("SELECT")]) == 1
    if connection.vendor == "postgresql":
        # Its run, BEGIN, the run under its lock, its steps, the question with its decisions, who may decide,
        # the question, the decision with its audit entry, one write, COMMIT.
        assert len(said) == 10, said


def test_what_a_decision_returns_is_what_is_stored(
    ask: Ask, alice: User, bob: User, principal: PrincipalOf
) -> None:
    """It is not read again, so it has to be told the same."""
    quorum = [{"count": 2}]
    asked = [(ask(), {"verb": "approve"}), (ask(), {"verb": "reject", "reason": "No."})]
    asked += [(ask(quorum=quorum), {"verb": "approve", "edits": {"copies": 2}})]
    for request, given in asked:
        decided = services.decide(principal(alice), request.id, **given)
        assert request_view(decided) == request_view(selectors.request_for(principal(bob), request.id))
