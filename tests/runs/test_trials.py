"""Tests of a draft on the real engine: what runs, with which data, and what is shown afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints import services
from apps.blueprints.core.trial import Aim, Given
from apps.blueprints.drafts import draft_for
from apps.blueprints.errors import BlueprintInvalid, BlueprintNotFound
from apps.blueprints.models import Version
from apps.blueprints.pins import pins_for, remove_pins, set_pins
from apps.blueprints.selectors import document_of, versions_for
from apps.runs import trials
from apps.runs.models import Run
from apps.runs.trials import node_path
from apps.workspaces.models import AuditEntry, Membership, User, Workspace
from mirrorneuron.base.clock import now
from mirrorneuron.base.errors import Forbidden, InvalidInput
from tests.blueprints.drafting import write
from tests.runs.engine import DIVIDE, work_all

pytestmark = pytest.mark.django_db
NAME = "divide"
MAP = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: scores, title: Scores}
card: {purpose: p, must_never: [lie], business_owner: a, technical_owner: b, model_steward: c}
contract:
  goal: Score.
  inputs: {type: object, required: [list], properties: {list: {type: array, items: {type: integer}}}}
graph:
  nodes:
    - {id: base, kind: transform, output: 3}
    - id: each
      kind: map
      items: "{{ inputs.list }}"
      body:
        nodes:
          - {id: score, kind: transform, output: "{{ item * steps.base.output }}"}
          - {id: file, kind: transform, output: "{{ steps.score.output + 1 }}"}
        edges: [{from: score, to: file}]
  edges: [{from: base, to: each}]
outputs: {all: "{{ steps.each.output }}"}
"""


@pytest.fixture
def owner(alice: User, principal: Any) -> Any:
    found = principal(alice)
    services.import_blueprint(found, DIVIDE)
    return found


def started(owner: Any, aim: Aim, inputs: dict[str, Any] | None = None, name: str = NAME, **more: Any) -> Run:
    run = trials.start_trial(owner, name, aim, inputs or {}, **more)
    work_all()
    run.refresh_from_db()
    return run


def outputs(run: Run) -> dict[str, Any]:
    return {step.path: step.output for step in run.steps.order_by("id")}


def test_up_to_here_runs_what_is_needed_and_no_more(owner: Any) -> None:
    run = started(owner, Aim("upto", "two"), {"by": 5})
    assert run.status == "succeeded" and outputs(run) == {"one": 10, "two": 2}
    assert run.labels == {"test": "draft 0, up to two"}


def test_a_test_is_of_the_draft_and_not_of_what_is_published(owner: Any) -> None:
    write(owner, NAME, DIVIDE.replace("output: 10", "output: 20"))
    run = started(owner, Aim("upto", "one"))
    assert outputs(run) == {"one": 20} and run.labels["test"] == "draft 1, up to one"


def test_a_test_leaves_the_draft_and_its_versions_as_they_were(owner: Any) -> None:
    started(owner, Aim("upto", "one"))
    assert draft_for(owner, NAME).source == DIVIDE
    assert [v.number for v in versions_for(owner, NAME)] == [1]
    assert services.export(owner, NAME) == DIVIDE
    assert Version.objects.get(is_trial=True).number is None


def test_the_same_test_of_the_same_text_is_one_version(owner: Any) -> None:
    started(owner, Aim("upto", "one"))
    started(owner, Aim("upto", "one"))
    started(owner, Aim("upto", "two"), {"by": 1})
    assert Version.objects.filter(is_trial=True).count() == 2


def test_a_test_of_everything_does_not_take_the_place_of_the_version_to_publish(owner: Any) -> None:
    write(owner, NAME, DIVIDE.replace("output: 10", "output: 20"))
    started(owner, Aim(), {"by": 2})
    version = services.publish(owner, NAME, draft_for(owner, NAME).source)
    assert version.number == 2 and not version.is_trial
    assert document_of(version).metadata.title == "Divide"


