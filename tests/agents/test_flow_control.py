"""Limits, requests for rest, breakers and retry budgets on the real engine: who waits, and how long."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from apps.agents.errors import Refused
from apps.agents.outgoing import reply_of
from apps.agents.providers import scripted
from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure
from apps.approvals.models import ApprovalRequest
from apps.approvals.services import decide
from apps.governance.core.breakers import FAILURES, FIRST_SECONDS
from apps.governance.flow import Outgoing, Reply, Ticket, report
from apps.governance.models import Breaker, Bucket
from apps.ledger.selectors import entries
from apps.runs.dead_letters import redrive
from apps.runs.errors import StepError
from apps.runs.invariants import check_all
from apps.runs.models import Run, Step, Worker
from apps.runs.selectors import explain, run_for
from apps.runs.services import start_run
from mirrorneuron.base.clock import clock, now
from tests.agents.fakes import tool
from tests.runs.engine import register_worker, version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
TO = {"type": "object", "required": ["to"], "properties": {"to": {"type": "string"}}}


class Remote:
    """A tool's other side: what it does is set by the test, what reached it is counted with its time."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.behave: Callable[[], Any] = lambda: {"fine": True}

    def __call__(self, arguments: Any) -> Any:
        self.calls.append(now())
        return self.behave()


@pytest.fixture
def remote(tools: Callable[..., None]) -> Remote:
    remote = Remote()
    tools(
        tool("fetch", remote, open_world=True),
        tool("post", remote, effect="keyed", parameters=TO, open_world=True),
        tool("other", lambda a: {"fine": True}),
    )
    return remote


@pytest.fixture(autouse=True)
def invariants_hold():
    yield
    assert check_all() == []


@pytest.fixture
def start(workspace, alice, principal, remote):
    versions: dict[str, Any] = {}

    def make(name="fetch", *, who=None, contract=None, retry=None, **node) -> Run:
        key = repr((name, contract, retry, node))
        if key not in versions:
            step = {"id": "call", "kind": "tool", "tool": name, "with": {}, **node}
            if retry:
                step["retry"] = retry
            versions[key] = version_of(
                workspace, [step],
                contract={"boundaries": {"allowed_tools": ["fetch", "post", "other"]}, **(contract or {})},
            )  # fmt: skip
        return start_run(principal(who or alice), versions[key], {})

    return make


def status(run: Run) -> tuple[str, str]:
    step = run.steps.get()
    return step.status, step.reason


def through(time: Any, seconds: float, step: float = 1.0) -> None:
    """Let time pass, working all the while."""
    boot = register_worker(lease_seconds=100_000)
    done = 0.0
    while done < seconds:
        time.move(seconds=step)
        done += step
        work_all(boot, limit=5000)
    Worker.objects.filter(boot=boot).update(lease_until=now())


def limit(workspace, key, capacity, per_second):
    return Bucket.objects.create(
        workspace=workspace, key=key, tokens=capacity, capacity=capacity, per_second=per_second,
        updated_at=now(),
    )  # fmt: skip


# --- limits -----------------------------------------------------------------------------------------------


def test_no_limit_and_no_trouble_leaves_no_trace(start, remote):
    start()
    work_all()
    assert len(remote.calls) == 1
    assert not Bucket.objects.exists() and not Breaker.objects.exists()


@pytest.mark.parametrize("key", ["tool:fetch", "user"])
def test_calls_keep_to_a_limit_and_every_step_waits_once(start, remote, workspace, alice, key):
    with clock.frozen(now()) as time:
        limit(workspace, f"user:{alice.id}" if key == "user" else key, 2, 0.5)
        runs = [start() for _ in range(8)]
        work_all(register_worker(lease_seconds=1000))
        assert len(remote.calls) == 2
        assert sorted(status(run) for run in runs).count(("waiting", "slot")) == 6
        through(time, 16)
    assert len(remote.calls) == 8
    for run in runs:
        assert run.steps.get().status == "succeeded"
        assert run.steps.get().failures == 0
        assert len(entries(run.id, kinds=["step.waiting"])) <= 1
    # Two at once, then one every two seconds.
    began = remote.calls[0]
    assert [(at - began).total_seconds() for at in remote.calls[2:]] == pytest.approx(
        [2, 4, 6, 8, 10, 12], abs=3
    )


def test_a_limit_of_one_tool_leaves_others_alone(start, workspace):
    limit(workspace, "tool:fetch", 0, 0.001)
    run, other = start(), start("other")
    work_all()
    assert status(run) == ("waiting", "slot") and status(other)[0] == "succeeded"


def test_another_workspaces_limit_is_not_ours(start, remote, elsewhere):
    limit(elsewhere, "tool:fetch", 0, 0.001)
    start()
    work_all()
    assert len(remote.calls) == 1


def test_the_contracts_limit_per_person_and_hour(start, remote, bob, alice):
    contract = {"tool_limits": {"fetch": {"per_user_hour": 2}}}
    with clock.frozen(now()) as time:
        mine = [start(contract=contract) for _ in range(3)]
        start(contract=contract, who=bob)
        work_all(register_worker(lease_seconds=10_000))
        assert len(remote.calls) == 3
        assert status(mine[2]) == ("waiting", "slot")
        assert "an hour" in explain(mine[2])["why"]
        through(time, 1801, step=900.5)
        assert status(mine[2])[0] == "succeeded"


def test_a_cancelled_run_that_waits_for_a_limit_ends(start, workspace, alice, principal):
    from apps.runs.services import cancel_run

    limit(workspace, "tool:fetch", 0, 0.001)
    run = start()
    work_all()
    cancel_run(principal(alice), run.id)
    run.refresh_from_db()
    assert run.status == "cancelled"


def test_a_write_that_waits_for_a_limit_is_asked_about_once_and_sent_once(
    start, remote, workspace, alice, principal
):
    with clock.frozen(now()) as time:
        limit(workspace, "tool:post", 0, 0.1)
        run = start("post", **{"with": {"to": "ann"}}, tier=1)
        work_all(register_worker(lease_seconds=1000))
        request = ApprovalRequest.objects.get(run_id=run.id)
        decide(principal(alice), request.id, verb="approve")
        work_all(register_worker(lease_seconds=1000))
        assert status(run) == ("waiting", "slot") and not remote.calls
        through(time, 12)
    assert status(run)[0] == "succeeded"
    assert len(remote.calls) == 1 and ApprovalRequest.objects.filter(run_id=run.id).count() == 1


# --- too many requests ------------------------------------------------------------------------------------


def test_a_request_for_rest_counts_for_everyone(start, remote):
    """Scenario 43: 429 with Retry-After for many runs: the bucket is shared, nobody storms back."""
    with clock.frozen(now()) as time:
        began = now()

        def busy() -> Any:
            if now() < began + timedelta(seconds=30):
                raise DefiniteFailure("too many requests", retry_after=30.0, status=429)
            return {"fine": True}

        remote.behave = busy
        runs = [start() for _ in range(60)]
        work_all(register_worker(lease_seconds=1000), limit=1000)
        assert len(remote.calls) == 1
        waits = [s.due_at for s in Step.objects.filter(status="waiting")]
        assert len(waits) == 60 and all(due >= began + timedelta(seconds=30) for due in waits)
        assert len(set(waits)) > 50
        through(time, 45, step=0.5)
    assert {run.steps.get().status for run in runs} == {"succeeded"}
    assert len(remote.calls) == 61
    assert sum(run.steps.get().failures for run in runs) == 1
    later = list(remote.calls[1:])
    assert max(sum(abs((a - b).total_seconds()) < 0.25 for b in later) for a in later) <= 15


def test_a_rest_without_a_time_is_short(start, remote):
    def busy() -> Any:
        raise DefiniteFailure("too many requests", status=429)

    remote.behave = busy
    with clock.frozen(now()):
        start()
        work_all(register_worker(lease_seconds=1000))
        assert Bucket.objects.get().blocked_until == now() + timedelta(seconds=1)


