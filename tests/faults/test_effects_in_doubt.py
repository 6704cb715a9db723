"""What the ledger does when nobody knows whether the outside call happened, by effect class."""

from __future__ import annotations

import uuid

import pytest

from tests.fake_remote import FakeRemote
from tests.faults import plans
from tests.faults.harness import Installation, Run, assert_nothing_ran_twice, until

pytestmark = [pytest.mark.faults]


@pytest.fixture
def reference() -> str:
    return f"order-{uuid.uuid4().hex[:8]}"


def crashed_in_flight(
    installation: Installation, blueprint: str, reference: str, point: str = "after_in_flight"
) -> Run:
    """A run whose worker died at a point of its only effect; a new worker runs."""
    before = len(installation.driver.ask("workers"))
    process = installation.start_armed(point)
    run = installation.start(blueprint, reference=reference)
    installation.restart_after_crash(process)
    until(lambda: len(installation.driver.ask("workers")) >= before + 2, "a second worker")
    return run


# --- opaque: only a person can know ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "status", "executions"),
    [("happened", "succeeded", 0), ("did_not_happen", "succeeded", 1), ("abandon", "failed", 0)],
)
def test_an_opaque_effect_in_doubt_sends_nothing_until_a_person_says_what_happened(
    installation: Installation, remote: FakeRemote, reference: str, outcome: str, status: str, executions: int
) -> None:
    path = "/plain/charge"
    name = f"fault_opaque_{outcome}"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "opaque"))

    run = crashed_in_flight(installation, name, reference)
    state = run.until_step("charge", "in_doubt")
    assert state["needs_attention"]
    assert remote.received(path, reference=reference) == []

    effect = state["effects"][0]
    installation.driver.ask(
        "resolve", effect=effect["id"], outcome=outcome, reason="looked it up", reference="REF-1"
    )
    state = run.until_status("succeeded", "failed")
    assert state["status"] == status, state["error"]
    assert len(remote.executions(path, reference=reference)) == executions
    assert_nothing_ran_twice(run, remote)


def test_an_opaque_effect_that_did_happen_is_not_sent_again(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = "/plain/charge"
    name = "fault_opaque_sent"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "opaque"))

    run = crashed_in_flight(installation, name, reference, "after_call")
    state = run.until_step("charge", "in_doubt")
    installation.driver.ask(
        "resolve", effect=state["effects"][0]["id"], outcome="happened", reason="it is on the statement"
    )

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


@pytest.mark.parametrize("step", ["execute_500", "execute_reset", "execute_hang:3"])
def test_an_ambiguous_answer_stands_in_doubt_and_is_not_repeated(
    installation: Installation, remote: FakeRemote, reference: str, step: str
) -> None:
    path = "/plain/charge"
    name = "fault_opaque_answer"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "opaque"))
    remote.script(path, step, "ok")
    installation.ensure_worker()

    run = installation.start(name, reference=reference)
    state = run.until_step("charge", "in_doubt")
    assert len(remote.received(path, reference=reference)) == 1
    installation.driver.ask(
        "resolve", effect=state["effects"][0]["id"], outcome="happened", reason="found by hand"
    )

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


# --- keyed: the same key and body, while the key lives ---------------------------------------------


