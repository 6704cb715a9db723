"""Which ready steps to try next, chosen without locks.

Steps wait in *lanes*: one for each queue, workspace and priority, oldest first. A lane's head is found by one
seek in the partial index of ready steps, so a workspace with 100,000 queued runs costs no more than one with
two. What was read is kept for a moment and shared by the slots of a process; a candidate that is gone by then
costs one look at its run, and nothing else: the claim decides again under the run's lock.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import BooleanField, Q, QuerySet
from django.db.models.expressions import RawSQL

from apps.runs.core.shares import Candidate, Shares
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.models import Step
from apps.workspaces.models import Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.base.worded import Worded

PAGE = 32
"""Candidates per look; of one lane at most so many."""
FEW = 4
"""Runs that are passed over, for which the question is worded once."""
MAX_PAGES = 40
"""Looks per reading; where there are more lanes, the next reading goes on where this one ended."""
KEEP_SECONDS = 0.2
"""How long what was read is good for; ten times what reading took, if that is longer."""
WEIGHTS_SECONDS = 15.0
TRIES = 64
"""Candidates one claim tries before it gives up; others have been faster each time."""
Lane = tuple[UUID, int]
_SOME_WORKSPACE = UUID("01980000-0000-7000-8000-00006d61726b")
_SOME_PRIORITY = -31_999
"""Stand in a worded question where a workspace and a priority belong."""


def ready_steps(queues: Sequence[str]) -> QuerySet[Step]:
    """Steps that may be claimed as far as can be seen without a lock."""
    return Step.objects.filter(status=StepStatus.READY, queue__in=queues, run__pause_requested=False).exclude(
        run__status__in=RUN_ENDED
    )


def others_wait(workspace_id: UUID, queues: Sequence[str], priority: int = 0) -> bool:
    """Whether another workspace has ready work, or this one has more urgent work (ENGINE rule 15)."""
    return _elsewhere(tuple(queues)).is_any(workspace_id, priority)


@lru_cache(maxsize=16)
def _elsewhere(queues: tuple[str, ...]) -> Worded:
    def question(workspace_id: UUID, priority: int) -> QuerySet[Step, Any]:
        # Ranges, so that the lanes of this workspace are stepped over and not walked through.
        ranges = (
            Q(workspace_id__lt=workspace_id),
            Q(workspace_id__gt=workspace_id),
            Q(workspace_id=workspace_id, priority__lt=priority),
        )
        first, *others = [
            ready_steps([queue]).filter(beside).values("id") for queue in queues for beside in ranges
        ]
        return first.union(*others, all=True)

    return Worded(question, _SOME_WORKSPACE, _SOME_PRIORITY, exists=True)


@lru_cache(maxsize=32)
def _heads(queue: str, lossy_too: bool, passed: int) -> Worded:
    """The first page of a queue's lanes, but for so many runs: nearly always all that is asked for."""
    some = [UUID(int=_SOME_WORKSPACE.int + n + 1) for n in range(passed)]
    return Worded(lambda *runs: _in_order(_but_for(runs, queue, lossy_too)), *some)