def test_a_provider_asked_for_rest_by_one_workspace_rests_for_all(
    workspace, elsewhere, alice, charlie, principal
):
    def ask(place, who):
        node = {"id": "ask", "kind": "agent", "agent": "a", "prompt": "Say."}
        version = version_of(place, [node], models={"m": {"use": "scripted:s"}}, agents={"a": {"model": "m"}})
        return start_run(principal(who), version, {})

    scripted.register("s", [{"error": "model_rate_limited", "retry_after": 60}], repeat=True)
    with clock.frozen(now()):
        ask(workspace, alice)
        work_all(register_worker(lease_seconds=1000))
        other = ask(elsewhere, charlie)
        work_all(register_worker(lease_seconds=1000))
    assert scripted.asked("s") == 1
    assert status(other) == ("waiting", "slot")
    assert "asked for rest" in explain(other)["why"]


# --- breakers ---------------------------------------------------------------------------------------------


def down() -> Any:
    raise StepError("it answered 503", code="bad_answer", status=503)


def test_a_tool_that_keeps_failing_is_left_alone(start, remote, alice, principal):
    remote.behave = down
    with clock.frozen(now()):
        runs = [start(retry={"max_attempts": 1}) for _ in range(FAILURES + 10)]
        work_all(register_worker(lease_seconds=1000), limit=1000)
        assert len(remote.calls) == FAILURES
        waiting = [run for run in runs if status(run) == ("waiting", "slot")]
        assert len(waiting) == 10
        for run in waiting:
            assert run.steps.get().failures == 0
        assert 'tool "fetch"' in explain(run_for(principal(alice), waiting[0].id))["why"]


def test_one_probe_finds_out_that_it_works_again(start, remote):
    remote.behave = down
    with clock.frozen(now()) as time:
        for _ in range(FAILURES):
            start(retry={"max_attempts": 1})
        work_all(register_worker(lease_seconds=1000))
        runs = [start() for _ in range(20)]
        work_all(register_worker(lease_seconds=1000))
        remote.behave = lambda: {"fine": True}
        before = len(remote.calls)
        through(time, FIRST_SECONDS + 5, step=0.5)
        assert {run.steps.get().status for run in runs} == {"succeeded"}
        assert len(remote.calls) == before + 20
        assert Breaker.objects.get().open_until is None


def test_a_tool_that_is_down_for_half_an_hour(start, remote):
    """Scenario 50: attempts are bounded while it is down, and it is not run over when it is back."""
    with clock.frozen(now()) as time:
        began = now()
        back = began + timedelta(minutes=30)
        remote.behave = lambda: down() if now() < back else {"fine": True}
        runs = [start() for _ in range(60)]
        through(time, 1785, step=15)
        through(time, 340)
        while_down = [at for at in remote.calls if at < back]
        assert len(while_down) < 30, "the runs' own retries alone would be 240"
        after = [at for at in remote.calls if at >= back]
        found = [run.steps.get() for run in runs]
        done = [step for step in found if step.status == "succeeded"]
        assert len(done) >= 57
        assert len(after) <= len(done) + 1
        # They come back spread over time and not at one moment.
        assert len(set(after)) >= 3
        assert sum(step.failures for step in found) == len(while_down)


def test_mistakes_of_ours_do_not_open_it(start, remote):
    def refused() -> Any:
        raise DefiniteFailure("no such thing", permanent=True, status=404)

    remote.behave = refused
    for _ in range(FAILURES * 2):
        start(retry={"max_attempts": 1})
    work_all()
    assert len(remote.calls) == FAILURES * 2
    assert not Breaker.objects.exists()


def test_another_host_of_the_same_tool_is_still_called(workspace, alice, principal, remote):
    def declared(url):
        node = {"id": "call", "kind": "tool", "tool": "page", "with": {}}
        version = version_of(
            workspace, [node], tools={"page": {"url": url}},
            contract={"boundaries": {"allowed_tools": ["page"]}},
        )  # fmt: skip
        return start_run(principal(alice), version, {})

    Breaker.objects.create(
        workspace=workspace, key="tool:page@a.example", open_until=now() + timedelta(hours=1)
    )
    left_alone, called = declared("https://a.example/x"), declared("https://nowhere.invalid/x")
    work_all()
    assert status(left_alone) == ("waiting", "slot")
    assert status(called) != ("waiting", "slot")


# --- the budget of retries --------------------------------------------------------------------------------


