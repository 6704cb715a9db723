"""Django's SQLite backend with one write lock in front (ENGINE rule 5).

SQLite's own busy handler is unfair: with several writers one may wait for seconds. A thread lock plus a file
lock beside the database makes writers queue instead. It sits inside the backend, so that sessions, sign-in
and every other writer take it too. It is held from BEGIN to COMMIT and released before any after-commit
work, because Django runs those hooks after `_commit`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base as django_sqlite

try:
    import fcntl
except ImportError:  # Windows: threads of this process only
    fcntl = None  # type: ignore[assignment]

_WRITES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")


class WriteLock:
    """One per database file and process: a thread lock, then an exclusive lock on `<database>.lock`."""

    _all: dict[str, WriteLock] = {}
    _registry = threading.Lock()

    def __init__(self, path: str) -> None:
        self._thread = threading.Lock()
        self._file = Path(path + ".lock").open("ab") if path and fcntl else None  # noqa: SIM115

    @classmethod
    def of(cls, path: str) -> WriteLock:
        with cls._registry:
            if path not in cls._all:
                cls._all[path] = cls(path)
            return cls._all[path]

    def acquire(self) -> None:
        self._thread.acquire()
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
        except BaseException:
            self._thread.release()
            raise

    def release(self) -> None:
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._thread.release()

    @classmethod
    def forget_all(cls) -> None:
        """In a forked child: a lock file shared with the parent keeps neither out, and a thread that held the
        lock is not there to release it."""
        cls._all, cls._registry = {}, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=WriteLock.forget_all)


class LockingCursor(django_sqlite.SQLiteCursorWrapper):
    """Takes the write lock for a single writing statement outside a transaction."""

    owner: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        if self.owner.holds_write_lock or not _writes(query):
            return super().execute(query, params)
        with self.owner.write_lock():
            return super().execute(query, params)

    def executemany(self, query: str, param_list: Any) -> Any:
        if self.owner.holds_write_lock or not _writes(query):
            return super().executemany(query, param_list)
        with self.owner.write_lock():
            return super().executemany(query, param_list)


def _writes(query: str) -> bool:
    return query.lstrip()[:7].upper().startswith(_WRITES)


class DatabaseWrapper(django_sqlite.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: WriteLock | None = None

    @property
    def holds_write_lock(self) -> bool:
        return self._held is not None

    def _lock(self) -> WriteLock:
        name = str(self.settings_dict["NAME"])
        return WriteLock.of("" if ":memory:" in name or "mode=memory" in name else name)

    def write_lock(self) -> _Held:
        return _Held(self)

    def take_write_lock(self) -> None:
        if self._held is None:
            lock = self._lock()
            lock.acquire()
            self._held = lock

    def drop_write_lock(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = self.connection.cursor(factory=LockingCursor)
        cursor.owner = self
        return cursor

    def _start_transaction_under_autocommit(self) -> None:
        self.take_write_lock()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self.drop_write_lock()
            raise

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]
        finally:
            if not getattr(self.connection, "in_transaction", False):
                self.drop_write_lock()

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self.drop_write_lock()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self.drop_write_lock()


class _Held:
    def __init__(self, wrapper: DatabaseWrapper) -> None:
        self.wrapper = wrapper

    def __enter__(self) -> None:
        self.wrapper.take_write_lock()

    def __exit__(self, *exc: Any) -> None:
        self.wrapper.drop_write_lock()
