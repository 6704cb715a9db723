"""Reads of the inbox, each already access-checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet

from apps.approvals.core import diff, edits
from apps.approvals.core.quorum import Tally, evaluate, is_asked, rules_from
from apps.approvals.core.states import PENDING, RequestState, Verb
from apps.approvals.core.verbs import PORT_OF
from apps.approvals.errors import RequestNotFound
from apps.approvals.models import ApprovalRequest, Decision
from apps.approvals.people import People, person_of
from apps.approvals.views import request_view
from apps.blueprints import selectors as blueprints
from apps.blueprints.core.document import Document, Node
from apps.runs.models import Run
from apps.runs.plans import plan_for
from apps.runs.store import read_columns, read_with
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import as_uuid

LIGHT = ("run__inputs", "run__output", "run__version__document", "run__version__source")
"""Left in the database: a card needs none of them, and a version's document is kept in memory."""
STATES = ("open", "decided", "all", *RequestState)


def requests_for(
    principal: Principal, *, state: str = "open", mine: bool = False
) -> QuerySet[ApprovalRequest]:
    """The questions of a workspace, what is due first at the head, then the oldest.

    state: `open` (claimed ones included), `decided` (everything closed), `all`, or one exact state.
    mine: only those this person is asked to answer.
    Raises InvalidInput for an unknown state.
    """
    principal.require(Permission.READ)
    if state not in STATES:
        raise InvalidInput(
            f"There is no approval state {state!r}.",
            fields={"state": f"One of {', '.join(STATES)}."},
            next="Choose one of them.",
        )
    found = _rows().filter(workspace=principal.workspace)
    if state == "open":
        found = found.filter(state__in=PENDING)
    elif state == "decided":
        found = found.exclude(state__in=PENDING)
    elif state != "all":
        found = found.filter(state=state)
    if mine:
        people = People(principal.workspace.id)
        found = found.filter(id__in=[r.id for r in found if _asks(principal, r, people)])
    return found.prefetch_related("decisions__user").order_by(F("due_at").asc(nulls_last=True), "id")


def inbox_count(principal: Principal) -> int:
    """How many questions are open; always the length of `requests_for(principal)`."""
    return requests_for(principal).count()


def request_for(principal: Principal, id: str | UUID) -> ApprovalRequest:
    """One question. Raises RequestNotFound, also for a stranger."""
    principal.require(Permission.READ)
    identity = as_uuid(id)
    request = _rows().filter(id=identity, workspace=principal.workspace).first() if identity else None
    if request is None:
        raise _not_found(id)
    return request


def run_asking(principal: Principal, id: str | UUID) -> UUID:
    """The run that asks a question. Raises RequestNotFound, also for a stranger."""
    principal.require(Permission.READ)
    where, values = "WHERE id = {} AND workspace_id = {}", [as_uuid(id), principal.workspace.id]
    found = read_columns(ApprovalRequest, ("run_id",), where, values)
    if not found:
        raise _not_found(id)
    run_id: UUID = found[0][0]
    return run_id


def request_of(run: Run, id: str | UUID) -> tuple[ApprovalRequest, list[Decision]]:
    """A question of a run whose row the caller holds, with what people have answered so far.

    In the fewest words: people decide a thousand at once. Raises RequestNotFound.
    """
    identity = as_uuid(id)
    request, decisions = (
        read_with(ApprovalRequest, Decision, "request_id", identity) if identity else (None, [])
    )
    if request is None or request.run_id != run.id:
        raise _not_found(id)
    request.run = run
    return request, decisions


def _not_found(id: str | UUID) -> RequestNotFound:
    return RequestNotFound(
        f"There is no approval request {str(id)!r} in this workspace.", next="Look into the inbox."
    )


def requests_of_run(run_id: UUID) -> QuerySet[ApprovalRequest]:
    """Every question of a run the caller was allowed to see, oldest first."""
    return _rows().filter(run_id=run_id).prefetch_related("decisions").order_by("id")


def _rows() -> QuerySet[ApprovalRequest]:
    return ApprovalRequest.objects.select_related("run__version", "claimed_by").defer(*LIGHT)


