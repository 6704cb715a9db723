"""Errors of the engine.

MirrorNeuronError
├── StepError        a step could not do its work; says whether trying again can help
│   └── DefiniteFailure   an outside call failed and nothing can have happened
├── StaleStep        this worker no longer owns the step; its write is dropped
├── RunNotFound      (NotFound)
└── RunConflict      (Conflict) the run is in a state that does not allow this
Suspended            not an error: the step stops here and waits
"""

from __future__ import annotations

from typing import Any

from mirrorneuron.base.errors import Conflict, MirrorNeuronError, NotFound


class StepError(MirrorNeuronError):
    """What a handler raises.

    permanent: trying again cannot help (bad input, refused by policy, malformed after repair).
    retry_after: seconds the other side asked to wait.
    error_class: one of retry, repair, fail, ask; shown and counted.
    """

    code = "step_failed"

    def __init__(
        self, message: str, *, permanent: bool = False, retry_after: float | None = None, **more: Any
    ) -> None:
        super().__init__(message, **more)
        self.permanent = permanent
        self.retry_after = retry_after

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "permanent": self.permanent,
            "next": self.next,
            **({"retry_after": self.retry_after} if self.retry_after else {}),
            **({"details": self.attributes} if self.attributes else {}),
        }


class DefiniteFailure(StepError):
    """An outside call failed and nothing can have happened (ENGINE rule 26)."""

    code = "definite_failure"


class StaleStep(MirrorNeuronError):
    code = "lease_lost"


class RunNotFound(NotFound):
    code = "run_not_found"


class RunConflict(Conflict):
    code = "run_conflict"


class Suspended(Exception):
    """Carries the outcome out of nested calls; only the executor catches it."""

    def __init__(self, outcome: Any) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome
