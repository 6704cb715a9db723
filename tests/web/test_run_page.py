"""The run page: what it shows without scripts, and what its buttons do."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from apps.approvals.models import ApprovalRequest
from apps.ledger.models import Effect
from apps.ledger.services import Line, append
from apps.runs.models import Call, Run, Worker
from apps.runs.services import start_run
from apps.web.run_page import proof_line
from apps.web.views import runs as views
from apps.workspaces.models import User, Workspace
from mirrorneuron.base.clock import now
from tests.runs.engine import register_worker, version_of, work_all
from tests.web.conftest import ClientOf


def attributes(html: str, test_id: str) -> list[dict[str, str]]:
    found = re.findall(rf'<[^>]*data-testid="{test_id}"[^>]*>', html)
    return [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in found]


def test_every_step_has_a_row_with_the_names_tests_rely_on(demo: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    rows = attributes(html, "timeline-row")
    steps = {step.path: step.status for step in demo.steps.all()}
    assert {row["data-step-path"]: row["data-state"] for row in rows}.items() >= steps.items()
    assert all(row["data-node-id"] for row in rows)
    assert attributes(html, "timeline")[0]["data-seq"] == str(demo.seq)
    events = [int(event["data-seq"]) for event in attributes(html, "event")]
    assert events == list(range(1, demo.seq + 1))
    assert 'id="seq-1"' in html and f"/ws/runs/{demo.id}?after={demo.seq}" in html


def test_the_picture_carries_the_live_states(demo: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    picture = html[html.index('id="run-picture"') :]
    waiting = demo.steps.get(status="waiting")
    assert re.search(rf'data-node-id="{waiting.node_id}"[^>]*data-state="waiting"', picture)


def test_the_canvas_gets_the_same_picture_as_values(
    demo: Run, browser: ClientOf, alice: User, charlie: User
) -> None:
    view: Any = browser(alice).get(f"/runs/{demo.id}/graph").json()
    states = {path: node["state"] for path, node in view["nodes"].items()}
    assert view["mode"] == "run" and view["edges"]
    assert "waiting:approval" in states.values() and "succeeded" in states.values()
    page = browser(alice).get(f"/runs/{demo.id}").content.decode()
    for path, state in states.items():
        assert f'data-node-id="{path}"' in page and f'data-state="{state.partition(":")[0]}"' in page
    assert browser(charlie).get(f"/runs/{demo.id}/graph").status_code == 404


def test_the_waiting_step_is_open_and_leads_to_the_inbox(demo: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    question = ApprovalRequest.objects.get(run=demo)
    panel = attributes(html, "step-panel")[0]
    assert panel["data-step-path"] == question.step_path and panel["data-state"] == "waiting"
    assert html.count(f'href="/inbox/{question.id}"') == 2
    assert "Waiting for a person" in html and "If approved" in html


def test_a_chosen_step_shows_its_input_output_and_calls(demo: Run, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    step = demo.steps.filter(status="succeeded", kind="tool").first()
    assert step is not None
    page = client.get(f"/runs/{demo.id}?step={step.path}").content.decode()
    assert attributes(page, "step-panel")[0]["data-step-path"] == step.path
    assert attributes(page, "call")
    fragment = client.get(f"/runs/{demo.id}?step={step.path}", headers={"HX-Request": "true"})
    assert fragment.content.decode().lstrip().startswith("<section") and b"<html" not in fragment.content
    # The page has the same address: going back must never find the fragment in the browser's cache.
    assert "no-store" in fragment.headers["Cache-Control"] and "HX-Request" in fragment.headers["Vary"]


@pytest.mark.parametrize(("microusd", "shown"), [(12_300, "$0.0123"), (None, "unknown")])
def test_a_model_call_shows_tokens_latency_and_what_it_cost(
    demo: Run, browser: ClientOf, alice: User, microusd: int | None, shown: str
) -> None:
    step = demo.steps.filter(status="succeeded").first()
    assert step is not None
    Call.objects.create(
        step=step, turn=9, kind="model", name="openai:small", request_hash="h", started_at=now(),
        latency_ms=420, input_tokens=120, output_tokens=7, cost_microusd=microusd,
    )  # fmt: skip
    html = browser(alice).get(f"/runs/{demo.id}?step={step.path}").content.decode()
    call = html[html.index("openai:small") :]
    assert "120 in, 7 out" in call and "420 ms" in call and shown in call[:600]


def test_an_unknown_step_falls_back_to_what_matters(demo: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{demo.id}?step=%3Cscript%3E").content.decode()
    assert "<script>" not in html and attributes(html, "step-panel")[0]["data-state"] == "waiting"


@pytest.mark.parametrize(("verb", "state"), [("pause", "paused"), ("cancel", "cancelled")])
def test_a_button_says_what_it_would_do_before_it_does_it(
    demo: Run, browser: ClientOf, bob: User, verb: str, state: str
) -> None:
    client = browser(bob)
    asked = client.get(f"/runs/{demo.id}/{verb}").content.decode()
    demo.refresh_from_db()
    assert demo.status == "waiting" and 'data-testid="consequences"' in asked
    assert f'data-action="{verb}"' in asked
    client.post(f"/runs/{demo.id}/{verb}", {"reason": "not today"})
    demo.refresh_from_db()
    assert demo.status == state


def test_a_paused_run_can_be_resumed(demo: Run, browser: ClientOf, bob: User) -> None:
    client = browser(bob)
    client.post(f"/runs/{demo.id}/pause")
    html = client.get(f"/runs/{demo.id}").content.decode()
    assert 'data-action="resume"' in html and 'data-action="pause"' not in html
    client.post(f"/runs/{demo.id}/resume")
    demo.refresh_from_db()
    assert demo.status == "waiting"


def test_a_viewer_sees_no_buttons_and_cannot_press_them(demo: Run, browser: ClientOf, viewer: User) -> None:
    client = browser(viewer)
    html = client.get(f"/runs/{demo.id}").content.decode()
    assert "kill-worker" not in html and 'data-action="cancel"' not in html
    assert client.post(f"/runs/{demo.id}/cancel").status_code == 403
    assert client.post(f"/runs/{demo.id}/kill-worker").status_code == 403


def test_charlie_kills_and_cancels_nothing(demo: Run, browser: ClientOf, charlie: User) -> None:
    client = browser(charlie)
    for path in ("cancel", "pause", "kill-worker"):
        assert client.post(f"/runs/{demo.id}/{path}").status_code == 404
    demo.refresh_from_db()
    assert demo.status == "waiting"


def test_the_kill_button_kills_this_process_when_the_worker_lives_in_it(
    demo: Run, browser: ClientOf, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Any] = []

    class Timer:
        def __init__(self, seconds: float, act: Callable[..., None], args: tuple[Any, ...]) -> None:
            self.start = lambda: killed.append((act.__name__, args[1]))

    monkeypatch.setattr(views.threading, "Timer", Timer)
    Worker.objects.all().delete()
    boot = register_worker()
    Worker.objects.filter(boot=boot).update(embedded=True)
    assert browser(bob).post(f"/runs/{demo.id}/kill-worker").status_code == 302
    assert killed == [("kill", views.signal.SIGKILL)]
    assert Worker.objects.get(boot=boot).kill_requested_at is not None


def test_the_only_worker_is_not_killed_when_nothing_restarts_it(
    demo: Run, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    assert 'data-action="kill-worker"' not in client.get(f"/runs/{demo.id}").content.decode()
    refused = client.post(f"/runs/{demo.id}/kill-worker")
    assert refused.status_code == 409 and "It is the only worker" in refused.content.decode()
    assert not Worker.objects.exclude(kill_requested_at=None).exists()


def test_only_a_demo_offers_the_kill_button(demo: Run, browser: ClientOf, alice: User) -> None:
    register_worker()
    client = browser(alice)
    assert 'data-action="kill-worker"' in client.get(f"/runs/{demo.id}").content.decode()
    Run.objects.update(is_demo=False)
    assert 'data-action="kill-worker"' not in client.get(f"/runs/{demo.id}").content.decode()
    assert client.post(f"/runs/{demo.id}/kill-worker").status_code == 409


def test_a_recovery_is_told_in_one_line(demo: Run, browser: ClientOf, alice: User) -> None:
    data = {"at_step": 4, "kept": 3, "repeated": 0, "effects_repeated": 0, "seconds": 1.84}
    append(
        workspace_id=demo.workspace_id, run_id=demo.id, first_seq=demo.seq + 1, at=now(),
        lines=[Line("run.recovered", "", None, data)],
    )  # fmt: skip
    Run.objects.filter(id=demo.id).update(seq=demo.seq + 1)
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    assert "Recovered at step 4; 3 steps kept, 0 repeated, 0 effects repeated" in html
    assert proof_line({}) == "Recovered at step 1; 0 steps kept, 0 repeated, 0 effects repeated"


def test_a_person_says_what_became_of_an_effect_in_doubt(demo: Run, browser: ClientOf, bob: User) -> None:
    effect = Effect.objects.create(
        workspace_id=demo.workspace_id, run_id=demo.id, step_path="write", key="k", fingerprint="f",
        tool="write_file", effect_class="opaque", state="in_doubt", arguments={"path": "<x>"}, sends=1,
        sent_at=now() - timedelta(minutes=1),
    )  # fmt: skip
    client = browser(bob)
    address = f"/runs/{demo.id}/effects/{effect.id}"
    assert f'href="{address}"' in client.get(f"/runs/{demo.id}").content.decode()
    assert "&lt;x&gt;" in client.get(address).content.decode()
    refused = client.post(address, {"outcome": "happened", "reason": ""})
    assert refused.status_code == 422
    effect.refresh_from_db()
    assert effect.state == "in_doubt"
    client.post(address, {"outcome": "happened", "reason": "I saw the file."})
    effect.refresh_from_db()
    assert effect.state == "committed"


def test_the_list_filters_and_pages(demo: Run, browser: ClientOf, alice: User, monkeypatch: Any) -> None:
    client = browser(alice)
    for number in range(3):
        client.post("/gallery/invoice_reconciliation/run", {"key": f"k{number}"})
    assert client.get("/runs?status=waiting").content.count(b'data-testid="run-row"') == 1
    assert client.get("/runs?status=nonsense&cursor=nonsense").content.count(b'data-testid="run-row"') == 4
    assert client.get("/runs?blueprint=other").content.count(b'data-testid="run-row"') == 0
    monkeypatch.setattr("apps.web.views.doors.slice_by_id.__kwdefaults__", {"size": 3})
    first = client.get("/runs").content.decode()
    following = re.search(r'href="\?(cursor=[^"]+)"', first)
    assert first.count('data-testid="run-row"') == 3 and following
    assert client.get(f"/runs?{following[1]}").content.count(b'data-testid="run-row"') == 1


def test_a_run_that_is_not_there_is_not_found(browser: ClientOf, alice: User) -> None:
    assert browser(alice).get(f"/runs/{uuid4()}").status_code == 404
    assert browser(alice).get("/runs/not-an-id").status_code == 404


@pytest.mark.django_db(transaction=True)  # A tool works on a connection of its own.
def test_a_finished_run_shows_its_output_and_its_one_effect(
    demo: Run, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    for _ in range(3):
        question = ApprovalRequest.objects.filter(run=demo, state="open").first()
        if question is None:
            break
        client.post(f"/inbox/{question.id}/decision", {"verb": "approve", "revision": question.revision})
        work_all()
    demo.refresh_from_db()
    html = client.get(f"/runs/{demo.id}").content.decode()
    assert demo.status == "succeeded", demo.error
    assert [e["data-state"] for e in attributes(html, "effect")] == ["committed"]
    assert 'data-testid="run-output"' in html and "How it ended" in html


def test_remarks_of_an_output_are_seen_without_opening_it(demo: Run, browser: ClientOf, alice: User) -> None:
    step = demo.steps.filter(status="succeeded").first()
    assert step is not None
    step.output = {"notes": ["scan.pdf was skipped: it is locked."], "rows": []}
    step.save()
    html = browser(alice).get(f"/runs/{demo.id}?step={step.path}").content.decode()
    assert attributes(html, "row-notes") and attributes(html, "step-notes")
    assert html.count("scan.pdf was skipped") >= 3


def test_earlier_events_are_folded(demo: Run, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/runs/{demo.id}").content.decode()
    older, _, newest = html.partition('id="run-events"')
    assert newest.count('data-testid="event"') == views.EVENTS_OPEN
    assert older.count('data-testid="event"') == demo.seq - views.EVENTS_OPEN


def test_a_step_in_doubt_says_where_to_settle_it(demo: Run, browser: ClientOf, alice: User) -> None:
    step = demo.steps.filter(status="succeeded").first()
    assert step is not None
    effect = Effect.objects.create(
        run_id=demo.id, workspace_id=demo.workspace_id, step_path=step.path, tool="send_email", key="k1",
        state="in_doubt", effect_class="opaque", fingerprint="f", arguments={}, sends=1, sent_at=now(),
    )  # fmt: skip
    html = browser(alice).get(f"/runs/{demo.id}?step={step.path}").content.decode()
    link = f'href="/runs/{demo.id}/effects/{effect.id}"'
    for action in ("resolve-step", "resolve-next", "resolve"):
        assert f'{link} data-action="{action}"' in html


def test_the_picture_of_a_map_shows_the_map_and_what_is_in_it(
    workspace: Workspace, browser: ClientOf, alice: User, principal: Any
) -> None:
    """It showed the state of the last item for the map, and nothing at all inside."""
    body = {"nodes": [{"id": "one", "kind": "transform", "output": "{{ 10 / item }}"}], "edges": []}
    nodes = [{"id": "each", "kind": "map", "items": "[1, 0, 2]", "body": body}]
    run = start_run(principal(alice), version_of(workspace, nodes, []), {})
    work_all()
    html = browser(alice).get(f"/runs/{run.id}").content.decode()
    picture = html[html.index('id="run-picture"') :]
    assert re.search(r'data-node-id="each" data-step-path="each" data-state="failed"', picture)
    inside = (
        r'data-node-id="one" data-step-path="each\[1\]/one" data-node-path="each/one" data-state="failed"'
    )
    assert re.search(inside, picture)
    view: Any = browser(alice).get(f"/runs/{run.id}/graph").json()
    assert {path: node["state"] for path, node in view["nodes"].items()} == {
        "each": "failed",
        "each/one": "failed",
    }
