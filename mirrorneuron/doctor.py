"""What is wrong with an installation, and why runs do not move. Looks only; changes nothing.

Each check is one function that returns a `Result`; a check that cannot be made because an earlier one failed
says so instead of failing again.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from django.db import DatabaseError, OperationalError, connection
from django.db.models import Exists, OuterRef, Q

from apps.agents.sandbox import small
from apps.governance.selectors import troubled_limits
from apps.runs import invariants, selectors
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus
from apps.runs.models import Run, Step, Worker
from mirrorneuron import datalock, dbtrouble, schema, servers
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.config import GOOD_KEY_LENGTH, config, make_private
from mirrorneuron.findings import Result

MAX_CLOCK_SECONDS = 2.0
STILL_SECONDS = 60
"""A run that ought to move and has not for this long is named."""


def examine() -> dict[str, Any]:
    """{ok, checks: [{name, level, found, next}], findings: [{invariant, run, what}], still: [{run, why,
    …}]}"""
    checks: list[Result] = []
    usable = True
    for check in _checks():
        if check in _AFTER_DATABASE and not usable:
            checks.append(Result(_name(check), "warn", "not looked at: the database comes first"))
            continue
        checks.append(result := _safely(check))
        usable = usable and not (result.level == "fail" and result.name in ("database", "migrations"))
    findings = [asdict(f) for f in invariants.check_all()] if usable else []
    still = still_runs() if usable else []
    if usable and not findings:
        checks.append(_promises())
    return {
        "ok": all(c.level != "fail" for c in checks) and not findings,
        "checks": [asdict(c) for c in checks],
        "findings": findings,
        "still": still,
    }


def _promises() -> Result:
    """What was counted, in words."""
    runs = Run.objects.count()
    if not runs:
        return Result("promises", "ok", "nothing to count yet: there are no runs")
    which = "the one run" if runs == 1 else f"all {runs} runs"
    return Result(
        "promises",
        "ok",
        f"hold for {which}: nothing ran twice, nothing is stuck, what has ended stays ended, every ledger is "
        "whole, concurrency keys are counted right (I1 to I7)",
    )


def still_runs(limit: int = 50) -> list[dict[str, Any]]:
    """Unfinished runs in which nothing is being worked on, each with the reason."""
    runs = Run.objects.exclude(status__in=RUN_ENDED).select_related("version").order_by("created_at")
    return [
        {
            "run": str(run.id),
            "blueprint": run.blueprint_name,
            "status": run.status,
            "why": explained["why"],
            "needs": _needs(run, explained),
        }
        for run in runs[:limit]
        if set((explained := selectors.explain(run))["now"]) <= set(explained["lost"])
    ]


def _needs(run: Run, explained: dict[str, Any]) -> str:
    """What would make the run move, in a few words."""
    if run.status == RunStatus.PAUSED:
        return f"a person: mn runs resume {run.id}"
    reasons = {w["reason"]: w for w in explained["waiting_for"]}
    if "approval" in reasons:
        return "a person: mn approvals list"
    if "effect_in_doubt" in reasons and not reasons["effect_in_doubt"]["until"]:
        return "a person: mn effects list --state in_doubt"
    timed = [w["until"] for w in explained["waiting_for"] if w["until"]]
    if timed:
        return f"time: {min(timed)}"
    if "signal" in reasons:
        return "a signal from outside"
    if not selectors.worker_is_alive():
        return "a worker: mn up, or mn worker"
    if unserved := servers.unserved_queues(run):
        return f"a worker: mn worker -Q {unserved[0]}"
    if now() - run.created_at < timedelta(seconds=STILL_SECONDS):
        return "a moment"
    return "a look at the log of the workers"


# --- checks -----------------------------------------------------------------------------------------------


def python() -> Result:
    return Result("python", "ok", f"{sys.version.split()[0]} at {sys.executable}")


def data_folder() -> Result:
    folder = config().data
    try:
        make_private(folder)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        return Result("data folder", "fail", f"{folder}: {exc.strerror}", "Make it writable or set MN_DATA.")
    free = os.statvfs(folder)
    megabytes = free.f_bavail * free.f_frsize // 1024**2
    if megabytes < 500:
        return Result("data folder", "warn", f"{folder}: only {megabytes} MB free", "Free some space.")
    return Result("data folder", "ok", f"{folder} is writable")


def secret_key() -> Result:
    given = config().secret_key.get_secret_value()
    if given:
        file = os.environ.get("MN_SECRET_KEY_FILE")
        source = f"MN_SECRET_KEY_FILE ({file})" if file else "MN_SECRET_KEY"
        if len(given) < GOOD_KEY_LENGTH:
            return Result(
                "secret key",
                "warn",
                f"{source} is short: {len(given)} characters",
                f"Use at least {GOOD_KEY_LENGTH} random characters.",
            )
        return Result("secret key", "ok", f"from {source}")
    path = config().data / "secret.key"
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        return Result("secret key", "warn", f"{path} can be read by others", f"chmod 600 {path}")
    return Result("secret key", "ok", f"in {path}")


def database() -> Result:
    started = time.monotonic()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    except OperationalError as exc:
        trouble = dbtrouble.explain(exc)
        return Result("database", "fail", trouble.message.rstrip("."), trouble.next)
    took = (time.monotonic() - started) * 1000
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA quick_check(1)")
            said = cursor.fetchone()[0]
        if said != "ok":
            return Result("database", "fail", f"SQLite says: {said}", "Restore it from a backup.")
        return Result(
            "database", "ok", f"SQLite {sqlite3.sqlite_version} at {connection.settings_dict['NAME']}"
        )
    version = connection.pg_version  # type: ignore[attr-defined]
    if version < 150000:
        return Result("database", "fail", f"PostgreSQL {version // 10000}", "Use PostgreSQL 15 or later.")
    return Result("database", "ok", f"PostgreSQL {version // 10000}, {took:.0f} ms a statement")


def migrations() -> Result:
    try:
        missing = schema.pending()
    except DatabaseError:
        return Result("migrations", "fail", "cannot be read", "Make the database reachable first.")
    if missing:
        return Result(
            "migrations", "fail", f"{len(missing)} not applied, first {missing[0]}", "Run `mn migrate`."
        )
    return Result("migrations", "ok", "all applied")


def full_text_search() -> Result:
    """FTS5 ranks documents; it is part of Python's SQLite nearly everywhere."""
    try:
        with sqlite3.connect(":memory:") as memory:
            memory.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    except sqlite3.Error as exc:
        return Result(
            "full-text search", "fail", f"SQLite without FTS5 ({exc})", "Use a Python whose SQLite has FTS5."
        )
    return Result("full-text search", "ok", "FTS5 is there")


