"""What a handler works with: `ports.Context`, bound to one claimed step.

Handlers run outside any transaction. What they record is held here and written by the next transaction of the
step: a flush before anything leaves the process, an effect going in flight, or the step's end. Each of those
compares the fence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.blueprints.core import expressions
from apps.governance import flow
from apps.governance.flow import Outgoing, Reply, Ticket
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.ledger.selectors import has_batch
from apps.runs.admission import admit
from apps.runs.checks import run_check
from apps.runs.claim import Claim, timeout_of
from apps.runs.core.checks import CheckResult
from apps.runs.core.plan import UNDO, container_of, enclosing, pass_path, pass_scope
from apps.runs.core.state import StepState
from apps.runs.core.states import StepStatus
from apps.runs.core.transition import NewEntry
from apps.runs.errors import StaleStep, StepError
from apps.runs.inbox import sources_of_inputs
from apps.runs.models import Call, Step
from apps.runs.names import OF_PASS
from apps.runs.payloads import packed_value, whole, write
from apps.runs.ports import CallRecord, EffectCall, Undone
from apps.runs.transact import OpenedLate, RunTransaction, SeqMoved, lock_run, open_transaction, state_of
from apps.runs.undo import undone
from apps.workspaces.selectors import file_bytes
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import NotFound
from mirrorneuron.base.packed import Leaf
from mirrorneuron.base.safejson import storable

PROGRESS_SHARE = 0.25
"""Progress is written down when it moves the deadline by this share of what the node allows, not always."""


class StepContext:
    """See `ports.Context` for what each method promises."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.run_id: UUID = claim.run.id
        self.workspace_id: UUID = claim.run.workspace_id
        self.path = claim.path
        root_path = claim.run.root_path
        self.full_path = f"{root_path}/{claim.path}" if root_path else claim.path
        """Seen from the outermost run; what effect keys are made of."""
        self.node = claim.node
        self.document = claim.names.plan.document
        self.attempt = claim.step.attempt
        self.round = claim.step.round
        self.scope = claim.step.scope
        self.simulate = claim.run.simulate
        self.memo = claim.step.memo
        self.started_by = claim.run.started_by_id
        self.root_run_id: UUID = claim.run.root_id or claim.run.id
        self._recorded: dict[tuple[str, int, int], CallRecord] | None = None if claim.resumed else {}
        self._calls: list[CallRecord] = []
        self._entries: list[NewEntry] = []
        self._fields: dict[str, Any] = {}
        self._writes: list[Callable[[], Any]] = []
        """Writes to rows below this room (effects) that belong to the next transaction."""
        self.touched_effects = claim.resumed
        self.has_called = False
        """Something has left in this attempt."""
        self._ended: dict[str, tuple[int, dict[str, StepState]]] = {}
        """By scope the `seq` for which it was worked out, and the latest finished step of each node."""
        self._unsure: tuple[Held, RunTransaction] | None = None
        """The last transaction, as long as its commit was not answered."""
        self.late_results: list[tuple[Effect, dict[str, Any]]] = []
        """What this attempt learned about effects; kept as evidence should its step be lost meanwhile."""

    # --- expressions --------------------------------------------------------------------------------------

    def names(self) -> dict[str, Any]:
        return self.claim.names.everything(self.scope, **self._round())

    def render(self, template: Any, **extra: Any) -> Any:
        return self.claim.names.render(template, self.scope, **self._round(), **extra)

    def evaluate(self, expression: str, **extra: Any) -> Any:
        return self.claim.names.evaluate(expression, self.scope, **self._round(), **extra)

    def _round(self) -> dict[str, int]:
        """`round` is the step's own; in a loop's body the loop's, unless a back edge repeats the step."""
        return {"round": self.round} if self.round > 1 or not self.scope else {}

    def check(self, kind: str, args: dict[str, Any], /, **extra: Any) -> CheckResult:
        """Run one check with its arguments rendered where this step stands."""
        return run_check(kind, args, self.claim.names, self.scope, **self._round(), **extra)

    def labels_of(self, template: Any) -> list[str]:
        labels: set[str] = set()
        for reference in _references(template):
            root, _, rest = reference.partition(".")
            if root == "inputs":
                labels |= {"user", *sources_of_inputs(self.claim.run)}
            elif root == "steps" and rest:
                labels.update(self._labels_of_step(rest.partition(".")[0]))
            elif root in OF_PASS and self.scope:
                labels.update(self._labels_of_pass())
            elif root in ("steps", "effects"):
                # Which of them is only known when it is evaluated (`steps[inputs.which]`): all of them count.
                labels.add("user")
                for step in self.claim.state.steps.values():
                    labels.update(step.labels)
        return sorted(labels)

    def _labels_of_step(self, node: str) -> Iterable[str]:
        for scope in enclosing(self.scope):
            if node in self.claim.names.plan.for_scope(scope).nodes:
                step = self._latest_ended(scope).get(node)
                return step.labels if step else ()
        return ()

    def _latest_ended(self, scope: str) -> dict[str, StepState]:
        """A wide join asks for the steps before it one by one, and each answer looks at all of them."""
        state = self.claim.state
        known = self._ended.get(scope)
        if known is None or known[0] != state.seq:
            known = self._ended[scope] = state.seq, state.all_latest_ended(scope)
        return known[1]

    def _labels_of_pass(self) -> Iterable[str]:
        """Items and earlier rounds come from what their container was given, and from the body itself."""
        for scope in enclosing(self.scope)[:-1]:
            for path in (container_of(scope), pass_path(scope)):
                step = self.claim.state.find(path)
                yield from step.labels if step else ()

    def passes(self) -> tuple[dict[int, Any], dict[int, Any]]:
        """Outputs of a map's items that succeeded, and errors of those that failed, by index."""
        rows = Step.objects.filter(
            run_id=self.run_id, node_id=self.node.id, kind="item", scope__startswith=f"{self.path}["
        ).values_list("scope", "round", "status", "output", "error")
        found = [row for row in rows if row[0] == pass_scope(self.path, row[1])]
        done = [(index, output) for _, index, status, output, _ in found if status == StepStatus.SUCCEEDED]
        outputs = dict(
            zip([index for index, _ in done], whole([o for _, o in done], self.run_id), strict=True)
        )
        errors = {index: error for _, index, status, _, error in found if status == StepStatus.FAILED}
        return outputs, errors

    # --- what is shown and counted ------------------------------------------------------------------------

    def set_input(self, value: Any) -> None:
        self._fields["input"] = value

    def entry(self, kind: str, data: dict[str, Any]) -> None:
        self._entries.append(NewEntry(kind, self.path, self.attempt, data))

    # --- the journal --------------------------------------------------------------------------------------

    def recorded(self, kind: str, turn: int, ordinal: int = 0) -> CallRecord | None:
        if self._recorded is None:
            self._recorded = {
                (c.kind, c.turn, c.ordinal): _record(c)
                for c in Call.objects.filter(step_id=self.claim.step.id)
            }
        return self._recorded.get((kind, turn, ordinal))

    def record(self, call: CallRecord) -> None:
        if self._recorded is None:
            self.recorded(call.kind, call.turn, call.ordinal)
        assert self._recorded is not None
        self._recorded[call.kind, call.turn, call.ordinal] = call
        self.progress()
        self._calls.append(call)

    def flush(self) -> None:
        if self._calls or self._entries or self._writes:
            with self.owned():
                pass

    # --- leaving ------------------------------------------------------------------------------------------

    def admit(self, call: Outgoing, turn: int, ordinal: int = 0) -> Ticket:
        return admit(self, call, turn, ordinal)

    def called(
        self, ticket: Ticket, reply: Reply, *, retry_after: float | None = None, error: str = ""
    ) -> None:
        flow.report(ticket, reply, retry_after=retry_after, error=error)

    # --- effects ------------------------------------------------------------------------------------------

    def effect(self, call: EffectCall) -> Any:
        from apps.runs.effects import perform

        return perform(self, call)

    def undoes(self) -> Undone:
        return undone(self.run_id, self.path.removesuffix(UNDO))

    # --- files and time -----------------------------------------------------------------------------------

    def file_bytes(self, file_id: str) -> bytes:
        try:
            return file_bytes(self.workspace_id, file_id)[1]
        except NotFound as exc:
            raise StepError(exc.message, code="file_not_found", permanent=True) from exc

    def seconds_left(self) -> float:
        return (self._ends_at() - now()).total_seconds()

    def _ends_at(self) -> datetime:
        """The end of this attempt, however much progress it makes."""
        step = self.claim.step
        assert step.deadline_at is not None
        if self.node.progress is None or step.started_at is None:
            return step.deadline_at
        whole = step.started_at + timedelta(seconds=timeout_of(self.node))
        # Where a doubt is cleared up the attempt may last longer than its step.
        return max(min(whole, step.expires_at), step.deadline_at) if step.expires_at else whole

    def progress(self, note: str = "", *, at_least: float = 0.0) -> None:
        if self.node.progress is None:
            return
        step, at, seconds = self.claim.step, now(), self.node.progress
        assert step.deadline_at is not None
        until = min(at + timedelta(seconds=max(seconds, at_least)), self._ends_at())
        if (until - step.deadline_at).total_seconds() < seconds * PROGRESS_SHARE:
            return
        # No decision and no entry of its own: only the reaper looks at it. The fence says whose it is.
        rows = Step.objects.filter(id=step.id, status=StepStatus.RUNNING, fence=self.claim.fence)
        if rows.update(deadline_at=until) != 1:
            raise StaleStep(f'Step "{self.path}" of run {self.run_id} is no longer this attempt\'s.')
        step.deadline_at = until
        if note:
            self.entry("step.progressed", {"note": note[:200]})

    # --- for the engine's own modules ---------------------------------------------------------------------

    def later(self, write: Callable[[], Any]) -> None:
        """Do this inside the step's next transaction."""
        self._writes.append(write)

    @contextmanager
    def owned(self) -> Iterator[RunTransaction]:
        """A transaction on the run in which this worker still owns the step; writes what was held back.

        Raises StaleStep when the step is no longer ours; then nothing was written.
        """
        self.recall()
        held = self._held()
        with transaction.atomic():
            run = lock_run(self.run_id)
            # Our state is the run's as long as nobody raised `seq` since.
            is_ours = run.seq == self.claim.state.seq
            state = self.claim.state.copy() if is_ours else state_of(run, self.path)
            tx = open_transaction(run, state, self.claim.names)
            self._check_owned(tx)
            self._write(held, tx)
            yield tx
            self._unsure = held, tx
            tx.write()
            tx.after_commit()
        self._wrote(held, tx)

    def finish(self, apply: Callable[[RunTransaction], None]) -> RunTransaction:
        """Apply the step's outcome, without reading as long as nobody else changed the run.

        A commit whose answer was lost counts when it did happen (ENGINE rule 9).
        Raises StaleStep when the step is no longer ours; then nothing was written.
        """
        lost = self.recall()
        if lost is not None and lost.step(self.path).status is not StepStatus.RUNNING:
            return lost
        with self.claim.together.turn:
            return self._finish(apply)

    def _finish(self, apply: Callable[[RunTransaction], None]) -> RunTransaction:
        held = self._held()
        run, state = self.claim.together.newest(self.claim.run, self.claim.state)
        try:
            with OpenedLate() as opening:
                tx = open_transaction(run, state.copy(), self.claim.names, is_locked=False, opening=opening)
                self._check_owned(tx)
                self._write(held, tx)
                apply(tx)
                self._unsure = held, tx
                tx.write()
                tx.after_commit()
        except SeqMoved:
            self._unsure = None
            with self.owned() as tx:
                apply(tx)
            return tx
        self._wrote(held, tx)
        return tx

    def write_into(self, tx: RunTransaction) -> None:
        """Put what the handler recorded into a decision that is stored by somebody else."""
        self._write(self._held(), tx)

    def recall(self) -> RunTransaction | None:
        """The last transaction, if its commit happened although nobody told us; else None.

        Nothing it wrote is written again. Its entries prove it: the number of the last and their time are its
        own.
        """
        if self._unsure is None:
            return None
        held, tx = self._unsure
        kept = has_batch(self.run_id, tx.state.seq, tx.transition.now)
        self._unsure = None
        if not kept or not tx.transition.entries:
            return None
        tx.learn_ids()
        self._wrote(held, tx)
        return tx

    def unresolved(self) -> list[Effect]:
        """Effects of this step whose outcome nobody knows; it may not end, nor start over, as if there were
        none. Empty without asking when this step has never had an effect."""
        if not self.touched_effects:
            return []
        unknown = [EffectState.IN_FLIGHT, EffectState.IN_DOUBT]
        return list(Effect.objects.filter(run_id=self.run_id, step_path=self.path, state__in=unknown))

    def _check_owned(self, tx: RunTransaction) -> None:
        step = tx.step(self.path)
        if step.status is not StepStatus.RUNNING or step.fence != self.claim.fence:
            raise StaleStep(
                f'Step "{self.path}" of run {self.run_id} is {step.status} at fence {step.fence}; '
                f"this attempt held fence {self.claim.fence}."
            )

    def _held(self) -> Held:
        return Held(list(self._calls), list(self._entries), list(self._writes), dict(self._fields))

    def _write(self, held: Held, tx: RunTransaction) -> None:
        """Put journal, entries and counters into `tx`. What became of effects is written at once, so that
        conditions and success criteria see it."""
        step = tx.step(self.path)
        if held.writes:
            tx.hold()
            for write in held.writes:
                write()
            tx.rows.append(_written)  # Counts as something to store.
        if held.calls:
            tx.transition.set_cost(self.path, **_counted(step, held.calls))
            tx.rows.append(lambda: self._write_calls(held.calls, tx.step(self.path).id))
        tx.transition.entries.extend(held.entries)
        if held.fields:
            tx.transition.change(self.path, **held.fields)

    def _write_calls(self, calls: list[CallRecord], step_id: int) -> None:
        leaves: list[Leaf] = []
        rows = [_row(call, step_id, self.attempt, leaves) for call in calls]
        write(self.workspace_id, self.run_id, leaves)
        Call.objects.bulk_create(rows)

    def _wrote(self, held: Held, tx: RunTransaction) -> None:
        self._unsure = None
        self.claim.state = tx.state
        self.claim.step = tx.state.steps[self.path]
        self.claim.together.learn(tx.run, tx.state)
        del self._calls[: len(held.calls)]
        del self._entries[: len(held.entries)]
        del self._writes[: len(held.writes)]
        self._fields = {}


