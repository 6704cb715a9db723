"""Testing a draft, and the pins its tests use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from django.http import HttpRequest
from ninja import Query, Router
from ninja.responses import Status
from pydantic import BaseModel, ConfigDict, Field

from apps.api import idempotency
from apps.api.doors import principal, reads, writes
from apps.api.shapes import Overlay, Pin, PinList, TrialStarted
from apps.blueprints import pins
from apps.blueprints.comparing import draft_side
from apps.blueprints.core.trial import Aim, Given
from apps.runs import trials

router = Router(by_alias=True)


Private = Annotated[bool, Query(description="Your own draft; pins are those of the shared one.")]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TrialIn(_In):
    kind: Literal["whole", "upto", "only", "item"] = "whole"
    node: str = Field("", max_length=400, description="Path of the step; empty for the whole.")
    index: int = Field(0, ge=0, le=1_000_000, description="Which item of a map, from 0.")
    inputs: dict[str, Any] = {}
    simulate: bool = Field(True, description="False: real effects, which take the right to operate.")
    data_from: str | None = Field(None, max_length=40, description="A run whose outputs stand in for pins.")


class PinIn(_In):
    node: str = Field(max_length=400)
    output: Any = None
    port: str = Field("", max_length=64, description="The way out; the main one if left out.")


class LoadIn(_In):
    run: str = Field(max_length=40)
    nodes: list[str] | None = Field(
        None, max_length=1000, description="All the draft still has, if left out."
    )


@router.get("/{name}/draft/test", response=reads(Overlay), summary="The latest test on the draft")
def get_test(
    request: HttpRequest, name: str, run: str = Query("", max_length=40), private: Private = False
) -> Any:
    """State, time and cost by step; `stale`: changed since; `pinned`: does not run in tests."""
    return trials.overlay(principal(request), name, run or None, private=private)


@router.post(
    "/{name}/draft/test", response=writes(TrialStarted, 202), summary="Test the draft or a part of it"
)
def start_test(request: HttpRequest, name: str, payload: TrialIn, private: Private = False) -> Any:
    """The answer comes when the run is committed; read it like any other run."""
    run = trials.start_trial(
        principal(request),
        name,
        Aim(payload.kind, payload.node, payload.index),
        payload.inputs,
        simulate=payload.simulate,
        data_from=payload.data_from,
        idempotency_key=idempotency.key_of(request),
        private=private,
    )
    return Status(
        202, {"run": str(run.id), "label": run.labels.get(trials.LABEL, ""), "simulate": run.simulate}
    )


@router.get("/{name}/draft/pins", response=reads(PinList), summary="List pins")
def list_pins(request: HttpRequest, name: str) -> Any:
    found = pins.pins_for(principal(request), name)
    return {"items": [pins.as_json(one) for one in found.values()]}


@router.post("/{name}/draft/pins", response=writes(Pin), summary="Pin the output of a step")
def set_pin(request: HttpRequest, name: str, payload: PinIn, private: Private = False) -> Any:
    document = draft_side(principal(request), name, private=private).document
    pins.set_pins(principal(request), name, document, {payload.node: Given(payload.output, payload.port)})
    return pins.as_json(pins.pins_for(principal(request), name)[payload.node])


@router.post("/{name}/draft/pins/load", response=writes(PinList), summary="Pin what a past run made")
def load_pins(request: HttpRequest, name: str, payload: LoadIn, private: Private = False) -> Any:
    trials.pin_from_run(principal(request), name, payload.run, payload.nodes, private=private)
    return list_pins(request, name)


@router.delete("/{name}/draft/pins", response=writes(PinList), summary="Remove one pin, or all")
def remove_pins(request: HttpRequest, name: str, node: str = Query("", max_length=400)) -> Any:
    pins.remove_pins(principal(request), name, [node] if node else None)
    return list_pins(request, name)
