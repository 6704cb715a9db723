"""Errors of the engine.

MirrorNeuronError
├── StepError        a step could not do its work; says whether trying again can help
│   └── DefiniteFailure   an outside call failed and nothing can have happened
├── StaleStep        this worker no longer owns the step; its write is dropped
├── QueueFull        as many runs wait as may; come again
├── RunNotFound      (NotFound)
│   └── RunRemoved   it has ended and was removed when its time was over
├── HookUnknown      (NotFound) no webhook has this address
├── SignatureRefused a webhook's message is not signed by who knows its secret, or not just now (401)
├── ArchiveBroken    a file that cannot be trusted
└── RunConflict      (Conflict) the run is in a state that does not allow this
Suspended            not an error: the step stops here and waits
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
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


class QueueFull(MirrorNeuronError):
    """retry_after: seconds; how long to wait before starting again."""

    code = "queue_full"
    status = 429


class RunNotFound(NotFound):
    code = "run_not_found"


class RunRemoved(RunNotFound):
    """It was there, has ended, and was removed when its time was over."""

    code = "run_removed"

    def __init__(self, run_id: Any, removed_at: datetime, archive: str) -> None:
        super().__init__(
            f"Run {run_id} was {'archived' if archive else 'removed'} on {removed_at:%Y-%m-%d}.",
            next=f"Bring it back with `mn runs restore {archive}`." if archive else "",
        )


class ArchiveBroken(MirrorNeuronError):
    """An archive that cannot be trusted; nothing is removed or brought back for it."""

    code = "archive_broken"
    status = 422

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The archive {path} is not whole: {why}.", next="Take another copy of the file, if there is one."
        )


class RunConflict(Conflict):
    code = "run_conflict"


class HookUnknown(NotFound):
    """Says nothing about why: whoever asks may be guessing."""

    code = "not_found"


class SignatureRefused(MirrorNeuronError):
    code = "bad_signature"
    status = 401


class Suspended(Exception):
    """Carries the outcome out of nested calls; only the executor catches it."""

    def __init__(self, outcome: Any) -> None:
        super().__init__(type(outcome).__name__)
        self.outcome = outcome
