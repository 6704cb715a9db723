"""Everything people do to a question: decide, claim, release, assign.

A decision, the step it resumes and the ledger entries are one transaction under the run's lock, so that of
two rivals exactly one decides and a crash leaves either nothing or everything. What ran before is not
touched: an approval node ends with the approved arguments as its output, any other step wakes and goes on
from its journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from apps.approvals import selectors
from apps.approvals.core import edits as edit
from apps.approvals.core.quorum import Person, counts_for, is_asked, rules_from
from apps.approvals.core.states import PENDING, RequestState, Verb
from apps.approvals.core.verbs import PORT_OF, STATE_OF
from apps.approvals.errors import (
    AlreadyDecided,
    AnswerInvalid,
    ClaimedByOther,
    NotYours,
    RequestClosed,
    StaleRevision,
)
from apps.approvals.models import ApprovalRequest, Decision
from apps.approvals.people import People, groups_named, in_words, person_of
from apps.approvals.views import CLAIM_LASTS, holds_claim
from apps.blueprints.ports import describe_call
from apps.ledger import live
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.runs import store
from apps.runs.inline import go_on, going_on
from apps.runs.payloads import keep
from apps.runs.services import locked_run
from apps.runs.transact import RunTransaction
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.base.safejson import canonical, fingerprint, storable

REPEAT_ORDINAL = 1000
"""From this ordinal on the engine asks whether an apparent duplicate is meant (`apps.runs.effects`)."""
ADDRESS_FIELDS = frozenset({"to", "cc", "bcc"})
ADDRESS_HINT = "Write an e-mail address such as ann@example.com."
NEEDS_REASON = frozenset({Verb.REJECT, Verb.REQUEST_CHANGES})


def action_hash(tool: str, arguments: Any) -> str:
    """What an approval is bound to: the tool and its exact arguments."""
    return fingerprint({"tool": tool, "arguments": arguments})


@dataclass(frozen=True)
class _Answer:
    """One person's answer, as given."""

    principal: Principal
    verb: Verb
    edits: Any
    reason: str
    comment: str

    def is_same_as(self, decision: Decision) -> bool:
        return (
            decision.user_id == self.principal.user.id
            and decision.verb == self.verb
            and decision.reason == self.reason
            and canonical(decision.edits) == canonical(self.edits)
        )


@going_on
def decide(
    principal: Principal,
    request_id: str | UUID,
    *,
    verb: str,
    edits: Any = None,
    reason: str = "",
    comment: str = "",
    if_revision: int | None = None,
) -> ApprovalRequest:
    """Answer a question; the first decision stands.

    edits: for `approve` a JSON merge patch over the arguments; for `answer` the answer itself.
    reason: required to reject and to request changes; it becomes part of the step's output.
    if_revision: the revision the person saw; another one now means somebody has edited the action.
    An answer this person gave before, repeated, changes nothing and gives the same result. With a quorum the
    request stays open until enough people approved the same revision; one rejection ends it.
    Raises RequestNotFound, Forbidden, NotYours, AnswerInvalid (the request stays open), StaleRevision,
    ClaimedByOther, AlreadyDecided with the winner, RequestClosed when it expired or was cancelled.
    """
    run_id = selectors.run_asking(principal, request_id)
    principal.require(Permission.DECIDE)
    answer = _Answer(
        principal, _verb(verb), None if edits == {} else storable(edits), _text(reason), _text(comment)
    )
    with locked_run(run_id) as tx:
        # Under the run's lock: every decision and every closing of a request holds it.
        request, earlier = selectors.request_of(tx.run, request_id)
        if any(map(answer.is_same_as, earlier)) and _stands(request, answer, earlier):
            return request
        if not request.is_pending:
            raise _too_late(request)
        people = People(request.workspace_id)
        _check_person(answer, request, people)
        _check_revision(request, if_revision)
        _check_verb(answer, request)
        if answer.verb is Verb.APPROVE:
            _approve(tx, request, answer, people, earlier)
        else:
            _close(tx, request, answer)
        go_on(tx)
    return request


def _text(given: str) -> str:
    return str(storable(given.strip()))


def _stands(request: ApprovalRequest, answer: _Answer, earlier: list[Decision]) -> bool:
    """Whether this answer, given before, is still part of how the request stands."""
    if not request.is_pending:
        return request.state == STATE_OF[answer.verb]
    last = [d for d in earlier if d.user_id == answer.principal.user.id][-1]
    return answer.is_same_as(last) and last.revision == request.revision


# --- the answers --------------------------------------------------------------------------------------------


def _approve(
    tx: RunTransaction, request: ApprovalRequest, answer: _Answer, people: People, earlier: list[Decision]
) -> None:
    before = request.arguments
    final = before if answer.edits is None else edit.merge(before, answer.edits)
    _check_arguments(request, before, final)
    changed = edit.changed_fields(before, final)
    shown = request.action_hash
    if changed:
        _revise(request, final, changed, answer.principal)
    decision = _decision(request, answer, shown)
    tally = selectors.tally_of(request, people, [*earlier, decision])
    edited = {"edited": changed} if changed else {}
    if not tally.is_met:
        _save(request, state=RequestState.OPEN, claimed_by_id=None, claimed_at=None)
        _record(tx, "approval.counted", request, decision, answer, **edited, missing=tally.missing)
        return
    kept = keep(request.workspace_id, request.run_id, final)
    _save(request, state=RequestState.APPROVED, decided_at=now(), final=kept)
    _record(tx, "approval.decided", request, decision, answer, **edited)
    labels = sorted({label for name in final for label in request.labels.get(name, ())})
    _resume(tx, request, answer, final, labels)


def _close(tx: RunTransaction, request: ApprovalRequest, answer: _Answer) -> None:
    """Reject, request changes, or answer: one person is enough."""
    output: Any
    by = f"user:{answer.principal.user.id}"
    labels = sorted({by, *(label for given in request.labels.values() for label in given)})
    if answer.verb is Verb.ANSWER:
        output, labels = _answered(request, answer), [by]
    elif answer.verb is Verb.REQUEST_CHANGES:
        output = {"feedback": answer.reason, "proposal": request.arguments}
    else:
        output = {"reason": answer.reason, "proposal": request.arguments}
    decision = _decision(request, answer, request.action_hash)
    changes: dict[str, Any] = {"state": STATE_OF[answer.verb], "decided_at": now()}
    if answer.verb is Verb.ANSWER:
        changes["final"] = None
    _save(request, **changes)
    _record(tx, "approval.decided", request, decision, answer)
    _resume(tx, request, answer, output, labels)


def _resume(
    tx: RunTransaction, request: ApprovalRequest, answer: _Answer, output: Any, labels: list[str]
) -> None:
    """Let the step go on: an approval node is done, another kind of step wakes with the decision."""
    if tx.step(request.step_path).kind == "approval":
        tx.complete_step(request.step_path, output, PORT_OF[answer.verb], tuple(labels))
        return
    if answer.verb is Verb.REJECT:
        # What was only intended will never leave.
        _intended(request, request.action_hash).update(
            state=EffectState.FAILED,
            resolution={
                "outcome": "rejected",
                "by": answer.principal.label,
                "reason": answer.reason,
                "at": now().isoformat(),
            },
        )
    tx.wake_step(
        request.step_path,
        memo={
            "decision": {
                "request": str(request.id),
                "ordinal": request.ordinal,
                "verb": str(answer.verb),
                "state": str(request.state),
                "tool": request.tool,
                "final": output if answer.verb is Verb.APPROVE else None,
                "output": output,
                "reason": answer.reason,
                "by": answer.principal.label,
                "at": now().isoformat(),
                "labels": labels,
                "duplicate": request.ordinal >= REPEAT_ORDINAL,
            }
        },
    )


def _revise(request: ApprovalRequest, final: dict[str, Any], changed: list[str], by: Principal) -> None:
    """A new revision: what others approved before is void, and an intended effect takes the new arguments."""
    replaced = request.action_hash
    request.revision += 1
    request.final = keep(request.workspace_id, request.run_id, final)
    request.action_hash = action_hash(request.tool, request.final)
    if request.tool:
        document, _ = selectors.node_of(request)
        said = describe_call(document, request.tool, request.final)
        request.effect_summary = said or request.effect_summary
    edited = {name: [f"user:{by.user.id}"] for name in changed if name in final}
    request.labels = {name: kept for name, kept in request.labels.items() if name in final} | edited
    intended = keep(request.workspace_id, request.run_id, final, outlives=True)
    _intended(request, replaced).update(fingerprint=request.action_hash, arguments=intended)
    _save(
        request,
        revision=request.revision,
        final=keep(request.workspace_id, request.run_id, final),
        action_hash=request.action_hash,
        labels=request.labels,
        effect_summary=request.effect_summary,
    )


def _intended(request: ApprovalRequest, fingerprint: str) -> QuerySet[Effect]:
    """The effect this question is about, while it is only an intent (ENGINE rule 31)."""
    return Effect.objects.filter(
        run_id=request.run_id,
        step_path=request.step_path,
        state=EffectState.INTENT,
        fingerprint=fingerprint,
    )


