from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.agents.tools.base import Connection, DefiniteFailure, StepError
from apps.agents.tools.crm import RETRIEVE_CRM_CONTEXT, domain_of
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.config import config
from tests.agents.tools.conftest import make_call

FLAT = b"""company,contact,email,domain,notes
Halden Marine GmbH,Ines Vale,ines@halden.example,halden.example,Asked for a quote.
Halden Marine GmbH,Tom Fenn,tom@halden.example,halden.example,
Orrin Shipping,Ada Roe,ada@orrin.example,orrin.example,Renewal in May.
Orrin Freight,Bo Lind,bo@orrinfreight.example,orrinfreight.example,
"""


def look_up(company: str, files: dict[str, bytes] | None = None, **arguments: Any) -> dict[str, Any]:
    files = {"crm.csv": FLAT} if files is None else files
    crm = [{"id": f"id-{n}"} for n in files]
    return RETRIEVE_CRM_CONTEXT.run(make_call({"company": company, "crm": crm, **arguments}, files))


def database(tmp_path: Path, wal: bool = False) -> bytes:
    path = tmp_path / "crm.sqlite"
    db = sqlite3.connect(path)
    if wal:
        db.execute("PRAGMA journal_mode = WAL")
    db.executescript(
        """
        CREATE TABLE accounts (id INTEGER PRIMARY KEY, name TEXT, website TEXT);
        CREATE TABLE contacts (id INTEGER, account_id INTEGER, first_name TEXT, last_name TEXT, email TEXT);
        CREATE TABLE activities (account_id INTEGER, created_at TEXT, body TEXT);
        INSERT INTO accounts VALUES (1, 'Halden Marine', 'https://www.halden.example/de'), (2, 'Orrin', NULL);
        INSERT INTO contacts VALUES
          (1, 2, 'Ada', 'Roe', 'ada@orrin.example'), (2, 1, 'Ines', 'Vale', 'ines@halden.example');
        INSERT INTO activities VALUES
          (1, '2026-01-02', 'Called.'), (1, '2026-03-04', 'Visited.'), (2, '2026-02-02', 'No.');
        """
    )
    db.commit()
    db.close()
    return path.read_bytes()


