"""Hints between processes through PostgreSQL: NOTIFY by one side connection, LISTEN by another.

Used where several processes share a PostgreSQL server and no CHANNEL_URL names anything better. NOTIFY inside
a transaction would make all commits queue for one lock; here it is sent afterwards, by a thread of its own
that gathers what comes within some milliseconds. A listener proves that it hears: it sends itself a notice
now and then, because a pooler in between may swallow LISTEN without a word, and a broken line may look open.
Every notice is a commit of its own, so none is sent while nobody listens: a listener holds an advisory lock
for as long as its connection lives, and a sender looks at most once a second whether there is one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

from django.db import connection as ours

from mirrorneuron.base.logs import logger

log = logger(__name__)
CHANNEL = "mn_live"
NAME = "mirrorneuron hints"
_NOT_OURS = frozenset(["cursor_factory", "prepare_threshold", "context", "pool"])
GATHER_SECONDS = 0.015
MOST_BYTES = 7_000
"""Of one notice; the server takes 8,000."""
PROOF_SECONDS = 20.0
"""How often a listener makes sure that it hears."""
PATIENCE_SECONDS = 3.0
LOOK_SECONDS = 1.0
"""How often a sender looks whether another process listens."""
_LOCKS = 0x6D6E
"""Class of the listeners' advisory locks."""
PAUSE_SECONDS = 2.0
"""Between tries to connect."""
_OWN = uuid4().hex[:12]
"""Who sent it: the pages of this process have been told directly."""
_OWN_LOCK = int(_OWN[:7], 16)


def connect() -> Any:
    """A connection outside Django's: in no transaction, and without waiting for the disk."""
    import psycopg

    parameters = ours.copy().get_connection_params()
    kept = {k: v for k, v in parameters.items() if k not in _NOT_OURS}
    options = f"{kept.pop('options', '')} -c synchronous_commit=off".strip()
    return psycopg.connect(**kept, options=options, autocommit=True)


class Sender:
    """`send(groups)` returns at once and never raises; what cannot be sent is dropped."""

    def __init__(self, failed: Callable[[object], None]) -> None:
        self._failed = failed
        self._wanted: set[str] = set()
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None
        self._heard = False
        self._look_at = 0.0

    def send(self, groups: Iterable[str]) -> None:
        with self._condition:
            self._wanted.update(groups)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="live-notices", daemon=True)
                self._thread.start()
            self._condition.notify()

    def _run(self) -> None:
        link: Any = None
        while True:
            with self._condition:
                while not self._wanted:
                    self._condition.wait()
            time.sleep(GATHER_SECONDS)
            with self._condition:
                groups, self._wanted = sorted(self._wanted), set()
            try:
                link = link or connect()
                for payload in payloads(groups) if self._is_heard(link) else ():
                    link.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
            except Exception as exc:  # hints: pages poll
                self._failed(exc)
                _close(link)
                link = None

    def _is_heard(self, link: Any) -> bool:
        """Whether another process listens, as far as is known."""
        if time.monotonic() >= self._look_at:
            found = link.execute(
                "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid <> %s"
                " AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 1",
                (_LOCKS, _OWN_LOCK),
            )
            self._heard = found.fetchone() is not None
            self._look_at = time.monotonic() + LOOK_SECONDS
        return self._heard


def payloads(groups: Iterable[str], sender: str = _OWN) -> list[str]:
    """The groups as texts that fit into a notice each, with who sends them in front."""
    texts, text = [], sender
    for group in groups:
        if len(text) + 1 + len(group) > MOST_BYTES:
            texts.append(text)
            text = sender
        text += " " + group
    return [*texts, text] if text != sender else texts


class Listener:
    """One per web process: calls `heard(groups)` from its own thread. `is_sound` once it has heard itself."""

    def __init__(self, heard: Callable[[list[str]], None], failed: Callable[[object], None]) -> None:
        self._heard = heard
        self._failed = failed
        self.is_sound = False
        self._thread = threading.Thread(target=self._run, name="live-listener", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while True:
            link: Any = None
            try:
                link = connect()
                link.execute(f"LISTEN {CHANNEL}")
                link.execute("SELECT pg_advisory_lock_shared(%s, %s)", (_LOCKS, _OWN_LOCK))
                while True:
                    self._listen(link)
            except Exception as exc:  # pages poll meanwhile
                self._failed(exc)
            self.is_sound = False
            _close(link)
            time.sleep(PAUSE_SECONDS)

    def _listen(self, link: Any) -> None:
        """Pass on what comes for a while, then hear ourselves. Raises OSError when we do not."""
        token = f"{_OWN}! {uuid4().hex}"
        asked = time.monotonic()
        link.execute("SELECT pg_notify(%s, %s)", (CHANNEL, token))
        proven = False
        while (left := asked + (PROOF_SECONDS if proven else PATIENCE_SECONDS) - time.monotonic()) > 0:
            for notice in link.notifies(timeout=left, stop_after=1):
                if notice.payload == token:
                    proven = self.is_sound = True
                    continue
                sender, *groups = notice.payload.split(" ")
                if sender != _OWN and not sender.endswith("!"):
                    self._heard(groups)
        if not proven:
            raise OSError("notices do not come through; a pooler in transaction mode does not pass them on")


def _close(link: Any) -> None:
    if link is not None:
        with contextlib.suppress(Exception):
            link.close()