def broker() -> Result:
    url = config().broker_url
    if not url:
        if config().is_sqlite:
            return Result("broker", "ok", "none needed: the worker lives in one process")
        return Result(
            "broker", "warn", "BROKER_URL is empty, workers only poll", "Set BROKER_URL to be faster."
        )
    from mirrorneuron.celery import app

    link = app.connection_for_write(connect_timeout=3)
    try:
        link.ensure_connection(max_retries=1, timeout=3)
    except Exception as exc:  # each transport has errors of its own
        said = str(exc) or type(exc).__name__
        return Result(
            "broker", "warn", f"{_shown(url)} cannot be reached: {said}", "Start it; until then workers poll."
        )
    finally:
        link.release()
    return Result("broker", "ok", _shown(url))


def channel_layer() -> Result:
    url = config().channel_url
    if not url:
        if servers.is_postgresql():
            return Result("live updates", "ok", "through PostgreSQL, unless a pooler is in between")
        return Result("live updates", "ok", "within one process")
    import redis

    try:
        redis.Redis.from_url(url, socket_connect_timeout=3, socket_timeout=3).ping()
    except redis.RedisError as exc:
        return Result("live updates", "warn", f"{_shown(url)}: {exc}", "Start it; until then pages poll.")
    return Result("live updates", "ok", _shown(url))


def workers() -> Result:
    alive = list(Worker.objects.filter(lease_until__gt=now(), stopped_at=None).order_by("started_at"))
    holder = datalock.holder(config().data) if config().is_sqlite else None
    if alive and not (config().is_sqlite and holder is None):
        return Result("workers", "ok", ", ".join(f"{w.host} process {w.pid}" for w in alive))
    found = "none is running" if config().is_sqlite and holder is None else "none has a valid lease"
    waiting = _runs_that_need_a_worker()
    start = "`mn up`" if config().is_sqlite else "`mn worker`"
    if waiting:
        count = "one unfinished run needs one" if waiting == 1 else f"{waiting} unfinished runs need one"
        return Result("workers", "fail", f"{found}, and {count}", f"Start {start}; they go on by themselves.")
    return Result("workers", "warn", f"{found}; no run needs one now", f"Start {start}.")


