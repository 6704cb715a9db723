"""`mn bench` as people run it: small, with real processes; it succeeds, says what it did, leaves nothing."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from bench import report
from bench.conduct import scale_of
from bench.databases import program
from bench.peers import PEERS
from bench.w1 import stretches as w1
from bench.w2 import stretches as w2
from bench.w3 import stretches as w3
from tests.processes import run_mn
from tests.services import required


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("mn-bench-*"))


def results(document: dict, workload: str) -> dict[tuple[str, str], dict]:
    return {(r["subject"], r["line"]): r for r in document["results"] if r["workload"] == workload}


@pytest.mark.faults
def test_the_embedded_engine_is_measured_beside_sqlite_itself(data_folder: Path) -> None:
    before = leftovers()

    done = run_mn(data_folder, "bench", "--quick", "--workload", "W1", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["problems"] == []
    assert document["database"]["vendor"] == "sqlite"
    chain = results(document, "W1")["mirrorneuron", "recorded"]
    assert 0.9 <= chain["commits_per_step"]["median"] <= 1.5
    assert chain["latency_ms"]["median"] > 0
    assert len(results(document, "floor")) == 2
    assert leftovers() == before
    assert not list(data_folder.glob("*.sqlite3")), "the installation's own data was touched"
    assert "chain10" in report.tables(document)


@pytest.mark.services
def test_on_a_server_of_its_own_commits_statements_and_log_are_counted(data_folder: Path) -> None:
    if program("postgres") is None:
        (pytest.fail if required() else pytest.skip)("PostgreSQL's server programs were not found")
    before = leftovers()

    done = run_mn(data_folder, "bench", "--quick", "--own-postgres", "--workload", "W1", "--json")

    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["database"]["settings"]["synchronous_commit"] == "on"
    assert "pg_walinspect" in document["database"]["commits_counted"]
    for one in results(document, "W1").values():
        assert one["commits_per_step"]["median"] > 0
        assert one["sql_per_step"]["median"] > 0
        assert one["wal_bytes_per_step"]["median"] > 0
    assert leftovers() == before


def test_peers_want_postgresql(data_folder: Path) -> None:
    done = run_mn(data_folder, "bench", "--peers")

    assert done.returncode == 1
    assert "DATABASE_URL" in done.stderr


def test_a_peer_does_the_lines_that_mean_something_there() -> None:
    scale = scale_of(quick=True, rounds=None)
    lines = [*w1(scale), *w2(scale), *w3(scale)]

    assert [(s.workload, s.line) for s in PEERS["dbos"].can(lines)] == [
        ("W1", "recorded"), ("W2", "recorded"), ("W3", "recorded"),
    ]  # fmt: skip


def test_rounds_can_be_chosen() -> None:
    assert scale_of(quick=True, rounds=7).rounds == 7
    assert scale_of(quick=False, rounds=None).rounds == 3
