"""Errors of the desk where people decide.

MirrorNeuronError
├── RequestNotFound   (NotFound)      no such request, or not in this workspace
├── NotYours          (Forbidden)     the question is for other people, or needs another group
├── AlreadyDecided    (Conflict)      the first decision stands; says who, when, what
├── RequestClosed     (Conflict)      expired, cancelled or replaced; nobody decided
├── ClaimedByOther    (Conflict)      somebody is at it, for up to 30 minutes
├── StaleRevision     (Conflict, 412) what the person saw is not what would be approved
└── AnswerInvalid     (InvalidInput)  the request stays open, every problem by field
"""

from __future__ import annotations

from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, NotFound


class RequestNotFound(NotFound):
    code = "approval_not_found"


class NotYours(Forbidden):
    code = "not_your_approval"


class AlreadyDecided(Conflict):
    """attributes: `winner` {verb, by, at, reason} and `state`."""

    code = "already_decided"


class RequestClosed(Conflict):
    """attributes: `state` and `at`."""

    code = "approval_closed"


class ClaimedByOther(Conflict):
    code = "claimed_by_other"


class StaleRevision(Conflict):
    code = "stale_revision"
    status = 412


class AnswerInvalid(InvalidInput):
    code = "answer_invalid"