def _answered(request: ApprovalRequest, answer: _Answer) -> Any:
    given, is_text = answer.edits, (request.answer_schema or {}).get("type") == "string"
    if given is None and answer.comment:
        given = answer.comment if is_text else {"answer": answer.comment}
    if given is None:
        raise AnswerInvalid(
            "An answer needs its content.",
            fields={"edits": "The answer, in the shape the question asks for."},
            next="Give the answer and send it again; the question stays open.",
        )
    wrong = edit.problems(given, request.answer_schema)
    if wrong:
        raise _invalid("The answer cannot be used as it is.", wrong)
    return given


# --- what is checked ----------------------------------------------------------------------------------------


def _verb(verb: str) -> Verb:
    try:
        return Verb(verb)
    except ValueError:
        raise AnswerInvalid(
            f"There is no verb {verb!r}.",
            fields={"verb": f"One of {', '.join(Verb)}."},
            next="Choose one of them.",
        ) from None


def _check_person(answer: _Answer, request: ApprovalRequest, people: People) -> None:
    person = _asked(answer.principal, request, people)
    rules = rules_from(request.quorum)
    if answer.verb is Verb.APPROVE and not counts_for(person, rules):
        raise NotYours(
            f"An approval by {answer.principal.label} would not count: this needs "
            f"{' and '.join(rule.text for rule in rules)}.",
            next="Ask somebody of that group, or reject or comment instead.",
        )
    if holds_claim(request, now()) and request.claimed_by_id != answer.principal.user.id:
        raise _claimed(request)


def _asked(principal: Principal, request: ApprovalRequest, people: People) -> Person:
    person = person_of(principal, request, people)
    if person is None or not is_asked(person, request.assign, rules_from(request.quorum)):
        users = request.assign.get("users") or []
        raise NotYours(
            f"{request.title!r} is for {in_words([*groups_named(request), *users])}, "
            f"and {principal.label} is not among them.",
            next="Ask one of them, or let an operator assign it to you.",
        )
    return person


def _check_revision(request: ApprovalRequest, if_revision: int | None) -> None:
    if if_revision is not None and if_revision != request.revision:
        editor = next(
            (d for d in reversed(list(request.decisions.all())) if d.shown_hash != d.final_hash), None
        )
        who = f"{editor.actor_label} edited it" if editor else "it was asked again with other content"
        raise StaleRevision(
            f"You saw revision {if_revision}; the request is at revision {request.revision}, because {who}.",
            next="Look at the request again and decide on what it says now.",
            revision=request.revision,
        )


def _check_verb(answer: _Answer, request: ApprovalRequest) -> None:
    if answer.verb not in request.verbs:
        raise AnswerInvalid(
            f"This question does not offer {answer.verb.value!r}.",
            fields={"verb": f"One of {', '.join(request.verbs)}."},
            next="Choose one of the verbs it offers.",
        )
    if answer.verb in NEEDS_REASON:
        if not answer.reason:
            what = "what to change" if answer.verb is Verb.REQUEST_CHANGES else "why not"
            raise AnswerInvalid(
                "A reason is needed.",
                fields={"reason": f"Say {what}."},
                next="Give a reason and send it again.",
            )
        if answer.edits is not None:
            raise AnswerInvalid(
                "Edits belong to an approval.",
                fields={"edits": "Leave them out, or approve with them."},
                next="Decide which of both you mean.",
            )


def _check_arguments(request: ApprovalRequest, before: dict[str, Any], final: Any) -> None:
    """What is approved must be usable: the run never fails because of a wrong answer."""
    wrong: dict[str, str] = {}
    for schema in selectors.argument_schemas(request) or [{}]:
        wrong = edit.edit_problems(before, final, schema) | wrong
    if wrong:
        raise _invalid(f"{request.title!r} cannot be approved like this.", wrong)
    if request.tool:
        document, _ = selectors.node_of(request)
        try:
            describe_call(document, request.tool, final)
        except MirrorNeuronError as refused:
            # What the tool would refuse when it runs is told while it can still be mended.
            raise AnswerInvalid(
                f"{request.title!r} cannot be approved like this. {refused.message}",
                fields={
                    name: ADDRESS_HINT if name in ADDRESS_FIELDS else text
                    for name, text in refused.fields.items()
                },
                next="Correct the fields and send it again; the question stays open.",
            ) from refused


