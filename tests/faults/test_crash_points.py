"""kill -9 at every named point: the run finishes after the restart, and nothing happens twice."""

from __future__ import annotations

import uuid

import pytest

from mirrorneuron.base.crash import POINTS
from tests.fake_remote import FakeRemote
from tests.faults import plans
from tests.faults.harness import Installation, Process, Run, assert_nothing_ran_twice, until

pytestmark = [pytest.mark.faults]


@pytest.fixture
def reference(installation: Installation, remote: FakeRemote) -> str:
    installation.driver.ask("import_blueprint", text=plans.full(remote.url, "scripted:thinker"))
    installation.script("thinker", {"json": {"text": "a quiet answer"}})
    return f"order-{uuid.uuid4().hex[:8]}"


def boots(installation: Installation) -> int:
    return len(installation.driver.ask("workers"))


def wait_crash(installation: Installation, process: Process, before: int) -> None:
    """Until the armed process is gone and a new one has taken its place."""
    installation.restart_after_crash(process)
    until(lambda: boots(installation) >= before + 2, "a second worker after the crash")


def assert_all_done(run: Run, remote: FakeRemote, reference: str, asked_before: int) -> None:
    state = run.until_status("succeeded", "failed")
    assert state["status"] == "succeeded", state["error"]
    assert state["output"] == {"said": "a quiet answer"}
    for path in ("charge", "pay"):
        assert len(remote.executions(f"/keyed/{path}", reference=reference)) == 1
    assert [e["state"] for e in state["effects"]] == ["committed", "committed"]
    assert state["model_calls"] == 1
    assert run.installation.asked("thinker") - asked_before == 1, "the model was asked again"
    assert_nothing_ran_twice(run, remote)


@pytest.mark.parametrize("point", POINTS)
def test_a_run_survives_a_crash_on_its_first_steps(
    installation: Installation, remote: FakeRemote, reference: str, point: str
) -> None:
    before, asked = boots(installation), installation.asked("thinker")
    process = installation.start_armed(point)
    run = installation.start("fault_full", reference=reference)

    wait_crash(installation, process, before)
    run.approve()

    assert_all_done(run, remote, reference, asked)


@pytest.mark.parametrize(
    "point", ["before_claim", "after_in_flight", "after_call", "before_finish", "after_finish"]
)
def test_a_run_survives_a_crash_after_an_approval_given_while_nothing_ran(
    installation: Installation, remote: FakeRemote, reference: str, point: str
) -> None:
    asked = installation.asked("thinker")
    installation.ensure_worker()
    run = installation.start("fault_full", reference=reference)
    run.until_request("ask")
    installation.kill_all()
    run.decide("ask", "approve")

    before = boots(installation)
    process = installation.start_armed(point)
    wait_crash(installation, process, before)

    assert_all_done(run, remote, reference, asked)
