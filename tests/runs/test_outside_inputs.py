"""What a stranger wrote stays untrusted as the input of a run: by a hook, and of its subflows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apps.approvals.models import ApprovalRequest
from apps.runs import hooks, ports, services
from apps.runs.core.webhook import sign
from apps.runs.hooks import HookPlan, add_hook, receive
from apps.runs.models import Run
from apps.runs.ports import Context, Done
from apps.workspaces.access import Principal
from mirrorneuron.base.clock import now
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
MAIL = {"to": "{{ inputs.to }}", "subject": "s", "body": "b"}
SEND = {"id": "send", "kind": "tool", "tool": "send_email", "with": MAIL}
ALLOWED = {"boundaries": {"allowed_tools": ["send_email"]}}


@pytest.fixture
def owner(alice: Any, principal: Any) -> Principal:
    found: Principal = principal(alice)
    return found


def by_hook(owner: Principal, name: str, **body: Any) -> None:
    opened = add_hook(owner, HookPlan("in", "start", {"blueprint": name, "inputs": {"to": "{{ body.to }}"}}))
    raw, at = json.dumps(body).encode(), str(int(now().timestamp()))
    headers = {
        "content-type": "application/json",
        "webhook-id": "m1",
        "webhook-timestamp": at,
        "webhook-signature": sign(opened.secret, "m1", int(at), raw),
    }
    receive(hooks.hook_by_token(opened.token), headers, raw)
    work_all()


def test_where_a_hook_sends_a_mail_is_asked_first(owner: Principal) -> None:
    version = version_of(owner.workspace, [SEND], contract=ALLOWED)
    by_hook(owner, version.blueprint.name, to="stranger@evil.example")
    assert Run.objects.get().status == "waiting"
    question = ApprovalRequest.objects.get()
    assert question.labels["to"] == ["tool:webhook", "user"] and question.labels["subject"] == []


def test_a_member_who_starts_it_is_not_asked(owner: Principal) -> None:
    version = version_of(owner.workspace, [SEND], contract=ALLOWED)
    run = services.start_run(owner, version, {"to": "ann@example.com"})
    work_all()
    run.refresh_from_db()
    assert run.status == "succeeded" and not ApprovalRequest.objects.exists()


def parent_of(owner: Principal, with_: Any, depth: int = 1) -> Any:
    version = version_of(owner.workspace, [SEND], contract=ALLOWED)
    for _ in range(depth - 1):
        sub = {"id": "sub", "kind": "subflow", "blueprint": version.blueprint.name}
        version = version_of(owner.workspace, [{**sub, "with": {"to": "{{ inputs.to }}"}}])
    read = {"id": "read", "kind": "code", "code": "-"}
    sub = {"id": "sub", "kind": "subflow", "blueprint": version.blueprint.name, "with": with_}
    return version_of(owner.workspace, [read, sub], [{"from": "read", "to": "sub"}])


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("template", [{"to": "{{ steps.read.output.to }}"}, "{{ steps.read.output }}"])
def test_what_a_tool_read_is_not_trusted_as_the_input_of_a_subflow(
    owner: Principal, monkeypatch: pytest.MonkeyPatch, template: Any, depth: int
) -> None:
    def read(context: Context) -> Done:
        return Done({"to": "stranger@evil.example"}, labels=("tool:web",))

    monkeypatch.setitem(ports._handlers, "code", read)
    services.start_run(owner, parent_of(owner, template, depth), {})
    work_all()
    assert "tool:web" in ApprovalRequest.objects.get().labels["to"]


def test_a_subflow_with_own_words_is_not_asked_about(
    owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ports._handlers, "code", lambda context: Done({}, labels=("tool:web",)))
    version = parent_of(owner, {"to": "ops@example.com"})
    by_hook(owner, version.blueprint.name, to="stranger@evil.example")
    assert {run.status for run in Run.objects.all()} == {"succeeded"}


def test_what_goes_through_a_subflow_untouched_is_not_trusted_after_it(
    owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        ports._handlers, "code", lambda context: Done({"to": "stranger@evil.example"}, labels=("tool:web",))
    )
    through = version_of(owner.workspace, [], outputs={"to": "{{ inputs.to }}"})
    read = {"id": "read", "kind": "code", "code": "-"}
    sub = {"id": "sub", "kind": "subflow", "blueprint": through.blueprint.name}
    nodes = [
        read,
        {**sub, "with": {"to": "{{ steps.read.output.to }}"}},
        {**SEND, "with": {**MAIL, "to": "{{ steps.sub.output.to }}"}},
    ]
    edges = [{"from": "read", "to": "sub"}, {"from": "sub", "to": "send"}]
    services.start_run(owner, version_of(owner.workspace, nodes, edges, contract=ALLOWED), {})
    work_all()
    assert "tool:web" in ApprovalRequest.objects.get().labels["to"]