def _invalid(message: str, wrong: dict[str, str]) -> AnswerInvalid:
    return AnswerInvalid(
        f"{message} " + " ".join(f"{path or 'value'} {text}." for path, text in list(wrong.items())[:5]),
        fields=wrong,
        next="Correct the fields and send it again; the question stays open.",
    )


def _too_late(request: ApprovalRequest) -> AlreadyDecided | RequestClosed:
    """The truth for a late click: who, when, what; or why nobody decided."""
    at = f"{request.decided_at:%Y-%m-%d %H:%M} UTC" if request.decided_at else "earlier"
    last = request.decisions.last()
    if request.state in {*STATE_OF.values()} and last is not None:
        did = {
            RequestState.APPROVED: "approved",
            RequestState.REJECTED: "rejected",
            RequestState.CHANGES_REQUESTED: "sent back for changes",
            RequestState.ANSWERED: "answered",
        }[RequestState(request.state)]
        edited = " with edits" if last.edits and last.verb == Verb.APPROVE else ""
        return AlreadyDecided(
            f"Already {did}{edited} by {last.actor_label} on {at}"
            + (f": {last.reason}" if last.reason else "."),
            next="Nothing was changed by you; see the run for what happened since.",
            state=request.state,
            winner={
                "verb": last.verb,
                "by": last.actor_label,
                "at": last.at.isoformat(),
                "reason": last.reason,
            },
        )
    why = {
        RequestState.EXPIRED: f"The question expired on {at}; nobody had decided in time.",
        RequestState.CANCELLED: f"The question was withdrawn on {at}, because its run or step was cancelled.",
        RequestState.SUPERSEDED: f"The question was replaced by a newer one on {at}.",
    }[RequestState(request.state)]
    return RequestClosed(
        why,
        next="Nothing was done by this click; see the run for how it went on.",
        state=request.state,
        at=at,
    )


def _claimed(request: ApprovalRequest) -> ClaimedByOther:
    assert request.claimed_at is not None
    who = request.claimed_by.email if request.claimed_by else "Somebody"
    until = request.claimed_at + CLAIM_LASTS
    return ClaimedByOther(
        f"{who} has claimed this until {until:%H:%M} UTC.",
        next="Ask them to release it, or wait until the claim lapses.",
        claimed_by=who,
        claimed_until=until.isoformat(),
    )


# --- what is written ----------------------------------------------------------------------------------------


def _decision(request: ApprovalRequest, answer: _Answer, shown_hash: str) -> Decision:
    return Decision(
        request=request,
        user=answer.principal.user,
        actor_label=answer.principal.label,
        verb=answer.verb,
        reason=answer.reason,
        comment=answer.comment,
        edits=None if answer.edits is None else keep(request.workspace_id, request.run_id, answer.edits),
        shown_hash=shown_hash,
        final_hash=request.action_hash,
        revision=request.revision,
        channel=answer.principal.channel,
    )


def _save(request: ApprovalRequest, **changes: Any) -> None:
    """Compare and set: only a pending request changes, whoever else was quicker."""
    if not store.change_if(ApprovalRequest, request.id, changes, "state", PENDING):
        raise _too_late(_fresh(request))
    for name, value in changes.items():
        setattr(request, name, value)


def _record(
    tx: RunTransaction, kind: str, request: ApprovalRequest, decision: Decision, answer: _Answer, **more: Any
) -> None:
    """The answer itself, the line in the run's history and the one in the audit log."""
    said = _said(request, answer) | more
    tx.entry(kind, request.step_path, said)
    audit(
        answer.principal,
        f"approval.{answer.verb}",
        str(request.id),
        said | {"run": str(request.run_id), "step": request.step_path},
        save=lambda entry: store.insert(decision, entry),
    )


def _said(request: ApprovalRequest, answer: _Answer) -> dict[str, Any]:
    return {
        "request": str(request.id),
        "verb": str(answer.verb),
        "state": str(request.state),
        "by": answer.principal.label,
        "channel": answer.principal.channel,
        "tool": request.tool,
        "action_hash": request.action_hash,
        "revision": request.revision,
        **({"reason": answer.reason} if answer.reason else {}),
    }


def _fresh(request: ApprovalRequest) -> ApprovalRequest:
    return ApprovalRequest.objects.select_related("run__version", "claimed_by").get(id=request.id)


# --- whose turn it is ---------------------------------------------------------------------------------------


