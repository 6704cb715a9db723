"""Concurrency keys: how many steps with one key run at once, over all runs of a workspace.

A slot is a counter row, locked after the run's row (ENGINE rule 2).

    take      in the claim's transaction; a full slot makes the step `waiting(slot)` instead
    let_go    in the transaction in which a step stops running, whatever the reason
    admit     after that commit, and in upkeep: as many waiting steps become ready as there are free places

A waiting step is not promised its place: it becomes ready with the age it had, and claims again. So the
counter counts exactly the steps that run, and nothing is held by a step that cannot run. A transaction takes
at most one slot and never takes one while it lets another go; so no two transactions wait for each other.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Count, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce

from apps.runs.core.limits import LIMITS
from apps.runs.core.states import StepStatus, WaitReason
from apps.runs.errors import RunNotFound, StaleStep, StepError
from apps.runs.models import Slot, Step
from apps.runs.passing_over import passed_over
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger
from mirrorneuron.base.safejson import canonical

if TYPE_CHECKING:
    from apps.runs.transact import RunTransaction

log = logger(__name__)
MAX_KEY = 200


def take(tx: RunTransaction, path: str) -> bool:
    """Take the slot of a ready step that is about to be claimed in this transaction.

    False: it may not run now, and waits for its slot (or has failed, because its key cannot be evaluated).
    """
    step = tx.step(path)
    concurrency = tx.transition.node_of(step).concurrency
    if concurrency is None:
        return True
    try:
        key = key_of(tx.names.render(concurrency.key, step.scope))
    except StepError as exc:
        tx.transition.fail(path, exc.as_json())
        return False
    if not key:
        return True
    tx.hold()
    slot = _locked(tx.state.workspace_id, key, concurrency.limit)
    if slot.in_use >= concurrency.limit:
        Slot.objects.filter(id=slot.id).update(is_wanted=True, cap=concurrency.limit)
        tx.transition.wait_for_slot(path, key)
        return False
    Slot.objects.filter(id=slot.id).update(in_use=F("in_use") + 1, cap=concurrency.limit)
    tx.transition.hold_slot(path, key)
    return True


def key_of(value: Any) -> str:
    """A slot's key from what a blueprint's template gives; empty for nothing, and then no limit holds."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else canonical(value)
    if len(text) > MAX_KEY:
        text = f"{text[: MAX_KEY - 33]}#{sha256(text.encode()).hexdigest()[:32]}"
    return text


def _locked(workspace_id: UUID, key: str, cap: int) -> Slot:
    rows = Slot.objects.filter(workspace_id=workspace_id, key=key)
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(of=("self",))
    slot = rows.first()
    while slot is None:
        Slot.objects.bulk_create([Slot(workspace_id=workspace_id, key=key, cap=cap)], ignore_conflicts=True)
        slot = rows.first()
    return slot


def let_go(tx: RunTransaction) -> None:
    """Give back the slots of steps that this decision takes out of `running`."""
    freed: Counter[str] = Counter()
    for path, (before, _) in list(tx.transition.expected.items()):
        step = tx.state.steps.get(path)
        if step is None or not step.slot:
            continue
        has_let_go = before is StepStatus.RUNNING and step.status is not StepStatus.RUNNING
        if has_let_go:
            freed[step.slot] += 1
        if has_let_go or step.has_ended:
            tx.transition.hold_slot(path, "")
    if freed:
        workspace_id = tx.state.workspace_id
        tx.rows.append(lambda: _give_back(workspace_id, freed))
        tx.after.append(lambda: _admit_all(workspace_id, sorted(freed)))


def _give_back(workspace_id: UUID, freed: Counter[str]) -> None:
    for key in sorted(freed):
        slot = Slot.objects.filter(workspace_id=workspace_id, key=key, in_use__gte=freed[key])
        if slot.update(in_use=F("in_use") - freed[key]) != 1:
            # Reconciliation counts again; a step's outcome is worth more than a counter.
            log.error("slot.not_in_use", workspace=str(workspace_id), key=key)


# --- waking -----------------------------------------------------------------------------------------------


def _admit_all(workspace_id: UUID, keys: list[str]) -> None:
    for slot in Slot.objects.filter(workspace_id=workspace_id, key__in=keys, is_wanted=True):
        admit(slot)


def admit_waiting() -> int:
    """Let steps in wherever there is room and somebody waits; what a lost wake-up, a pause or a crash left
    behind. Returns how many."""
    # Those that paused runs alone wait for come last; they may be many, and stay as they are.
    found = {slot.id: slot for look in (wanted_now, with_room) for slot in look()[: LIMITS.due_batch]}
    return sum(admit(slot) for slot in found.values())


def with_room() -> QuerySet[Slot]:
    """Slots that have room and that somebody may be waiting for."""
    return Slot.objects.filter(is_wanted=True, in_use__lt=F("cap"))