def _runs_that_need_a_worker() -> int:
    """Unfinished runs in which something is to be done now, or was being done by a worker that is gone."""
    return (
        Run.objects.exclude(status__in=[*RUN_ENDED, RunStatus.PAUSED])
        .filter(
            Q(status=RunStatus.CANCELLING)
            | Q(held_worker__isnull=False)
            | Exists(
                Step.objects.filter(run=OuterRef("pk")).filter(
                    Q(status__in=[StepStatus.READY, StepStatus.RUNNING])
                    | Q(status__in=[StepStatus.WAITING, StepStatus.IN_DOUBT], due_at__lte=now())
                )
            )
        )
        .count()
    )


def clock() -> Result:
    if connection.vendor != "postgresql":
        return Result("clock", "ok", "the database is on this machine")
    before = time.time()
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        (there,) = cursor.fetchone()
    offset = float(there) - (before + time.time()) / 2
    if abs(offset) > MAX_CLOCK_SECONDS:
        return Result(
            "clock",
            "warn",
            f"{offset:+.1f} s from the database's",
            "Harmless to runs, which go by the database's; set this clock for logs and sign-in links.",
        )
    return Result("clock", "ok", f"{offset * 1000:+.0f} ms from the database's")


def outside_calls() -> Result:
    """Breakers that are open, and what asked for rest."""
    found = troubled_limits()
    if not found:
        return Result("outside calls", "ok", "nothing rests and nothing is down")
    said = []
    for x in found[:5]:
        if x["breaker"] != "closed":
            what = f"keeps failing ({x['last_error']})" if x["last_error"] else "keeps failing"
        else:
            what = "asked for rest" if x["rests_until"] else "is at its limit"
        said.append(f"{x['key']} {what}" + (f", {x['waiting']} wait" if x["waiting"] else ""))
    more = f", and {len(found) - 5} more" if len(found) > 5 else ""
    return Result(
        "outside calls", "warn", "; ".join(said) + more, "Steps wait and lose nothing; see `mn limits list`."
    )


def sandbox() -> Result:
    """What code steps can be run in here; a worker elsewhere may have more."""
    full = "bubblewrap for full Python" if shutil.which("bwrap") else "no bubblewrap, so no full Python"
    try:
        small.run("1", {}, seconds=5)
    except MirrorNeuronError as exc:
        return Result("sandbox", "warn", f"code steps cannot run here: {exc.message.rstrip('.')}", exc.next)
    return Result("sandbox", "ok", f"small Python runs; {full}")


_CHECKS: tuple[Callable[[], Result], ...] = (
    python, data_folder, secret_key, database, migrations, full_text_search, sandbox, broker, channel_layer,
    workers, clock, outside_calls,
)  # fmt: skip
_SERVER_CHECKS: tuple[Callable[[], Result], ...] = (
    servers.durability, servers.vacuum, servers.old_transactions,
)  # fmt: skip
_AFTER_DATABASE = (workers, clock, outside_calls, servers.versions, servers.queues, *_SERVER_CHECKS)


def _checks() -> Iterator[Callable[[], Result]]:
    for check in _CHECKS:
        yield check
        if check is broker and config().broker_url:
            yield servers.broker_memory
        if check is workers:
            yield from (servers.versions, servers.queues)
    if database in _CHECKS and servers.is_postgresql():
        yield from _SERVER_CHECKS


def _name(check: Callable[[], Result]) -> str:
    return check.__name__.replace("_", " ")


def _safely(check: Callable[[], Result]) -> Result:
    try:
        return check()
    except Exception as exc:  # a check that breaks is itself a finding
        said = " ".join(str(exc).split())[:200] or type(exc).__name__
        return Result(_name(check), "fail", said, "Correct this first; other checks may follow from it.")


def _shown(url: str) -> str:
    """A URL without its password."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"
