"""What a fix mends is mended, and nothing else breaks; what only a person can say has none."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.blueprints.core.editing.apply import Conflict, apply
from apps.blueprints.core.editing.fixes import _FIXES, Fix, Fixer, fix_for
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.core.parse import parse, plain_dump
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.validate import validate
from tests.blueprints.samples import TOOLS, add_edge, add_node, changed, node
from tests.blueprints.test_draft_view import DRAFTS, PATIENT

Change = Callable[[dict[str, Any]], object]


def mended(source: str, fix: Fix) -> str:
    for values in fix.operations:
        done = apply(source, operation({"op_id": str(uuid.uuid4()), **values}))
        assert not isinstance(done, Conflict), (values, done.message)
        source = done.text
    return source


def problems_of(source: str) -> list[Problem]:
    return validate(parse(source), TOOLS).problems


def weight(problems: list[Problem]) -> tuple[int, int]:
    """Errors, then everything: a fix may turn an error into a warning."""
    return sum(p.level == "error" for p in problems), len(problems)


def put(*path: Any, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        here: Any = data
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value

    return change


def field(node_id: str, name: str, value: Any) -> Change:
    return lambda data: node(data, node_id).update({name: value})


def several(*changes: Change) -> Change:
    return lambda data: [change(data) for change in changes]


def renamed(node_id: str, old: str, new: str) -> Change:
    return lambda data: node(data, node_id).update({new: node(data, node_id).pop(old)})


def poll(**fields: Any) -> Change:
    base = {"poll": {"tool": "search_documents", "with": {"query": "x"}}, "condition": "true"}
    return several(
        lambda d: add_node(d, id="look", kind="sensor", **base, **fields),
        lambda d: add_edge(d, "search", "look"),
    )


def tool(name: str, **fields: Any) -> Change:
    declared = {"url": "https://shop.example/x", "parameters": {"type": "object", "properties": {}}, **fields}
    return lambda data: data.setdefault("tools", {}).update({name: declared})


MISTAKES: list[tuple[str, Change]] = [
    ("unknown_key", renamed("draft", "prompt", "promt")),
    ("unknown_key", lambda d: d["contract"].update(goall=d["contract"].pop("goal"))),
    ("unknown_kind", field("search", "kind", "tol")),
    ("bad_value", field("send", "on_cancel", "cancle")),
    ("bad_value", tool("shop", method="GTE", effect="read")),
    ("bad_name", several(
        lambda d: add_node(d, id="Big One", kind="transform", output="{{ 1 }}"),
        lambda d: add_edge(d, "Big One", "draft"),
    )),
    ("unknown_tool", field("search", "tool", "search_document")),
    ("unknown_tool", lambda d: d["contract"]["boundaries"]["allowed_tools"].append("launch_rocket")),
    ("unknown_agent", field("draft", "agent", "writr")),
    ("unknown_model", put("agents", "writer", "model", value="cheep")),
    ("unknown_state", lambda d: d["contract"]["durable_state"]["required"].append("retry")),
    ("unknown_checkpoint", put("contract", "human_checkpoints", 0, "step", value="aprove")),
    ("unknown_argument", lambda d: node(d, "search")["with"].update(limti=node(d, "search")["with"].pop("limit"))),
    ("unknown_node", field("approve", "show", ["drft"])),
    ("unknown_node", field("draft", "prompt", "Write about {{ steps.serch.output.passages }}.")),
    ("unknown_name", field("draft", "prompt", "Write to {{ company }} about 'company'.")),
    ("unknown_name", field("draft", "when", "inptus.company != 'inptus'")),
    ("unknown_field", field("draft", "prompt", "Write to {{ inputs.compny }}.")),
    ("unknown_field", field("draft", "prompt", "Answer {{ inputs.question }}.")),
    ("unknown_field", put("outputs", "summary", value="{{ steps.draft.output.sumary }}")),
    ("unknown_field", put("outputs", "summary", value="{{ steps.draft.summary }}")),
    ("bad_expression", field("draft", "prompt", "Write to {{ inputs.company")),
    ("wrong_type", field("draft", "title", 5)),
    ("wrong_type", put("metadata", "tags", value="mail")),
    ("out_of_range", field("draft", "priority", 12)),
    ("bad_duration", field("draft", "timeout", "30 seconds")),
    ("bad_duration", field("approve", "due", "4 hours")),
    ("bad_duration", poll(due="2d")),
    ("field_not_used", field("send", "prompt", "x")),
    ("missing_field", lambda d: node(d, "draft").pop("agent")),
    ("missing_field", several(
        lambda d: add_node(d, id="again", kind="loop", body={"nodes": [{"id": "a", "kind": "timer", "duration": "1s"}]}),
        lambda d: add_edge(d, "search", "again"),
    )),
    ("missing_field", lambda d: node(d, "send").update({"with": node(d, "approve").pop("with")})),
    ("missing_argument", several(
        put("contract", "inputs", "properties", "query", value={"type": "string"}),
        lambda d: d["contract"]["inputs"]["required"].append("query"),
        lambda d: node(d, "search")["with"].pop("query"),
    )),
    ("duplicate_route", several(
        lambda d: add_node(d, id="choose", kind="router", routes=[{"name": "big", "when": "true"}, {"name": "big", "when": "false"}]),
        lambda d: add_edge(d, "search", "choose"),
    )),
    ("missing_node", lambda d: add_edge(d, "search.failed", "approv")),
    ("missing_node", lambda d: add_edge(d, "search.failed", "zzz")),
    ("missing_port", lambda d: d["graph"]["edges"][2].update({"from": "approve.aproved"})),
    ("port_never_used", field("approve", "verbs", ["approve", "reject"])),
    ("duplicate_edge", lambda d: add_edge(d, "search.done", "draft")),
    ("duplicate_edge", several(
        lambda d: d["graph"]["edges"][0].update(when="inputs.amount > 1"),
        lambda d: add_edge(d, "search", "draft", when="inputs.amount < 0"),
    )),
    ("duplicate_edge", lambda d: add_edge(d, "search", "draft", when="inputs.amount < 0")),
    ("cycle_without_bound", lambda d: d["graph"]["edges"][3].pop("max_rounds")),
    ("not_a_back_edge", lambda d: d["graph"]["edges"][0].update(max_rounds=2)),
    ("proposal_not_connected", lambda d: d["graph"]["edges"].pop(2)),
    ("unreachable_node", lambda d: add_node(d, id="late", kind="transform", output="{{ steps.draft.output.body }}")),
    ("not_upstream", several(
        lambda d: add_node(d, id="side", kind="transform", output="{{ steps.send.output }}"),
        lambda d: add_edge(d, "draft", "side"),
    )),
    ("tool_not_allowed", lambda d: d["contract"]["boundaries"]["allowed_tools"].remove("search_documents")),
    ("tool_not_allowed", lambda d: d["contract"]["boundaries"].pop("allowed_tools")),
    ("named_twice", lambda d: d["contract"]["boundaries"]["allowed_tools"].append("send_email")),
    ("optional_input", field("draft", "prompt", "Write {{ inputs.note }}.")),
    ("write_without_gate", several(
        lambda d: add_node(d, id="also", kind="tool", tool="send_email", **{"with": {"to": "a@b.example", "body": "x"}}),
        lambda d: add_edge(d, "search", "also"),
    )),
    ("tier_forbids_write", field("send", "tier", 0)),
    ("tier_2_without_undo", field("send", "tier", 2)),
    ("no_due_date", put("contract", "human_checkpoints", 0, "timeout_action", value="remind")),
    ("never_expires", several(
        lambda d: add_node(d, id="hear", kind="sensor", signal="paid"),
        lambda d: add_edge(d, "search", "hear"),
        lambda d: add_node(d, id="late", kind="transform", output="{{ 1 }}"),
        lambda d: add_edge(d, "hear.expired", "late"),
    )),
    ("unbounded_poll", poll(every="30s")),
    ("quorum_out_of_reach", several(
        field("approve", "assign", {"groups": ["sales"]}), field("approve", "quorum", [{"count": 1, "of": "legal"}])
    )),
    ("missing_output", put("outputs", value={"sumary": "{{ steps.draft.output.summary }}"})),
    ("undeclared_output", put("outputs", "size", value="{{ steps.draft.output.size }}")),
    ("read_that_writes", tool("shop", method="PUT", effect="read")),
    ("approval_not_bound", several(
        lambda d: node(d, "send").pop("tier"),
        lambda d: node(d, "send").update({"with": node(d, "approve").pop("with")}),
        lambda d: node(d, "approve").pop("proposes"),
    )),
    ("arguments_ignored", lambda d: node(d, "send").update({"with": node(d, "approve").pop("with")})),
]  # fmt: skip
# ruff: noqa: E501 - one mistake a line


def mistake(code: str, change: Change) -> tuple[str, Any, Problem]:
    source = plain_dump(changed(change))
    found = [p for p in problems_of(source) if p.code == code]
    assert found, f"the change makes no {code}: {[p.code for p in problems_of(source)]}"
    return source, parse(source).data, found[-1]


@pytest.mark.parametrize(
    ("code", "change"), MISTAKES, ids=[f"{i}-{code}" for i, (code, _) in enumerate(MISTAKES)]
)
def test_a_fix_removes_its_problem_and_brings_no_new_error(code: str, change: Change) -> None:
    source, data, problem = mistake(code, change)
    fix = fix_for(problem, data, TOOLS)
    assert fix is not None, (problem.path, problem.message, problem.fix)

    left = problems_of(mended(source, fix))

    before = problems_of(source)
    assert (problem.code, problem.message) not in {(p.code, p.message) for p in left}
    # Edges move up when one is taken out, so places do not count.
    new = Counter(p.code for p in left if p.level == "error") - Counter(
        p.code for p in before if p.level == "error"
    )
    assert not new, [p.message for p in left]
    assert weight(left) < weight(before)


def test_every_code_that_has_a_fix_is_tried_above() -> None:
    tried = {code for code, _ in MISTAKES}
    # A reserved id needs a body, untrusted_way_out a second tool: they use fixes that are tried.
    assert set(_FIXES) - tried == {"reserved_id", "untrusted_way_out", "undeclared_field"}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("card_incomplete", lambda d: d["card"].pop("business_owner")),
        ("no_runbook", lambda d: d["card"].pop("runbook")),
        ("missing_field", lambda d: (node(d, "draft").pop("prompt"), d["agents"]["writer"].pop("instructions"))),
        ("missing_argument", lambda d: node(d, "approve")["with"].pop("to")),
        ("tool_forbidden", lambda d: d["contract"]["boundaries"]["forbidden_actions"].append("send_email")),
        ("connection_host", several(
            tool("shop", headers={"A": "{{ connection.shop.token }}"}),
            put("connections", value={"shop": {"kind": "bearer", "fields": ["token"], "hosts": ["other.example"]}}),
        )),
        ("checkpoint_without_gate", several(
            put("contract", "human_checkpoints", 0, "step", value="search"),
        )),
        ("unknown_agent", field("draft", "agent", "zzzzzz")),
        ("not_enforceable", lambda d: d["contract"]["boundaries"]["forbidden_actions"].append("contact_costumer")),
        ("duplicate_id", lambda d: add_node(d, id="draft", kind="transform", output="{{ 1 }}")),
    ],
)  # fmt: skip
def test_what_only_a_person_can_say_has_no_fix(code: str, change: Change) -> None:
    _, data, problem = mistake(code, change)
    assert fix_for(problem, data, TOOLS) is None


def test_a_fix_inside_a_body_names_the_node_by_its_path() -> None:
    inner = {"nodes": [{"id": "say", "kind": "transform", "output": "{{ itm }}"}]}
    _, data, problem = mistake(
        "unknown_name",
        several(
            lambda d: add_node(d, id="each", kind="map", items="{{ [1] }}", body=inner),
            lambda d: add_edge(d, "search", "each"),
        ),
    )
    fix = fix_for(problem, data, TOOLS)
    assert fix is not None
    assert fix.operations == (
        {
            "kind": "set_config",
            "node": "each/say",
            "path": ["output"],
            "old": "{{ itm }}",
            "new": "{{ item }}",
        },
    )


@settings(max_examples=12)
@given(st.lists(st.sampled_from([change for _, change in MISTAKES]), min_size=2, max_size=4))
def test_among_several_mistakes_each_fix_still_mends_its_own(changes: list[Change]) -> None:
    try:
        data = changed(several(*changes))
    except (KeyError, ValueError, IndexError):
        return  # Two of them change the same place.
    source = plain_dump(data)
    data = parse(source).data
    fixer = Fixer(data, TOOLS)
    before = Counter((p.code, p.message) for p in problems_of(source))
    for problem in problems_of(source)[:6]:
        fix = fixer.fix(problem)
        if fix is not None:
            left = Counter((p.code, p.message) for p in problems_of(mended(source, fix)))
            said = (problem.code, problem.message)
            assert left[said] < before[said]


@PATIENT
@given(DRAFTS)
def test_nothing_a_draft_contains_makes_it_raise(data: Any) -> None:
    if not isinstance(data, dict):
        return
    fixer = Fixer(data, TOOLS)
    for problem in validate(data, TOOLS).problems:
        fix = fixer.fix(problem)
        for values in fix.operations if fix is not None else ():
            operation({"op_id": str(uuid.uuid4()), **values})
