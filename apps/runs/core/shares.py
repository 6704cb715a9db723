"""Who is next: fair between workspaces by the time they use, urgent first inside one. Pure.

Start-time fair queueing (Goyal, Vin, Cheng: Start-time Fair Queueing, SIGCOMM 1996): every workspace has a
clock that runs by the worker time it has used, divided by its weight; the one whose clock is furthest behind
is next. Who had nothing to do has not saved anything up: its clock starts where the others are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

AGING_SECONDS = 60.0
"""Waiting this long counts as much as one step of priority; so nothing waits for ever."""
EXPECTED_SECONDS = 0.1
"""What a step under way is taken to use until it has ended."""
LEAST_SECONDS = 0.001
MOST_AHEAD_SECONDS = 5.0
"""Used while nobody else wanted it, so it is not held against a workspace for longer than this."""


@dataclass(frozen=True)
class Candidate:
    """A ready step that may be claimed."""

    run_id: UUID
    path: str
    workspace_id: UUID
    priority: int
    """0 is the most urgent, 9 the least."""
    ready_at: datetime
    losses: int = 0
    entries: int = 0
    """Entries in its run's ledger when it was read."""

    def urgency(self, now: datetime) -> tuple[float, datetime]:
        """Less is more urgent."""
        waited = (now - self.ready_at).total_seconds()
        return self.priority - waited / AGING_SECONDS, self.ready_at


@dataclass
class Shares:
    """What each workspace uses of one process."""

    slots: int = 0
    """Slots of the process; 0 when they do not matter."""
    _used: dict[UUID, float] = field(default_factory=dict)
    """Clocks by workspace: seconds of work divided by weight."""
    _held: dict[UUID, int] = field(default_factory=dict)
    _start: float = 0.0
    """The clock of whoever was served last: where a newcomer begins."""

    def next_of(self, waiting: Iterable[UUID], weights: Mapping[UUID, int]) -> UUID | None:
        """The workspace to serve; None when nobody waits.

        No workspace gets the last slot of the process while another one waits.
        """
        clocks = {}
        for workspace in waiting:
            clock = self._used[workspace] = max(self._used.get(workspace, 0.0), self._start)
            clocks[workspace] = clock + self.held(workspace) * EXPECTED_SECONDS / weights.get(workspace, 1)
        if not clocks:
            return None
        most = max(self.slots - 1, 1) if self.slots and len(clocks) > 1 else None
        allowed = [w for w in clocks if most is None or self.held(w) < most]
        chosen = min(allowed or clocks, key=lambda w: (clocks[w], w))
        self._start = self._used[chosen]
        # Being asked counts a little, so that one whose steps cannot be had does not keep others waiting.
        self._used[chosen] += LEAST_SECONDS / weights.get(chosen, 1)
        return chosen

    def held(self, workspace: UUID) -> int:
        """Slots it has now."""
        return self._held.get(workspace, 0)

    def began(self, workspace: UUID) -> None:
        self._held[workspace] = self.held(workspace) + 1

    def ended(self, workspace: UUID, seconds: float, weight: int) -> None:
        """A slot is given back after so many seconds."""
        left = self.held(workspace) - 1
        if left > 0:
            self._held[workspace] = left
        else:
            self._held.pop(workspace, None)
        clock = max(self._used.get(workspace, 0.0), self._start) + seconds / weight
        self._used[workspace] = min(clock, self._start + MOST_AHEAD_SECONDS)
        if len(self._used) > 10_000:
            self._used = {w: used for w, used in self._used.items() if used > self._start}
