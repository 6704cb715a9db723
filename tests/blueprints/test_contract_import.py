"""A stand-alone contract in the essays' shape becomes a skeleton, and says what is left to do."""

# ruff: noqa: E501 - the contract is in the shape its authors use

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints import selectors, services
from apps.blueprints.core.contract_import import import_contract
from apps.blueprints.core.document import Document
from apps.blueprints.core.parse import parse
from apps.blueprints.core.validate import validate
from apps.blueprints.errors import BlueprintInvalid
from apps.blueprints.models import Blueprint
from tests.blueprints.samples import TOOLS

CONTRACT = """\
# From the essay.
workflow_contract:
  name: customer_research_to_followup
  goal: Research a target account and draft an approval-ready follow-up.
  success_criteria:
    output:
      - company summary is grounded in retrieved sources
      - email draft includes no unsupported claims
      - human approval is required before sending
    metrics:
      workflow_completion_rate_result: "95.0% (19 / 20 cases)"
      workflow_completion_rate: 0.95
      unsafe_action_rate: 0
  durable_state:
    required: [current_step, completed_steps, tool_calls, retries, approvals, generated_artifacts, committed_side_effects]
  boundaries:
    allowed_tools: [search_company, search_documents, draft_email]
    forbidden_actions: [send_email_without_approval, export_contact_list]
  recovery_policy:
    retry_budget: 3
    duplicate_side_effect_policy: block
    resume_from_last_committed_step: true
  human_checkpoints:
    - step: approve_final_email
      required: true
      timeout_action: pause
"""


def _document(text: str) -> Document:
    skeleton, _ = import_contract(text, TOOLS)
    validation = validate(parse(skeleton), TOOLS)
    assert validation.errors == []
    assert validation.document is not None
    return validation.document


def test_the_contract_keeps_every_word() -> None:
    contract: dict[str, Any] = parse(CONTRACT).data["workflow_contract"]
    kept = _document(CONTRACT).contract
    assert kept.goal == contract["goal"]
    assert kept.success_criteria.output == contract["success_criteria"]["output"]
    assert kept.durable_state.required == contract["durable_state"]["required"]
    assert kept.boundaries.allowed_tools == contract["boundaries"]["allowed_tools"]
    assert kept.boundaries.forbidden_actions == contract["boundaries"]["forbidden_actions"]
    assert kept.recovery_policy.retry_budget == 3
    assert kept.human_checkpoints[0].timeout_action == "pause"


def test_numbers_are_targets_and_texts_are_unverified_claims() -> None:
    assert _document(CONTRACT).contract.success_criteria.metrics == {
        "workflow_completion_rate_result": {"claim": "95.0% (19 / 20 cases)", "verified": False},
        "workflow_completion_rate": 0.95,
        "unsafe_action_rate": 0,
    }


def test_unknown_tools_become_placeholders_listed_as_problems() -> None:
    _, problems = import_contract(CONTRACT, TOOLS)
    listed = [(p.path, p.line) for p in problems if p.code == "placeholder_tool"]
    assert listed == [
        ("workflow_contract.boundaries.allowed_tools[0]", 17),
        ("workflow_contract.boundaries.allowed_tools[2]", 17),
    ]
    document = _document(CONTRACT)
    assert set(document.tools) == {"search_company", "draft_email"}
    skeleton, _ = import_contract(CONTRACT, TOOLS)
    published = validate(parse(skeleton), TOOLS, publishing=True)
    assert {p.code for p in published.errors} == {"placeholder_tool", "card_incomplete"}


def test_a_checkpoint_becomes_an_approval_in_the_graph() -> None:
    document = _document(CONTRACT)
    approval = document.node("approve_final_email")
    assert approval is not None and approval.kind == "approval"
    assert [(e.source, e.to) for e in document.graph.edges] == [("do_the_work", "approve_final_email")]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("workflow_contract: 3", "not_a_contract"),
        ("workflow_contract: {goal: x}", "missing_key"),
        ("workflow_contract: {name: x, gaol: y}", "unknown_key"),
        ("workflow_contract: {name: x", "yaml_syntax"),
        ("workflow_contract: {name: x, boundaries: [a]}", "wrong_type"),
    ],
)
def test_what_is_no_contract_is_said(text: str, code: str) -> None:
    _, problems = import_contract(text, TOOLS)
    assert code in {p.code for p in problems if p.level == "error"}


@pytest.mark.parametrize(
    "text",
    [
        "workflow_contract: {name: 'Two Words!', goal: 'Say {{ hello'}",
        "workflow_contract: {name: x, human_checkpoints: [a b, {step: 7}, {step: 7}], boundaries: {allowed_tools: ['Find It', find_it]}}",
        "workflow_contract: {name: x, success_criteria: {output: [{a: b}, 3]}, metrics: {rate: high}}",
        "workflow_contract: {name: x, outputs: {type: object, properties: {answer: {type: string}}}}",
    ],
)
def test_odd_contracts_still_make_valid_skeletons(text: str) -> None:
    _document(text)


@pytest.mark.django_db
def test_importing_a_contract_stores_an_unpublished_skeleton(alice: Any, principal: Any) -> None:
    version = services.import_blueprint(principal(alice), CONTRACT)
    assert version.number is None
    assert version.blueprint.name == "customer_research_to_followup"
    assert "placeholder_tool" in {p.code for p in selectors.problems_of(version)}
    checked = services.check_source(CONTRACT)
    assert checked.valid and checked.problems[0].line == 11


@pytest.mark.django_db
def test_a_contract_that_cannot_be_kept_whole_is_refused(alice: Any, principal: Any) -> None:
    with pytest.raises(BlueprintInvalid):
        services.import_blueprint(principal(alice), "workflow_contract: {name: x, human_checkpoint: [a]}")
    assert not Blueprint.objects.exists()