def test_pinned_data_takes_the_place_of_a_step(owner: Any) -> None:
    document = document_of(versions_for(owner, NAME).get())
    set_pins(owner, NAME, document, {"two": Given(41)})
    run = started(owner, Aim())
    assert outputs(run) == {"two": 41, "three": 42} and run.output == {"result": 42}
    remove_pins(owner, NAME)
    assert outputs(started(owner, Aim(), {"by": 1}))["three"] == 11


def test_a_past_runs_data_feeds_one_step_alone(owner: Any) -> None:
    past = started(owner, Aim(), {"by": 5})
    run = started(owner, Aim("only", "three"), data_from=past.id)
    assert outputs(run) == {"two": 2, "three": 3}
    assert trials.captured_of(owner, NAME, run.id).keys() == {"three"}


def test_a_past_runs_data_becomes_pins_that_no_version_has(owner: Any) -> None:
    past = started(owner, Aim(), {"by": 5})
    assert set(trials.pin_from_run(owner, NAME, past.id)) == {"one", "two", "three"}
    assert pins_for(owner, NAME)["two"].output == 2 and pins_for(owner, NAME)["two"].origin == str(past.id)
    assert "pinned" not in services.export(owner, NAME)


def test_text_that_looks_like_a_template_stays_text(owner: Any) -> None:
    source = DIVIDE.replace("steps.two.output + 1", "steps.two.output")
    write(owner, NAME, source)
    document = document_of(versions_for(owner, NAME).get())
    set_pins(owner, NAME, document, {"two": Given("{{ inputs.by }}")})
    assert outputs(started(owner, Aim("only", "three")))["three"] == "{{ inputs.by }}"


def test_one_item_of_a_map_is_tested_with_its_place_in_the_list(owner: Any) -> None:
    services.import_blueprint(owner, MAP)
    run = started(owner, Aim("item", "each", 2), {"list": [1, 2, 7]}, name="scores")
    assert outputs(run)["each"] == [22]
    shown = trials.overlay(owner, "scores")["nodes"]
    assert {path: told["state"] for path, told in shown.items()} == {
        "base": "succeeded", "each": "succeeded", "each/score": "succeeded", "each/file": "succeeded",
    }  # fmt: skip


def test_a_step_inside_a_map_alone_uses_what_a_past_run_made(owner: Any) -> None:
    services.import_blueprint(owner, MAP)
    past = started(owner, Aim(), {"list": [5, 6]}, name="scores")
    run = started(owner, Aim("only", "each/file"), {"list": [5, 6]}, name="scores", data_from=past.id)
    assert run.status == "succeeded"
    assert outputs(run)["each"] == [19]  # 6 * 3 of the last pass, + 1


def test_a_test_that_was_removed_since_is_none(owner: Any) -> None:
    run = started(owner, Aim(), {"by": 5})
    assert trials.overlay(owner, NAME)["run"] == str(run.id)
    Run.objects.filter(id=run.id).update(removed_at=now())
    found = trials.overlay(owner, NAME)
    assert (found["run"], found["nodes"]) == (None, {})


def test_results_of_steps_edited_since_are_stale(owner: Any) -> None:
    started(owner, Aim(), {"by": 5})
    write(owner, NAME, DIVIDE.replace("steps.two.output + 1", "steps.two.output + 2"))
    nodes = trials.overlay(owner, NAME)["nodes"]
    assert {path for path, told in nodes.items() if told.get("stale")} == {"three"}


def test_a_mistake_elsewhere_does_not_keep_a_part_from_being_tested(owner: Any) -> None:
    write(owner, NAME, DIVIDE.replace("steps.two.output + 1", "steps.twoo.output + 1"))
    assert started(owner, Aim("upto", "two"), {"by": 5}).status == "succeeded"
    with pytest.raises(BlueprintInvalid):
        trials.start_trial(owner, NAME, Aim(), {"by": 5})


