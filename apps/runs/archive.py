"""Ended runs as files: one gzip file of JSON Lines per run, complete, checked, and readable without us.

    {"format": "mirrorneuron.run/1", "run": …, "workspace": …, "seq": …, "rows": {table: count}}
    {"table": "runs.run", "row": {…}}
    {"table": "runs.step", "row": {…}} …          steps, attempts, calls, signals, approvals, decisions
    {"table": "ledger.entrybatch", "row": {…}} …  the ledger, then effects and their evidence
    {"payload": hash, "type": …, "text": …} …     what references stand for
    {"end": lines before this one, "sha256": of all of them}

A file is written beside its place, flushed to the disk and renamed. Before a run may be removed for it, it is
read back from the disk and checked against its own sum and against the rows as they are then.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.blueprints.models import Blueprint, Version
from apps.ledger import payloads
from apps.ledger.models import Effect, PayloadUse
from apps.runs.core.states import RUN_ENDED
from apps.runs.errors import ArchiveBroken, RunConflict, RunNotFound
from apps.runs.models import RemovedRun, Run
from apps.runs.tables import EFFECTS, READ_AT_ONCE, Table, made, read, run_tables, table_called
from apps.workspaces.models import User, Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import Leaf, Ref
from mirrorneuron.config import config, make_private

FORMAT = "mirrorneuron.run/1"
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


@dataclass(frozen=True)
class Archive:
    """A file that was read back and found whole."""

    path: Path
    head: dict[str, Any]

    @property
    def run_id(self) -> UUID:
        return UUID(self.head["run"])

    @property
    def rows(self) -> dict[str, int]:
        return dict(self.head["rows"])


def archive_folder() -> Path:
    folder = config().archive_folder
    if folder is None:
        return config().folder("archive")
    make_private(folder)
    return folder


def write_archive(run_id: UUID, folder: Path | None = None) -> Archive:
    """Write an ended run to its file and check the file. A file that is there already is replaced.

    Raises RunNotFound; RunConflict for a run that has not ended; ArchiveBroken when what was written does not
    read back; OSError when the folder cannot be written.
    """
    run = Run.objects.filter(id=run_id, removed_at=None).first()
    if run is None:
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    if run.status not in RUN_ENDED or run.ended_at is None:
        raise RunConflict(f"Run {run_id} is {run.status}; only a run that has ended is archived.")
    place = (folder or archive_folder()) / str(run.workspace_id) / f"{run.ended_at:%Y-%m}"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = place / f"{run_id}.jsonl.gz"
    descriptor, temporary = tempfile.mkstemp(dir=place, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            # No name and no time inside, so that one run always gives the same bytes.
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
                _write(packed, _lines(run))
            file.flush()
            os.fsync(file.fileno())
        archive = read_archive(Path(temporary))
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync(place)
    return Archive(path, archive.head)


def _lines(run: Run) -> Iterator[dict[str, Any]]:
    tables = (Table(Run, "id"), *run_tables(), *EFFECTS)
    yield {
        "format": FORMAT,
        "run": str(run.id),
        "workspace": str(run.workspace_id),
        "blueprint": run.blueprint_name,
        "class": run.workflow_class,
        "status": run.status,
        "seq": run.seq,
        "ended_at": run.ended_at.isoformat() if run.ended_at else None,
        "rows": {table.name: table.rows(run.id).count() for table in tables},
        **_trial(run),
    }
    for table in tables:
        for row in read(table, run.id):
            yield {"table": table.name, "row": row}
    hashes = sorted(set(PayloadUse.objects.filter(run_id=run.id).values_list("hash", flat=True)))
    for hash_ in hashes:
        found = payloads.stored(hash_)
        yield {"payload": hash_, "type": found.ref.type, "begins": found.ref.begins, "text": found.text}


def _trial(run: Run) -> dict[str, Any]:
    """The version of a test goes with its last run, so the file has it too."""
    version = run.version
    if not version.is_trial:
        return {}
    fields = ("content_hash", "document", "source", "notes")
    kept = {name: getattr(version, name) for name in fields}
    return {"trial": kept | {"created_at": version.created_at.isoformat()}}


def _write(file: Any, lines: Iterable[dict[str, Any]]) -> None:
    summed, count = hashlib.sha256(), 0
    for line in lines:
        data = _encode(line).encode("utf-8", "surrogatepass") + b"\n"
        summed.update(data)
        file.write(data)
        count += 1
    file.write(_encode({"end": count, "sha256": summed.hexdigest()}).encode() + b"\n")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading ----------------------------------------------------------------------------------------------


def read_archive(path: Path) -> Archive:
    """Read a file from beginning to end. Raises ArchiveBroken in words when anything is missing or wrong."""
    head: dict[str, Any] | None = None
    rows: Counter[str] = Counter()
    for line in _checked(path):
        if head is None:
            head = line
            if head.get("format") != FORMAT:
                raise ArchiveBroken(path, f'its format is {head.get("format")!r}; expected "{FORMAT}"')
        elif "table" in line:
            rows[line["table"]] += 1
        elif "payload" in line and _hash(line) != line["payload"]:
            raise ArchiveBroken(path, f"the payload {line['payload'][:16]}… is not what its name says")
    if head is None:
        raise ArchiveBroken(path, "it is empty")
    expected = {name: count for name, count in head["rows"].items() if count}
    if dict(rows) != expected:
        raise ArchiveBroken(path, f"it holds {dict(rows)}; its head says {expected}")
    return Archive(path, head)


def _hash(line: dict[str, Any]) -> str:
    return hashlib.sha256(f"{line['type']}:{line['text']}".encode()).hexdigest()


def _checked(path: Path) -> Iterator[dict[str, Any]]:
    """Every line but the last, which is compared with them."""
    summed, count, ended = hashlib.sha256(), 0, False
    try:
        with gzip.open(path, "rb") as file:
            for data in file:
                if ended:
                    raise ArchiveBroken(path, "something follows its end")
                line = json.loads(data)
                if "end" in line:
                    if line != {"end": count, "sha256": summed.hexdigest()}:
                        raise ArchiveBroken(path, "its sum does not agree with its content")
                    ended = True
                    continue
                summed.update(data)
                count += 1
                yield line
    except (EOFError, ValueError, OSError) as exc:
        raise ArchiveBroken(path, str(exc) or type(exc).__name__) from exc
    if not ended:
        raise ArchiveBroken(path, "it stops in the middle")


# --- bringing back ----------------------------------------------------------------------------------------


def restore_archive(path: Path, workspace: Workspace) -> Run:
    """Bring an archived run back, equal in all it shows; effects that are still there stay as they are.

    The run is there for everybody once all of it is. Raises ArchiveBroken; RunConflict when the run is there,
    belongs to another workspace, or its blueprint's version is not here.
    """
    archive = read_archive(path)
    run_id = archive.run_id
    if archive.head["workspace"] != str(workspace.id):
        raise RunConflict(f"Run {run_id} belongs to another workspace ({archive.head['workspace']}).")
    known = Run.objects.filter(id=run_id).first()
    if known is not None and known.removed_at is None:
        raise RunConflict(f"Run {run_id} is here already.")
    if known is not None:
        from apps.runs.retention import remove_rows

        remove_rows(run_id)  # What an interrupted removal or restore has left.
    _restore(path, archive, workspace)
    return Run.objects.get(id=run_id)


def _restore(path: Path, archive: Archive, workspace: Workspace) -> None:
    run_id = archive.run_id
    kept = set(Effect.objects.filter(run_id=run_id).values_list("id", flat=True))
    ids: dict[tuple[str, Any], Any] = {}
    waiting: list[tuple[Table, dict[str, Any]]] = []

    def store() -> None:
        if waiting:
            with transaction.atomic():
                _insert(waiting, ids, kept)
            waiting.clear()

    # The run's own row before all others: it keeps what it uses. Payloads before what refers to them.
    for line in _checked(path):
        if line.get("table") == "runs.run":
            with transaction.atomic():
                _run_row(archive, line["row"], workspace).save(force_insert=True)
            break
    for line in _checked(path):
        if "payload" in line:
            text = line["text"]
            ref = Ref(line["payload"], len(text.encode()), line["type"], line["begins"])
            with transaction.atomic():
                payloads.write(workspace.id, run_id, [Leaf(ref, text)])
    for line in _checked(path):
        if "table" not in line or line["table"] == "runs.run":
            continue
        table, row = table_called(line["table"]), line["row"]
        if waiting and (len(waiting) >= READ_AT_ONCE or waiting[-1][0].name != table.name):
            store()
        waiting.append((table, row))
    store()
    with transaction.atomic():
        Run.objects.filter(id=run_id).update(removed_at=None, restored_at=now())
        RemovedRun.objects.filter(id=run_id).delete()


def _run_row(archive: Archive, values: dict[str, Any], workspace: Workspace) -> Run:
    run = made(table_called("runs.run"), values)
    assert isinstance(run, Run)
    version = Version.objects.filter(id=run.version_id, blueprint__workspace=workspace).first()
    if version is None and "trial" in archive.head:
        version = _trial_again(archive.head["trial"], run, workspace)
    if version is None:
        raise RunConflict(
            f'Run {run.id} needs a version of blueprint "{run.blueprint_name}" that is not here '
            f"({run.version_id}).",
            next="Restore the database it came from, or import that blueprint there.",
        )
    run.started_by_id = _known_user(run.started_by_id)
    run.removed_at = now()
    return run


def _trial_again(kept: dict[str, Any], run: Run, workspace: Workspace) -> Version | None:
    """The version of a test that was cleared away; the same part of one text is still one version."""
    blueprint = Blueprint.objects.filter(workspace=workspace, name=run.blueprint_name).first()
    if blueprint is None:
        return None
    defaults = {
        "id": run.version_id,
        "document": kept["document"],
        "source": kept["source"],
        "notes": kept["notes"],
        "is_trial": True,
        "created_at": datetime.fromisoformat(kept["created_at"]),
    }
    version, _ = Version.objects.get_or_create(
        blueprint=blueprint, content_hash=kept["content_hash"], defaults=defaults
    )
    run.version = version
    return version


def _insert(
    rows: list[tuple[Table, dict[str, Any]]], ids: dict[tuple[str, Any], Any], kept: set[UUID]
) -> None:
    """Insert rows of one table; those of effects that are still there are left out."""
    table = rows[0][0]
    objects, numbers = [], []
    for _, values in rows:
        if table.name == "ledger.effect" and UUID(values["id"]) in kept:
            continue
        if table.name == "ledger.evidence" and UUID(values["effect_id"]) in kept:
            continue
        row = made(table, values)
        if table.above is not None:
            name = str(table.above._meta.label_lower)
            setattr(row, table.parent, ids.get((name, values[table.parent]), getattr(row, table.parent)))
        for column in table.columns:
            if column.is_relation and column.related_model is User:
                setattr(row, column.attname, _known_user(getattr(row, column.attname)))
        objects.append(row)
        numbers.append(values.get("$id"))
    made_rows = table.model._base_manager.bulk_create(objects, ignore_conflicts=table.model is PayloadUse)
    for number, row in zip(numbers, made_rows, strict=True):
        if number is not None:
            ids[table.name, number] = row.pk


def _known_user(user_id: Any) -> Any:
    return user_id if user_id and User.objects.filter(id=user_id).exists() else None
