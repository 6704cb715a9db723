"""Backups: whole, taken while others write, checked before anything is touched."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import tarfile
import threading
from pathlib import Path

import psycopg
import pytest

from mirrorneuron import backup, datalock
from mirrorneuron.backup import BackupBroken, back_up, put_back
from mirrorneuron.base.errors import Conflict, Unavailable
from mirrorneuron.config import config


@pytest.fixture
def house(data_folder, monkeypatch):
    """A laptop's data folder with a database, two files and a key."""
    monkeypatch.setattr(config(), "database_url", "")
    (data_folder / "files" / "ab").mkdir(parents=True)
    (data_folder / "files" / "ab" / "abc").write_bytes(b"\x00bytes\xff" * 1000)
    (data_folder / "archive").mkdir()
    (data_folder / "archive" / "run.jsonl.gz").write_bytes(b"run")
    (data_folder / "secret.key").write_text("only mine")
    with sqlite3.connect(data_folder / "mirrorneuron.sqlite3") as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE t (n INTEGER)")
        db.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(1000)])
    return data_folder


def rows(folder: Path) -> int:
    with sqlite3.connect(folder / "mirrorneuron.sqlite3") as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def elsewhere(tmp_path: Path, monkeypatch) -> Path:
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr(config(), "data", other)
    return other


def test_a_backup_comes_back_in_an_empty_folder(house, tmp_path, monkeypatch):
    manifest = back_up(tmp_path / "b.tar.gz")
    assert "not included" in manifest["secret_key"] and "secret.key" not in manifest["members"]
    other = elsewhere(tmp_path, monkeypatch)
    put_back(tmp_path / "b.tar.gz")
    assert rows(other) == 1000
    assert (other / "files" / "ab" / "abc").read_bytes() == b"\x00bytes\xff" * 1000
    assert (other / "archive" / "run.jsonl.gz").read_bytes() == b"run"
    assert not (other / "secret.key").exists()
    assert not list(other.glob(".restore-*"))


def test_the_key_goes_along_only_when_asked_for(house, tmp_path, monkeypatch):
    manifest = back_up(tmp_path / "b.tar.gz", with_key=True)
    assert "every credential" in manifest["secret_key"]
    other = elsewhere(tmp_path, monkeypatch)
    put_back(tmp_path / "b.tar.gz")
    assert (other / "secret.key").read_text() == "only mine"
    assert (other / "secret.key").stat().st_mode & 0o077 == 0


def test_it_is_the_database_of_one_moment_while_others_write(house, tmp_path, monkeypatch):
    stop = threading.Event()

    def write():
        db = sqlite3.connect(house / "mirrorneuron.sqlite3", timeout=30)
        while not stop.is_set():
            with db:  # Always two rows together.
                db.execute("INSERT INTO t VALUES (1)")
                db.execute("INSERT INTO t VALUES (2)")
        db.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(5):
            back_up(tmp_path / f"{i}.tar.gz")
    finally:
        stop.set()
        writer.join()
    for i in range(5):
        other = tmp_path / f"other{i}"
        other.mkdir()
        monkeypatch.setattr(config(), "data", other)
        put_back(tmp_path / f"{i}.tar.gz")
        assert rows(other) % 2 == 0 and rows(other) >= 1000


def test_data_that_is_there_is_kept_unless_told_and_then_set_aside(house, tmp_path):
    back_up(tmp_path / "b.tar.gz")
    with sqlite3.connect(house / "mirrorneuron.sqlite3") as db:
        db.execute("DELETE FROM t")
    with pytest.raises(Conflict, match="already") as refused:
        put_back(tmp_path / "b.tar.gz")
    assert "--overwrite" in refused.value.next and rows(house) == 0
    done = put_back(tmp_path / "b.tar.gz", overwrite=True)
    assert rows(house) == 1000
    assert rows(Path(done["aside"])) == 0 and (Path(done["aside"]) / "files" / "ab" / "abc").exists()


def test_nothing_is_put_back_under_a_running_process(house, tmp_path):
    back_up(tmp_path / "b.tar.gz")
    lock = datalock.acquire(house, command="mn up")
    try:
        with pytest.raises(datalock.DataHeld):
            put_back(tmp_path / "b.tar.gz", overwrite=True)
    finally:
        lock.release()


