"""Helpers for tests that run blueprints on a real database with a real claim loop, in this thread."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from apps.blueprints.core.document import Document
from apps.blueprints.models import Blueprint, Version
from apps.runs.claims import claim_next
from apps.runs.executor import work_chain
from apps.runs.models import Run, Worker
from apps.runs.upkeep import upkeep
from mirrorneuron.base.clock import now
from mirrorneuron.base.ids import uuid7

DIVIDE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: divide, title: Divide}
card: {purpose: p, must_never: [lie], business_owner: a, technical_owner: b, model_steward: c}
contract:
  goal: Divide.
  inputs: {type: object, required: [by], properties: {by: {type: integer}}}
graph:
  nodes:
    - {id: one, kind: transform, output: 10}
    - {id: two, kind: transform, output: "{{ steps.one.output / inputs.by }}"}
    - {id: three, kind: transform, output: "{{ steps.two.output + 1 }}"}
  edges:
    - {from: one, to: two}
    - {from: two, to: three}
outputs: {result: "{{ steps.three.output }}"}
"""
"""Fails when it divides by 0, and can be retried, skipped and forked."""


def version_of(workspace: Any, nodes: list, edges: list = (), **document: Any) -> Version:
    """Store a version straight from nodes and edges, unvalidated."""
    name = f"t{uuid4().hex[:12]}"
    content = {
        "metadata": {"name": name},
        "graph": {"nodes": list(nodes), "edges": list(edges)},
        **document,
    }
    Document.model_validate(content)
    blueprint = Blueprint.objects.create(workspace=workspace, name=name, title=name)
    return Version.objects.create(
        blueprint=blueprint, number=1, content_hash=uuid7().hex, document=content, source=""
    )


def recorded(id: str, output: Any = 1, **more: Any) -> dict[str, Any]:
    """A node whose result must not be computed twice, so that it is claimed and stored by itself.

    What it gives is rendered as a transform's; the handler is a stand-in (tests/runs/conftest.py).
    """
    return {"id": id, "kind": "code", "code": "-", "output": output, **more}


def register_worker(boot: UUID | None = None, lease_seconds: float = 60) -> UUID:
    from datetime import timedelta

    boot = boot or uuid4()
    Worker.objects.create(
        boot=boot, host="test", pid=1, started_at=now(), lease_until=now() + timedelta(seconds=lease_seconds)
    )
    return boot


def work_all(boot: UUID | None = None, limit: int = 500) -> int:
    """Work everything that is ready or due now; returns steps worked."""
    boot = boot or register_worker()
    worked = 0
    upkeep(boot)
    for _ in range(limit):
        claim = claim_next(boot, ("default",), alone=True)
        if claim is None:
            upkeep(boot)
            claim = claim_next(boot, ("default",), alone=True)
        if claim is None:
            return worked
        worked += work_chain(claim, boot, ("default",), lambda: True)
    raise AssertionError(f"still not idle after {limit} rounds")


def statuses(run: Run) -> dict[str, str]:
    """By path, the step a run holds among them."""
    held = Run.objects.filter(id=run.id, held_path__isnull=False).values_list("held_path", flat=True)
    return {**dict(run.steps.values_list("path", "status")), **{str(path): "running" for path in held}}
