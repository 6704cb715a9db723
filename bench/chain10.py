"""chain10: ten steps in a row, each recorded by itself.

Two kinds of chain: `recorded` steps do something that must not be done twice (a journalled call), `pure`
steps only compute. One run at a time on an idle engine, in the process that measures; then the floor: the
same rows written by bare SQL on the same connection, one transaction per step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

from django.db import connection, connections, transaction

from apps.blueprints.models import Blueprint, Version
from apps.ledger.models import Effect, Entry
from apps.runs import ports, services
from apps.runs.claims import claim_next
from apps.runs.core.states import RunStatus
from apps.runs.executor import work_chain
from apps.runs.models import Call, Run, Step, Worker
from apps.runs.ports import CallRecord, Context, Done
from apps.workspaces.access import Principal, principal_for
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7

STEPS = 10
QUEUE = "bench"


@dataclass
class Counts:
    """Statements and commits sent to the database, counted at the connection."""

    statements: int = 0
    commits: int = 0


@dataclass
class Figures:
    """One workload's result. Times in seconds, per run or from one step's end to the next one's start."""

    runs: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    commits_per_step: float = 0.0
    statements_per_step: float = 0.0
    entries_per_step: float = 0.0
    wal_bytes_per_step: float | None = None

    def as_json(self) -> dict[str, Any]:
        steps = len(self.runs) * STEPS
        return {
            "steps_per_second": round(steps / sum(self.runs), 1),
            "run_ms": _spread(self.runs),
            "step_gap_ms": _spread(self.gaps),
            "commits_per_step": round(self.commits_per_step, 3),
            "statements_per_step": round(self.statements_per_step, 2),
            "entries_per_step": round(self.entries_per_step, 2),
            "wal_bytes_per_step": self.wal_bytes_per_step and round(self.wal_bytes_per_step),
        }


