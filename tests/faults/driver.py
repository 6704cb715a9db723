"""Speaks for a person inside one installation, from a process of its own.

    python -m tests.faults.driver

Reads one JSON request a line on standard input, `{"do": name, …}`, writes one JSON answer a line on standard
output. It uses the same services as every door, on the database its environment names; so a test process with
settings of its own can drive any number of installations. It holds no lease and works no step.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
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
def start_many(blueprint: str, references: list[str]) -> list[str]:
    """One run for each reference, which is its idempotency key too."""
    from apps.blueprints.services import version_for_run
    from apps.runs.services import start_run

    me = _me()
    version = version_for_run(me, blueprint)
    return [str(start_run(me, version, {"reference": r}, idempotency_key=r).id) for r in references]


@command
def statuses(prefix: str = "") -> dict[str, int]:
    """How many runs are in which state, of those whose reference begins so."""
    from collections import Counter

    from apps.runs.models import Run

    rows = Run.objects.values_list("status", "inputs")
    return Counter(status for status, inputs in rows if str(inputs.get("reference", "")).startswith(prefix))


@command
def errors(prefix: str = "") -> list[Any]:
    """Why runs failed."""
    from apps.runs.models import Run

    return [r.error for r in Run.objects.filter(status="failed") if r.inputs["reference"].startswith(prefix)]


@command
def unfinished(prefix: str = "") -> list[dict[str, Any]]:
    """Runs that have not ended, with where they stand; of those whose reference begins so."""
    from apps.runs.core.states import RUN_ENDED
    from apps.runs.models import Run
    from apps.runs.selectors import step_rows

    return [
        {
            "id": str(run.id),
            "status": run.status,
            "steps": [
                (step.path, step.status, step.reason, step.losses)
                for step in step_rows(run)
                if step.ended_at is None
            ],
        }
        for run in Run.objects.exclude(status__in=RUN_ENDED)
        if str(run.inputs.get("reference", "")).startswith(prefix)
    ]


@command
def answer_everything(executed: list[str]) -> dict[str, int]:
    """Approve what is asked; say of each doubt that waits for a person what the remote's log says.

    executed: references the remote has executed.
    """
    from datetime import timedelta

    from apps.approvals.models import ApprovalRequest
    from apps.approvals.services import decide as decide_
    from apps.ledger.models import Effect
    from apps.runs.models import Step
    from apps.runs.services import resolve_effect
    from mirrorneuron.base.clock import now
    from mirrorneuron.base.errors import MirrorNeuronError

    done = {"decided": 0, "asked": 0}
    for request in ApprovalRequest.objects.filter(state="open"):
        with contextlib.suppress(MirrorNeuronError):
            decide_(_me(), request.id, verb="approve")
            done["decided"] += 1
    quiet = now() - timedelta(seconds=1)
    for step in Step.objects.filter(status="in_doubt", due_at=None):
        for effect in Effect.objects.filter(
            run_id=step.run_id, step_path=step.path, state="in_doubt", call_deadline_at__lt=quiet
        ):
            outcome = "happened" if effect.arguments["reference"] in executed else "did_not_happen"
            with contextlib.suppress(MirrorNeuronError):
                resolve_effect(_me(), effect.id, outcome=outcome, reason="the remote says so", reference="")
                done["asked"] += 1
    return done


@command
def effects(prefix: str = "") -> list[dict[str, Any]]:
    """Every effect, by the reference it carries."""
    from apps.ledger.models import Effect

    rows = [(e.arguments.get("reference", ""), e) for e in Effect.objects.all()]
    return [
        {"reference": reference, "state": e.state, "key": e.key, "sends": e.sends, "path": e.step_path}
        for reference, e in rows
        if reference.startswith(prefix)
    ]


@command
def attempts(prefix: str = "") -> list[dict[str, Any]]:
    """What each run's steps have cost in losses and failures."""
    from django.db.models import Sum

    from apps.runs.models import Run

    rows = Run.objects.annotate(losses=Sum("steps__losses"), failures=Sum("steps__failures"))
    return [
        {"id": str(r.id), "losses": r.losses, "failures": r.failures}
        for r in rows
        if r.inputs["reference"].startswith(prefix)
    ]


