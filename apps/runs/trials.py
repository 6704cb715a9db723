"""Testing a draft: a part of it is run as it stands, and what came out is shown on the draft.

A test is a run like any other, of a version nobody can publish (`Version.is_trial`) whose document is derived
from the draft (`apps.blueprints.core.trial`) and whose source is the draft's own text. So its budget, its
approvals, its effects and its ledger are those of every run, and its label says what it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.dateparse import parse_datetime

from apps.blueprints.core import canonical
from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.document import Document
from apps.blueprints.core.parse import parse
from apps.blueprints.core.trial import PINNED, Aim, Given, NotTestable, Trial, derive, stale, touches_outside
from apps.blueprints.core.validate import validate
from apps.blueprints.drafts import draft_for, was_tested
from apps.blueprints.errors import BlueprintInvalid
from apps.blueprints.models import Blueprint, Draft, Version
from apps.blueprints.pins import given_by, pins_for, set_pins
from apps.blueprints.ports import builtin_tools
from apps.blueprints.selectors import blueprint_for
from apps.runs import selectors, services
from apps.runs.core.nodes import node_path, unhappiness
from apps.runs.core.states import StepStatus
from apps.runs.errors import RunNotFound
from apps.runs.models import Run
from apps.workspaces.access import Principal
from apps.workspaces.core.roles import Permission
from apps.workspaces.services import audit
from mirrorneuron.base.errors import InvalidInput
from mirrorneuron.base.ids import uuid7
from mirrorneuron.base.safejson import fingerprint

LABEL = "test"
"""Label of a run that tests a draft: "draft 7, up to review"."""
OWN = "own_draft"
"""Label of a run that tests somebody's private draft; whose it is, is who started it."""


# --- starting ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """A test that could be started."""

    trial: Trial
    source: str
    draft_id: UUID
    label: str
    outside: tuple[str, ...]
    """Steps that act outside, or let a model choose where to look."""
    leaves_out: bool
    """Steps before those that run are left out or replaced, perhaps the one where a person decides."""

    @property
    def inputs_schema(self) -> dict[str, Any]:
        """What somebody has to fill in; empty when it needs nothing."""
        schema = dict(self.trial.document.contract.inputs)
        fields = {k: v for k, v in schema.get("properties", {}).items() if k != PINNED}
        required = [name for name in schema.get("required", []) if name != PINNED]
        return {**schema, "properties": fields, "required": required} if fields else {}

    @property
    def only_simulated(self) -> bool:
        """Nothing acts outside for real unless all that leads there has really happened in the same run."""
        return bool(self.leaves_out and self.outside)


def plan_trial(
    principal: Principal, name: str, aim: Aim, *, data_from: Any = None, private: bool = False
) -> Plan:
    """Work out a test of the draft as it is. Stores nothing.

    private: of this person's own draft. Pins are those of the shared one.
    data_from: a run whose outputs stand in for steps that have no pin, where the test asks for data.
    Raises InvalidInput for what cannot be tested, in words; BlueprintInvalid for errors in the part to run.
    """
    principal.require(Permission.EDIT)
    draft = draft_for(principal, name, private=private)
    document = _document(draft.source)
    given = _given(principal, name, aim, data_from)
    try:
        trial = derive(document, aim, given)
    except NotTestable as refused:
        fields = dict.fromkeys(refused.missing, "No pinned or captured data.") or {"node": refused.message}
        raise InvalidInput(
            refused.message,
            code=refused.code,
            fields=fields,
            next="Pin data for it, load a past run's data, or run up to here instead."
            if refused.missing
            else "Choose one of the steps of the draft.",
        ) from refused
    outside = tuple(touches_outside(trial, builtin_tools()))
    leaves_out = bool(trial.data) or aim.kind in ("only", "item")
    label = f"{'own draft' if private else 'draft'} {draft.version}, {aim.words}"
    return Plan(trial, draft.source, draft.id, label, outside, leaves_out)


