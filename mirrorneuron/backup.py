"""The whole installation in one file, taken while it works, and put back.

    manifest.json        format, version, when, which database, every member with its size and SHA-256
    database.sqlite3     SQLite: an online copy, consistent as of one moment
    database.dump        PostgreSQL: `pg_dump -Fc`
    files/… outbox/… archive/…   what lies beside the database
    secret.key           only if asked for: who has it and the database can read every credential

The database is copied first: files are written before any row names them and never changed, so what is copied
later holds all that the rows need. Putting back checks every member before it touches anything, refuses to
write over data unless told, and then sets the old data aside instead of deleting it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mirrorneuron import __version__, datalock
from mirrorneuron.base.errors import Conflict, InvalidInput, MirrorNeuronError, Unavailable
from mirrorneuron.config import config, make_private

FORMAT = "mirrorneuron.backup/1"
BESIDE = ("files", "outbox", "archive")
"""Folders of MN_DATA that belong to the data."""
MANIFEST = "manifest.json"
SQLITE, POSTGRES, KEY = "database.sqlite3", "database.dump", "secret.key"
PIECE = 1024 * 1024


class BackupBroken(InvalidInput):
    code = "backup_broken"

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is no whole backup: {why}.", next="Take another copy of the file.")


# --- taking one -------------------------------------------------------------------------------------------


def back_up(path: Path, *, with_key: bool = False) -> dict[str, Any]:
    """Write a backup of the running installation; returns its manifest. An existing file is not written over.

    Raises Conflict when the file exists, Unavailable when PostgreSQL's own tools are missing or fail, OSError
    when the file cannot be written.
    """
    if path.exists():
        raise Conflict(f"{path} exists already.", next="Name another file, or move this one away.")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".backup-")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            manifest = _write(file, with_key)
            file.flush()
            os.fsync(file.fileno())
        with opened(temporary):
            pass  # Read back whole, or it is no backup.
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


def _write(file: Any, with_key: bool) -> dict[str, Any]:
    settings = config()
    members: dict[str, dict[str, Any]] = {}
    with (
        tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as tar,
        tempfile.TemporaryDirectory() as name,
    ):
        folder = Path(name)
        database = _copy_sqlite(folder) if settings.is_sqlite else _dump_postgres(folder)
        _add(tar, database, database.name, members)
        for beside in BESIDE:
            for found in sorted((settings.data / beside).rglob("*")):
                if found.is_file() and not found.name.startswith(".new-"):
                    _add(tar, found, str(found.relative_to(settings.data)), members)
        key = settings.data / KEY
        if with_key and key.exists():
            _add(tar, key, KEY, members)
        manifest = {
            "format": FORMAT,
            "version": __version__,
            "at": datetime.now(UTC).isoformat(),
            "database": "sqlite" if settings.is_sqlite else "postgresql",
            "secret_key": _key_note(KEY in members),
            "members": members,
        }
        data = json.dumps(manifest, indent=1).encode()
        entry = tarfile.TarInfo(MANIFEST)
        entry.size, entry.mode = len(data), 0o600
        tar.addfile(entry, io.BytesIO(data))
    return manifest


def _key_note(included: bool) -> str:
    if included:
        return "included: whoever has this file can read every credential in it"
    return "not included: keep it elsewhere; without it stored credentials cannot be read and sessions end"


def _add(tar: tarfile.TarFile, source: Path, name: str, members: dict[str, dict[str, Any]]) -> None:
    with source.open("rb") as file:
        entry = tar.gettarinfo(arcname=name, fileobj=file)
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o600
        summed = _Summed(file)
        tar.addfile(entry, summed)
    members[name] = {"size": entry.size, "sha256": summed.sha256.hexdigest()}


class _Summed:
    """A file that is summed as it is read."""

    def __init__(self, file: Any) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.file.read(size)
        self.sha256.update(data)
        return data


def _database_path() -> Path:
    settings = config()
    named = settings.database_url.removeprefix("sqlite://")
    return Path(named) if named else settings.data / "mirrorneuron.sqlite3"


def _copy_sqlite(folder: Path) -> Path:
    """An online copy: writers go on meanwhile, the copy is the database of one moment."""
    source, target = _database_path(), folder / SQLITE
    if not source.exists():
        raise Unavailable(f"There is no database at {source}.", next="Check MN_DATA, or start `mn up` once.")
    with contextlib.closing(
        sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)
    ) as live:
        with contextlib.closing(sqlite3.connect(target)) as copy:
            live.backup(copy)  # All pages in one step: one read transaction.
            copy.execute("PRAGMA journal_mode=DELETE")
            said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise Unavailable(f"The copy of {source} is not sound: {said}.", next="Run `mn doctor`.")
    return target


def _dump_postgres(folder: Path) -> Path:
    target = folder / POSTGRES
    _run("pg_dump", ["--format=custom", "--no-owner", "--no-privileges", f"--file={target}"])
    return target


def _run(tool: str, arguments: list[str]) -> None:
    """One of PostgreSQL's tools on our database; the password goes by the environment, unseen."""
    program = shutil.which(tool)
    if program is None:
        raise Unavailable(
            f"{tool} is not installed here, and a backup of PostgreSQL needs it.",
            code="tool_missing",
            next="Install PostgreSQL's client tools, of the server's version or later.",
        )
    url = urlsplit(config().database_url)
    environment = dict(os.environ)
    for name, value in (
        ("PGHOST", url.hostname), ("PGPORT", url.port), ("PGUSER", url.username),
        ("PGPASSWORD", url.password), ("PGDATABASE", url.path.lstrip("/")),
    ):  # fmt: skip
        if value:
            environment[name] = unquote(str(value))
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own tool, without a shell
        [program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join(done.stderr.split())[:500] or f"exit code {done.returncode}"
        raise Unavailable(f"{tool} failed: {said}", next="Correct this and try again.")


# --- putting one back -------------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path, folder: Path | None = None) -> Iterator[tuple[dict[str, Any], Path | None]]:
    """(manifest, folder) of a backup whose every member was found and summed; with a folder, they are put
    there. Raises BackupBroken."""
    sums: dict[str, dict[str, Any]] = {}
    manifest: Any = None
    try:
        with tarfile.open(path, "r:gz") as tar:
            for entry in tar:
                name = _safe(path, entry)
                source = tar.extractfile(entry)
                if source is None:
                    raise BackupBroken(path, f"{name} cannot be read")
                if name == MANIFEST:
                    manifest = json.loads(source.read())
                else:
                    sums[name] = _keep(source, folder / name if folder else None)
    except (OSError, tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, RecursionError) as exc:
        raise BackupBroken(path, str(exc) or type(exc).__name__) from exc
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BackupBroken(path, f'its format is not "{FORMAT}"')
    if not isinstance(manifest.get("members"), dict):
        raise BackupBroken(path, "its manifest lists no members")
    if {"sqlite": SQLITE, "postgresql": POSTGRES}.get(str(manifest.get("database"))) not in sums:
        raise BackupBroken(path, "it holds no database")
    if manifest["members"] != sums:
        wrong = {
            name for name in {*manifest["members"], *sums} if manifest["members"].get(name) != sums.get(name)
        }
        raise BackupBroken(path, f"{min(wrong)} is missing or has changed")
    yield manifest, folder


def _safe(path: Path, entry: tarfile.TarInfo) -> str:
    """The member's name. Raises BackupBroken for one that a backup of ours never has."""
    parts = Path(entry.name).parts
    known = entry.name in (MANIFEST, SQLITE, POSTGRES, KEY) or (len(parts) > 1 and parts[0] in BESIDE)
    if not entry.isfile() or Path(entry.name).is_absolute() or ".." in parts or not known:
        raise BackupBroken(path, f'it has a member "{entry.name}" that no backup has')
    return entry.name


def _keep(source: Any, target: Path | None) -> dict[str, Any]:
    summed, size = hashlib.sha256(), 0
    if target is not None:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with target.open("wb") if target else open(os.devnull, "wb") as file:  # noqa: PTH123
        while piece := source.read(PIECE):
            summed.update(piece)
            size += len(piece)
            file.write(piece)
        if target is not None:
            target.chmod(0o600)
            file.flush()
            os.fsync(file.fileno())
    return {"size": size, "sha256": summed.hexdigest()}


def put_back(path: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Replace this installation's data by a backup; returns its manifest, and as `aside` where the old went.

    Nothing may work on the data meanwhile. Raises BackupBroken; Conflict when there is data and `overwrite`
    is not set, when a worker is alive, or when the backup is of another kind of database; DataHeld when
    `mn up` runs here.
    """
    settings = config()
    lock = datalock.acquire(settings.data, command="mn restore")
    work = Path(tempfile.mkdtemp(dir=settings.data, prefix=".restore-"))
    try:
        with opened(path, work) as (manifest, _):
            wanted = "sqlite" if settings.is_sqlite else "postgresql"
            if manifest["database"] != wanted:
                raise Conflict(
                    f"The backup is of {manifest['database']}, this installation uses {wanted}.",
                    next="Set DATABASE_URL to a database of that kind, or leave it empty for SQLite.",
                )
            if settings.is_sqlite:
                aside = _put_back_sqlite(work, overwrite)
            else:
                aside = _put_back_postgres(work, overwrite)
            return {**manifest, "aside": str(aside) if aside else ""}
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _put_back_sqlite(work: Path, overwrite: bool) -> Path | None:
    database = _database_path()
    if database.exists() and database.stat().st_size and not overwrite:
        raise _refused(f"There is a database at {database} already.")
    aside = _set_aside([database, *(Path(f"{database}-{end}") for end in ("wal", "shm"))])
    make_private(database.parent)
    shutil.move(work / SQLITE, database)
    _put_files(work)
    return aside


def _put_back_postgres(work: Path, overwrite: bool) -> Path | None:
    tables, workers = _look_at_postgres()
    if tables and not overwrite:
        raise _refused(f"The database has {tables} tables already.")
    if workers:
        raise Conflict(
            f"{workers} workers are alive on this database.", next="Stop every worker and web process."
        )
    # One transaction: either all of it is there afterwards, or what was there before.
    clean = ["--clean", "--if-exists"] if tables else []
    name = unquote(urlsplit(config().database_url).path.lstrip("/"))
    _run(
        "pg_restore",
        ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", *clean,
         f"--dbname={name}", str(work / POSTGRES)],
    )  # fmt: skip
    aside = _set_aside([])
    _put_files(work)
    return aside


def _look_at_postgres() -> tuple[int, int]:
    """(tables, workers that hold a lease)."""
    import psycopg

    try:
        with psycopg.connect(config().database_url, connect_timeout=10) as link:
            found = link.execute(
                "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"
            ).fetchone()
            tables = int(found[0]) if found else 0
            if link.execute("SELECT to_regclass('runs_worker')").fetchone() == (None,):
                return tables, 0
            alive = link.execute(
                "SELECT count(*) FROM runs_worker WHERE lease_until > now() AND stopped_at IS NULL"
            ).fetchone()
            return tables, int(alive[0]) if alive else 0
    except psycopg.Error as exc:
        raise Unavailable(f"The database cannot be reached: {exc}") from exc


def _refused(what: str) -> MirrorNeuronError:
    return Conflict(
        what, code="data_exists",
        next="Restore into an empty folder or database, or say --overwrite; what is here is then set aside.",
    )  # fmt: skip


def _set_aside(databases: list[Path]) -> Path | None:
    """Move what is there into a folder of its own beside it; None when there was nothing."""
    data = config().data
    there = [path for path in (*databases, *(data / name for name in BESIDE)) if path.exists()]
    there = [path for path in there if not path.is_dir() or any(path.iterdir())]
    there = [path for path in there if path.is_dir() or path.stat().st_size]
    if not there:
        return None
    aside = data / f"before-restore-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    make_private(aside)
    for path in there:
        path.replace(aside / path.name)
    return aside


def _put_files(work: Path) -> None:
    data = config().data
    for name in BESIDE:
        if (work / name).is_dir():
            target = data / name
            if target.is_dir() and not any(target.iterdir()):
                target.rmdir()
            (work / name).replace(target)
    key = data / KEY
    if (work / KEY).exists():
        if key.exists():
            key.replace(data / f"{KEY}.before-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}")
        (work / KEY).replace(key)