class TestCsv:
    @pytest.mark.parametrize(
        ("asked", "by"),
        [
            ("Halden Marine GmbH", "name"), ("halden marine", "name"), ("  HALDEN MARINE  ", "name"),
            ("halden.example", "domain"), ("https://www.halden.example/de", "domain"),
            ("x@halden.example", "domain"),
            ("Halden", "similar_name"), ("Haldn Marine", "similar_name"),
        ],
    )  # fmt: skip
    def test_finds_by_name_domain_and_nearly(self, asked: str, by: str) -> None:
        found = look_up(asked)
        assert (found["found"], found["company"], found["matched"]["by"]) == (True, "Halden Marine GmbH", by)
        assert (found["contact"], found["email"]) == ("Ines Vale", "ines@halden.example")
        assert [c["name"] for c in found["contacts"]] == ["Ines Vale", "Tom Fenn"]
        assert [n["text"] for n in found["history"]] == ["Asked for a quote."]

    @pytest.mark.parametrize(
        "head",
        [
            "Firma;Ansprechpartner;E-Mail;Notiz",
            "Kunde;Kontakt;Mail;Bemerkung",
            "Kundenname;Name;E-Mail-Adresse;Notizen",
        ],
    )
    def test_knows_german_columns(self, head: str) -> None:
        rows = "\nHalden Maschinenbau GmbH;Jörg Weiß;j.weiss@halden.example;Wünscht ein Angebot.\n"
        found = look_up("Halden Maschinenbau GmbH", {"kunden.csv": (head + rows).encode("cp1252")})
        assert found["found"] and found["company"] == "Halden Maschinenbau GmbH"
        assert (found["contact"], found["email"]) == ("Jörg Weiß", "j.weiss@halden.example")
        assert [n["text"] for n in found["history"]] == ["Wünscht ein Angebot."]
        assert found["notes"] == []

    def test_a_web_page_is_no_crm_and_a_note_says_so(self) -> None:
        found = look_up("Halden", {"letter.html": b"<!doctype html><html><body>Halden</body></html>"})
        assert not found["found"]
        assert '"letter.html" is a web page, not a table of customers' in found["notes"][0]

    def test_says_when_it_is_only_nearly_the_same(self) -> None:
        assert "nearly" not in "".join(look_up("Halden Marine")["notes"])
        assert 'No record is named exactly "Haldn Marine"' in look_up("Haldn Marine")["notes"][0]

    def test_nothing_found_is_a_result(self) -> None:
        found = look_up("Nobody & Sons")
        assert (found["found"], found["record"], found["email"], found["contacts"]) == (False, None, None, [])
        assert "Compared with: crm.csv.company, crm.csv.domain." in found["notes"][0]

    def test_two_equally_near_are_not_chosen_between(self) -> None:
        found = look_up("Orrin")
        assert (found["found"], found["candidates"]) == (False, ["Orrin Shipping", "Orrin Freight"])

    def test_the_runs_input_is_used_when_no_file_is_named(self) -> None:
        call = make_call(
            {"company": "Halden"}, {"crm.csv": FLAT}, names={"inputs": {"crm": {"id": "id-crm.csv"}}}
        )
        assert RETRIEVE_CRM_CONTEXT.run(call)["found"]

    def test_several_files_are_joined(self) -> None:
        files = {
            "accounts.csv": b"id,company\n7,Halden Marine\n8,Orrin\n",
            "contacts.csv": b"company_id,name,email\n8,Ada,ada@orrin.example\n7,Ines,ines@halden.example\n",
            "notes.csv": b"company_id,date,note\n"
            b"7,2026-01-01,First\n7,2026-02-01,Second\n8,2026-03-01,Other\n",
        }
        found = look_up("Halden Marine", files)
        assert (found["matched"]["table"], found["contact"]) == ("accounts.csv", "Ines")
        assert [n["text"] for n in found["history"]] == ["Second", "First"]

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({}, "no CRM data"),
            ({"a.csv": b""}, "is empty"),
            ({"a.bin": b"\x00\x01" * 100}, "neither a text file nor a SQLite"),
            ({"a.db": b"SQLite format 3\x00" + b"rubbish" * 100}, "damaged"),
        ],
    )
    def test_data_that_cannot_be_read_is_said(self, files: dict[str, bytes], said: str) -> None:
        with pytest.raises(StepError, match=said) as caught:
            look_up("Halden", files)
        assert caught.value.permanent

    def test_a_table_without_companies_is_said(self) -> None:
        assert "No table has a column" in look_up("Halden", {"a.csv": b"x,y\n1,2\n"})["notes"][0]

    @given(st.text(min_size=1, max_size=60))
    def test_any_name_can_be_asked_for(self, asked: str) -> None:
        found = look_up(asked)
        assert found["found"] is (found["record"] is not None)


class TestSqlite:
    @pytest.mark.parametrize("wal", [False, True])
    def test_follows_the_keys(self, tmp_path: Path, wal: bool) -> None:
        found = look_up("halden.example", {"crm.sqlite": database(tmp_path, wal)})
        assert found["record"] == {
            "id": 1,
            "name": "Halden Marine",
            "website": "https://www.halden.example/de",
        }
        assert (found["contact"], found["email"]) == ("Ines Vale", "ines@halden.example")
        assert [n["text"] for n in found["history"]] == ["Visited.", "Called."]

    def test_odd_values_and_names_are_held(self, tmp_path: Path) -> None:
        path = tmp_path / "odd.sqlite"
        db = sqlite3.connect(path)
        db.execute('CREATE TABLE "a""b; DROP TABLE x" (company TEXT, "note ""1""" BLOB)')
        db.execute('INSERT INTO "a""b; DROP TABLE x" VALUES (?, ?)', ("Halden", b"\x00\xff"))
        db.commit()
        db.close()
        found = look_up("Halden", {"odd.sqlite": path.read_bytes()})
        assert found["record"]['note "1"'] == {"$bytes": "AP8="}

    def test_only_reads_are_let_through(self, tmp_path: Path) -> None:
        from apps.agents.tools.crm_sources import Sqlite

        source = Sqlite(database(tmp_path), "crm.sqlite", deadline=1e18)
        for statement in (
            "DELETE FROM accounts",
            "ATTACH '/tmp/x' AS y",
            "CREATE TABLE z (a)",
            "PRAGMA query_only = OFF",
        ):
            with pytest.raises(sqlite3.DatabaseError):
                source.db.execute(statement)


