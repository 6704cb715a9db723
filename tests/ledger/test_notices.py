"""Live hints between processes through PostgreSQL: small, from beside, and known to arrive."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

from apps.ledger import live, notices
from apps.ledger.notices import CHANNEL, MOST_BYTES, Listener, Sender, payloads
from mirrorneuron.config import config
from tests.processes import eventually


def test_many_groups_go_in_few_notices_that_fit() -> None:
    groups = [f"run.{i:032x}" for i in range(1000)]
    texts = payloads(groups, sender="me")
    assert all(len(text) <= MOST_BYTES for text in texts) and len(texts) < 10
    assert [g for text in texts for g in text.split(" ")[1:]] == groups
    assert payloads([]) == []


def test_a_page_relies_on_hints_only_where_they_reach_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config(), "database_url", "postgres://x/y")
    assert not live.reach_pages()
    listener = Listener(lambda groups: None, lambda error: None)
    monkeypatch.setattr(live, "_listener", listener)
    assert not live.reach_pages(), "it has not heard itself yet"
    listener.is_sound = True
    assert live.reach_pages()
    monkeypatch.setattr(config(), "channel_url", "redis://x")
    monkeypatch.setattr(live, "_listener", None)
    assert live.reach_pages()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # See `end_of_thread`.
class TestOnPostgreSQL:
    @pytest.fixture(autouse=True)
    def own_links(self, db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
        if connection.vendor != "postgresql":
            pytest.skip("the tests run on SQLite")
        links: list[Any] = []
        real = notices.connect

        def connect() -> Any:
            links.append(real())
            return links[-1]

        monkeypatch.setattr(notices, "connect", connect)
        monkeypatch.setattr(notices, "PAUSE_SECONDS", 0.01)
        yield links
        # Nobody may hold the tests' database when it is dropped, so no thread may be left to connect again.
        monkeypatch.setattr(notices, "connect", self.end_of_thread)
        for link in links:
            link.close()
        eventually(lambda: not self.links_of_ours())
        eventually(lambda: all(thread.name != "live-listener" for thread in threading.enumerate()))

    @staticmethod
    def end_of_thread() -> Any:
        raise SystemExit

    @staticmethod
    def links_of_ours() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND datname = %s",
                [notices.NAME, connection.settings_dict["NAME"]],
            )
            return int(cursor.fetchone()[0])

    def test_a_notice_of_another_process_is_heard_and_our_own_is_not(self, own_links: list[Any]) -> None:
        heard: list[str] = []
        listener = Listener(heard.extend, lambda error: None)
        listener.start()
        eventually(lambda: listener.is_sound)
        Sender(lambda error: None).send(["run.mine"])
        eventually(lambda: len(own_links) == 2)
        other = notices.connect()
        for payload in payloads(["run.a", "inbox.b"], sender="another"):
            other.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        eventually(lambda: heard == ["run.a", "inbox.b"])

    def test_nothing_is_sent_while_no_other_process_listens(self) -> None:
        sender = Sender(lambda error: None)
        link, other = notices.connect(), notices.connect()
        link.execute("SELECT pg_advisory_lock_shared(%s, %s)", (notices._LOCKS, notices._OWN_LOCK))
        assert not sender._is_heard(link), "our own pages are told directly"
        other.execute("SELECT pg_advisory_lock_shared(%s, %s)", (notices._LOCKS, notices._OWN_LOCK + 1))
        assert not sender._is_heard(link), "it looks once a second"
        sender._look_at = 0.0
        assert sender._is_heard(link)

    def test_what_comes_together_is_sent_together(self) -> None:
        sent: list[str] = []
        other = notices.connect()
        other.execute(f"LISTEN {CHANNEL}")
        other.execute("SELECT pg_advisory_lock_shared(%s, %s)", (notices._LOCKS, notices._OWN_LOCK + 1))
        sender = Sender(lambda error: None)
        for i in range(200):
            sender.send([f"run.{i % 20}"])
        end = time.monotonic() + 10
        while len({g for text in sent for g in text.split(" ")[1:]}) < 20 and time.monotonic() < end:
            sent += [notice.payload for notice in other.notifies(timeout=0.5)]
        assert len({g for text in sent for g in text.split(" ")[1:]}) == 20
        assert len(sent) < 20

    def test_a_listener_that_hears_nothing_is_not_relied_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(notices, "PATIENCE_SECONDS", 0.2)
        said: list[str] = []
        failed = threading.Event()

        def fail(error: object) -> None:
            said.append(str(error))
            failed.set()

        real = notices.connect

        class Deaf:
            """A pooler in transaction mode: every statement works, LISTEN means nothing."""

            def __init__(self) -> None:
                self.link = real()

            def execute(self, statement: str, *more: Any) -> Any:
                return None if statement.startswith("LISTEN") else self.link.execute(statement, *more)

            def notifies(self, **how: Any) -> Any:
                return self.link.notifies(**how)

            def close(self) -> None:
                self.link.close()

        monkeypatch.setattr(notices, "connect", Deaf)
        listener = Listener(lambda groups: None, fail)
        listener.start()
        assert failed.wait(10)
        assert "pooler" in said[0] and not listener.is_sound
