"""Speaks for a person inside one installation, from a process of its own.

    python -m tests.faults.driver

Reads one JSON request a line on standard input, `{"do": name, …}`, writes one JSON answer a line on standard
output. It uses the same services as every door, on the database its environment names; so a test process with
settings of its own can drive any number of installations. It holds no lease and works no step.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

Command = Callable[..., Any]
_commands: dict[str, Command] = {}


def command(function: Command) -> Command:
    _commands[function.__name__] = function
    return function


def _me() -> Any:
    from apps.workspaces.access import principal_for
    from apps.workspaces.services import ensure_laptop_owner

    user, workspace = ensure_laptop_owner()
    return principal_for(user, workspace, "cli")


@command
def prepare() -> dict[str, Any]:
    """Make the tables and the owner."""
    from django.core.management import call_command

    call_command("migrate", verbosity=0, interactive=False)
    return {"workspace": str(_me().workspace.id)}


@command
def import_blueprint(text: str) -> dict[str, Any]:
    from apps.blueprints.services import import_blueprint as import_

    version = import_(_me(), text)
    return {"version": str(version.id), "name": version.blueprint.name}


@command
def start(blueprint: str, inputs: dict[str, Any], key: str | None = None) -> dict[str, Any]:
    from apps.blueprints.services import version_for_run
    from apps.runs.services import start_run

    me = _me()
    run = start_run(me, version_for_run(me, blueprint), inputs, idempotency_key=key)
    return {"id": str(run.id)}


@command
def look(run: str) -> dict[str, Any]:
    """Everything about a run that a test may assert, as of one `seq`."""
    while True:
        seen = _look(run)
        if seen["seq"] == _seq(run):
            return seen


def _seq(run: str) -> int:
    from apps.runs.models import Run

    return Run.objects.values_list("seq", flat=True).get(id=run)


def _look(run: str) -> dict[str, Any]:
    from apps.approvals.models import ApprovalRequest
    from apps.ledger.models import Effect, Entry, Evidence
    from apps.runs.models import Call, Run, Step

    row = Run.objects.get(id=run)
    effects = Effect.objects.filter(run_id=run).order_by("created_at")
    return {
        "status": row.status,
        "needs_attention": row.needs_attention,
        "error": row.error,
        "output": row.output,
        "seq": row.seq,
        "steps": {
            step.path: {
                "status": step.status,
                "reason": step.reason,
                "attempt": step.attempt,
                "failures": step.failures,
                "losses": step.losses,
                "fence": step.fence,
                "error": step.error,
                "output": step.output,
                "due": step.due_at is not None,
                "worker": str(step.worker) if step.worker else None,
            }
            for step in Step.objects.filter(run_id=run).order_by("id")
        },
        "effects": [
            {
                "id": str(effect.id),
                "path": effect.step_path,
                "tool": effect.tool,
                "class": effect.effect_class,
                "state": effect.state,
                "key": effect.key,
                "generation": effect.generation,
                "sends": effect.sends,
                "result": effect.result,
                "evidence": [
                    {"source": e.source, "body": e.body} for e in Evidence.objects.filter(effect=effect)
                ],
            }
            for effect in effects
        ],
        "requests": [
            {"id": str(request.id), "path": request.step_path, "state": request.state}
            for request in ApprovalRequest.objects.filter(run_id=run).order_by("created_at")
        ],
        "entries": [
            {"seq": e.seq, "at": e.at.isoformat(), "kind": e.kind, "path": e.step_path, "data": e.data}
            for e in Entry.objects.filter(run_id=run).order_by("seq")
        ],
        "model_calls": Call.objects.filter(step__run_id=run, kind="model").count(),
    }


@command
def decide(request: str, verb: str, **more: Any) -> dict[str, Any]:
    from apps.approvals.services import decide as decide_

    return {"state": decide_(_me(), request, verb=verb, **more).state}


@command
def resolve(effect: str, outcome: str, reason: str, reference: str = "") -> dict[str, Any]:
    from apps.runs.services import resolve_effect

    resolved = resolve_effect(_me(), UUID(effect), outcome=outcome, reason=reason, reference=reference)
    return {"state": resolved.state}


@command
def control(run: str, action: str) -> dict[str, Any]:
    """Pause, resume or cancel."""
    from apps.runs import services

    reason = {} if action == "resume" else {"reason": "a fault test"}
    return dict(getattr(services, f"{action}_run")(_me(), UUID(run), **reason))


@command
def age(effect: str, seconds: float) -> dict[str, Any]:
    """Move an effect's times into the past, as if that long had gone by since it was sent."""
    from datetime import timedelta

    from apps.ledger.models import Effect
    from apps.runs.models import Step

    row = Effect.objects.get(id=effect)
    by = timedelta(seconds=seconds)
    for name in ("sent_at", "call_deadline_at", "key_expires_at"):
        if (value := getattr(row, name)) is not None:
            setattr(row, name, value - by)
    row.save()
    step = Step.objects.get(run_id=row.run_id, path=row.step_path)
    if step.due_at is not None:
        Step.objects.filter(id=step.id).update(due_at=step.due_at - by)
    return {}


@command
def expire_leases() -> dict[str, Any]:
    """End every lease, as if its process had been silent for long."""
    from datetime import timedelta

    from apps.runs.models import Worker
    from mirrorneuron.base.clock import now

    Worker.objects.filter(lease_until__gt=now()).update(lease_until=now() - timedelta(seconds=1))
    return {}


@command
def ring(times: int) -> dict[str, Any]:
    """Ring the doorbell by hand, more often than anybody would."""
    from apps.runs.doorbell import ring as ring_

    for _ in range(times):
        ring_(1)
    return {}


@command
def workers() -> list[dict[str, Any]]:
    from apps.runs.models import Worker
    from mirrorneuron.base.clock import now

    return [
        {"boot": str(w.boot), "pid": w.pid, "alive": w.lease_until > now() and w.stopped_at is None}
        for w in Worker.objects.order_by("started_at")
    ]


@command
def invariants() -> list[str]:
    from apps.runs.invariants import check_all

    return [str(violation) for violation in check_all()]


def main() -> None:
    # Answers go to the real standard output; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    import django

    django.setup()
    from mirrorneuron.base.errors import MirrorNeuronError

    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"ok": _commands[request.pop("do")](**request)}
        except MirrorNeuronError as error:
            answer = {"refused": {"code": error.code, "message": str(error)}}
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