@dataclass(frozen=True)
class Held:
    """What a handler recorded and no transaction has written yet."""

    calls: list[CallRecord]
    entries: list[NewEntry]
    writes: list[Callable[[], Any]]
    fields: dict[str, Any]


def _written() -> None:
    """Stands for rows that are already there."""


def _references(template: Any) -> frozenset[str]:
    if isinstance(template, str) and "{{" not in template:
        try:
            return expressions.compile_expression(template).references
        except expressions.ExpressionError:
            return frozenset()
    return expressions.references(template)


def _counted(step: Any, calls: list[CallRecord]) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "model_calls": step.model_calls + sum(c.kind == "model" for c in calls),
        "tool_calls": step.tool_calls + sum(c.kind == "tool" for c in calls),
        "cost_microusd": step.cost_microusd + sum(c.cost_microusd or 0 for c in calls),
    }
    if any(c.cost_microusd is None for c in calls):
        counts["cost_unknown"] = True
    return counts


def _row(call: CallRecord, step_id: int, attempt: int, leaves: list[Leaf]) -> Call:
    return Call(
        step_id=step_id,
        turn=call.turn,
        ordinal=call.ordinal,
        kind=call.kind,
        name=call.name,
        request_hash=call.request_hash,
        request=packed_value(call.request, leaves),
        response=packed_value(call.response, leaves),
        error=storable(call.error),
        attempt=attempt,
        started_at=call.started_at,
        latency_ms=call.latency_ms,
        input_tokens=call.input_tokens,
        output_tokens=call.output_tokens,
        cached_tokens=call.cached_tokens,
        unit_prices=call.unit_prices,
        cost_microusd=call.cost_microusd,
        effect_key=call.effect_key,
    )


def _record(row: Call) -> CallRecord:
    return CallRecord(
        kind=row.kind,
        name=row.name,
        turn=row.turn,
        ordinal=row.ordinal,
        request_hash=row.request_hash,
        request=row.request,
        response=row.response,
        started_at=row.started_at,
        latency_ms=row.latency_ms,
        error=row.error,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        unit_prices=row.unit_prices,
        cost_microusd=row.cost_microusd,
        effect_key=row.effect_key,
        attempt=row.attempt,
    )
