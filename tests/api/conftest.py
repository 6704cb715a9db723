"""Callers with tokens, and one of everything that has an id, all of it alice's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from django.test import Client

from apps.approvals.models import ApprovalRequest
from apps.blueprints.models import Review, ReviewComment
from apps.ledger import payloads
from apps.ledger.models import Effect
from apps.runs.hooks import HookPlan, add_hook
from apps.runs.models import Hook, Run, Schedule
from apps.runs.schedules import Plan, add_schedule
from apps.runs.services import start_run
from apps.workspaces.access import Principal
from apps.workspaces.models import ApiToken, StoredFile, User, Workspace
from apps.workspaces.services import create_token, store_file
from mirrorneuron.base.clock import now
from tests.runs.engine import version_of, work_all

BASE = "/api/v1"
SOURCE = """\
# A small blueprint.
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: greet, title: Greet}
card: {purpose: p, must_never: [lie], business_owner: a, technical_owner: b, model_steward: c}
contract:
  goal: Say hello.
  inputs: {type: object, required: [name], properties: {name: {type: string}}}
graph:
  nodes:
    - {id: hello, kind: transform, output: "Hello {{ inputs.name }}"}
    - {id: ask, kind: approval, title: "Greet {{ inputs.name }}?", with: {text: "{{ steps.hello.output }}"}}
    - {id: bye, kind: transform, output: "{{ steps.ask.output }}"}
  edges:
    - {from: hello, to: ask}
    - {from: ask.approved, to: bye}
outputs: {said: "{{ steps.bye.output }}"}
"""


ASKED = {"/draft/connect": "?from=hello", "/draft/fragment": "?nodes=hello"}
"""What some reads cannot do without."""


class Caller:
    """A client of the API that speaks JSON with one token, or with none."""

    def __init__(self, token: str = "", **headers: str) -> None:
        # The error handlers are part of what is tested.
        self.http = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.headers |= {name.replace("_", "-"): value for name, value in headers.items()}

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        sent = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = sent.pop("Content-Type", "application/json")
        return self.http.generic(method, f"{BASE}{path}", data, content_type=kind, headers=sent)

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, {} if body is None else body, **headers)


CallerOf = Callable[..., Caller]


@pytest.fixture
def caller(principal: Callable[..., Principal]) -> CallerOf:
    """`caller(alice)` speaks with a fresh token of hers; `caller()` with none."""

    def of(user: User | None = None, **headers: str) -> Caller:
        token = create_token(principal(user), "test")[1] if user else ""
        return Caller(token, **headers)

    return of


@dataclass
class Things:
    run: Run
    request: ApprovalRequest
    effect: Effect
    file: StoredFile
    token: ApiToken
    schedule: Schedule
    hook: Hook
    hash: str
    """Of a large value of the run."""
    comment: ReviewComment

    def fill(self, path: str) -> str:
        """A path of the schema with the ids of these things."""
        ids = {
            "run_id": self.run.id,
            "approval_id": self.request.id,
            "effect_id": self.effect.id,
            "file_id": self.file.id,
            "token_id": self.token.id,
            "schedule_id": self.schedule.id,
            "hook": self.hook.id,
            "review_id": self.comment.review_id,
            "comment_id": self.comment.id,
            "verb": "resolve",
            "path": "hello",
            "hash": self.hash,
            "number": 1,
            "name": "go" if "signals" in path else self.run.blueprint_name,
        }
        asked = next((query for end, query in ASKED.items() if path.endswith(end)), "")
        return path.removeprefix(BASE).format(**ids) + asked


@pytest.fixture
def things(workspace: Workspace, alice: User, principal: Callable[..., Principal]) -> Things:
    who = principal(alice)
    run = start_run(
        who,
        version_of(
            workspace,
            nodes=[
                {"id": "hello", "kind": "transform", "output": "Hello"},
                {"id": "ask", "kind": "approval", "with": {"text": "{{ steps.hello.output }}"}},
            ],
            edges=[{"from": "hello", "to": "ask"}],
        ),
        {},
    )
    work_all()
    effect = Effect.objects.create(
        workspace=workspace,
        run_id=run.id,
        step_path="hello",
        key="k" * 64,
        fingerprint="f" * 64,
        tool="send_email",
        effect_class="opaque",
        state="in_doubt",
        arguments={"to": "ada@example.com"},
        sent_at=now(),
    )
    review = Review.objects.create(
        blueprint=run.version.blueprint, draft_version=0, source="", content_hash="", asked_by=alice
    )
    (leaf,) = payloads.keep(workspace.id, run.id, "x" * 10_000).leaves
    return Things(
        hash=leaf.ref.hash,
        comment=ReviewComment.objects.create(review=review, text="Well done.", author=alice),
        run=run,
        request=ApprovalRequest.objects.get(run=run),
        effect=effect,
        file=store_file(who, "notes.txt", b"Some notes.", "text/plain"),
        token=create_token(who, "hers")[0],
        schedule=add_schedule(who, Plan("hourly", run.blueprint_name, cron="0 * * * *")),
        hook=add_hook(
            who, HookPlan("paid", "signal", {"name": "go", "label": "order", "equals": "{{ body.order }}"})
        ).hook,
    )
