"""Retry, skip and fork: what a person may do when a run should go another way."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Router
from pydantic import BaseModel, ConfigDict, Field

from apps.api import idempotency
from apps.api.doors import principal, step_path, writes
from apps.api.routers.runs import Preview, ReasonIn
from apps.api.shapes import Consequences
from apps.runs import forks, recovery

router = Router(by_alias=True)


class SkipIn(ReasonIn):
    value: Any = Field(None, description="The step's output; it must fit the node's output schema.")
    port: str = Field("", max_length=64, description="The way out; the node's main one if left out.")
    abandon: bool = Field(False, description="Give up an effect of which nobody knows whether it happened.")


class ForkIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=10_000)
    from_step: str = Field("", max_length=1000, description="Do this step and all that follows again.")
    redo: list[str] = Field([], max_length=1000, description="More steps to do again.")
    edit: dict[str, Any] = Field({}, max_length=1000, description="New outputs by step path.")
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="Go on with another version.")
    inputs: dict[str, Any] | None = Field(None, description="Other inputs; everything is done again.")


@router.post("/{run_id}/steps/{path}/retry", response=writes(Consequences), summary="Try a failed step again")
def retry(
    request: HttpRequest, run_id: str, path: str, payload: ReasonIn | None = None, preview: Preview = False
) -> Any:
    """A run that failed for it goes on. What the step has done to the world is replayed, never repeated."""
    return recovery.retry_step(
        principal(request),
        run_id,
        step_path(path),
        reason=payload.reason if payload else "",
        preview=preview,
    )


@router.post("/{run_id}/steps/{path}/skip", response=writes(Consequences), summary="Skip a step with a value")
def skip(
    request: HttpRequest, run_id: str, path: str, payload: SkipIn | None = None, preview: Preview = False
) -> Any:
    """Failed, doubtful, waiting and blocked steps can be skipped; the run goes on with the value."""
    given = payload or SkipIn(reason="")
    return recovery.skip_step(
        principal(request),
        run_id,
        step_path(path),
        value=given.value,
        port=given.port,
        abandon=given.abandon,
        reason=given.reason,
        preview=preview,
    )


@router.post("/{run_id}/fork", response=writes(Consequences), summary="Fork")
def fork(
    request: HttpRequest,
    response: HttpResponse,
    run_id: str,
    payload: ForkIn | None = None,
    preview: Preview = False,
) -> Any:
    """A new run that takes over what holds of this one; `fork` is its id. Nothing that was done to the world
    is done again before a person has agreed."""
    given = payload or ForkIn(reason="")
    said = forks.fork_run(
        principal(request),
        run_id,
        from_step=step_path(given.from_step),
        redo=[step_path(path) for path in given.redo],
        edit={step_path(path): value for path, value in given.edit.items()},
        version=given.version,
        inputs=given.inputs,
        reason=given.reason,
        preview=preview,
        idempotency_key=idempotency.key_of(request),
    )
    if said["fork"]:
        base = request.path.rpartition("/runs/")[0]
        response["Location"] = f"{base}/runs/{said['fork']}"
    return said
