"""Large values through the API: references in lists, whole where one thing is read, nothing for strangers."""

from __future__ import annotations

import pytest

from apps.ledger import payloads
from apps.runs.services import start_run
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = "".join(chr(97 + i * 7919 % 26) for i in range(120_000))


@pytest.fixture
def run(workspace, alice, principal):
    version = version_of(
        workspace,
        [{"id": "a", "kind": "transform", "output": {"text": "{{ inputs.text }}", "n": 1}}],
        outputs={"text": "{{ steps.a.output.text }}"},
    )
    run = start_run(principal(alice), version, {"text": TEXT})
    work_all()
    payloads.clear_caches()
    return run


def test_lists_hold_a_reference_and_one_run_its_value(run, caller, alice):
    alice_calls = caller(alice)
    listed = alice_calls.get("/runs").json()["items"][0]
    assert listed["inputs"]["text"]["size"] == len(TEXT)
    assert alice_calls.get(f"/runs/{run.id}").json()["output"] == {"text": TEXT}
    (step,) = alice_calls.get(f"/runs/{run.id}/steps").json()["items"]
    assert step["output"]["n"] == 1 and step["output"]["text"]["begins"] == TEXT[:120]
    assert alice_calls.get(f"/runs/{run.id}/steps/a").json()["output"]["text"] == TEXT
    assert alice_calls.get(f"/runs/{run.id}/export").json()["steps"][0]["output"]["text"] == TEXT


def test_a_reference_is_read_whole_by_members_only(run, caller, alice, charlie):
    alice_calls, charlie_calls = caller(alice), caller(charlie)
    (step,) = alice_calls.get(f"/runs/{run.id}/steps").json()["items"]
    name = step["output"]["text"]["$payload"]
    found = alice_calls.get(f"/runs/{run.id}/payloads/{name}").json()
    assert found == {"hash": name, "size": len(TEXT), "type": "text", "value": TEXT}
    assert charlie_calls.get(f"/runs/{run.id}/payloads/{name}").status_code == 404
    missing = alice_calls.get(f"/runs/{run.id}/payloads/{'0' * 64}")
    assert missing.status_code == 404 and missing.json()["code"] == "payload_not_found"
