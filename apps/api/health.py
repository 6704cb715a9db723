"""Is this process alive, and can it do its work? Outside `/api/v1`, for supervisors and load balancers."""

from __future__ import annotations

import os
from functools import lru_cache
from uuid import uuid4

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

import mirrorneuron
from apps.api.shapes import Health, Readiness


@lru_cache(maxsize=4)
def _boot_of(pid: int) -> str:
    return str(uuid4())


def boot_id() -> str:
    """A random id of this process; another one after a restart, also in forked children."""
    return _boot_of(os.getpid())


@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """Alive; asks nothing of the database."""
    body = Health(status="ok", version=mirrorneuron.__version__, boot=boot_id())
    return JsonResponse(body.model_dump(), headers={"Cache-Control": "no-store"})


_complete = False
"""Once complete, it stays so for this process: the question costs a tenth of a second and is open to all."""


def _has_all_tables() -> bool:
    global _complete
    if not _complete:
        executor = MigrationExecutor(connection)
        _complete = not executor.migration_plan(executor.loader.graph.leaf_nodes())
    return _complete


@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Ready for traffic: the database answers and has the tables of this release; 503 otherwise."""
    checks = {"database": "ok", "migrations": "ok"}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not _has_all_tables():
            checks["migrations"] = "missing; run `mn migrate`"
    except DatabaseError as exc:
        checks["database"] = f"unreachable ({type(exc).__name__})"
        checks["migrations"] = "unknown"
    ready = all(state == "ok" for state in checks.values())
    body = Readiness(status="ok" if ready else "unavailable", checks=checks)
    return JsonResponse(
        body.model_dump(), status=200 if ready else 503, headers={"Cache-Control": "no-store"}
    )