def start_trial(
    principal: Principal,
    name: str,
    aim: Aim,
    inputs: dict[str, Any],
    *,
    simulate: bool = True,
    data_from: Any = None,
    idempotency_key: str | None = None,
    private: bool = False,
) -> Run:
    """Test the draft, or a part of it; the run is labelled as the test it is.

    private: this person's own draft. The run can be seen by everybody who may see runs.
    simulate: nothing leaves the machine. For real a test needs the right to operate besides the right to
    edit, and a step acts outside only if all that leads to it really happened in the same run: nobody who
    decides before it can be left out, and data has lost the mark of where it came from.
    Raises as `plan_trial` and `start_run` do, and Forbidden.
    """
    plan = plan_trial(principal, name, aim, data_from=data_from, private=private)
    if not simulate:
        principal.require(Permission.OPERATE)
        if plan.only_simulated:
            raise InvalidInput(
                f"{', '.join(plan.outside)} would act outside, but what comes before did not happen in this "
                "test: it is left out or replaced by data, which has lost the mark of where it came from.",
                code="data_meets_effect",
                fields={"simulate": "Must be true here."},
                next="Simulate it, or run up to here without pins.",
            )
    given = {key: value for key, value in inputs.items() if key != PINNED}
    if plan.trial.data:
        given[PINNED] = plan.trial.data
    tester = replace(principal, permissions=principal.permissions | {Permission.OPERATE})
    with transaction.atomic():
        version = _stored(principal, blueprint_for(principal, name), plan)
        run = services.start_run(
            tester,
            version,
            given,
            idempotency_key=idempotency_key,
            labels={LABEL: plan.label, **({OWN: "yes"} if private else {})},
            simulate=simulate,
        )
        was_tested(plan.draft_id, run.id)
        audit(principal, "draft.tested", name, {"run": str(run.id), "what": plan.label, "simulate": simulate})
    return run


def _given(principal: Principal, name: str, aim: Aim, data_from: Any) -> dict[str, Given]:
    captured: dict[str, Given] = {}
    if data_from and aim.kind in ("only", "item"):
        captured = captured_of(principal, name, data_from)
    return {**captured, **given_by(pins_for(principal, name))}


def _document(source: str) -> Document:
    """What of the draft can be read; a mistake elsewhere does not keep a part from being tested."""
    checked = validate(parse(source), builtin_tools())
    document = checked.document or checked.remainder
    if document is None:
        raise BlueprintInvalid(checked.problems)
    return document


def _stored(principal: Principal, blueprint: Blueprint, plan: Plan) -> Version:
    """The version a test runs: checked, kept once for the same text and the same part of it.

    Its row is held until the run is there, so that `retention.forget_trials` cannot clear it away in between.
    """
    document = plan.trial.document
    checked = validate(canonical.stored(document), builtin_tools())
    if not checked.valid:
        raise BlueprintInvalid(checked.problems)
    name = fingerprint(["trial", canonical.content_hash(document), plan.source])
    while True:
        made, _ = Version.objects.get_or_create(
            blueprint=blueprint,
            content_hash=name,
            defaults={
                "document": canonical.stored(document),
                "source": plan.source,
                "notes": plan.label,
                "is_trial": True,
                "created_by": principal.user,
            },
        )
        held = Version.objects.select_for_update(of=("self",)).filter(pk=made.pk).first()
        if held is not None:
            return held


# --- what came out ----------------------------------------------------------------------------------------


def captured_of(principal: Principal, name: str, run_id: Any) -> dict[str, Given]:
    """What the steps of a past run of this blueprint made, by path in the graph.

    Of several passes or rounds the latest that succeeded counts; what was replaced by data is left out.
    """
    run = selectors.run_for(principal, run_id)
    if run.blueprint_name != name:
        raise InvalidInput(
            f"Run {run.id} is one of {run.blueprint_name}, not of {name}.",
            fields={"run": f"A run of {name}."},
            next="Choose a run of this blueprint.",
        )
    found: dict[str, Given] = {}
    for step in selectors.steps_of(run):
        path = node_path(step["path"])
        if path and step["status"] == StepStatus.SUCCEEDED and step["kind"] != "approval":
            found[path] = Given(step["output"], step["port"] or "")
    for path in (run.inputs or {}).get(PINNED, {}) if _is_trial(run) else ():
        found.pop(path, None)
    return found