class Candidates:
    """The candidates of one process, and what each workspace has used of it. Shared by its slots."""

    def __init__(self, queues: Sequence[str], slots: int = 0) -> None:
        """slots: of the process; 0 for a single claim outside one."""
        self.queues = tuple(queues)
        self.shares = Shares(slots)
        self._lock = threading.Lock()
        """Held while reading too: the other slots want exactly that answer."""
        self._known: dict[UUID, list[Candidate]] = {}
        self._cut: set[UUID] = set()
        """Workspaces that have more than is known here."""
        self._good_until = 0.0
        self._missed = False
        """Another process was faster since the last reading."""
        self._tried: set[tuple[UUID, str]] = set()
        """Under way: chosen by a slot that has not claimed it yet."""
        self._only_steps: set[Candidate] = set()
        self._weights: dict[UUID, int] = {}
        self._weights_until = 0.0
        self._from: dict[str, Lane | None] = {}

    def offers(self, *, alone: bool, lossy_first: bool = False) -> Generator[Candidate, None, None]:
        """Candidates, best first; asking for another one says that this one could not be had.

        alone: nothing else runs in this process, so a step that has killed a worker may come too (ENGINE rule
        14); lossy_first: the process was emptied for one.
        """
        passed: set[UUID] = set()
        for _ in range(TRIES):
            candidate = self._next(passed, alone=alone, lossy_first=lossy_first)
            if candidate is None:
                return
            try:
                yield candidate
            finally:
                self._tried.discard((candidate.run_id, candidate.path))
            if candidate in self._only_steps:
                self._only_steps.discard(candidate)
                continue
            # Its run is busy, or has changed: there may be work behind it.
            passed.add(candidate.run_id)
            self._missed = True

    def keep_run(self, candidate: Candidate) -> None:
        """The candidate just offered could not be had, but that says nothing about the rest of its run."""
        self._only_steps.add(candidate)

    @contextmanager
    def holding(self, workspace_id: UUID) -> Iterator[None]:
        """Count the time inside as used by this workspace."""
        with self._lock:
            self.shares.began(workspace_id)
        began = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                weight = self._weights.get(workspace_id, 1)
                self.shares.ended(workspace_id, time.monotonic() - began, weight)

    @property
    def has_any(self) -> bool:
        """Whether some are known that have not been tried yet."""
        return any(self._known.values())

    # --- choosing -----------------------------------------------------------------------------------------

    def _next(self, passed: set[UUID], *, alone: bool, lossy_first: bool) -> Candidate | None:
        with self._lock:
            usable = self._usable(passed, alone=alone)
            if not usable or self._is_old(usable):
                self._read(passed, lossy_too=alone)
                usable = self._usable(passed, alone=alone)
            workspace = self.shares.next_of(usable, self._weights)
            if workspace is None:
                return None
            at = now()
            ranked = sorted(usable[workspace], key=lambda c: c.urgency(at))
            if lossy_first:
                every = [c for found in usable.values() for c in found]
                ranked = sorted(every, key=lambda c: (-c.losses, c.urgency(at)))
            # Processes that all go for the same step get in each other's way.
            chosen = random.choice(ranked[:8]) if self._missed and not lossy_first else ranked[0]
            self._known[chosen.workspace_id].remove(chosen)
            self._tried.add((chosen.run_id, chosen.path))
            return chosen

    def _usable(self, passed: set[UUID], *, alone: bool) -> dict[UUID, list[Candidate]]:
        usable = {
            workspace: [c for c in known if c.run_id not in passed and (alone or not c.losses)]
            for workspace, known in self._known.items()
        }
        return {workspace: found for workspace, found in usable.items() if found}

    def _is_old(self, usable: dict[UUID, list[Candidate]]) -> bool:
        # A workspace of whose steps only the first were read must not lose its turn when they are used up.
        return time.monotonic() >= self._good_until or any(w not in usable for w in self._cut)

    # --- reading ------------------------------------------------------------------------------------------

    def _read(self, passed: set[UUID], *, lossy_too: bool) -> None:
        began = time.monotonic()
        self._known, self._cut, self._missed = {}, set(), False
        for queue in self.queues:
            lanes, is_whole = self._lanes(queue, passed, lossy_too=lossy_too)
            for (workspace, _), found in lanes.items():
                fresh = [c for c in found if (c.run_id, c.path) not in self._tried]
                if fresh:
                    self._known.setdefault(workspace, []).extend(fresh)
                    if not is_whole:
                        self._cut.add(workspace)
        self._read_weights()
        took = time.monotonic() - began
        self._good_until = began + took + max(KEEP_SECONDS, 10 * took)

    def _lanes(
        self, queue: str, passed: set[UUID], *, lossy_too: bool
    ) -> tuple[dict[Lane, list[Candidate]], bool]:
        """The heads of the lanes of a queue, and whether they are all there is."""
        lanes: dict[Lane, list[Candidate]] = {}
        start = after = self._from.pop(queue, None)
        for page in range(MAX_PAGES):
            if after is None and len(passed) <= FEW:
                found = _candidates(_heads(queue, lossy_too, len(passed)).rows(*passed))
            else:
                found = _page(_but_for(passed, queue, lossy_too), after)
            for candidate in found:
                lanes.setdefault((candidate.workspace_id, candidate.priority), []).append(candidate)
            if len(found) < PAGE:
                if start is not None and not lanes:
                    return self._lanes(queue, passed, lossy_too=lossy_too)  # It began behind the last one.
                return lanes, start is None and page == 0
            first, last = (_lane(found[0]), _lane(found[-1]))
            if first != last:
                # Cut off somewhere inside its last lane: that one is read again from its head.
                del lanes[last]
                last = _lane([c for c in found if _lane(c) != last][-1])
            after = last
        self._from[queue] = after
        return lanes, False

    def _read_weights(self) -> None:
        if time.monotonic() < self._weights_until and all(w in self._weights for w in self._known):
            return
        found = Workspace.objects.filter(id__in=list(self._known)).values_list("id", "weight")
        self._weights |= dict(found)
        self._weights_until = time.monotonic() + WEIGHTS_SECONDS


def _lane(candidate: Candidate) -> Lane:
    return candidate.workspace_id, candidate.priority


def _page(steps: QuerySet[Step], after: Lane | None) -> list[Candidate]:
    """The next lanes' heads, in the order of the index."""
    if after is not None:
        # Django would write this with OR, and the database would walk through the lanes before.
        workspace = Step._meta.get_field("workspace_id").get_db_prep_value(after[0], connection)
        beyond = RawSQL(
            "(runs_step.workspace_id, runs_step.priority) > (%s, %s)",
            (workspace, after[1]),
            output_field=BooleanField(),
        )
        steps = steps.filter(beyond)
    return _candidates(_in_order(steps))


def _but_for(runs: Collection[UUID], queue: str, lossy_too: bool) -> QuerySet[Step]:
    steps = ready_steps([queue])
    if runs:
        steps = steps.exclude(run_id__in=runs)
    return steps if lossy_too else steps.filter(losses=0)


def _in_order(steps: QuerySet[Step]) -> QuerySet[Step, Any]:
    rows = steps.order_by("workspace_id", "priority", "ready_at").values_list(
        "run_id", "path", "workspace_id", "priority", "ready_at", "losses", "run__seq"
    )
    return rows[:PAGE]


def _candidates(rows: Iterable[Sequence[Any]]) -> list[Candidate]:
    return [Candidate(*row) for row in rows]
