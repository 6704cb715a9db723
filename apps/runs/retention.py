"""What is kept how long, and how it goes: ended runs with all their rows, later their effects.

A run that has not ended is never touched, however old it is; nor is one that belongs to a run that has not
ended. Its ledger goes with the run and not by the entries' own age, since a run may wait for years and needs
all of its history then; that is why entries lie by (run, number) and are not partitioned by time: the same
index that reads a run's timeline finds them, nothing else has to be kept up with every step, and it is the
same on SQLite.

    archive     written and read back (`apps.runs.archive`)
    mark        under the run's lock, if it is still as archived: from here on nobody finds it
    remove      its rows, at most 500 a transaction, the run's own row last

Whatever dies in between, the next round goes on: a marked run is removed, an archive is written again. What
stays is a `RemovedRun`, which knows the archive and the run's idempotency key, and the effects, which are
remembered `MN_KEEP_EFFECTS_DAYS`, so that what happened once is not done again by a key that was forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.blueprints.models import Version
from apps.ledger import payloads
from apps.ledger.core.states import EffectState
from apps.ledger.errors import PayloadMissing
from apps.ledger.models import Effect, EntryBatch, Evidence, PayloadUse
from apps.runs.archive import Archive, restore_archive, write_archive
from apps.runs.core.states import RUN_ENDED
from apps.runs.errors import ArchiveBroken, RunConflict, RunNotFound
from apps.runs.models import RemovedRun, Run
from apps.runs.tables import Table, run_tables
from apps.runs.transact import lock_run
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.models import AuditEntry, Workspace
from apps.workspaces.services import audit
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import as_uuid
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
ROWS_AT_ONCE = 500
"""Rows one transaction deletes; on SQLite it holds the only write lock (ENGINE rule 5)."""
RUNS_AT_ONCE = 20
LOOKED_AT = 10_000
"""Ended runs a round looks through for some that may go."""
RESUME_AFTER = timedelta(hours=1)
"""A run marked that long ago was left by a process that died."""
SETTLED = (EffectState.COMMITTED, EffectState.FAILED, EffectState.INTENT)


def ended_before(days: float) -> QuerySet[Run]:
    """Runs that ended, or were brought back, more than so many days ago, the oldest first."""
    return _ended().filter(_older(days))


def due_runs() -> QuerySet[Run]:
    """Ended runs whose time is over by the settings, the oldest first."""
    settings = config()
    named, due = Q(pk__in=[]), Q(pk__in=[])
    # `workspace/class` goes before `class`, which goes before the two general ones.
    for name, days in sorted(settings.days_by_class.items(), key=lambda pair: "/" not in pair[0]):
        workspace, slash, class_ = name.rpartition("/")
        these = Q(workflow_class=class_) & (Q(workspace__slug=workspace) if slash else Q())
        if days:
            due |= these & ~named & _older(days)
        named |= these
    passing = Q(simulate=True) | Q(is_demo=True)
    for general, days in ((passing, settings.keep_simulated_days), (~passing, settings.keep_runs_days)):
        if days:
            due |= general & ~named & _older(days)
    return _ended().filter(due)


def _older(days: float) -> Q:
    before = now() - timedelta(days=days)
    # The first adds nothing: it lets the index of a workspace's runs find them, so that a run's end need not
    # enter another one.
    old = Q(created_at__lt=before, ended_at__lt=before)
    return old & (Q(restored_at=None) | Q(restored_at__lt=before))


def _ended() -> QuerySet[Run]:
    ended = Run.objects.filter(status__in=RUN_ENDED, ended_at__isnull=False, removed_at=None)
    return ended.order_by("created_at")


def removable(runs: QuerySet[Run], limit: int) -> list[UUID]:
    """Of these ended runs the first that are part of no run that has not ended."""
    found: list[UUID] = []
    for start in range(0, LOOKED_AT, ROWS_AT_ONCE):
        some = list(runs.values_list("id", "root_id")[start : start + ROWS_AT_ONCE])
        roots = {root or run_id for run_id, root in some}
        family = Run.objects.filter(Q(id__in=roots) | Q(root_id__in=roots)).exclude(status__in=RUN_ENDED)
        busy = {root or run_id for run_id, root in family.values_list("id", "root_id")}
        found += [run_id for run_id, root in some if (root or run_id) not in busy]
        if len(found) >= limit or len(some) < ROWS_AT_ONCE:
            break
    return found[:limit]


def prune(seconds: float = 5.0) -> int:
    """Archive and remove what is due, for about so long; returns how many runs went."""
    end, gone = time.monotonic() + seconds, 0
    for run_id in list(
        Run.objects.filter(removed_at__lt=now() - RESUME_AFTER).values_list("id", flat=True)[:RUNS_AT_ONCE]
    ):
        remove_rows(run_id)
    for workspace_id in Workspace.objects.order_by("id").values_list("id", flat=True):
        for run_id in removable(due_runs().filter(workspace_id=workspace_id), RUNS_AT_ONCE):
            if time.monotonic() > end:
                return gone
            gone += _prune(run_id)
    return gone


def _prune(run_id: UUID) -> int:
    try:
        remove_run(run_id, archive=write_archive(run_id) if config().archive else None)
    except (RunNotFound, RunConflict):
        return 0  # Somebody reopened or removed it meanwhile.
    except (OSError, ArchiveBroken, PayloadMissing) as exc:
        log.error("archive.failed", run=str(run_id), error=str(exc), next="The run is kept; free some space.")
        return 0
    return 1


def remove_run(run_id: UUID, *, archive: Archive | None) -> None:
    """Remove an ended run and all that goes with it.

    archive: what was written of it; the run must still be exactly that. None removes it for good.
    Raises RunNotFound; RunConflict when it has not ended, or has changed since it was archived.
    """
    with transaction.atomic():
        run = lock_run(run_id)
        if not removable(_ended().filter(id=run_id), 1):
            raise RunConflict(f"Run {run_id} has not ended, or is part of one that has not.")
        if archive is not None:
            _same(run, archive)
        assert run.ended_at is not None
        RemovedRun.objects.update_or_create(
            id=run.id,
            defaults={
                "workspace_id": run.workspace_id, "blueprint_name": run.blueprint_name,
                "workflow_class": run.workflow_class, "status": run.status, "ended_at": run.ended_at,
                "removed_at": now(), "archive": str(archive.path) if archive else "",
                "forked_from": run.forked_from,
                "idempotency_key": run.idempotency_key,
                "idempotency_fingerprint": run.idempotency_fingerprint,
            },
        )  # fmt: skip
        Run.objects.filter(id=run_id).update(removed_at=now())
    remove_rows(run_id)


def _same(run: Run, archive: Archive) -> None:
    """Raises RunConflict when the rows under the lock are not those in the file."""
    counts = {table.name: table.rows(run.id).count() for table in run_tables()}
    written = {name: archive.rows.get(name, 0) for name in counts}
    if run.seq != archive.head["seq"] or counts != written:
        raise RunConflict(f"Run {run.id} has changed since it was archived.", next="Archive it again.")


def remove_rows(run_id: UUID) -> None:
    """Delete the rows of a marked run, at most 500 a transaction; its own row comes last."""
    for table in reversed(run_tables()):
        rows = table.rows(run_id)
        if table.model is PayloadUse:
            rows = rows.filter(outlives=False)
        while _delete_some(table, rows):
            pass
    with transaction.atomic():
        Run.objects.filter(id=run_id, removed_at__isnull=False)._raw_delete("default")
    payloads.forget_known(run_id)


def _delete_some(table: Table, rows: QuerySet[Any]) -> int:
    """One bounded transaction; children went before, so nothing has to be looked for below these rows."""
    key = {EntryBatch: "seq", PayloadUse: "hash"}.get(table.model, "pk")
    keys = list(rows.order_by().values_list(key, flat=True)[:ROWS_AT_ONCE])
    if keys:
        with transaction.atomic():
            mine = rows if key != "pk" else table.model._base_manager.all()
            mine.filter(**{f"{key}__in": keys}).order_by()._raw_delete("default")
    return len(keys) if len(keys) == ROWS_AT_ONCE else 0


# --- what outlives runs -----------------------------------------------------------------------------------


def forget_effects() -> int:
    """Delete effects that are remembered long enough and whose run is gone; one bounded batch."""
    before = now() - timedelta(days=config().keep_effects_days)
    run = Run.objects.filter(id=OuterRef("run_id"))
    old = Effect.objects.filter(created_at__lt=before, state__in=SETTLED).filter(~Exists(run))
    found = list(old.order_by("created_at").values_list("id", "run_id")[: ROWS_AT_ONCE // 2])
    if not found:
        return 0
    with transaction.atomic():
        Evidence.objects.filter(effect_id__in=[id for id, _ in found])._raw_delete("default")
        Effect.objects.filter(id__in=[id for id, _ in found])._raw_delete("default")
    forget_uses({run_id for _, run_id in found})
    return len(found)


def forget_uses(run_ids: Iterable[UUID]) -> None:
    """Drop what runs that are gone no longer use, once their effects are gone too.

    In one statement: a run that is brought back is there before its uses are, so whoever sees them sees it.
    """
    run, effect = Run.objects.filter(id=OuterRef("run_id")), Effect.objects.filter(run_id=OuterRef("run_id"))
    PayloadUse.objects.filter(run_id__in=list(run_ids)).filter(~Exists(run), ~Exists(effect)).delete()


def forget_orphans() -> int:
    """Drop uses of runs that went with their workspace, which asks nobody."""
    run, effect = Run.objects.filter(id=OuterRef("run_id")), Effect.objects.filter(run_id=OuterRef("run_id"))
    lost = PayloadUse.objects.filter(~Exists(run), ~Exists(effect))
    found = set(lost.values_list("run_id", flat=True)[:ROWS_AT_ONCE])
    forget_uses(found)
    return len(found)


def forget_keys() -> int:
    """Drop what is left of runs removed long ago; from then on their keys are new keys."""
    before = now() - timedelta(days=config().keep_effects_days)
    found = RemovedRun.objects.filter(removed_at__lt=before).values_list("id", flat=True)[:ROWS_AT_ONCE]
    return RemovedRun.objects.filter(id__in=list(found)).delete()[0]


def forget_trials() -> int:
    """Delete versions that were made for tests and that no run uses any more; one bounded batch.

    A run that was archived brings its own along (`apps.runs.archive`).
    """
    # A test that is being started has made its version but not yet its run.
    old = Version.objects.filter(is_trial=True, created_at__lt=now() - RESUME_AFTER).order_by("id")
    made = list(old.values_list("id", flat=True))
    for start in range(0, len(made), ROWS_AT_ONCE):
        unused = _without_runs(made[start : start + ROWS_AT_ONCE])
        if unused:
            with transaction.atomic():
                held = Version.objects.select_for_update(of=("self",)).filter(id__in=unused).order_by("id")
                gone = _without_runs([version.id for version in held])
                Version.objects.filter(id__in=gone).delete()
            return len(gone)
    return 0


def _without_runs(versions: list[UUID]) -> list[UUID]:
    used = set(Run.objects.filter(version_id__in=versions).order_by().values_list("version_id", flat=True))
    return [version for version in versions if version not in used]


def forget_audit() -> int:
    """Drop audit entries, where a limit is set."""
    if not config().keep_audit_days:
        return 0
    before = now() - timedelta(days=config().keep_audit_days)
    found = (
        AuditEntry.objects.filter(at__lt=before).order_by("id").values_list("id", flat=True)[:ROWS_AT_ONCE]
    )
    return AuditEntry.objects.filter(id__in=list(found))._raw_delete("default")


# --- for people -------------------------------------------------------------------------------------------


def archive_runs(
    principal: Principal, run_ids: Iterable[UUID], *, folder: Path | None = None, delete: bool = False
) -> list[Archive]:
    """Write these ended runs to their files, and remove them if asked to; each file is checked first.

    Raises RunNotFound, RunConflict, ArchiveBroken for the first that cannot be; those before it are done.
    """
    principal.require(Permission.ADMINISTER if delete else Permission.READ)
    done = []
    for run_id in run_ids:
        if not Run.objects.filter(id=run_id, workspace=principal.workspace).exists():
            raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
        archive = write_archive(run_id, folder)
        if delete:
            remove_run(run_id, archive=archive)
            audit(principal, "run.archive", str(run_id), {"file": str(archive.path)})
        done.append(archive)
    return done


def bring_back(principal: Principal, given: str) -> Run:
    """Restore an archived run: a file, or the id of a run that was archived here.

    Raises RunNotFound when nothing is known of it, and what `restore_archive` raises.
    """
    principal.require(Permission.ADMINISTER)
    path = Path(given)
    identity = as_uuid(given)
    if identity is not None:
        gone = (
            RemovedRun.objects.filter(id=identity, workspace=principal.workspace).exclude(archive="").first()
        )
        if gone is None:
            raise RunNotFound(f"No archive of run {given} is known here.", next="Name its file instead.")
        path = Path(gone.archive)
    run = restore_archive(path, principal.workspace)
    audit(principal, "run.restore", str(run.id), {"file": str(path)})
    return run
