"""A blueprint with many different mistakes gives all of them in one answer, each with its line and a fix."""

# ruff: noqa: E501 - one mistake a line

from __future__ import annotations

import json

import pytest
from django.db import models

from apps.blueprints import services
from apps.blueprints.core.parse import parse
from apps.blueprints.core.validate import validate
from apps.blueprints.errors import BlueprintInvalid
from apps.blueprints.models import Blueprint, Version
from tests.blueprints.samples import TOOLS

BROKEN = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: broken, titel: Broken}
card: {purpose: a, must_never: [b], business_owner: c, technical_owner: d, model_steward: e, runbook: f}
contract:
  inputs:
    type: object
    required: [company, amount]
    properties: {company: {type: string}, amount: {type: number}}
  boundaries:
    allowed_tools: [search_documents]
  human_checkpoints:
    - {step: aprove, required: true}
agents:
  writer: {model: "offline:extractive", instructions: Write.}
graph:
  nodes:
    - id: search
      kind: tool
      tool: search_documents
      with: {query: "{{ inputs.amount }}"}
    - {id: draft, kind: agent, agent: writr, prompt: "Write.", output: {type: object, properties: {text: {type: string}}}}
    - {id: approve, kind: approval, title: "Good {{ inputs.company + }}?"}
    - {id: send, kind: tool, tool: send_email, with: {to: "a@b.example", body: "Hello"}}
    - {id: wait, kind: timer, duration: soon}
    - {id: lonely, kind: transform, output: 1}
    - {id: joined, kind: aggregator, join: n_of_m}
  edges:
    - {from: search, to: draft}
    - {from: draft, to: aproval}
    - {from: draft, to: approve}
    - {from: approve.aproved, to: send}
    - {from: approve.approved, to: wait}
    - {from: wait, to: joined}
    - {from: wait, to: draft}
    - {from: approve, to: send}
outputs:
  text: "{{ steps.draft.output.txt }}"
"""
EXPECTED = {
    (3, "unknown_key"),
    (13, "unknown_checkpoint"),
    (21, "type_clash"),
    (22, "unknown_agent"),
    (23, "bad_expression"),
    (24, "tool_not_allowed"),
    (25, "bad_duration"),
    (26, "unreachable_node"),
    (27, "missing_field"),
    (30, "missing_node"),
    (32, "missing_port"),
    (35, "cycle_without_bound"),
    (38, "unknown_field"),
}


def test_many_mistakes_are_many_problems_with_lines_and_fixes() -> None:
    problems = [p for p in validate(parse(BROKEN), TOOLS).problems if p.level == "error"]
    assert {(p.line, p.code) for p in problems} == EXPECTED
    assert len(problems) == len(EXPECTED)
    assert all(p.fix.endswith(".") and p.path for p in problems)


def test_the_same_mistakes_in_json_have_lines_too() -> None:
    text = json.dumps(parse(BROKEN).data, indent=1)
    problems = [p for p in validate(parse(text), TOOLS).problems if p.level == "error"]
    assert {p.code for p in problems} == {code for _, code in EXPECTED}
    lines = text.splitlines()
    misspelt = next(p for p in problems if p.code == "unknown_key")
    assert misspelt.line is not None and '"titel"' in lines[misspelt.line - 1]


@pytest.mark.django_db
def test_what_is_refused_stores_nothing(alice: models.Model, principal: object) -> None:
    with pytest.raises(BlueprintInvalid) as refused:
        services.import_blueprint(principal(alice), BROKEN)  # type: ignore[operator]
    assert len([p for p in refused.value.problems if p.level == "error"]) >= 10
    assert refused.value.fields["metadata.titel"]
    assert not Blueprint.objects.exists()
    assert not Version.objects.exists()
