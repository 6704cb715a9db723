"""How long a workspace with very many queued runs delays another's single run.

    python -m bench.fairness [--runs 100000] [--milliseconds 50] [--slots 4] [--times 10]

One workspace has so many runs waiting, each of one step that takes so long; one process with so many slots
works on them. Meanwhile another workspace starts single runs, one after the other. Measured is the time from
the call until the step begins, and until its run has ended. Uses a database of its own on the server of
DATABASE_URL, else SQLite in a folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

BATCH = 5000
WARM_SECONDS = 3.0


@contextlib.contextmanager
def _installation() -> Iterator[None]:
    """An empty database and data folder, set in the environment before Django is loaded."""
    from bench.databases import Server

    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        os.environ["MN_DATA"] = folder
        os.environ["MN_SECRET_KEY"] = "only for benchmarks " * 2
        os.environ["MN_MAX_QUEUED"] = "0"
        if url := os.environ.get("DATABASE_URL", ""):
            server = Server(url)
            stack.callback(server.close)
            os.environ["DATABASE_URL"] = server.database("fairness").url
        yield
        from django.db import connections

        connections.close_all()


def _workspace(name: str) -> Any:
    from apps.workspaces.access import principal_for
    from apps.workspaces.models import Membership, User, Workspace

    user = User.objects.create_user(f"{name}@mirrorneuron.invalid")
    workspace = Workspace.objects.create(slug=name, name=name)
    Membership.objects.create(workspace=workspace, user=user, roles=["owner"])
    return principal_for(user, workspace, "cli")


def _version(principal: Any) -> Any:
    from apps.blueprints.models import Blueprint, Version

    document = {
        "metadata": {"name": "single"},
        "graph": {"nodes": [{"id": "work", "kind": "tool", "tool": "work"}], "edges": []},
    }
    blueprint = Blueprint.objects.create(workspace=principal.workspace, name="single", title="Single")
    return Version.objects.create(
        blueprint=blueprint, number=1, content_hash="0" * 64, document=document, source=""
    )


def _backlog(principal: Any, version: Any, count: int) -> None:
    """Queued runs as `start_run` leaves them, but for their first ledger entries."""
    from apps.runs.models import Run, Step
    from mirrorneuron.base.clock import now

    for start in range(0, count, BATCH):
        runs = Run.objects.bulk_create(
            Run(workspace=principal.workspace, version=version, blueprint_name="single", active=1)
            for _ in range(min(BATCH, count - start))
        )
        Step.objects.bulk_create(
            Step(
                run=run,
                workspace_id=run.workspace_id,
                path="work",
                node_id="work",
                kind="tool",
                ready_at=now(),
            )
            for run in runs
        )


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--milliseconds", type=float, default=50.0)
    options.add_argument("--slots", type=int, default=4)
    options.add_argument("--times", type=int, default=10)
    asked = options.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    with _installation():
        import django

        django.setup()
        print(json.dumps(_measure(asked), indent=2))


def _measure(asked: argparse.Namespace) -> dict[str, Any]:
    from apps.runs import ports
    from apps.runs.models import Run, Step
    from apps.runs.services import start_run
    from apps.runs.worker import WorkerProcess
    from mirrorneuron import schema
    from mirrorneuron.config import config

    def work(context: Any) -> ports.Done:
        time.sleep(asked.milliseconds / 1000)
        return ports.Done({})

    schema.migrate()
    ports._handlers["tool"] = work
    many, single = _workspace("many"), _workspace("single")
    _backlog(many, _version(many), asked.runs)
    version = _version(single)
    worker = WorkerProcess(slots=asked.slots, sole=config().is_sqlite)
    worker.start()
    time.sleep(WARM_SECONDS)
    started, ended = [], []
    for _ in range(asked.times):
        began = time.perf_counter()
        run = start_run(single, version, {})
        worker.nudge()
        while not Step.objects.filter(run=run).exclude(status="ready").exists():
            time.sleep(0.002)
        started.append(time.perf_counter() - began)
        while Run.objects.get(id=run.id).status != "succeeded":
            time.sleep(0.002)
        ended.append(time.perf_counter() - began)
        time.sleep(0.1)
    done = Run.objects.filter(workspace=many.workspace, status="succeeded").count()
    worker.stop()
    return {
        "queued_runs": asked.runs,
        "step_milliseconds": asked.milliseconds,
        "slots": asked.slots,
        "database": "sqlite" if config().is_sqlite else "postgresql",
        "until_started_seconds": _spread(started),
        "until_ended_seconds": _spread(ended),
        "of_the_long_queue_meanwhile": done,
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "most": round(max(values), 3),
    }


if __name__ == "__main__":
    sys.exit(main())