def pin_from_run(
    principal: Principal,
    name: str,
    run_id: Any,
    nodes: Iterable[str] | None = None,
    *,
    private: bool = False,
) -> list[str]:
    """Load a past run's data into the draft's pins: of these steps, or of all the draft still has.

    private: the steps of this person's own draft; the pins are shared.

    Returns the paths that were pinned.
    """
    principal.require(Permission.EDIT)
    document = _document(draft_for(principal, name, private=private).source)
    captured = captured_of(principal, name, run_id)
    there = {path: node for path, node in all_nodes(document.graph) if node.kind != "approval"}
    wanted = list(nodes) if nodes is not None else [path for path in captured if path in there]
    lacking = [path for path in wanted if path not in captured]
    if lacking:
        raise InvalidInput(
            f"That run has no result of {', '.join(lacking)}.",
            fields=dict.fromkeys(lacking, "Did not succeed in that run."),
            next="Choose another run, or write the data yourself.",
        )
    return set_pins(principal, name, document, {p: captured[p] for p in wanted}, origin=str(run_id))


def overlay(principal: Principal, name: str, run_id: Any = None, *, private: bool = False) -> dict[str, Any]:
    """The latest test, or the one named, as it is to be shown on the draft.

    {run, label, status, simulate, running, seq, nodes: {path: {state, reason, seconds, cost_usd, stale,
    pinned}}}; `run` is null when there is no test. A node that never ran has no state; a pinned one says so.
    """
    draft = draft_for(principal, name, private=private)
    run = _run_of(principal, run_id, draft)
    pins = pins_for(principal, name)
    nodes: dict[str, dict[str, Any]] = {path: {"pinned": True} for path in pins}
    if run is None or run.blueprint_name != name:
        nothing = {"label": "", "status": "", "simulate": False, "running": False, "seq": 0}
        return {"run": None, **nothing, "nodes": nodes}
    seq = run.seq  # What happens while the steps are read is told again rather than missed.
    replaced = set((run.inputs or {}).get(PINNED, {})) if _is_trial(run) else set()
    for path, told in _results(run).items():
        if path not in replaced:
            nodes.setdefault(path, {}).update(told)
    for path in _stale(run, draft.source, [p for p, told in nodes.items() if "state" in told]):
        nodes[path]["stale"] = True
    return {
        "run": str(run.id),
        "label": run.labels.get(LABEL, ""),
        "status": run.status,
        "simulate": run.simulate,
        "running": run.ended_at is None,
        "seq": seq,
        "nodes": nodes,
    }


def _run_of(principal: Principal, run_id: Any, draft: Draft) -> Run | None:
    if run_id is not None:
        return selectors.run_for(principal, run_id)
    if draft.last_test is None:
        return None
    with contextlib.suppress(RunNotFound):
        return selectors.run_for(principal, draft.last_test)
    return None


def _results(run: Run) -> dict[str, dict[str, Any]]:
    """State, time and cost by node; of several passes the unhappiest state, and their sums."""
    found: dict[str, dict[str, Any]] = {}
    for step in selectors.steps_of(run):
        path = node_path(step["path"])
        if not path or step["status"] == "blocked":
            continue
        state = str(step["status"]) + (f":{step['reason']}" if step["status"] == "waiting" else "")
        seconds = _seconds(step)
        known = found.get(path)
        if known is None:
            found[path] = {"state": state, "seconds": seconds, "cost_usd": step["cost_usd"]}
            continue
        known["state"] = min(known["state"], state, key=unhappiness)
        known["seconds"] = (known["seconds"] or 0) + (seconds or 0)
        known["cost_usd"] = f"{float(known['cost_usd']) + float(step['cost_usd']):.6f}"
    return found


def _seconds(step: Mapping[str, Any]) -> float | None:
    start, end = _moment(step["started_at"]), _moment(step["ended_at"])
    return round((end - start).total_seconds(), 3) if start and end else None


def _moment(text: Any) -> datetime | None:
    return parse_datetime(text) if isinstance(text, str) else text


def _stale(run: Run, source: str, paths: list[str]) -> set[str]:
    """Steps whose result says nothing about the draft as it is now."""
    if run.version.source == source:
        return set()
    try:
        return stale(_document(source), _document(run.version.source), paths)
    except BlueprintInvalid:
        return set(paths)


def _is_trial(run: Run) -> bool:
    return bool(run.version.is_trial)


def fresh_key() -> str:
    """An idempotency key for one form: pressed twice, it starts one test."""
    return f"test:{uuid7()}"
