"""A decision that the contract requires is made by people, whatever else of the run somebody may change."""

from __future__ import annotations

from typing import Any

import pytest

from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.blueprints.models import Version
from apps.runs import ports, services
from apps.runs.errors import RunConflict, StepError
from apps.runs.forks import fork_run
from apps.runs.models import Run
from apps.runs.ports import Context, Done
from apps.runs.recovery import skip_step
from apps.workspaces.access import Principal
from tests.runs.engine import statuses, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
REQUIRED = {"human_checkpoints": [{"step": "ask", "required": True}]}
ASK = {"id": "ask", "kind": "approval", "with": {"n": 1}}
PREPARE = {"id": "prepare", "kind": "transform", "output": 1}
SEND = {"id": "send", "kind": "tool", "tool": "pay", "retry": {"max_attempts": 1}}
CHAIN = [{"from": "ask.approved", "to": "prepare"}, {"from": "prepare", "to": "send"}]


@pytest.fixture
def owner(alice: Any, principal: Any) -> Principal:
    found: Principal = principal(alice)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What went out; a step called `broken` fails instead."""
    found: list[str] = []

    def handler(context: Context) -> Done:
        if context.node.id == "broken":
            raise StepError("broken", permanent=True)
        found.append(context.path)
        return Done({})

    monkeypatch.setitem(ports._handlers, "tool", handler)
    return found


def started(owner: Principal, nodes: list[Any], edges: list[Any], inputs: Any = None, **more: Any) -> Run:
    document = {"contract": REQUIRED, **more}
    run = services.start_run(owner, version_of(owner.workspace, nodes, edges, **document), inputs or {})
    work_all()
    return run


def refused(act: Any, *given: Any, **more: Any) -> None:
    with pytest.raises(RunConflict) as raised:
        act(*given, reason="in a hurry", **more)
    assert raised.value.code == "checkpoint_required"
    work_all()


def test_a_step_behind_the_question_is_not_skipped_before_it_is_decided(
    owner: Principal, sent: list[str]
) -> None:
    run = started(owner, [ASK, PREPARE, SEND], CHAIN)
    refused(skip_step, owner, run.id, "prepare", value=1)
    assert sent == [] and statuses(run) == {"ask": "waiting"}
    decide(owner, ApprovalRequest.objects.get().id, verb="approve")
    work_all()
    assert sent == ["send"]


def test_a_step_before_the_question_is_skipped_as_ever(owner: Principal, sent: list[str]) -> None:
    first = {"id": "first", "kind": "timer", "duration": "1h"}
    run = started(
        owner, [first, ASK, SEND], [{"from": "first", "to": "ask"}, {"from": "ask.approved", "to": "send"}]
    )
    skip_step(owner, run.id, "first", reason="no need to wait")
    work_all()
    assert statuses(run) == {"first": "skipped", "ask": "waiting"} and sent == []


@pytest.mark.parametrize("kind", ["map", "loop"])
def test_a_map_or_loop_with_the_question_inside_is_not_skipped(
    owner: Principal, sent: list[str], kind: str
) -> None:
    more = {"items": "{{ inputs.all }}"} if kind == "map" else {"until": "true", "max_rounds": 2}
    around = {"id": "each", "kind": kind, "body": {"nodes": [ASK], "edges": []}, **more}
    run = started(owner, [around, SEND], [{"from": "each", "to": "send"}], {"all": [1]})
    refused(skip_step, owner, run.id, "each", value=[])
    assert sent == [] and run.steps.get(path="each").status == "waiting"


def test_a_failed_map_with_the_question_inside_is_not_edited_in_a_fork(
    owner: Principal, sent: list[str]
) -> None:
    body = {"nodes": [{**SEND, "id": "broken"}, ASK], "edges": [{"from": "broken", "to": "ask"}]}
    around = {"id": "each", "kind": "map", "items": "{{ inputs.all }}", "join": "all", "body": body}
    run = started(owner, [around, SEND], [{"from": "each", "to": "send"}], {"all": [1]})
    assert statuses(run)["each"] == "failed"
    refused(fork_run, owner, run.id, edit={"each": []})
    refused(skip_step, owner, run.id, "each", value=[])
    assert sent == []


def test_a_step_in_a_body_behind_the_question_is_not_skipped(owner: Principal, sent: list[str]) -> None:
    body = {"nodes": [PREPARE, SEND], "edges": [{"from": "prepare", "to": "send"}]}
    around = {"id": "each", "kind": "map", "items": "{{ inputs.all }}", "body": body}
    run = started(
        owner,
        [ASK, around, {**SEND, "id": "after"}],
        [{"from": "ask.approved", "to": "each"}, {"from": "each", "to": "after"}],
        {"all": [1]},
    )
    refused(skip_step, owner, run.id, "each", value=[])
    assert sent == []


@pytest.mark.parametrize("how", ["edited", "skipped"])
def test_a_version_that_requires_the_decision_takes_no_other_over(
    owner: Principal, sent: list[str], how: str
) -> None:
    run = started(owner, [ASK, SEND], [{"from": "ask.approved", "to": "send"}], contract={})
    if how == "skipped":
        skip_step(owner, run.id, "ask", value={}, reason="nobody is required")
    else:
        decide(owner, ApprovalRequest.objects.get().id, verb="reject", reason="no")
    work_all()
    sent.clear()
    document = {**run.version.document, "contract": REQUIRED}
    Version.objects.create(blueprint=run.version.blueprint, number=2, content_hash="2", document=document)
    refused(fork_run, owner, run.id, version=2, **({"edit": {"ask": {}}} if how == "edited" else {}))
    assert sent == []
