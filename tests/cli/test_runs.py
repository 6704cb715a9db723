"""Runs, decisions and effects through the command line, in this process, worked by the command itself."""

import json

import pytest

from mirrorneuron import datalock
from mirrorneuron.config import config

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def starter(mn, tmp_path):
    """The blueprint `mn blueprint new` writes: search, notes, approval, one file."""
    file = tmp_path / "notes.yaml"
    assert mn("blueprint", "new", "notes", "--out", file).code == 0
    return file


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.md").write_text("The museum opens at nine. On Mondays it stays closed.")
    (folder / "b.md").write_text("Tickets for the museum cost six crowns.")
    return folder


@pytest.fixture
def waiting(mn, starter, documents):
    """A run that waits for a decision, as JSON."""
    said = mn("run", starter, "-i", "topic=museum", "-i", f"documents={documents}", "--wait", "--json")
    assert said.code == 3, said
    return said.json


def _request(mn):
    (request,) = mn("approvals", "list", "--json").json["items"]
    return request


def test_starter_is_valid_and_runs_to_its_approval(mn, starter, waiting):
    checked = mn("blueprint", "validate", starter, "--json")
    assert checked.code == 0 and checked.json == {"valid": True, "problems": []}
    assert waiting["version"] is None and waiting["status"] == "waiting"
    assert [w["step"] for w in waiting["waiting_for"]] == ["approve_notes"]


def test_approved_run_ends_with_one_effect(mn, waiting, tmp_path, data_folder):
    edit = tmp_path / "edit.json"
    edit.write_text(json.dumps({"content": "Closed on Mondays."}))
    assert mn("approvals", "approve", _request(mn)["id"], "--edit", edit, "--reason", "shorter").code == 0
    ended = mn("runs", "wait", waiting["id"], "--json")
    assert ended.code == 0 and ended.json["status"] == "succeeded"
    (effect,) = mn("effects", "list", "--run", waiting["id"], "--json").json["items"]
    assert effect["state"] == "committed" and effect["arguments"]["content"] == "Closed on Mondays."
    written = list(data_folder.rglob("notes.md"))
    assert [p.read_text() for p in written] == ["Closed on Mondays."]


def test_rejected_run_writes_nothing(mn, waiting, data_folder):
    assert mn("approvals", "reject", _request(mn)["id"], "--reason", "not needed").code == 0
    assert mn("runs", "wait", waiting["id"], "--json").json["status"] in ("succeeded", "failed")
    assert mn("effects", "list", "--json").json["items"] == [] and not list(data_folder.rglob("notes.md"))


def test_requested_changes_open_another_round(mn, waiting):
    first = _request(mn)
    assert mn("approvals", "request-changes", first["id"], "--reason", "mention the price").code == 0
    assert mn("runs", "wait", waiting["id"]).code == 3
    second = _request(mn)
    assert second["id"] != first["id"] and second["round"] == 2
    assert "mention the price" in mn("approvals", "show", second["id"]).out


def test_second_decision_changes_nothing(mn, waiting, bob):
    request = _request(mn)
    mn("approvals", "reject", request["id"], "--reason", "no")
    late = mn("approvals", "approve", request["id"], as_=bob)
    assert late.code == 1 and "rejected" in late.err


def test_stranger_finds_nothing(mn, waiting, charlie):
    assert mn("runs", "list", "--json", as_=charlie).json == {"items": []}
    for command in (("runs", "show"), ("runs", "explain"), ("runs", "events"), ("runs", "cancel")):
        assert mn(*command, waiting["id"], as_=charlie).code == 1
    assert mn("approvals", "approve", _request(mn)["id"], as_=charlie).code == 1


def test_viewer_is_refused_by_policy(mn, waiting, bob, principal, alice):
    from apps.workspaces.services import add_member

    add_member(principal(alice), bob, ["viewer"])
    assert mn("runs", "cancel", waiting["id"], as_=bob).code == 4
    assert mn("runs", "show", waiting["id"], as_=bob).code == 0


def test_paused_run_waits_for_a_person_and_cancelled_one_has_failed(mn, waiting):
    preview = mn("runs", "cancel", waiting["id"], "--preview", "--json").json
    assert "approve_notes" in preview["stop"] and "search" in preview["kept"]
    assert mn("runs", "pause", waiting["id"]).code == 0
    assert mn("runs", "wait", waiting["id"]).code == 3
    assert mn("runs", "resume", waiting["id"]).code == 0
    assert mn("runs", "cancel", waiting["id"], "--reason", "enough").code == 0
    assert mn("runs", "wait", waiting["id"]).code == 1