@command
def count_entries(kind: str, prefix: str = "") -> list[int]:
    """How many entries of a kind each run has."""
    from apps.ledger.selectors import entries
    from apps.runs.models import Run

    runs = [r for r in Run.objects.only("id", "inputs") if r.inputs["reference"].startswith(prefix)]
    return [len(entries(r.id, kinds=[kind])) for r in runs]


@command
def timer_waits(prefix: str = "") -> list[dict[str, Any]]:
    """How late each timer fired, in the database's own time."""
    from datetime import datetime

    from apps.ledger.selectors import entries
    from apps.runs.models import Run

    found = []
    for run in Run.objects.only("id", "inputs"):
        if run.inputs["reference"].startswith(prefix):
            for entry in entries(run.id, kinds=["timer.fired"]):
                due = datetime.fromisoformat(entry.data["due_at"])
                found.append({"path": entry.step_path, "late": (entry.at - due).total_seconds()})
    return found


@command
def bring_forward(seconds: float) -> dict[str, Any]:
    """Move whatever is due later that much nearer, as a pause's end would."""
    from datetime import timedelta

    from apps.ledger.models import Effect
    from apps.runs.models import Step, Worker

    by = timedelta(seconds=seconds)
    for rows, names in (
        (Step.objects.filter(ended_at=None), ("due_at", "deadline_at", "ready_at")),
        (Effect.objects.filter(state__in=["in_flight", "in_doubt"]), ("call_deadline_at",)),
        (Worker.objects.all(), ("lease_until",)),
    ):
        for row in rows:
            for name in names:
                value = getattr(row, name)
                if value is not None and value > _now() + timedelta(minutes=10):
                    type(row).objects.filter(pk=row.pk).update(**{name: value - by})
    return {}


def _now() -> Any:
    from mirrorneuron.base.clock import now

    return now()


@command
def forget_runs(prefix: str) -> dict[str, Any]:
    """Drop runs that go on in a copy of this installation."""
    from apps.ledger.models import Effect
    from apps.runs.models import Run

    for run in Run.objects.only("id", "inputs"):
        if run.inputs["reference"].startswith(prefix):
            Effect.objects.filter(run_id=run.id).delete()
            run.delete()
    return {}


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
    from apps.ledger.models import Effect, Evidence
    from apps.ledger.selectors import entries
    from apps.runs.models import Call, Run
    from apps.runs.selectors import step_rows

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
            for step in step_rows(row)
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
            for e in entries(row.id)
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
def same_place() -> dict[str, Any]:
    """Make every worker, dead or alive, seem to be the same process of the same host."""
    from apps.runs.models import Worker

    Worker.objects.update(host="pod-0", pid=1)
    return {}


@command
def ring(times: int) -> dict[str, Any]:
    """Ring the doorbell by hand, more often than anybody would."""
    from apps.runs.doorbell import ring as ring_

    for _ in range(times):
        ring_()
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


def _drop_broken(connections: Any) -> None:
    """The database may have been restarted since the last request."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and not connection.is_usable():
            connection.close()


def main() -> None:
    # Answers go to the real standard output; whatever a library prints goes to standard error.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mirrorneuron.settings")
    import django

    django.setup()
    from django.db import connections

    from mirrorneuron.base.errors import MirrorNeuronError

    for line in sys.stdin:
        request = json.loads(line)
        _drop_broken(connections)
        try:
            answer = {"ok": _commands[request.pop("do")](**request)}
        except MirrorNeuronError as error:
            answer = {"refused": {"code": error.code, "message": str(error)}}
        except Exception:
            connections.close_all()
            answer = {"crashed": traceback.format_exc()}
        answers.write(json.dumps(answer, default=str) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