def test_retries_of_a_tool_that_fails_now_and_then_are_bounded(start, remote):
    """Every second call fails: the breaker never opens, but retries are no more than the budget allows."""
    flips = {"n": 0}

    def flaky() -> Any:
        flips["n"] += 1
        return down() if flips["n"] % 2 else {"fine": True}

    remote.behave = flaky
    with clock.frozen(now()) as time:
        runs = [start() for _ in range(80)]
        through(time, 20, step=1)
        retries = len(remote.calls) - sum(1 for run in runs if run.steps.get().attempt)
        assert retries <= 10 + 0.2 * 20 + 0.1 * 80 + 1
        through(time, 400, step=10)
        assert {run.steps.get().status for run in runs} <= {"succeeded", "failed"}
        assert sum(run.steps.get().status == "succeeded" for run in runs) >= 75


# --- what errors say --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("problem", "reply"),
    [
        (None, Reply.ANSWERED),
        (DefiniteFailure("no", status=400, permanent=True), Reply.ANSWERED),
        (Refused("no", rule="tier"), Reply.ANSWERED),
        (ValueError("a bug"), Reply.ANSWERED),
        (DefiniteFailure("slow down", status=429), Reply.RESTS),
        (StepError("slow down", code="model_rate_limited"), Reply.RESTS),
        (StepError("down", status=500), Reply.FAILED),
        (DefiniteFailure("down", code="connect_failed"), Reply.FAILED),
        (AmbiguousOutcome("who knows"), Reply.FAILED),
        (TimeoutError(), Reply.FAILED),
    ],
)
def test_what_an_error_says_about_the_other_side(problem, reply):
    assert reply_of(problem)[0] is reply


def test_a_pause_asked_for_with_a_server_error_is_heard():
    assert reply_of(AmbiguousOutcome("busy", status=503, retry_after=7.0)) == (Reply.FAILED, 7.0)


# --- what was reserved ------------------------------------------------------------------------------------


def test_steps_that_are_retried_by_hand_keep_to_the_limit(start, remote, workspace, alice, principal):
    """Their deadline was over before their turn came; a redrive must not let all of them go at once."""
    with clock.frozen(now()) as time:
        limit(workspace, "tool:fetch", 1, 1 / 60)
        runs = [start(deadline="90s") for _ in range(20)]
        through(time, 100, step=10)
        failed = [run for run in runs if run.steps.get().status == "failed"]
        assert len(failed) >= 17
        before = len(remote.calls)
        redrive(principal(alice), reason="they have more time now")
        work_all(register_worker(lease_seconds=1000))
        assert len(remote.calls) - before <= 1


def test_a_breaker_that_opens_meanwhile_costs_nobody_the_place(start, remote, workspace):
    with clock.frozen(now()) as time:
        limit(workspace, "tool:fetch", 1, 1 / 600)
        first, second = start(), start()
        work_all(register_worker(lease_seconds=1000))
        assert [status(run)[0] for run in (first, second)] == ["succeeded", "waiting"]
        due = second.steps.get().due_at
        Breaker.objects.create(
            workspace=workspace, key=Bucket.objects.get().key, open_until=due + timedelta(seconds=20), opens=1
        )
        through(time, 640, step=20)
        assert status(second)[0] == "succeeded", (due, second.steps.get().due_at)


def test_nobody_rests_longer_than_a_retry_waits(start, remote):
    """However long the other side asks: 11 days, or longer than there are dates."""
    remote.behave = lambda: fails(StepError("busy", retry_after=1e6, code="model_rate_limited"))
    with clock.frozen(now()):
        start()
        work_all(register_worker(lease_seconds=1000))
        assert Bucket.objects.get(capacity=None).blocked_until <= now() + timedelta(hours=1)


def fails(error: Exception) -> Any:
    raise error


def test_a_wait_longer_than_there_are_dates_is_no_mistake_of_ours(workspace):
    call = Outgoing(workspace_id=workspace.id, target="provider:x", timeout_seconds=5)
    for seconds in (1e12, 1e30, float("inf")):
        report(Ticket(call), Reply.RESTS, retry_after=seconds)
    assert Bucket.objects.get().blocked_until <= now() + timedelta(hours=1)
