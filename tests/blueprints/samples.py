"""A small blueprint without any problem, and the tools it may use, for tests to break one thing at a time."""

# ruff: noqa: E501 - the blueprint reads best as a person would write it

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from apps.blueprints.core.problems import Problem
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.core.validate import validate
from apps.ledger.core.states import EffectClass

SEARCH = ToolSpec(
    name="search_documents",
    description="Search.",
    parameters={
        "type": "object",
        "required": ["query"],
        "properties": {"query": {"type": "string"}, "limit": {"type": "integer", "minimum": 1}},
        "additionalProperties": False,
    },
    output={
        "type": "object",
        "properties": {
            "passages": {
                "type": "array",
                "items": {"type": "object", "properties": {"text": {"type": "string"}}},
            }
        },
        "additionalProperties": False,
    },
    effect=EffectClass.READ,
)
SEND = ToolSpec(
    name="send_email",
    description="Send.",
    parameters={
        "type": "object",
        "required": ["to", "body"],
        "properties": {"to": {"type": "string"}, "subject": {"type": "string"}, "body": {"type": "string"}},
        "additionalProperties": False,
    },
    output={"type": "object", "properties": {"id": {"type": "string"}}},
    effect=EffectClass.OPAQUE,
    actions=("contact_customer",),
    sinks=("to",),
)
TOOLS = {tool.name: tool for tool in (SEARCH, SEND)}

BLUEPRINT: dict[str, Any] = {
    "apiVersion": "mirrorneuron/v1",
    "kind": "Blueprint",
    "metadata": {"name": "follow_up", "title": "Follow up", "class": "sales", "requires": ">=0.1"},
    "card": {
        "purpose": "Saves time.",
        "must_never": ["send without approval"],
        "business_owner": "Sales",
        "technical_owner": "Operations",
        "model_steward": "Operations",
        "runbook": "runbook.md",
    },
    "contract": {
        "goal": "Write to a customer.",
        "inputs": {
            "type": "object",
            "required": ["company", "amount"],
            "properties": {
                "company": {"type": "string"},
                "amount": {"type": "number"},
                "note": {"type": "string"},
                "files": {"format": "files"},
            },
        },
        "outputs": {"type": "object", "required": ["summary"], "properties": {"summary": {"type": "string"}}},
        "success_criteria": {
            "output": [
                "the tone fits",
                {"text": "grounded", "check": "grounded", "args": {
                    "claim": "{{ steps.draft.output.body }}", "sources": "{{ steps.search.output.passages }}"}},
            ],
            "metrics": {"workflow_completion_rate": 0.95},
        },
        "durable_state": {"required": ["current_step", "approvals"]},
        "boundaries": {
            "allowed_tools": ["search_documents", "send_email"],
            "forbidden_actions": [{"name": "send_email_without_approval", "when": "tool == 'send_email' && approval == null"}],
        },
        "human_checkpoints": [{"step": "approve", "required": True, "timeout_action": "pause"}],
    },
    "models": {"cheap": {"use": "offline:extractive"}},
    "agents": {"writer": {"model": "cheap", "instructions": "Write.", "tools": ["search_documents"], "sees": ["inputs"]}},
    "graph": {
        "nodes": [
            {"id": "search", "kind": "tool", "tool": "search_documents", "with": {"query": "{{ inputs.company }}", "limit": 5}},
            {"id": "draft", "kind": "agent", "agent": "writer", "prompt": "Write to {{ inputs.company }}.", "output": {
                "type": "object", "required": ["body", "size"],
                "properties": {"body": {"type": "string"}, "summary": {"type": "string"}, "size": {"type": "integer"}}}},
            {"id": "approve", "kind": "approval", "title": "Send?", "proposes": "send", "show": ["draft"],
             "with": {"to": "a@b.example", "body": "{{ steps.draft.output.body }}"}},
            {"id": "send", "kind": "tool", "tool": "send_email", "tier": 1},
        ],
        "edges": [
            {"from": "search", "to": "draft"},
            {"from": "draft", "to": "approve"},
            {"from": "approve.approved", "to": "send"},
            {"from": "approve.changes", "to": "draft", "max_rounds": 3},
        ],
    },
    "outputs": {"summary": "{{ steps.draft.output.summary }}"},
}  # fmt: skip


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The blueprint with one change."""
    data = copy.deepcopy(BLUEPRINT)
    change(data)
    return data


def problems_after(change: Callable[[dict[str, Any]], object], **options: Any) -> list[Problem]:
    return validate(changed(change), TOOLS, **options).problems


def node(data: dict[str, Any], node_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(n for n in data["graph"]["nodes"] if n["id"] == node_id)
    return found


def add_node(data: dict[str, Any], **fields: Any) -> None:
    data["graph"]["nodes"].append(fields)


def add_edge(data: dict[str, Any], source: str, to: str, **more: Any) -> None:
    data["graph"]["edges"].append({"from": source, "to": to, **more})