def tally_of(
    request: ApprovalRequest, people: People | None = None, decisions: Iterable[Decision] | None = None
) -> Tally:
    """How far the quorum is: approvals of the current revision, by people who may still decide.

    decisions: the request's, when the caller has them.
    """
    persons = (people or People(request.workspace_id)).for_request(request)
    given = [
        persons[str(decision.user_id)]
        for decision in (request.decisions.all() if decisions is None else decisions)
        if decision.verb == Verb.APPROVE
        and decision.revision == request.revision
        and str(decision.user_id) in persons
    ]
    return evaluate(rules_from(request.quorum), given)


def node_of(request: ApprovalRequest) -> tuple[Document, Node | None]:
    """The blueprint as the run is pinned to it, and the node that asks."""
    document = plan_for(request.run.version_id).document
    return document, document.node(request.step_path.split("/")[-1].partition("[")[0])


def argument_schemas(request: ApprovalRequest) -> list[dict[str, Any]]:
    """What the arguments must satisfy: the tool's parameters, and the node's own `schema` if it has one."""
    document, node = node_of(request)
    spec = blueprints.tools_of(document).get(request.tool) if request.tool else None
    own = node.schema_ if node and node.kind == "approval" and Verb.ANSWER not in request.verbs else None
    return [schema for schema in (spec.parameters if spec else None, own) if schema]


def card(request: ApprovalRequest, principal: Principal | None = None) -> dict[str, Any]:
    """Everything a card shows: the effect first, the evidence, the exact draft with what changed.

    In `labels` people have their e-mail addresses, and only fields they edited name them: what a person asked
    for in an earlier round is part of an origin, not an edit.
    Adds to the API's shape: `fields` (one per argument, for the form), `diff` against the round before,
    `edited` against the proposal, `leads_to` (what follows each verb), and for a principal `may_decide`,
    `why_not`.
    """
    people = People(request.workspace_id)
    document, node = node_of(request)
    shown = request_view(request, tally_of(request, people))
    properties: dict[str, Any] = {}
    required: set[str] = set()
    for schema in argument_schemas(request):
        properties |= schema.get("properties") or {}
        required |= set(schema.get("required") or ())
    edited = edits.changed_fields(request.proposal, request.final) if request.final is not None else []
    shown["labels"] = _labels_shown(request, edited)
    names = [*request.arguments, *(n for n in properties if n not in request.arguments)]
    shown["fields"] = [
        {
            "name": name,
            "value": request.arguments.get(name),
            "present": name in request.arguments,
            "schema": properties.get(name) or {"type": edits.type_name(request.arguments.get(name))},
            "required": name in required,
            "labels": shown["labels"].get(name, []),
            "edited": name in edited,
        }
        for name in names
    ]
    shown["diff"] = (
        diff.as_json(diff.diff(request.previous, request.proposal)) if request.previous is not None else []
    )
    shown["edited"] = (
        diff.as_json(diff.diff(request.proposal, request.final))
        if request.final is not None and request.final != request.proposal
        else []
    )
    shown["leads_to"] = _consequences(document, node, request)
    if principal is not None:
        shown["why_not"] = why_not(principal, request, people)
        shown["may_decide"] = not shown["why_not"]
    return shown


def _labels_shown(request: ApprovalRequest, edited: list[str]) -> dict[str, list[str]]:
    known = {f"user:{d.user_id}": f"user:{d.actor_label}" for d in request.decisions.all()}
    return {
        name: [known.get(one, one) for one in given if name in edited or not one.startswith("user:")]
        for name, given in request.labels.items()
    }


def why_not(principal: Principal, request: ApprovalRequest, people: People | None = None) -> str:
    """Why this person may not answer, one sentence; empty when they may."""
    if not request.is_pending:
        return f"The question is {request.state.replace('_', ' ')}."
    if not principal.may(Permission.DECIDE):
        return "Your role does not decide; an approver does."
    if not _asks(principal, request, people or People(request.workspace_id)):
        return "The question is for other people."
    return ""


def _asks(principal: Principal, request: ApprovalRequest, people: People) -> bool:
    person = person_of(principal, request, people)
    return person is not None and is_asked(person, request.assign, rules_from(request.quorum))


def _consequences(document: Document, node: Node | None, request: ApprovalRequest) -> dict[str, list[str]]:
    if node is None or node.kind != "approval":
        return {}
    by_id = {n.id: n for n in document.graph.nodes}
    return {
        verb: [
            by_id[edge.to].title or edge.to
            for edge in document.graph.edges
            if edge.source == node.id
            and (edge.port or "approved") == PORT_OF[Verb(verb)]
            and edge.to in by_id
        ]
        for verb in request.verbs
    }