def claim(principal: Principal, request_id: str | UUID) -> ApprovalRequest:
    """Say "I am at it": for 30 minutes nobody else can answer. Claiming again renews it.

    Raises RequestNotFound, Forbidden, NotYours, ClaimedByOther, AlreadyDecided, RequestClosed.
    """
    request = selectors.request_for(principal, request_id)
    principal.require(Permission.DECIDE)
    if not request.is_pending:
        raise _too_late(request)
    _asked(principal, request, People(request.workspace_id))
    at = now()
    with transaction.atomic():
        free = Q(claimed_by=None) | Q(claimed_by=principal.user) | Q(claimed_at__lte=at - CLAIM_LASTS)
        changed = ApprovalRequest.objects.filter(
            Q(state=RequestState.OPEN) | free, id=request.id, state__in=PENDING
        ).update(state=RequestState.CLAIMED, claimed_by=principal.user, claimed_at=at)
        if changed != 1:
            request = selectors.request_for(principal, request_id)
            raise _claimed(request) if request.is_pending else _too_late(request)
        audit(principal, "approval.claimed", str(request.id), {"run": str(request.run_id)})
    _tell(request)
    return selectors.request_for(principal, request_id)


def release(principal: Principal, request_id: str | UUID) -> ApprovalRequest:
    """Give a claim back; an admin may give back anybody's. Releasing what nobody holds changes nothing.

    Raises RequestNotFound, Forbidden, ClaimedByOther, AlreadyDecided, RequestClosed.
    """
    request = selectors.request_for(principal, request_id)
    principal.require(Permission.DECIDE)
    if not request.is_pending:
        raise _too_late(request)
    if request.state != RequestState.CLAIMED:
        return request
    held = holds_claim(request, now())
    if held and request.claimed_by_id != principal.user.id and not principal.may(Permission.ADMINISTER):
        raise _claimed(request)
    with transaction.atomic():
        changed = ApprovalRequest.objects.filter(
            id=request.id, state=RequestState.CLAIMED, claimed_by=request.claimed_by
        ).update(state=RequestState.OPEN, claimed_by=None, claimed_at=None)
        if changed:
            audit(principal, "approval.released", str(request.id), {"run": str(request.run_id)})
    _tell(request)
    return selectors.request_for(principal, request_id)


def assign(
    principal: Principal, request_id: str | UUID, *, groups: Iterable[str] = (), users: Iterable[str] = ()
) -> ApprovalRequest:
    """Ask other people instead. The rules of the quorum stay as the blueprint says.

    groups: names of groups; users: e-mail addresses of members who may decide.
    Needs the operator's role, or to be asked oneself (handing it on). A claim is dropped.
    Raises RequestNotFound, Forbidden, NotYours, AnswerInvalid, AlreadyDecided, RequestClosed.
    """
    request = selectors.request_for(principal, request_id)
    people = People(request.workspace_id)
    if not principal.may(Permission.OPERATE):
        principal.require(Permission.DECIDE)
        _asked(principal, request, people)
    if not request.is_pending:
        raise _too_late(request)
    assigned = {
        "groups": sorted({g.strip() for g in groups if g.strip()}),
        "users": sorted({u.strip().lower() for u in users if u.strip()}),
    }
    _check_assignment(assigned, people)
    with transaction.atomic():
        changed = ApprovalRequest.objects.filter(id=request.id, state__in=PENDING).update(
            assign=assigned, state=RequestState.OPEN, claimed_by=None, claimed_at=None
        )
        if changed != 1:
            raise _too_late(selectors.request_for(principal, request_id))
        audit(
            principal,
            "approval.assigned",
            str(request.id),
            {"run": str(request.run_id), "from": request.assign, "to": assigned},
        )
    _tell(request)
    return selectors.request_for(principal, request_id)


def _check_assignment(assigned: dict[str, list[str]], people: People) -> None:
    wrong: dict[str, str] = {}
    if not assigned["groups"] and not assigned["users"]:
        wrong["groups"] = "Name at least one group or one person."
    strangers = [u for u in assigned["users"] if u not in people.emails()]
    if strangers:
        wrong["users"] = f"{', '.join(strangers)} may not decide in this workspace."
    empty = [g for g in assigned["groups"] if g not in people.groups()]
    if empty:
        wrong["groups"] = f"Nobody in this workspace is in {', '.join(empty)}."
    if wrong:
        raise AnswerInvalid(
            "The question cannot be assigned like this. " + " ".join(wrong.values()),
            fields=wrong,
            next="Choose groups with members, or people with the role approver.",
        )


def _tell(request: ApprovalRequest) -> None:
    groups = live.inbox_group(request.workspace_id), live.run_group(request.run_id)
    transaction.on_commit(lambda: live.announce(*groups))
