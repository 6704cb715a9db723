"""The conductor: rounds, in which every subject is measured in turn, and one document with everything.

A round goes through the floor, our engine in one process, our engine behind Redis, and the peers; so that
what the machine does meanwhile falls on all of them alike.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import floor, measure, w1, w2, w3, w4, w5, w6, w7
from bench.databases import Database
from bench.peers import PEERS, versions
from bench.stage import Scale, Stage
from bench.stretches import Stretch
from bench.subject import ROOT, Subject, SubjectFailed
from mirrorneuron import __version__

STRETCHES = {"W1": w1, "W2": w2, "W3": w3, "W7": w7}
ROUNDS = {"W4": w4, "W5": w5, "W6": w6}
WORKLOADS = {name: module.TITLE for name, module in sorted({**STRETCHES, **ROUNDS}.items())}
OURS = "mirrorneuron"
BESIDE = "mirrorneuron, Redis and another process"
BESIDE_2 = "mirrorneuron, Redis and 2 worker processes"
FLOOR = "floor"

Lines = dict[tuple[str, str, str], list[dict[str, Any]]]
"""(workload, line, subject) → figures of each round."""


def conduct(stage: Stage, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Measure the wanted workloads; a subject that fails is named under `problems` and the rest goes on."""
    before = measure.machine()
    lines: Lines = defaultdict(list)
    problems: list[str] = []
    began = time.monotonic()
    for number in range(1, stage.scale.rounds + 1):
        stage.say(f"round {number} of {stage.scale.rounds}")
        _round(stage, wanted, lines, problems)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - began, 1),
        "machine": before,
        "database": _facts(stage),
        "versions": {OURS: __version__, "commit": _commit(), **versions(stage.peers_python, stage.peers)},
        "scale": stage.scale.__dict__,
        "results": [
            {"workload": workload, "line": line, "subject": subject, **measure.over_rounds(rounds)}
            for (workload, line, subject), rounds in sorted(
                lines.items(), key=lambda item: (item[0][0], list(lines).index(item[0]))
            )
        ],
        "problems": list(dict.fromkeys(problems)),
    }


def _round(stage: Stage, wanted: tuple[str, ...], lines: Lines, problems: list[str]) -> None:
    stretches = [s for name in wanted if name in STRETCHES for s in STRETCHES[name].stretches(stage.scale)]

    @contextlib.contextmanager
    def trying(who: str) -> Iterator[None]:
        stage.say(f"  {who}")
        try:
            yield
        except (SubjectFailed, RuntimeError, OSError) as exc:
            problems.append(f"{who}: {exc}")
            stage.say(f"  {who} failed: {exc}")

    if stretches:
        with trying(FLOOR):
            for line, figures in floor.measure_round(stage).items():
                lines[FLOOR, line, FLOOR].append(figures)
        with trying(OURS), stage.home("engine") as (database, given), stage.engine(given) as subject:
            kinds = subject.ask("hello")["kinds"]
            for stretch in stretches:
                if not stretch.what.startswith("map") or "map" in kinds:
                    _stretch(stage, subject, database, stretch, OURS, lines)
        if stage.redis:
            _beside(stage, stretches, lines, trying)
        for peer in stage.peers:
            with trying(peer):
                _peer(stage, peer, stretches, lines)
    for name in wanted:
        if name in ROUNDS:
            with trying(f"{OURS}, {name}"):
                for line, figures in ROUNDS[name].measure_round(stage).items():
                    lines[name, line, OURS].append(figures)


def _stretch(
    stage: Stage, subject: Subject, database: Database, stretch: Stretch, who: str, lines: Lines
) -> None:
    stage.say(f"    {stretch.workload} {stretch.line}")
    figures = stretch.measure(subject, database)
    lines[stretch.workload, stretch.line, who].append(figures)


def _beside(stage: Stage, stretches: list[Stretch], lines: Lines, trying: Callable[[str], Any]) -> None:
    """The same workers outside: one process for W1, two with half the threads each for W2."""
    for who, workload, workers, slots in ((BESIDE, "W1", 1, 4), (BESIDE_2, "W2", 2, 2)):
        mine = [s for s in stretches if s.workload == workload]
        if not mine:
            continue
        with (
            trying(who),
            stage.home("beside") as (database, given),
            stage.engine(given, slots=0, workers=workers, worker_slots=slots) as subject,
        ):
            for stretch in mine:
                _stretch(stage, subject, database, stretch, who, lines)


def _peer(stage: Stage, name: str, stretches: list[Stretch], lines: Lines) -> None:
    assert stage.server is not None
    database = stage.server.database(name)
    try:
        with stage.peer(name, database.url) as subject:
            for stretch in PEERS[name].can(stretches):
                _stretch(stage, subject, database, stretch, f"{name}", lines)
    finally:
        database.drop()


def _facts(stage: Stage) -> dict[str, Any]:
    if stage.server is not None:
        return {"vendor": "postgresql", **stage.server.facts()}
    return {
        "vendor": "sqlite",
        "server": f"SQLite {sqlite3.sqlite_version}, embedded",
        "settings": {"journal_mode": "WAL", "synchronous": "FULL"},
        "commits_counted": "at the engine's connections",
        "statements_counted": "at the engine's connections",
    }


def _commit() -> str:
    """The commit these sources are, as git has it; empty outside a checkout."""
    head = Path(ROOT / ".git" / "HEAD")
    with contextlib.suppress(OSError):
        text = head.read_text().strip()
        name = text.removeprefix("ref: ")
        return (text if name == text else (ROOT / ".git" / name).read_text().strip())[:12]
    return ""


def scale_of(*, quick: bool, rounds: int | None) -> Scale:
    from dataclasses import replace

    from bench.stage import QUICK

    scale = QUICK if quick else Scale()
    return replace(scale, rounds=rounds) if rounds else scale