class TestConnection:
    def call(self, **fields: Any) -> dict[str, Any]:
        hosts = fields.pop("hosts", ("127.0.0.1",))
        return RETRIEVE_CRM_CONTEXT.run(
            make_call(
                {"company": "Halden Marine", "connection": "crm"},
                connection=lambda name: Connection(name, "postgres", fields, hosts),
            )
        )

    def test_goes_to_the_connections_hosts_only(self) -> None:
        with pytest.raises(MirrorNeuronError, match="not among the hosts"):
            self.call(host="10.0.0.9", user="me", password="pass-word-1", hosts=("db.example",))

    def test_a_private_host_needs_the_operators_word(self) -> None:
        with pytest.raises(MirrorNeuronError, match="MN_EGRESS_ALLOW"):
            self.call(host="127.0.0.1", user="me", password="pass-word-1")

    def test_a_dead_database_is_definite_and_keeps_the_password(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(config(), "egress_allow", "127.0.0.1")
        with pytest.raises(DefiniteFailure) as caught:
            self.call(host="127.0.0.1", port=1, user="me", password="pass-word-1")
        assert "pass-word-1" not in str(caught.value.as_json())

    def test_a_simulated_run_asks_nobody(self) -> None:
        call = make_call({"company": "Halden", "connection": "crm"})
        assert RETRIEVE_CRM_CONTEXT.simulate(call)["found"] is False

    @pytest.mark.services
    def test_reads_postgresql_and_cannot_write(
        self, postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import psycopg

        monkeypatch.setattr(config(), "egress_allow", "127.0.0.0/8")
        url = urlsplit(postgres_url)
        schema = f"crm_{os.getpid()}"
        with psycopg.connect(postgres_url, autocommit=True) as db:
            db.execute(f"CREATE SCHEMA {schema}")
            try:
                db.execute(f"CREATE TABLE {schema}.accounts (id int, name text, domain text)")
                db.execute(
                    f"CREATE TABLE {schema}.contacts (account_id int, name text, company text, email text)"
                )
                db.execute(f"INSERT INTO {schema}.accounts VALUES (5, 'Halden Marine', 'halden.example')")
                db.execute(
                    f"INSERT INTO {schema}.contacts "
                    "VALUES (5, 'Ines', 'Halden Marine', 'ines@halden.example')"
                )
                found = self.call(url=postgres_url, schema=schema, hosts=(url.hostname,))
                assert (found["record"]["id"], found["email"]) == (5, "ines@halden.example")
                _cannot_write(postgres_url, schema, str(url.hostname))
            finally:
                db.execute(f"DROP SCHEMA {schema} CASCADE")


def _cannot_write(url: str, schema: str, host: str) -> None:
    from apps.agents.tools.crm_sources import from_postgres

    connection = Connection("crm", "postgres", {"url": url, "schema": schema}, (host,))
    with pytest.raises(StepError, match="ReadOnlySqlTransaction"), from_postgres(connection, 5) as source:
        source.db.execute(f"DELETE FROM {schema}.accounts")


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Halden.example", "halden.example"), ("https://www.halden.example:443/x", "halden.example"),
        ("Ines <ines@halden.example>", "halden.example"), ("Halden Marine", ""), ("St. Mary", ""), ("", ""),
    ],
)  # fmt: skip
def test_domains(text: str, domain: str) -> None:
    assert domain_of(text) == domain
