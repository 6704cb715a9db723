"""Runs: start, read, follow, stop."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from ninja.responses import Status
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from apps.api import idempotency
from apps.api.doors import answer, principal, reads, step_path, writes
from apps.api.paging import Cursor, Limit, Page, listed, page
from apps.api.shapes import (
    Consequences,
    Costs,
    Effect,
    Event,
    Explanation,
    Export,
    Payload,
    Run,
    Signal,
    Signals,
    Step,
)
from apps.approvals.selectors import requests_of_run
from apps.approvals.views import request_view
from apps.blueprints.services import version_for_run
from apps.ledger.payloads import Extent
from apps.runs import selectors, services, signals, views
from apps.runs.core.states import RunStatus
from mirrorneuron.base.errors import NotFound

router = Router(by_alias=True)
EVENTS_AT_MOST = 1000


class StartIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    blueprint: str = Field(min_length=1, max_length=80, description="A name, or `name@version`.")
    version: int | None = Field(None, ge=1, description="The latest published one unless given.")
    inputs: dict[str, Any] = Field(
        {}, description="By the blueprint's input schema; file inputs are ids from POST /files."
    )
    simulate: bool = Field(False, description="Every check and row as usual, but no byte leaves.")
    priority: int = Field(5, ge=0, le=9, description="0 first, 9 last, among the workspace's own runs.")
    labels: dict[str, str] = Field({}, max_length=50)


class ReasonIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=10_000)


class SignalIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    body: Any = None
    key: str | None = Field(None, max_length=200, description="Deduplicates; `Idempotency-Key` if left out.")
    path: str = Field("", max_length=1000, description="Only the step with this path may take it.")


class RunFilter(BaseModel):
    status: RunStatus | None = None
    blueprint: str | None = Field(None, max_length=64)
    label: str | None = Field(None, max_length=200, description="`key` or `key=value`.")
    since: AwareDatetime | None = Field(None, description="RFC 3339 time; runs created since.")


Preview = Annotated[bool, Field(description="True: only say what would happen.")]


@router.post("", response=writes(Run, 202), summary="Start a run")
def start_run(request: HttpRequest, response: HttpResponse, payload: StartIn) -> Any:
    """202 after the run is committed. With `Idempotency-Key` the same call gives the same run, for ever."""
    who = principal(request)
    name = f"{payload.blueprint}@{payload.version}" if payload.version else payload.blueprint
    run = services.start_run(
        who,
        version_for_run(who, name),
        payload.inputs,
        idempotency_key=idempotency.key_of(request),
        labels=payload.labels,
        simulate=payload.simulate,
        priority=payload.priority,
    )
    response["Location"] = f"{request.path}/{run.id}"
    return Status(202, views.run_view(run))


@router.get("", response=reads(Page[Run]), summary="List runs")
def list_runs(request: HttpRequest, filters: Query[RunFilter], cursor: Cursor = "", limit: Limit = 50) -> Any:
    """Newest first."""
    since: datetime | None = filters.since
    rows = selectors.runs_for(
        principal(request),
        status=filters.status,
        blueprint=filters.blueprint,
        label=filters.label,
        since=since,
    )
    view = partial(views.run_view, extent=Extent.LISTED)
    return answer(page(rows, view, cursor=cursor, limit=limit, complete=selectors.with_waiting))


@router.get("/{run_id}", response=reads(Run), summary="Read one run")
def get_run(request: HttpRequest, run_id: str) -> Any:
    return views.run_view(selectors.run_for(principal(request), run_id))


@router.get("/{run_id}/steps", response=reads(Page[Step]), summary="All steps, blocked ones included")
def list_steps(request: HttpRequest, run_id: str) -> Any:
    """Values of more than 64 KB are references `{"$payload": hash, "size", "type", "begins"}`; read one under
    `/payloads/{hash}`."""
    run = selectors.run_for(principal(request), run_id)
    return answer(listed(selectors.steps_of(run, extent=Extent.LISTED)))


@router.get("/{run_id}/steps/{path}", response=reads(Step), summary="One step by its path")
def get_step(request: HttpRequest, run_id: str, path: str) -> Any:
    """In the address the `/` of a step path is written `:`."""
    wanted = step_path(path)
    steps = selectors.steps_of(selectors.run_for(principal(request), run_id))
    found = next((s for s in steps if s["path"] == wanted), None)
    if found is None:
        raise NotFound(
            f"The run has no step {wanted!r}.",
            code="step_not_found",
            next="List the steps to see their paths.",
        )
    return found


@router.get("/{run_id}/events", response=reads(Page[Event]), summary="Events after a number")
def list_events(
    request: HttpRequest,
    run_id: str,
    after: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Field(ge=1, le=EVENTS_AT_MOST)] = 200,
    cursor: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0,
) -> Any:
    """`next` is the number to send as `after` (or `cursor`); null when there is nothing more yet."""
    run, after = selectors.run_for(principal(request), run_id), max(after, cursor)
    found = selectors.events_after(run, after, limit + 1)
    more, found = len(found) > limit, found[:limit]
    return {"items": [views.event_view(e) for e in found], "next": str(found[-1].seq) if more else None}


@router.get("/{run_id}/effects", response=reads(Page[Effect]), summary="What the run did to the world")
def list_effects(request: HttpRequest, run_id: str) -> Any:
    who = principal(request)
    run = selectors.run_for(who, run_id)
    return listed([views.effect_view(e, extent=Extent.LISTED) for e in selectors.effects_for(who, run=run)])


@router.get("/{run_id}/payloads/{hash}", response=reads(Payload), summary="A large value, whole")
def get_payload(request: HttpRequest, run_id: str, hash: str) -> Any:
    """What a reference `{"$payload": hash, …}` in a list stands for."""
    return selectors.payload_of(selectors.run_for(principal(request), run_id), hash)


@router.get("/{run_id}/costs", response=reads(Costs), summary="Costs so far, by step and by model")
def get_costs(request: HttpRequest, run_id: str) -> Any:
    return selectors.costs_of(selectors.run_for(principal(request), run_id))


@router.get(
    "/{run_id}/explain", response=reads(Explanation), summary="Why it is where it is, and what is next"
)
def explain(request: HttpRequest, run_id: str) -> Any:
    return selectors.explain(selectors.run_for(principal(request), run_id))


@router.get("/{run_id}/export", response=reads(Export), summary="Everything about one run")
def export(request: HttpRequest, response: HttpResponse, run_id: str) -> Any:
    who = principal(request)
    run = selectors.run_for(who, run_id)
    response["Content-Disposition"] = f'attachment; filename="run-{run.id}.json"'
    return {
        "run": views.run_view(run),
        "blueprint": run.version.document,
        "source": run.version.source,
        "steps": selectors.steps_of(run),
        "events": [views.event_view(e) for e in selectors.events_after(run, 0, run.seq)],
        "effects": [views.effect_view(e) for e in selectors.effects_for(who, run=run)],
        "approvals": [request_view(r) for r in requests_of_run(run.id)],
        "costs": selectors.costs_of(run),
    }


@router.post("/{run_id}/cancel", response=writes(Consequences), summary="Cancel")
def cancel(
    request: HttpRequest, run_id: str, payload: ReasonIn | None = None, preview: Preview = False
) -> Any:
    """Effects in flight settle and are recorded first."""
    return services.cancel_run(
        principal(request), run_id, reason=payload.reason if payload else "", preview=preview
    )


@router.post("/{run_id}/pause", response=writes(Consequences), summary="Pause")
def pause(
    request: HttpRequest, run_id: str, payload: ReasonIn | None = None, preview: Preview = False
) -> Any:
    return services.pause_run(
        principal(request), run_id, reason=payload.reason if payload else "", preview=preview
    )


@router.post("/{run_id}/resume", response=writes(Consequences), summary="Resume a paused run")
def resume(request: HttpRequest, run_id: str, preview: Preview = False) -> Any:
    """Deadlines and due dates move by the length of the pause."""
    return services.resume_run(principal(request), run_id, preview=preview)


@router.get("/{run_id}/signals", response=reads(Signals), summary="What it waits to be told, and was told")
def list_signals(request: HttpRequest, run_id: str) -> Any:
    """`waits_for` names each signal with the JSON Schema of its body; `items` are those it was given."""
    run = selectors.run_for(principal(request), run_id)
    return {"waits_for": signals.awaited(run), "items": signals.signals_of(run), "next": None}


@router.post("/{run_id}/signals/{name}", response=writes(Signal), summary="Deliver a signal")
def signal(request: HttpRequest, run_id: str, name: str, payload: SignalIn, preview: Preview = False) -> Any:
    """Stored also when nobody waits for it yet; 422 with fields when it does not fit who waits; 409 after the
    run's end."""
    return services.deliver_signal(
        principal(request),
        run_id,
        name,
        payload.body,
        key=payload.key or idempotency.key_of(request),
        path=step_path(payload.path),
        preview=preview,
    )
