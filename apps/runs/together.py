"""What this process knows of a run that several of its slots work on.

Steps that stand side by side end side by side. Each of them knows the run as it was when it last wrote, so
without more each end but one would find the run moved on, and read it again under its lock. Here the slots of
one process take turns instead, and each begins with what the one before has stored: a `seq` names a state,
whoever brought it about. It is only ever a guess: what is written still compares `seq`, status and fence, and
what another process did is read as before.

Of a run with maps or loops a state holds some scopes only. What is shared holds those in which something goes
on; whoever needs another one reads it, and if the run has moved on by then, so has its `seq`.
"""

from __future__ import annotations

import threading
from uuid import UUID
from weakref import WeakValueDictionary

from apps.runs.core.state import RunState
from apps.runs.models import Run


class Together:
    """One run; lives as long as somebody in this process has a claim on a step of it."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        """Held while deciding and writing. Taken before anything of the database, never inside a
        transaction."""
        self._known: tuple[Run, RunState] | None = None

    def learn(self, run: Run, state: RunState) -> None:
        """The run is stored as this; nobody changes the state any more, but whoever works on with it may load
        scopes."""
        if self._known is None or state.seq > self._known[1].seq:
            if state.load is not None:
                state = state.copy()
                state.forget("")
            self._known = run, state

    def newest(self, run: Run, state: RunState) -> tuple[Run, RunState]:
        """The newest that is known, if that is newer than this."""
        known = self._known
        return known if known is not None and known[1].seq > state.seq else (run, state)

    @property
    def known(self) -> tuple[Run, RunState] | None:
        return self._known


_runs: WeakValueDictionary[UUID, Together] = WeakValueDictionary()
_lock = threading.Lock()


def together_on(run_id: UUID) -> Together:
    with _lock:
        found = _runs.get(run_id)
        if found is None:
            found = _runs[run_id] = Together()
        return found