@pytest.mark.parametrize("step", ["execute_500", "execute_reset", "execute_hang:3"])
def test_a_keyed_effect_is_resent_with_the_same_key_and_executed_once(
    installation: Installation, remote: FakeRemote, reference: str, step: str
) -> None:
    path = "/keyed/answer"
    name = "fault_keyed_answer"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "keyed"))
    remote.script(path, step, "ok")
    installation.ensure_worker()

    run = installation.start(name, reference=reference)

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    received = remote.received(path, reference=reference)
    assert len(received) == 2
    assert len({line["key"] for line in received}) == 1
    assert len(remote.executions(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


@pytest.mark.parametrize("answer", ["status:404", "429:0"])
def test_a_refused_resend_does_not_prove_that_the_first_send_did_nothing(
    installation: Installation, remote: FakeRemote, reference: str, answer: str
) -> None:
    path = "/keyed/refused"
    name = "fault_keyed_refused"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "keyed"))
    remote.script(path, "execute_500", answer, "ok")
    installation.ensure_worker()

    run = installation.start(name, reference=reference)
    state = run.until(
        lambda s: (
            s["status"] in ("succeeded", "failed")
            or (s["steps"].get("charge", {}).get("status") == "in_doubt" and s["needs_attention"])
        ),
        "the doubt to end or to reach a person",
    )
    if state["needs_attention"]:
        installation.driver.ask(
            "resolve", effect=state["effects"][0]["id"], outcome="happened", reason="it is on the statement"
        )
        state = run.until_status("succeeded", "failed")

    assert state["status"] == "succeeded"
    assert len({line["key"] for line in remote.received(path, reference=reference)}) == 1
    assert len(remote.executions(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


def test_a_keyed_effect_asks_a_person_once_its_key_has_expired(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = "/keyed/expired"
    name = "fault_keyed_expired"
    text = plans.one_effect(name, remote.url + path, "keyed", more="    timeout: 1s\n    key_ttl: 1s\n")
    installation.driver.ask("import_blueprint", text=text)

    before = len(installation.driver.ask("workers"))
    process = installation.start_armed("after_call")
    run = installation.start(name, reference=reference)
    run.until(lambda s: remote.executions(path, reference=reference), "the call to be made")
    # The clock of the effect is turned, not waited for: two days pass while the step is without a worker.
    installation.driver.ask("age", effect=run.look()["effects"][0]["id"], seconds=2 * 86400)
    installation.restart_after_crash(process)
    until(lambda: len(installation.driver.ask("workers")) >= before + 2, "a second worker")

    state = run.until(
        lambda s: (
            s["steps"].get("charge", {}).get("status") == "in_doubt" and not s["steps"]["charge"]["due"]
        ),
        "the step to wait for a person",
    )
    installation.driver.ask(
        "resolve", effect=state["effects"][0]["id"], outcome="happened", reason="on the statement"
    )

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(path, reference=reference)) == 1
    assert_nothing_ran_twice(run, remote)


# --- probe: ask the other side ---------------------------------------------------------------------


def probe_blueprint(remote: FakeRemote, name: str) -> str:
    return plans.one_effect(
        name,
        f"{remote.url}/plain/{name}",
        "probe",
        probe=remote.url + "/probe/{{ args.reference }}",
    )


def test_a_probe_that_finds_the_effect_ends_the_doubt(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    name = "fault_probe_present"
    installation.driver.ask("import_blueprint", text=probe_blueprint(remote, name))

    run = crashed_in_flight(installation, name, reference, "after_call")

    assert run.until_status("succeeded", "failed")["status"] == "succeeded"
    assert len(remote.received(f"/plain/{name}", reference=reference)) == 1
    assert any(e["source"] == "probe" for e in run.look()["effects"][0]["evidence"])
    assert_nothing_ran_twice(run, remote)


def test_absent_counts_only_after_deadline_and_grace_and_only_twice(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    name = "fault_probe_absent"
    installation.driver.ask("import_blueprint", text=probe_blueprint(remote, name))

    run = crashed_in_flight(installation, name, reference, "after_in_flight")

    assert run.until_status("succeeded", "failed", seconds=60)["status"] == "succeeded"
    assert len(remote.executions(f"/plain/{name}", reference=reference)) == 1
    probes = remote.received(f"/probe/{reference}")
    assert len(probes) >= 2, "one answer of 'absent' is not enough"
    sent = remote.received(f"/plain/{name}", reference=reference)[0]["at"]
    assert sum(1 for probe in probes if probe["at"] < sent) >= 2
    effects = run.look()["effects"]
    assert effects[-1]["state"] == "committed"
    assert_nothing_ran_twice(run, remote)


def test_a_probe_that_cannot_say_leaves_it_to_a_person_or_later(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    name = "fault_probe_unknown"
    installation.driver.ask("import_blueprint", text=probe_blueprint(remote, name))
    remote.script(f"/probe/{reference}", "unknown")

    run = crashed_in_flight(installation, name, reference, "after_in_flight")
    run.until(lambda s: remote.received(f"/probe/{reference}"), "a probe")
    state = run.until_step("charge", "in_doubt")

    assert remote.received(f"/plain/{name}", reference=reference) == []
    installation.driver.ask(
        "resolve", effect=state["effects"][0]["id"], outcome="abandon", reason="give it up"
    )
    assert run.until_status("succeeded", "failed")["status"] == "failed"
    assert_nothing_ran_twice(run, remote)


# --- definite failures retry -----------------------------------------------------------------------


def test_a_refusal_that_did_nothing_is_retried_and_counts_as_a_failure(
    installation: Installation, remote: FakeRemote, reference: str
) -> None:
    path = "/plain/refused"
    name = "fault_refused"
    installation.driver.ask("import_blueprint", text=plans.one_effect(name, remote.url + path, "opaque"))
    remote.script(path, "429:1", "ok")
    installation.ensure_worker()

    run = installation.start(name, reference=reference)

    state = run.until_status("succeeded", "failed")
    assert state["status"] == "succeeded", state["error"]
    received = remote.received(path, reference=reference)
    assert len(received) == 2
    assert received[1]["at"] - received[0]["at"] >= 1.0, "Retry-After was not honoured"
    assert state["steps"]["charge"]["failures"] == 1
    assert len(remote.executions(path, reference=reference)) == 1