def test_explain_says_what_it_waits_for_and_what_is_next(mn, waiting):
    explained = mn("runs", "explain", waiting["id"], "--json").json
    assert explained["waiting_for"][0]["reason"] == "approval"
    assert {"store", "notes"} <= {n["step"] for n in explained["next"]}
    text = mn("runs", "explain", waiting["id"]).out
    assert "person's decision" in text and "next: store" in text


def test_events_are_gapless_and_go_on_after_a_number(mn, waiting):
    events = mn("runs", "events", waiting["id"], "--json").json["items"]
    assert [e["seq"] for e in events] == list(range(1, waiting["seq"] + 1))
    later = mn("runs", "events", waiting["id"], "--after", 5, "--limit", 2, "--json").json["items"]
    assert [e["seq"] for e in later] == [6, 7]


def test_same_key_is_the_same_run_and_another_request_is_refused(mn, starter, documents):
    def start(topic):
        return mn(
            "run", starter, "-i", f"topic={topic}", "-i", f"documents={documents}", "--key", "k", "--json"
        )

    first = start("museum").json["id"]
    assert start("museum").json["id"] == first
    other = start("tickets")
    assert other.code == 2 and other.json["error"]["code"] == "idempotency_mismatch"


def test_run_without_worker_says_how_to_get_one(mn, starter, documents):
    said = mn("run", starter, "-i", "topic=museum", "-i", f"documents={documents}")
    assert said.code == 0 and "No worker is running" in said.err


def test_follow_prints_the_timeline_and_where_it_rests(mn, starter, documents):
    said = mn("run", starter, "-i", "topic=museum", "-i", f"documents={documents}", "--follow")
    assert said.code == 3
    lines = said.out.splitlines()
    assert "run.started" in lines[1] and any("approval.requested" in line for line in lines)
    assert lines[-2].startswith("waiting:") and "mn approvals" in lines[-1]


def test_missing_or_unknown_input_is_wrong_use_and_named(mn, starter):
    said = mn("run", starter, "-i", "topc=museum", "--json")
    assert said.code == 2 and {"topic", "documents"} <= set(said.json["error"]["fields"])
    assert "did you mean 'topic'" in said.err


def test_watching_takes_over_when_the_other_worker_ends(mn, starter, documents):
    if not config().is_sqlite:
        pytest.skip("on a server a worker's lease decides, not the data lock")
    lock = datalock.acquire(config().data, command="mn up")
    started = mn("run", starter, "-i", "topic=museum", "-i", f"documents={documents}")
    assert "No worker" not in started.err
    lock.release()
    run = mn("runs", "list", "--json").json["items"][0]
    assert mn("runs", "wait", run["id"]).code == 3
    assert datalock.holder(config().data) is None


def test_blueprint_with_mistakes_is_refused_with_lines_and_nothing_is_stored(mn, starter):
    starter.write_text(starter.read_text().replace("kind: tool", "kind: tol").replace("goal:", "gaol:"))
    checked = mn("blueprint", "validate", starter)
    assert checked.code == 1 and checked.out.count(": error: ") >= 3 and f"{starter}:" in checked.out
    refused = mn("run", starter, "-i", "topic=museum", "--json")
    assert refused.code == 1 and all(p["line"] for p in refused.json["error"]["problems"])
    assert mn("blueprint", "list", "--json").json["items"] == []


def test_published_version_comes_back_as_it_was_written(mn, starter, tmp_path):
    first = mn("blueprint", "publish", starter, "--json").json
    assert first["version"] == 1
    assert mn("blueprint", "import", starter, "--json").json["id"] == first["id"]
    out = tmp_path / "out.yaml"
    assert mn("blueprint", "export", "notes@1", "--out", out).code == 0
    assert out.read_text() == starter.read_text()


def test_picture_is_self_contained(mn, starter):
    drawn = mn("blueprint", "svg", starter).out
    assert drawn.startswith("<svg") and "data-node-id" in drawn and "<script" not in drawn


def test_stand_alone_contract_becomes_a_skeleton_with_its_problems(mn, tmp_path):
    contract = tmp_path / "contract.yaml"
    contract.write_text(
        "workflow_contract:\n  name: refund_handling\n  goal: Refund an order once.\n"
        "  boundaries: {allowed_tools: [refund_order], forbidden_actions: [delete_customer]}\n"
        "  success_criteria:\n    output: [the refund is recorded]\n"
        '    metrics: {recovery_rate_result: "95.0% (19 / 20 cases)"}\n'
        "  human_checkpoints: [{step: approve_refund, required: true}]\n"
    )
    out = tmp_path / "skeleton.yaml"
    said = mn("blueprint", "import", contract, "--out", out, "--json")
    assert said.code == 0 and any("refund_order" in p["message"] for p in said.json["problems"])
    assert "kind: Blueprint" in out.read_text()


def test_schema_is_a_json_schema(mn):
    assert mn("schema", "--json").json["$schema"].endswith("2020-12/schema")