def wanted_now() -> QuerySet[Slot]:
    """Those of them that a step of a run that is not paused waits for."""
    waiting = keyed_steps().filter(
        workspace_id=OuterRef("workspace_id"), slot=OuterRef("key"), status=StepStatus.WAITING,
        reason=WaitReason.SLOT, run__pause_requested=False,
    )  # fmt: skip
    # A value and not EXISTS, which PostgreSQL may turn into a join that begins with all steps there are; this
    # is looked at for a slot that has room, and mostly there is none.
    return with_room().annotate(waits=Subquery(waiting.values("id")[:1])).filter(waits__isnull=False)


def admit(slot: Slot) -> int:
    """Make as many waiting steps ready as there are free places; the most urgent and oldest first."""
    free = slot.cap - slot.in_use - _on_their_way(slot)
    if free <= 0:
        return 0
    waiting = _waiting(slot).filter(run__pause_requested=False).order_by("priority", "ready_at", "id")
    let_in = stuck = 0
    while free > 0 and stuck < LIMITS.due_batch:
        found = list(waiting.values_list("run_id", "path")[stuck : stuck + free])
        if not found:
            break
        for run_id, path in found:
            moved = _let_in(run_id, path, slot.key)
            if moved is None:
                stuck += 1  # It must not keep its place from all those behind it.
            else:
                free -= 1
                let_in += moved
    if not let_in and not stuck and free > 0:
        _nobody_waits(slot)
    return let_in


def keyed_steps() -> QuerySet[Step]:
    """Steps that hold or want a slot, said in the words of their index."""
    return Step.objects.exclude(slot="")


def _waiting(slot: Slot) -> QuerySet[Step]:
    return keyed_steps().filter(
        workspace_id=slot.workspace_id, slot=slot.key, status=StepStatus.WAITING, reason=WaitReason.SLOT
    )


def _on_their_way(slot: Slot) -> int:
    """Steps that were let in and not claimed yet; after a while their places go to others."""
    return keyed_steps().filter(
        workspace_id=slot.workspace_id, slot=slot.key, status=StepStatus.READY, due_at__gt=now(),
        run__pause_requested=False,
    ).count()  # fmt: skip


def _let_in(run_id: UUID, path: str, key: str) -> int | None:
    """How many were let in; 0 when it cannot be said just now, None when nothing can be made of the run."""
    from apps.runs.transact import RunBusy, locked_run

    try:
        with locked_run(run_id, path, skip_locked=True) as tx:
            step = tx.step(path)
            if (step.status, step.reason, step.slot) != (StepStatus.WAITING, WaitReason.SLOT, key):
                return 0
            if tx.state.pause_requested:
                return 0
            tx.transition.let_in(path, now() + timedelta(seconds=LIMITS.let_in_seconds))
        return 1
    except RunBusy:
        return 0
    except (RunNotFound, StaleStep):
        return None
    except Exception as exc:
        passed_over(run_id, exc)
        return None


def _nobody_waits(slot: Slot) -> None:
    """Stop looking at a slot, unless somebody has just begun to wait (also in a paused run)."""
    with transaction.atomic():
        rows = Slot.objects.filter(id=slot.id)
        if connection.features.has_select_for_update:
            rows = rows.select_for_update(of=("self",))
        # Whoever finds it full holds this row until it waits; so now everybody who waits is seen.
        if rows.first() is not None and not _waiting(slot).exists():
            Slot.objects.filter(id=slot.id).update(is_wanted=False)


# --- reconciliation ---------------------------------------------------------------------------------------


def miscounted() -> QuerySet[Slot]:
    """Slots whose counter differs from the steps that run; each has the right one as `running`."""
    running = (
        keyed_steps()
        .filter(workspace_id=OuterRef("workspace_id"), slot=OuterRef("key"), status=StepStatus.RUNNING)
        .order_by()
        .values("slot")
        .annotate(n=Count("id"))
        .values("n")
    )
    counted = Coalesce(Subquery(running, output_field=IntegerField()), 0)
    return Slot.objects.annotate(running=counted).exclude(in_use=F("running"))


def reconcile() -> int:
    """Set every counter to what really runs, and drop slots that nobody uses; returns how many were wrong."""
    mended = 0
    for found in list(miscounted()[: LIMITS.due_batch]):
        with transaction.atomic():
            rows = Slot.objects.filter(id=found.id)
            if connection.features.has_select_for_update:
                rows = rows.select_for_update(of=("self",))
            if rows.first() is None:
                continue
            # A new statement: whoever takes or lets go now waits for this row, so the count stands still.
            for slot in miscounted().filter(id=found.id):
                running = slot.running  # type: ignore[attr-defined]
                Slot.objects.filter(id=slot.id).update(in_use=running)
                log.warning("slot.miscounted", key=slot.key, counted=slot.in_use, running=running)
                mended += 1
    Slot.objects.filter(Q(in_use=0, is_wanted=False)).delete()
    return mended