def test_real_effects_take_the_right_to_operate(owner: Any, workspace: Workspace, principal: Any) -> None:
    erin = User.objects.create_user("erin@example.com", name="Erin")
    Membership.objects.create(workspace=workspace, user=erin, roles=["editor"])
    editor = principal(erin)
    assert trials.start_trial(editor, NAME, Aim("upto", "one"), {}).simulate
    with pytest.raises(Forbidden):
        trials.start_trial(editor, NAME, Aim("upto", "one"), {}, simulate=False)
    assert not trials.start_trial(owner, NAME, Aim("upto", "one"), {}, simulate=False).simulate
    assert AuditEntry.objects.filter(action="draft.tested").count() == 2


WRITES = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: writer, title: Writer}
card: {purpose: p, must_never: [lie], business_owner: a, technical_owner: b, model_steward: c}
contract:
  goal: Write.
  boundaries: {allowed_tools: [write_file]}
graph:
  nodes:
    - {id: text, kind: transform, output: hello}
    - {id: file, kind: tool, tool: write_file, with: {name: a.txt, content: "{{ steps.text.output }}"}}
  edges: [{from: text, to: file}]
"""


def test_pinned_data_never_meets_a_real_effect(owner: Any) -> None:
    services.import_blueprint(owner, WRITES)
    document = document_of(versions_for(owner, "writer").get())
    set_pins(owner, "writer", document, {"text": Given("from nowhere")})
    with pytest.raises(InvalidInput) as refused:
        trials.start_trial(owner, "writer", Aim(), {}, simulate=False)
    assert refused.value.code == "data_meets_effect"
    assert started(owner, Aim(), name="writer").status == "succeeded"


def test_a_step_alone_never_acts_without_the_person_before_it(owner: Any) -> None:
    source = (
        WRITES.replace("    - {id: text", '    - {id: ask, kind: approval, title: "Well?"}\n    - {id: text')
        .replace("edges: [", "edges: [{from: ask.approved, to: text}, ")
        .replace('"{{ steps.text.output }}"', "x")
    )
    services.import_blueprint(owner, source)
    assert trials.plan_trial(owner, "writer", Aim("only", "file")).trial.runs == ("file",)
    with pytest.raises(InvalidInput) as refused:
        trials.start_trial(owner, "writer", Aim("only", "file"), {}, simulate=False)
    assert refused.value.code == "data_meets_effect"
    asked = started(owner, Aim("upto", "file"), name="writer", simulate=False)
    assert asked.status == "waiting"


def test_what_a_person_decides_cannot_be_pinned(owner: Any) -> None:
    services.import_blueprint(owner, WRITES.replace("name: writer", "name: asker").replace(
        "- {id: text, kind: transform, output: hello}", '- {id: text, kind: approval, title: "Well?"}'
    ).replace('"{{ steps.text.output }}"', "x").replace("from: text", "from: text.approved"))  # fmt: skip
    document = document_of(versions_for(owner, "asker").get())
    with pytest.raises(InvalidInput):
        set_pins(owner, "asker", document, {"text": Given({"approved": True})})


def test_a_stranger_tests_nothing(owner: Any, charlie: User, principal: Any) -> None:
    stranger = principal(charlie)
    for call in (
        lambda: trials.start_trial(stranger, NAME, Aim(), {"by": 1}),
        lambda: trials.overlay(stranger, NAME),
        lambda: pins_for(stranger, NAME),
    ):
        with pytest.raises(BlueprintNotFound):
            call()
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("step", "node"),
    [("draft", "draft"), ("draft[2]", "draft"), ("each[17]/draft", "each/draft"), ("each[17]/.", ""),
     ("send/undo", ""), ("a[1]/b[2]/c[3]", "a/b/c")],
)  # fmt: skip
def test_a_steps_path_names_its_node(step: str, node: str) -> None:
    assert node_path(step) == node
