"""`mn blueprint`: a contract becomes a skeleton, the same content stays the version it is."""

from __future__ import annotations

import pytest

from apps.blueprints.models import Blueprint
from apps.blueprints.services import contract_skeleton, create_blueprint
from mirrorneuron.cli.blueprint import STARTER
from tests.blueprints.drafting import write

pytestmark = pytest.mark.django_db

CONTRACT = """\
workflow_contract:
  name: Customer Research Follow-Up for ACME
  goal: Research a target account and draft an approval-ready follow-up.
  success_criteria:
    metrics:
      workflow_completion_rate: "95.0% (19 / 20 cases)"
      unsafe_action_rate: 0
  boundaries:
    allowed_tools: [search_documents, draft_email, send_email, search_company]
  human_checkpoints:
    - {step: approve_final_email, required: true}
"""
NAME = "customer_research_follow_up_for_acme"


@pytest.fixture
def contract(tmp_path):
    path = tmp_path / "contract.yaml"
    path.write_text(CONTRACT)
    return path


def test_contract_is_stored_as_an_unpublished_skeleton_with_its_problems_listed(mn, contract):
    said = mn("blueprint", "import", contract)
    assert said.code == 0, said
    assert f"Imported {NAME} as a skeleton that is not published." in said.out
    assert f"{contract}:6: warning: workflow_completion_rate is the text" in said.err
    assert f"{contract}:9: warning: There is no tool" in said.err and "search_company" in said.err
    assert "[card_incomplete]" in said.err and "tool_name_taken" not in said.err
    blueprint = Blueprint.objects.get(name=NAME)
    assert blueprint.title == "Customer Research Follow-Up for ACME"
    version = blueprint.versions.get()
    assert version.number is None
    assert set(version.document["tools"]) == {"search_company"}


def test_contract_import_as_json_gives_the_problems(mn, contract):
    said = mn("blueprint", "import", contract, "--json")
    assert said.code == 0 and said.json["version"] is None and said.json["name"] == NAME
    codes = {p["code"] for p in said.json["problems"]}
    assert {"placeholder_tool", "unverified_claim", "card_incomplete"} <= codes


def test_skeleton_can_be_written_instead(mn, contract, tmp_path):
    out = tmp_path / "skeleton.yaml"
    said = mn("blueprint", "import", contract, "--out", out)
    assert said.code == 0 and out.read_text() == contract_skeleton(CONTRACT)[0]
    assert not Blueprint.objects.exists()
    assert "valid" in mn("blueprint", "validate", out).out
    assert mn("blueprint", "import", contract).code == 0, "the skeleton's name is free"


def test_contract_with_an_error_stores_nothing_and_names_the_file(mn, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("workflow_contract:\n  name: x\n  gaol: y\n")
    said = mn("blueprint", "import", path)
    assert said.code == 1 and f"{path}:3: error:" in said.err
    assert not Blueprint.objects.exists()


def test_same_content_says_that_it_is_unchanged(mn, tmp_path):
    path = tmp_path / "starter.yaml"
    path.write_text(STARTER.replace("NAME", "starter"))
    assert "Imported starter@1." in mn("blueprint", "import", path).out
    assert "starter is unchanged: it is already version 1." in mn("blueprint", "import", path).out
    assert "starter is unchanged: it is already version 1." in mn("blueprint", "publish", path).out
    path.write_text(path.read_text().replace("our opening hours", "x").replace("Notes on a topic", "Notes"))
    said = mn("blueprint", "publish", path, "--json").json
    assert said["version"] == 2 and said["unchanged"] is False


def test_errors_of_a_publish_name_the_file(mn, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(STARTER.replace("NAME", "wrong").replace("kind: extract", "kind: extrct"))
    said = mn("blueprint", "publish", path)
    assert said.code == 1 and f"{path}:" in said.err


def test_diff_says_what_changed_in_words_and_as_json(mn, tmp_path):
    first, second = tmp_path / "one.yaml", tmp_path / "two.yaml"
    assert mn("blueprint", "new", "greeting", "--out", first).code == 0
    second.write_text(first.read_text().replace("title: ", "title: New ", 1))
    assert mn("blueprint", "import", first).code == 0 and mn("blueprint", "import", second).code == 0
    said = mn("blueprint", "diff", "greeting", "--from", "1", "--to", "2")
    assert "Version 1 → Version 2" in said.out and "~ metadata" in said.out and "title: " in said.out
    assert "Both mean the same." in mn("blueprint", "diff", "greeting", "--from", "2", "--to", "2").out
    assert mn("blueprint", "diff", "greeting", "--to", "1", "--from", "2", "--json").json["same"] is False


def test_what_was_drawn_is_exported_and_published(mn, alice, principal, tmp_path):
    path = tmp_path / "drawn.yaml"
    path.write_text(STARTER.replace("NAME", "drawn"))
    who = principal(alice)
    made = create_blueprint(who, "Drawn")
    assert made.name == "drawn"
    write(who, "drawn", path.read_text())
    said = mn("run", "drawn")
    assert said.code == 1 and "mn blueprint publish drawn" in said.err
    assert mn("blueprint", "export", "drawn").out.strip() == path.read_text().strip()
    assert "Published drawn@1." in mn("blueprint", "publish", "drawn").out
    write(who, "drawn", path.read_text().replace("Notes on a topic", "Notes"))
    assert "Notes on a topic" in mn("blueprint", "export", "drawn").out
    assert "Notes on a topic" not in mn("blueprint", "export", "drawn@draft").out
