"""Which answers a question offers."""

from __future__ import annotations

from collections.abc import Iterable

from apps.approvals.core.states import RequestState, Verb
from apps.blueprints.core.document import Edge, Node

PORT_OF: dict[Verb, str] = {
    Verb.APPROVE: "approved",
    Verb.REJECT: "rejected",
    Verb.REQUEST_CHANGES: "changes",
    Verb.ANSWER: "answered",
}
STATE_OF: dict[Verb, RequestState] = {
    Verb.APPROVE: RequestState.APPROVED,
    Verb.REJECT: RequestState.REJECTED,
    Verb.REQUEST_CHANGES: RequestState.CHANGES_REQUESTED,
    Verb.ANSWER: RequestState.ANSWERED,
}


def allowed_verbs(node: Node, edges: Iterable[Edge], round: int) -> list[str]:
    """The verbs of an approval node in one round.

    Approve and reject always. Request changes when the `changes` port leads somewhere and a round is left:
    `max_rounds` of a back edge counts the first round too. Answer only where the node lists it, because an
    answer takes the place of the action.
    """
    verbs = [Verb.APPROVE, Verb.REJECT]
    ways = [edge for edge in edges if edge.source == node.id and edge.port == "changes"]
    if any(edge.max_rounds is None or round < edge.max_rounds for edge in ways):
        verbs.append(Verb.REQUEST_CHANGES)
    if Verb.ANSWER in node.verbs:
        verbs.append(Verb.ANSWER)
    return [str(verb) for verb in verbs]