def test_an_existing_file_is_never_written_over(house, tmp_path):
    (tmp_path / "b.tar.gz").write_text("mine")
    with pytest.raises(Conflict, match="exists already"):
        back_up(tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_text() == "mine"


def harmed(path: Path, change) -> None:
    """Write the backup again with its members changed by `change(name, data) -> (name, data) | None`."""
    members = []
    with tarfile.open(path) as tar:
        for entry in tar:
            members.append((entry.name, tar.extractfile(entry).read()))
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members:
            kept = change(name, data)
            if kept is not None:
                entry = tarfile.TarInfo(kept[0])
                entry.size = len(kept[1])
                tar.addfile(entry, io.BytesIO(kept[1]))


@pytest.mark.parametrize(
    "change",
    [
        lambda name, data: None if name == "files/ab/abc" else (name, data),
        lambda name, data: (name, data[:-1] + b"x") if name == "files/ab/abc" else (name, data),
        lambda name, data: None if name == "manifest.json" else (name, data),
        lambda name, data: ("../../evil" if name == "files/ab/abc" else name, data),
        lambda name, data: ("/evil" if name == "files/ab/abc" else name, data),
        lambda name, data: ("lock" if name == "files/ab/abc" else name, data),
        lambda name, data: (name, json.dumps({"format": "x"}).encode() if name == "manifest.json" else data),
    ],
)
def test_a_backup_that_is_not_whole_touches_nothing(house, tmp_path, change):
    path = tmp_path / "b.tar.gz"
    back_up(path)
    harmed(path, change)
    with pytest.raises(BackupBroken):
        put_back(path, overwrite=True)
    assert rows(house) == 1000 and not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize(
    "manifest",
    [
        "[]",
        '"x"',
        "[" * 50_000,
        "{}",
        '{"members": null}',
        '{"members": [1]}',
        '{"members": {}, "database": []}',
    ],
    ids=lambda text: text[:20],
)
def test_a_manifest_of_another_shape_is_refused_in_words(house, tmp_path, manifest):
    path = tmp_path / "b.tar.gz"
    back_up(path)
    text = manifest.replace("{", '{"format": "mirrorneuron.backup/1", ', 1) if ":" in manifest else manifest
    harmed(path, lambda name, data: (name, text.encode() if name == "manifest.json" else data))
    with pytest.raises(BackupBroken):
        put_back(path, overwrite=True)
    assert rows(house) == 1000


def test_a_backup_without_a_database_moves_nothing_aside(house, tmp_path):
    path = tmp_path / "b.tar.gz"
    back_up(path)

    def without(name, data):
        if name == "manifest.json":
            said = json.loads(data)
            del said["members"]["database.sqlite3"]
            return name, json.dumps(said).encode()
        return None if name == "database.sqlite3" else (name, data)

    harmed(path, without)
    with pytest.raises(BackupBroken, match="holds no database"):
        put_back(path, overwrite=True)
    assert rows(house) == 1000


def test_a_spoilt_byte_is_found_or_harmless(house, tmp_path):
    path = tmp_path / "b.tar.gz"
    text = "".join(random.Random(1).choices("abcdefgh\n", k=100_000))
    (house / "files" / "ab" / "text").write_text(text)
    back_up(path)
    whole, found = path.read_bytes(), 0
    for at in range(100, len(whole) - 20, len(whole) // 200):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x5A]) + whole[at + 1 :])
        try:
            with backup.opened(path):
                pass
        except BackupBroken:
            found += 1
    assert found > 50


def test_half_a_file_is_no_backup(house, tmp_path):
    path = tmp_path / "b.tar.gz"
    back_up(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackupBroken):
        put_back(path, overwrite=True)


def test_without_the_tools_of_postgresql_it_says_so(house, tmp_path, monkeypatch):
    monkeypatch.setattr(config(), "database_url", "postgres://nobody@127.0.0.1:1/none")
    monkeypatch.setattr(backup.shutil, "which", lambda tool: None)
    with pytest.raises(Unavailable, match="pg_dump is not installed"):
        back_up(tmp_path / "b.tar.gz")
    assert not list(tmp_path.glob("*.tar.gz")) and not list(tmp_path.glob(".backup-*"))


@pytest.mark.services
def test_postgresql_comes_back_whole_or_not_at_all(postgres_url, house, tmp_path, monkeypatch):
    if backup.shutil.which("pg_dump") is None:
        pytest.skip("no pg_dump")
    names = [f"mn_backup_{id(house)}", f"mn_restore_{id(house)}"]
    admin = psycopg.connect(postgres_url, autocommit=True)
    base = postgres_url.rpartition("/")[0]
    try:
        for name in names:
            admin.execute(f'CREATE DATABASE "{name}"')
        with psycopg.connect(f"{base}/{names[0]}") as db:
            db.execute("CREATE TABLE t (n int)")
            db.execute("INSERT INTO t SELECT generate_series(1, 1000)")
        monkeypatch.setattr(config(), "database_url", f"{base}/{names[0]}")
        assert back_up(tmp_path / "b.tar.gz")["database"] == "postgresql"
        with pytest.raises(Conflict, match="tables already"):
            put_back(tmp_path / "b.tar.gz")
        monkeypatch.setattr(config(), "database_url", f"{base}/{names[1]}")
        put_back(tmp_path / "b.tar.gz")
        with psycopg.connect(f"{base}/{names[1]}") as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (1000,)
            db.execute("DELETE FROM t")
        put_back(tmp_path / "b.tar.gz", overwrite=True)
        with psycopg.connect(f"{base}/{names[1]}") as db:
            assert db.execute("SELECT count(*) FROM t").fetchone() == (1000,)
        monkeypatch.setattr(config(), "database_url", "")
        with pytest.raises(Conflict, match="of postgresql"):
            put_back(tmp_path / "b.tar.gz", overwrite=True)
    finally:
        for name in names:
            admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        admin.close()
