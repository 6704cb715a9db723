"""Errors of blueprints.

MirrorNeuronError
├── BlueprintInvalid    (InvalidInput)  carries every problem found; nothing was stored
├── BlueprintNotFound   (NotFound)      no blueprint or gallery item of this name for this person
├── VersionNotFound     (NotFound)      the blueprint has no such version
├── NameMismatch        (InvalidInput)  the text names another blueprint than the one being published
├── NameTaken           (Conflict)      the name belongs to another blueprint of the workspace
├── BlueprintArchived   (Conflict)      archived; it starts and publishes nothing
├── DraftConflict       (Conflict)      an operation no longer fits the draft; nothing of its batch was done
├── UndoRefused         (Conflict)      what was to be taken back has been changed since
├── NothingToUndo       (Conflict)      this person has nothing (left) to take back or to do again
├── StateNotFound       (NotFound)      the draft has no such moment
├── PrivateDraft        (Conflict)      what was asked for is done with the shared draft only
├── DraftMoved          (Conflict)      somebody changed the draft since the person looked at it
├── ReviewStands        (Conflict)      an open or refused review stands against publishing
├── ReviewClosed        (Conflict)      the review is over
├── ReviewNotFound      (NotFound)      no such review or comment for this person
└── NotAReviewer        (Forbidden)     whoever was not asked, the asker included, has no answer to give
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.blueprints.core.problems import Problem
from mirrorneuron.base.errors import Conflict, Forbidden, InvalidInput, NotFound


class BlueprintInvalid(InvalidInput):
    """problems: everything found, warnings included, in the order of the text."""

    code = "blueprint_invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        errors = [p for p in self.problems if p.level == "error"]
        first = errors[0] if errors else self.problems[0]
        place = f"line {first.line}: " if first.line else ""
        count = "one error" if len(errors) == 1 else f"{len(errors)} errors"
        fields: dict[str, str] = {}
        for problem in errors:
            known = fields.get(problem.path)
            fields[problem.path] = f"{known} {problem.message}" if known else problem.message
        super().__init__(
            f"The blueprint has {count}; nothing was stored. The first is in {place}{first.message}"
            if place
            else f"The blueprint has {count}; nothing was stored. The first: {first.message}",
            fields=fields,
            next=first.fix
            if len(errors) == 1
            else "Correct them all; `mn blueprint validate` lists each with its fix.",
        )

    def problems_json(self) -> list[dict[str, Any]]:
        return [problem.as_json() for problem in self.problems]


class BlueprintNotFound(NotFound):
    code = "blueprint_not_found"


class VersionNotFound(NotFound):
    code = "version_not_found"


class NameMismatch(InvalidInput):
    code = "name_mismatch"


class NameTaken(Conflict):
    code = "name_taken"


class BlueprintArchived(Conflict):
    code = "blueprint_archived"


class DraftConflict(Conflict):
    """conflicts: [{op_id, kind, message, theirs, mine}], the first decides. version: the draft's, now."""

    code = "draft_conflict"

    def __init__(
        self, message: str, conflicts: list[dict[str, Any]], *, version: int, next: str = ""
    ) -> None:
        super().__init__(message, next=next)
        self.conflicts = conflicts
        self.version = version


class UndoRefused(Conflict):
    code = "undo_refused"


class NothingToUndo(Conflict):
    code = "nothing_to_undo"


class StateNotFound(NotFound):
    code = "state_not_found"


class PrivateDraft(Conflict):
    code = "private_draft"

    def __init__(self, name: str, what: str) -> None:
        super().__init__(
            f"{what} is the shared draft of {name}, not a private one; nothing was done.",
            next="Merge your private draft into the shared one first (POST draft/merge).",
        )


class DraftMoved(Conflict):
    """seen: the draft's version the person looked at; found: the one it has now."""

    code = "draft_moved"

    def __init__(self, name: str, *, seen: int, found: int) -> None:
        self.seen, self.found = seen, found
        how = f"you saw {seen}, it is at {found}" if seen != found else "it follows another version now"
        super().__init__(
            f"The draft of {name} has changed since you looked at it ({how}).",
            next="Look at what changed, then decide again.",
            seen=seen,
            version=found,
        )


class ReviewStands(Conflict):
    code = "review_stands"


class ReviewClosed(Conflict):
    code = "review_closed"


class ReviewNotFound(NotFound):
    code = "review_not_found"


class NotAReviewer(Forbidden):
    code = "not_a_reviewer"