def _spread(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(s * 1000 for s in seconds)
    at = lambda q: ordered[min(int(q * len(ordered)), len(ordered) - 1)]  # noqa: E731
    return {
        "p50": round(statistics.median(ordered), 3),
        "p95": round(at(0.95), 3),
        "min": round(ordered[0], 3),
        "max": round(ordered[-1], 3),
    }


def measure(runs: int = 30) -> dict[str, Any]:
    """Measure both chains and the floor on the environment's database. Leaves nothing behind."""
    with _house() as principal:
        boot = uuid4()
        Worker.objects.create(
            boot=boot, host="bench", pid=0, started_at=now(),
            lease_until=now().replace(year=now().year + 1),
        )  # fmt: skip
        try:
            recorded = _workload(principal, boot, "recorded", runs)
            pure = _workload(principal, boot, "pure", runs)
            floor = _floor(principal, runs * STEPS)
        finally:
            Worker.objects.filter(boot=boot).delete()
    return {
        "workload": "chain10",
        "database": connection.vendor,
        "server": _server(),
        "runs": runs,
        "recorded": recorded.as_json(),
        "pure": pure.as_json(),
        "floor": floor,
        "ratio_to_floor": round(recorded.as_json()["steps_per_second"] / floor["step_commits_per_second"], 3),
    }


@contextmanager
def _house() -> Iterator[Principal]:
    """A workspace of its own, removed afterwards with everything in it."""
    token = uuid7().hex[-12:]
    user = User.objects.create_user(f"bench-{token}@mirrorneuron.invalid")
    workspace = Workspace.objects.create(slug=f"bench-{token}", name="Benchmark")
    Membership.objects.create(workspace=workspace, user=user, roles=["owner"])
    try:
        yield principal_for(user, workspace, "cli")
    finally:
        Call.objects.filter(step__run__workspace=workspace).delete()
        Step.objects.filter(run__workspace=workspace).delete()
        Run.objects.filter(workspace=workspace).delete()
        Entry.objects.filter(workspace=workspace).delete()
        Effect.objects.filter(workspace=workspace).delete()
        workspace.delete()
        user.delete()


def _version(principal: Principal, kind: str) -> Version:
    node: dict[str, Any] = {"kind": "transform", "output": {"ok": True}, "queue": QUEUE}
    if kind == "recorded":
        node = {"kind": "code", "code": "bench", "queue": QUEUE}
    nodes = [{"id": f"s{i}", **node} for i in range(STEPS)]
    edges = [{"from": f"s{i}", "to": f"s{i + 1}"} for i in range(STEPS - 1)]
    document = {"metadata": {"name": f"bench_{kind}"}, "graph": {"nodes": nodes, "edges": edges}}
    blueprint = Blueprint.objects.create(workspace=principal.workspace, name=f"bench_{kind}", title=kind)
    return Version.objects.create(
        blueprint=blueprint, number=1, content_hash=uuid7().hex, document=document, source=""
    )


def _recorded_step(context: Context) -> Done:
    """Stands for a step with one journalled call, such as a model request."""
    started = now()
    context.record(
        CallRecord(
            kind="tool", name="bench", turn=0, ordinal=0, request_hash="", request=None,
            response={"i": 1, "ok": True}, started_at=started, latency_ms=0,
        )
    )  # fmt: skip
    return Done({"i": 1, "ok": True})


def _workload(principal: Principal, boot: Any, kind: str, runs: int) -> Figures:
    version = _version(principal, kind)
    figures, counts = Figures(), Counts()
    handler = ports.handler_for("code")
    ports.register_handler("code", _recorded_step)
    try:
        _one(principal, version, boot, Counts())  # warm: compile the plan, prepare statements
        wal = _wal_position()
        entries = 0
        for _ in range(runs):
            began = time.perf_counter()
            run, gaps = _one(principal, version, boot, counts)
            figures.runs.append(time.perf_counter() - began)
            figures.gaps += gaps
            entries += run.seq
        after = _wal_position()
    finally:
        ports._handlers.pop("code", None)
        if handler is not None:
            ports.register_handler("code", handler)
    steps = runs * STEPS
    figures.commits_per_step = counts.commits / steps
    figures.statements_per_step = counts.statements / steps
    figures.entries_per_step = entries / steps
    if wal is not None and after is not None:
        figures.wal_bytes_per_step = (after - wal) / steps
    return figures


def _one(principal: Principal, version: Version, boot: Any, counts: Counts) -> tuple[Run, list[float]]:
    """One run from `start_run` to its end: start, first claim, ten steps; all of it is counted."""
    with _counted(counts):
        run = services.start_run(principal, version, {})
        while claim := claim_next(boot, (QUEUE,), alone=True):
            work_chain(claim, boot, (QUEUE,), lambda: True)
    run.refresh_from_db()
    if run.status != RunStatus.SUCCEEDED:
        raise RuntimeError(f"the benchmark's own run ended as {run.status}: {run.error}")
    # A successor is claimed in the commit that ends its predecessor, so both rows carry one time. The steps
    # do nothing here, so the time from start to start is what the engine needs between two steps.
    starts = [at for at in run.steps.order_by("id").values_list("started_at", flat=True) if at]
    return run, [(b - a).total_seconds() for a, b in pairwise(starts)]


@contextmanager
def _counted(counts: Counts) -> Iterator[None]:
    def count(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        counts.statements += 1
        return execute(sql, params, many, context)

    backend: Any = type(connections["default"])
    original = backend._commit

    def counting_commit(wrapper: Any) -> Any:
        counts.commits += 1
        return original(wrapper)

    backend._commit = counting_commit
    try:
        with connection.execute_wrapper(count):
            yield
    finally:
        backend._commit = original


def _floor(principal: Principal, commits: int) -> dict[str, Any]:
    """The same writes without an engine: per commit one updated run, one updated step, one new step and the
    two entries between them, as bare statements."""
    version = Version.objects.filter(blueprint__workspace=principal.workspace).first()
    assert version is not None
    run = Run.objects.create(workspace=principal.workspace, version=version, blueprint_name="floor")
    step = Step.objects.create(run=run, path="p0", node_id="s", kind="code", status="running", fence=1)
    t = connection.ops.quote_name
    update_run = f"UPDATE {t(Run._meta.db_table)} SET seq = seq + 2 WHERE id = %s AND seq = %s"
    update_step = (
        f"UPDATE {t(Step._meta.db_table)} SET status = 'succeeded', ended_at = %s, output = %s "
        "WHERE id = %s AND fence = 1"
    )
    run_id = run.id if connection.vendor == "postgresql" else run.id.hex
    seconds = []
    for i in range(commits):
        at = now()
        nxt = Step(run=run, path=f"p{i + 1}", node_id="s", kind="code", status="running", fence=1,
                   created_at=at, ready_at=at, started_at=at)  # fmt: skip
        lines = [
            Entry(workspace=principal.workspace, run_id=run.id, seq=2 * i + k, at=at, kind="step.succeeded",
                  step_path=f"p{i}", attempt=1, data={"port": "done"})
            for k in (1, 2)
        ]  # fmt: skip
        insert_step, insert_entries = _insert(Step, [nxt]), _insert(Entry, lines)
        began = time.perf_counter()
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(update_run, [run_id, 2 * i])
            cursor.execute(update_step, [at, '{"i": 1, "ok": true}', step.pk])
            cursor.execute(*insert_step)
            if connection.features.can_return_columns_from_insert:
                (new_id,) = cursor.fetchone()
            else:
                new_id = cursor.lastrowid
            cursor.execute(*insert_entries)
        seconds.append(time.perf_counter() - began)
        step.pk = new_id
    return {"step_commits_per_second": round(commits / sum(seconds), 1), "commit_ms": _spread(seconds)}


def _insert(model: Any, rows: list[Any]) -> tuple[str, Any]:
    """The INSERT Django would send for these rows, prepared outside the measured time."""
    fields = [f for f in model._meta.concrete_fields if not f.primary_key]
    from django.db.models.sql import InsertQuery

    query = InsertQuery(model)
    query.insert_values(fields, rows)
    compiler = query.get_compiler(connection=connection)
    statement, parameters = compiler.as_sql()[0]
    if connection.features.can_return_columns_from_insert and model is Step:
        statement += ' RETURNING "id"'
    return statement, parameters


def _wal_position() -> int | None:
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return int(cursor.fetchone()[0])


def _server() -> str:
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SHOW server_version")
            return f"PostgreSQL {cursor.fetchone()[0]}"
        cursor.execute("SELECT sqlite_version()")
        return f"SQLite {cursor.fetchone()[0]}"
