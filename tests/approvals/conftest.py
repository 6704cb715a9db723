"""A run that waits for a person, made by the real engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.approvals.models import ApprovalRequest
from apps.runs.models import Run
from apps.runs.services import start_run
from apps.workspaces.access import Principal
from apps.workspaces.models import User, Workspace
from tests.runs.engine import version_of, work_all

MAIL = {
    "kind": "http",
    "method": "POST",
    "url": "https://mail.example/send",
    "description": "Send one message.",
    "parameters": {
        "type": "object",
        "required": ["to", "body"],
        "properties": {
            "to": {"type": "string", "minLength": 3},
            "body": {"type": "string"},
            "copies": {"type": "integer", "minimum": 0},
        },
        "additionalProperties": False,
    },
}
PROPOSAL = {"to": "ada@example.com", "body": "Dear Ada, hello.", "copies": 1}
Ask = Callable[..., ApprovalRequest]


@pytest.fixture
def ask(workspace: Workspace, alice: User, principal: Callable[..., Principal]) -> Ask:
    """Start a run whose node `ask` proposes to send a message; returns the open request.

    Keyword arguments are fields of the approval node; `proposal` replaces its arguments.
    """

    def make(*, edges: list[dict[str, Any]] = (), document: dict[str, Any] | None = None, **node: Any) -> Any:  # type: ignore[assignment]
        proposal = node.pop("proposal", PROPOSAL)
        run = start_run(
            principal(alice),
            version_of(
                workspace,
                nodes=[
                    {"id": "draft", "kind": "transform", "output": {"text": "drafted in round {{ round }}"}},
                    {"id": "ask", "kind": "approval", "title": "Send it?", "with": proposal, **node},
                    {"id": "send", "kind": "tool", "tool": "mail"},
                    {"id": "stopped", "kind": "transform", "output": "{{ steps.ask.output }}"},
                ],
                edges=[
                    {"from": "draft", "to": "ask"},
                    {"from": "ask.approved", "to": "send"},
                    {"from": "ask.rejected", "to": "stopped"},
                    *edges,
                ],
                tools={"mail": MAIL},
                **(document or {}),
            ),
            {},
        )
        work_all()
        return ApprovalRequest.objects.get(run=run)

    return make


def step_of(request: ApprovalRequest, path: str = "ask") -> Any:
    return Run.objects.get(id=request.run_id).steps.get(path=path)
