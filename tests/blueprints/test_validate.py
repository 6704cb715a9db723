"""Each rule of validation: one change to a good blueprint, one problem with its path, level and fix."""

# ruff: noqa: E501 - the table reads best with one case a line

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mirrorneuron
from apps.blueprints.core import expressions
from apps.blueprints.core.validate import RUNTIME, validate
from tests.blueprints.samples import (
    TOOLS,
    add_edge,
    add_node,
    changed,
    node,
    problems_after,
)

Change = Callable[[dict[str, Any]], object]


def _set(path: str, value: Any) -> Change:
    def change(data: dict[str, Any]) -> None:
        here: Any = data
        *way, last = path.split("/")
        for part in way:
            here = here[int(part)] if isinstance(here, list) else here.setdefault(part, {})
        here[last] = value

    return change


def _node(node_id: str, **fields: Any) -> Change:
    return lambda data: node(data, node_id).update(fields)


def _drop(node_id: str, field: str) -> Change:
    return lambda data: node(data, node_id).pop(field)


def _nodes_and_edges(nodes: list[dict[str, Any]], edges: list[tuple[Any, ...]]) -> Change:
    def change(data: dict[str, Any]) -> None:
        for fields in nodes:
            add_node(data, **fields)
        for source, to, *more in edges:
            add_edge(data, source, to, **(more[0] if more else {}))

    return change


def _step(node_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": node_id, "kind": "transform", "output": 1, **fields}


_TOOL = {
    "url": "https://shop.example/x",
    "method": "POST",
    "parameters": {"type": "object", "properties": {"order": {}}},
}

ERRORS: list[tuple[str, Change, str, str, str]] = [
    # what, change, code, path, part of the fix
    ("unknown key", _node("draft", promt="x"), "unknown_key", "graph.nodes[1].promt", '"prompt"'),
    ("unknown key at the top", _set("modles", {}), "unknown_key", "modles", '"models"'),
    ("python name of a key", _node("search", with_={}), "unknown_key", "graph.nodes[0].with_", '"with"'),
    ("wrong type", _set("metadata/tags", "a"), "wrong_type", "metadata.tags", "[a]"),
    ("bad duration", _node("draft", timeout="soon"), "bad_duration", "graph.nodes[1].timeout", "30s"),
    ("bad name", _set("metadata/name", "My Plan"), "bad_name", "metadata.name", "my_plan"),
    ("unknown kind", _node("search", kind="tol"), "unknown_kind", "graph.nodes[0].kind", '"tool"'),
    ("missing id", lambda d: d["graph"]["nodes"].append({"kind": "tool"}), "missing_key", "graph.nodes[4]", "id"),
    ("missing metadata", lambda d: d.pop("metadata"), "missing_key", "", "metadata"),
    ("duplicate id", lambda d: add_node(d, **_step("draft")), "duplicate_id", "graph.nodes[4].id", "draft_2"),
    ("duplicate edge", lambda d: add_edge(d, "draft.done", "approve"), "duplicate_edge", "graph.edges[4]", "Remove"),
    ("edge from nowhere", lambda d: add_edge(d, "serch", "draft"), "missing_node", "graph.edges[4].from", '"search"'),
    ("edge to nowhere", lambda d: add_edge(d, "search", "drafts"), "missing_node", "graph.edges[4].to", '"draft"'),
    ("missing port", lambda d: add_edge(d, "approve.aproved", "draft"), "missing_port", "graph.edges[4].from", "approve.approved"),
    ("isolated node", lambda d: add_node(d, **_step("lost")), "unreachable_node", "graph.nodes[4]", "edge"),
    ("island", _nodes_and_edges([_step("x"), _step("y")], [("x", "y"), ("y", "x")]), "unreachable_node", "graph.nodes[4]", "edge"),
    ("cycle", lambda d: add_edge(d, "send", "search"), "cycle_without_bound", "graph.edges[4]", "max_rounds: 3"),
    ("never ends", lambda d: add_edge(d, "send", "draft", max_rounds=2), "path_never_ends", "graph.edges[4]", "when"),
    ("overlapping rounds", _nodes_and_edges([_step("after")], [("send", "after"), ("send", "approve", {"max_rounds": 2, "when": "round < 2"})]),
     "overlapping_back_edges", "graph.edges[5]", "draft"),
    ("unknown agent", _node("draft", agent="writter"), "unknown_agent", "graph.nodes[1].agent", '"writer"'),
    ("unknown model", _set("agents/writer/model", "cheep"), "unknown_model", "agents.writer.model", '"cheap"'),
    ("model without provider", _set("models/cheap/use", "gpt"), "bad_model", "models.cheap.use", "provider:model"),
    ("unknown fallback", _set("models/cheap/fallback", "strong"), "unknown_model", "models.cheap.fallback", ""),
    ("unknown tool", _node("search", tool="serch_documents"), "unknown_tool", "graph.nodes[0].tool", '"search_documents"'),
    ("unknown tool of an agent", _set("agents/writer/tools", ["serch"]), "unknown_tool", "agents.writer.tools[0]", "search_documents"),
    ("tool not allowed", _set("contract/boundaries/allowed_tools", ["send_email"]), "tool_not_allowed", "graph.nodes[0].tool", "allowed_tools"),
    ("tool forbidden", _set("contract/boundaries/forbidden_actions", ["search_documents"]), "tool_forbidden", "graph.nodes[0].tool", "Remove"),
    ("missing argument", _node("search", **{"with": {"limit": 5}}), "missing_argument", "graph.nodes[0].with", "query"),
    ("unknown argument", _node("search", **{"with": {"query": "x", "limt": 5}}), "unknown_argument", "graph.nodes[0].with.limt", '"limit"'),
    ("bad argument", _node("search", **{"with": {"query": "x", "limit": 0}}), "bad_argument", "graph.nodes[0].with.limit", "fits"),
    ("object for text", _node("approve", **{"with": {"to": "a", "body": "{{ steps.draft.output }}"}}), "type_clash", "graph.nodes[2].with.body", ".body"),
    ("number for text", _node("search", **{"with": {"query": "{{ inputs.amount }}"}}), "type_clash", "graph.nodes[0].with.query", "text"),
    ("list for text", _node("approve", **{"with": {"to": "a", "body": "{{ steps.search.output.passages }}"}}), "type_clash", "graph.nodes[2].with.body", "item"),
    ("text for a number", _node("search", **{"with": {"query": "x", "limit": "{{ inputs.company + '!' }}"}}), "type_clash", "graph.nodes[0].with.limit", ""),
    ("field of text", _node("draft", prompt="{{ inputs.company.name }}"), "type_clash", "graph.nodes[1].prompt", "inputs.company"),
    ("unknown field", _set("outputs/summary", "{{ steps.draft.output.sumary }}"), "unknown_field", "outputs.summary", '"summary"'),
    ("unknown input", _node("draft", prompt="{{ inputs.compny }}"), "unknown_field", "graph.nodes[1].prompt", '"company"'),
    ("output forgotten", _node("approve", title="{{ steps.draft.body }}"), "unknown_field", "graph.nodes[2].title", "steps.draft.output.body"),
    ("unknown node in expression", _node("draft", prompt="{{ steps.serch.output }}"), "unknown_node", "graph.nodes[1].prompt", '"search"'),
    ("not upstream", _node("search", **{"with": {"query": "{{ steps.send.output.id }}"}}), "not_upstream", "graph.nodes[0].with.query", "before"),
    ("unknown name", _node("draft", prompt="{{ company }}"), "unknown_name", "graph.nodes[1].prompt", "inputs.company"),
    ("bad expression", _node("draft", prompt="{{ inputs.company + }}"), "bad_expression", "graph.nodes[1].prompt", ""),
    ("open braces", _node("draft", prompt="{{ inputs.company"), "bad_expression", "graph.nodes[1].prompt", "}}"),
    ("condition that is text", _node("draft", when="inputs.company"), "type_clash", "graph.nodes[1].when", "=="),
    ("proposes nothing", _node("approve", proposes="sent"), "unknown_node", "graph.nodes[2].proposes", '"send"'),
    ("proposes no tool", _node("approve", proposes="draft"), "proposes_no_tool", "graph.nodes[2].proposes", "tool node"),
    ("proposal elsewhere", lambda d: d["graph"]["edges"].pop(2), "proposal_not_connected", "graph.nodes[2].proposes", "approve.approved"),
    ("shows nothing", _node("approve", show=["drft"]), "unknown_node", "graph.nodes[2].show[0]", '"draft"'),
    ("checkpoint of no node", _set("contract/human_checkpoints", [{"step": "aprove"}]), "unknown_checkpoint", "contract.human_checkpoints[0].step", '"approve"'),
    ("checkpoint without person", _set("contract/human_checkpoints", [{"step": "draft"}]), "checkpoint_without_gate", "contract.human_checkpoints[0].step", "approval"),
    ("expiry without edge", _set("contract/human_checkpoints", [{"step": "approve", "timeout_action": "edge"}]), "missing_port", "contract.human_checkpoints[0].timeout_action", "approve.expired"),
    ("schema of an output", _node("draft", output={"type": "objct"}), "bad_schema", "graph.nodes[1].output.type", '"object"'),
    ("schema of inputs", _set("contract/inputs/properties/company", "string"), "bad_schema", "contract.inputs.properties.company", "{type: string}"),
    ("missing output", _set("outputs", {"sumary": "x"}), "missing_output", "outputs", '"summary"'),
    ("clashing output", _set("outputs/summary", "{{ steps.draft.output }}"), "type_clash", "outputs.summary", ".body"),
    ("requires more", _set("metadata/requires", ">=9"), "requires_not_satisfied", "metadata.requires", "runtime"),
    ("requires nonsense", _set("metadata/requires", "new"), "bad_requires", "metadata.requires", ">=0.1"),
    ("agent without agent", _drop("draft", "agent"), "missing_field", "graph.nodes[1]", "agent"),
    ("tool without tool", _drop("search", "tool"), "missing_field", "graph.nodes[0]", "tool"),
    ("router without routes", _nodes_and_edges([{"id": "r", "kind": "router"}], [("send", "r")]), "missing_field", "graph.nodes[4]", "routes"),
    ("route without condition", _nodes_and_edges([{"id": "r", "kind": "router", "routes": [{"name": "a"}]}], [("send", "r")]), "missing_field", "graph.nodes[4].routes[0]", "when"),
    ("route called else", _nodes_and_edges([{"id": "r", "kind": "router", "routes": [{"name": "else", "when": "true"}]}], [("send", "r")]), "duplicate_route", "graph.nodes[4].routes[0].name", "name"),
    ("join without n", _nodes_and_edges([{"id": "j", "kind": "aggregator", "join": "n_of_m"}], [("send", "j")]), "missing_field", "graph.nodes[4]", "n:"),
    ("join of too many", _nodes_and_edges([{"id": "j", "kind": "aggregator", "join": "n_of_m", "n": 3}], [("send", "j")]), "out_of_range", "graph.nodes[4].n", "1 to 1"),
    ("check without checks", _nodes_and_edges([{"id": "c", "kind": "check"}], [("send", "c")]), "missing_field", "graph.nodes[4]", "checks"),
    ("check without argument", _nodes_and_edges([{"id": "c", "kind": "check", "checks": [{"check": "grounded", "args": {"claim": "x"}}]}], [("send", "c")]), "missing_argument", "graph.nodes[4].checks[0]", "sources"),
    ("timer without time", _nodes_and_edges([{"id": "t", "kind": "timer"}], [("send", "t")]), "missing_field", "graph.nodes[4]", "duration"),
    ("timer of nonsense", _nodes_and_edges([{"id": "t", "kind": "timer", "duration": "later"}], [("send", "t")]), "bad_duration", "graph.nodes[4].duration", "30s"),
    ("timer until nonsense", _nodes_and_edges([{"id": "t", "kind": "timer", "until": "noon"}], [("send", "t")]), "bad_time", "graph.nodes[4].until", "2026"),
    ("forbidden action of a tool", _set("contract/boundaries/forbidden_actions", ["contact_customer"]), "tool_forbidden", "graph.nodes[3].tool", "Remove"),
    ("write in a step that may only suggest", _node("send", tier=0), "tier_forbids_write", "graph.nodes[3].tier", "tier: 1"),
    ("unknown connection", _set("tools/refund", {**_TOOL, "headers": {"Authorization": "{{ connection.shp.token }}"}}), "unknown_name", "tools.refund.headers.Authorization", ""),
    ("host of a connection", lambda d: d.update(
        tools={"refund": {**_TOOL, "headers": {"A": "{{ connection.shop.token }}"}}},
        connections={"shop": {"kind": "bearer", "fields": ["token"], "hosts": ["else.example"]}}),
     "connection_host", "tools.refund.url", "shop.example"),
    ("name of a built-in tool", _set("tools/send_email", _TOOL), "tool_name_taken", "tools.send_email", "my_send_email"),
    ("tool kind of later", _set("tools/refund", {"kind": "mcp"}), "tool_kind_not_runnable", "tools.refund.kind", "http"),
    ("probe class without probe", _set("tools/refund", {**_TOOL, "effect": "probe"}), "missing_field", "tools.refund.effect", "probe"),
    ("sink that is no parameter", _set("tools/refund", {**_TOOL, "sinks": ["ordr"]}), "unknown_argument", "tools.refund.sinks[0]", '"order"'),
    ("tool without url", _set("tools/refund", {"method": "GET"}), "missing_field", "tools.refund", "url"),
    ("empty graph", _set("graph", {}), "empty_graph", "graph", "node"),
]  # fmt: skip

WARNINGS: list[tuple[str, Change, str, str]] = [
    ("forbidden name nothing declares", _set("contract/boundaries/forbidden_actions", ["export_contact_list"]), "not_enforceable", "contract.boundaries.forbidden_actions[0]"),
    ("write without gate", _nodes_and_edges([{"id": "again", "kind": "tool", "tool": "send_email", "with": {"to": "a", "body": "b"}}], [("search", "again")]),
     "write_without_gate", "graph.nodes[4].tool"),
    ("private data, strange content and a way out", _nodes_and_edges([{"id": "again", "kind": "tool", "tool": "send_email", "with": {"to": "a", "body": "b"}}], [("search", "again")]),
     "untrusted_way_out", "graph.nodes[4].tool"),
    ("approval of something else", _nodes_and_edges([{"id": "again", "kind": "tool", "tool": "send_email", "with": {"to": "a", "body": "b"}}], [("send", "again")]),
     "approval_not_bound", "graph.nodes[4].tool"),
    ("agent that may write unasked", lambda d: (d["agents"]["writer"]["tools"].append("send_email"), node(d, "draft").update(tier=2)),
     "write_without_gate", "graph.nodes[1].agent"),
    ("tier 2 without undo", _node("send", tier=2), "tier_2_without_undo", "graph.nodes[3].tier"),
    ("no runbook", _set("card/runbook", ""), "no_runbook", "card"),
    ("field of another kind", _node("search", prompt="x"), "field_not_used", "graph.nodes[0].prompt"),
    ("bound on a forward edge", _set("graph/edges/0/max_rounds", 2), "not_a_back_edge", "graph.edges[0].max_rounds"),
    ("input that may be missing", _node("draft", prompt="{{ inputs.note }}"), "optional_input", "graph.nodes[1].prompt"),
    ("allowed tool nobody has", _set("contract/boundaries/allowed_tools", ["search_documents", "send_email", "fly"]), "unknown_tool", "contract.boundaries.allowed_tools[2]"),
    ("arguments beside a proposal", _node("send", **{"with": {"to": "x"}}), "arguments_ignored", "graph.nodes[3].with"),
    ("edge of a verb not offered", _node("approve", verbs=["approve", "reject"]), "port_never_used", "graph.edges[3].from"),
    ("unknown durable state", _set("contract/durable_state/required", ["current_steps"]), "unknown_state", "contract.durable_state.required[0]"),
    ("expression in instructions", _set("agents/writer/instructions", "For {{ inputs.company }}."), "not_a_template", "agents.writer.instructions"),
    ("card without an owner", _set("card/business_owner", ""), "card_incomplete", "card.business_owner"),
]  # fmt: skip


def test_a_good_blueprint_has_no_problem_at_all() -> None:
    assert problems_after(lambda data: None, publishing=True) == []


@pytest.mark.parametrize(
    ("change", "code", "path", "fix"), [e[1:] for e in ERRORS], ids=[e[0] for e in ERRORS]
)
def test_each_mistake_is_an_error_at_its_place_with_a_fix(
    change: Change, code: str, path: str, fix: str
) -> None:
    found = [p for p in problems_after(change) if p.code == code and p.path == path]
    assert found, [(p.code, p.path, p.message) for p in problems_after(change)]
    assert found[0].level == "error"
    assert found[0].fix and fix in found[0].fix, found[0].fix
    assert found[0].message.endswith(".")


@pytest.mark.parametrize(("change", "code", "path"), [w[1:] for w in WARNINGS], ids=[w[0] for w in WARNINGS])
def test_each_doubt_is_a_warning_and_never_blocks(change: Change, code: str, path: str) -> None:
    validation = validate(changed(change), TOOLS)
    found = [p for p in validation.problems if p.code == code and p.path == path]
    assert found, [(p.code, p.path, p.message) for p in validation.problems]
    assert found[0].level == "warning" and found[0].fix
    assert validation.valid


TOLD_TWICE = {
    "missing port": "the edge also closes a cycle",
    "island": "it is a cycle too",
    "tool not allowed": "an agent and a step use it",
    "tool forbidden": "an agent and a step use it",
    "proposal elsewhere": "the edge also connected the node",
    "empty graph": "everything else names its nodes",
}


def test_one_mistake_is_one_problem() -> None:
    """Nothing is reported twice, and what merely follows from a mistake is not reported at all."""
    for what, change, code, _, _ in ERRORS:
        if what in TOLD_TWICE:
            continue
        errors = [p for p in problems_after(change) if p.level == "error"]
        assert [p.code for p in errors] == [code], (what, [(p.code, p.path, p.message) for p in errors])


def test_the_card_blocks_publishing_only() -> None:
    def change(data: dict[str, Any]) -> None:
        del data["card"]

    assert validate(changed(change), TOOLS).valid
    published = validate(changed(change), TOOLS, publishing=True)
    assert [p.code for p in published.errors] == ["card_incomplete"] * 5


def test_nested_back_edges_are_allowed() -> None:
    def change(data: dict[str, Any]) -> None:
        data["graph"]["nodes"].insert(
            2,
            {
                "id": "good",
                "kind": "check",
                "checks": [{"check": "expression", "args": {"that": "round > 1"}}],
            },
        )
        data["graph"]["edges"][1:2] = [
            {"from": "draft", "to": "good"},
            {"from": "good.pass", "to": "approve"},
            {"from": "good.fail", "to": "draft", "max_rounds": 3},
        ]

    assert problems_after(change) == []


def test_a_later_round_may_read_what_the_last_one_decided() -> None:
    change = _node("draft", prompt="{{ round > 1 ? steps.approve.output.comment : '' }}")
    assert problems_after(change) == []


def test_an_input_guarded_by_has_needs_no_default() -> None:
    assert problems_after(_node("draft", prompt="{{ has(inputs.note) ? inputs.note : '' }}")) == []
    guarded = _node("search", when="has(inputs.note)", **{"with": {"query": "{{ inputs.note }}"}})
    assert problems_after(guarded) == []


def test_types_follow_expressions_through_transforms_and_macros() -> None:
    def change(data: dict[str, Any]) -> None:
        add_node(
            data, id="texts", kind="transform", output="{{ steps.search.output.passages.map(p, p.text) }}"
        )
        data["graph"]["edges"][0] = {"from": "search", "to": "texts"}
        add_edge(data, "texts", "draft")
        node(data, "approve")["with"]["body"] = "{{ steps.texts.output }}"

    codes = [(p.code, p.path) for p in problems_after(change)]
    assert codes == [("type_clash", "graph.nodes[2].with.body")]


def test_a_file_input_is_an_object_and_not_text() -> None:
    change = _node("search", **{"with": {"query": "{{ inputs.files[0] }}"}})
    codes = [p.code for p in problems_after(change) if p.level == "error"]
    assert codes == ["type_clash"]


def test_what_does_not_fit_does_not_hide_the_rest() -> None:
    def change(data: dict[str, Any]) -> None:
        data["graph"]["nodes"][0]["kind"] = "tol"
        data["graph"]["nodes"][1]["promt"] = "x"
        data["metadata"]["name"] = 7
        add_edge(data, "draft.nope", "send")
        data["outputs"]["summary"] = "{{ steps.draft.output.sumary }}"

    validation = validate(changed(change), TOOLS)
    assert validation.document is None and not validation.valid
    codes = sorted(p.code for p in validation.errors)
    assert codes == ["missing_port", "unknown_field", "unknown_key", "unknown_kind", "wrong_type"]


def test_the_runtime_version_is_the_product_version() -> None:
    assert mirrorneuron.__version__ == RUNTIME


@pytest.mark.parametrize(
    ("requires", "holds"),
    [
        (">=0.1", True),
        (">=0.1,<1", True),
        ("<0.1", False),
        ("==0.1", True),
        ("~=0.1.0", True),
        ("0.1.0", True),
        ("!=0.1", False),
    ],
)
def test_requires_is_held_against_the_runtime(requires: str, holds: bool) -> None:
    codes = [p.code for p in problems_after(_set("metadata/requires", requires))]
    assert ("requires_not_satisfied" not in codes) is holds


def large(count: int) -> dict[str, Any]:
    def change(data: dict[str, Any]) -> None:
        for number in range(count):
            before = "send" if number == 0 else f"n{number - 1}"
            text = f"{{{{ steps.{before}.output != null ? 'after {number}' : '' }}}}"
            add_node(data, id=f"n{number}", kind="transform", output={"text": text})
            add_edge(data, before, f"n{number}")

    return changed(change)


def test_the_second_look_at_three_hundred_nodes_compiles_nothing() -> None:
    data = large(300)
    assert validate(data, TOOLS).problems == []
    before = expressions._compile.cache_info().misses
    validate(data, TOOLS)
    assert expressions._compile.cache_info().misses == before


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.sampled_from(
    [
        "id", "kind", "from", "to", "with", "output", "when", "tool", "agent", "routes", "checks", "max_rounds",
        "title", "prompt", "duration", "until", "merge", "join", "n", "proposes", "show", "body", "schema", "quorum",
    ]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "search",
        "draft",
        "approve.approved",
        "tool",
        "agent",
        "router",
        "transform",
        "timer",
        "{{ steps.a.b }}",
        "{{",
    ]
)


@settings(max_examples=100)
@given(JSON)
def test_any_json_is_answered_with_problems_and_never_raises(data: Any) -> None:
    assert validate(data, TOOLS).problems


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.lists(st.integers(0, 8), min_size=1, max_size=5), KEYS, JSON | WORDS), max_size=5)
)
def test_any_change_to_a_blueprint_never_raises(changes: list[tuple[list[int], str, Any]]) -> None:
    def change(data: dict[str, Any]) -> None:
        for way, key, value in changes:
            here: Any = data
            for step in way:
                inner = (
                    list(here.values()) if isinstance(here, dict) else here if isinstance(here, list) else []
                )
                containers = [v for v in inner if isinstance(v, (dict, list))]
                if not containers:
                    break
                here = containers[step % len(containers)]
            if isinstance(here, dict):
                here[key] = value
            elif isinstance(here, list):
                here.append(value)

    for problem in problems_after(change):
        assert problem.fix and problem.message and problem.code


def _problems_of(nodes, edges=()):
    found = validate(
        {"apiVersion": "mirrorneuron/v1", "kind": "Blueprint", "metadata": {"name": "t"},
         "contract": {"inputs": {"type": "object", "properties": {"all": {"type": "array"}}, "required": ["all"]}},
         "graph": {"nodes": nodes, "edges": list(edges)}},
        {},
    )  # fmt: skip
    return {(p.code, p.path) for p in found.errors}


def _each(nodes, edges=(), **more):
    return {"id": "each", "kind": "map", "items": "{{ inputs.all }}",
            "body": {"nodes": nodes, "edges": list(edges)}, **more}  # fmt: skip


def _value(id, output):
    return {"id": id, "kind": "transform", "output": output}


def test_a_body_may_read_its_item_its_own_steps_and_what_came_before():
    body = [_value("a", "{{ item }}"), _value("b", "{{ steps.a.output + index + steps.first.output }}")]
    nodes = [_value("first", 1), _each(body, [{"from": "a", "to": "b"}])]
    assert _problems_of(nodes, [{"from": "first", "to": "each"}]) == set()


@pytest.mark.parametrize(
    ("node", "code"),
    [
        (_each([_value("a", "{{ itm }}")]), "unknown_name"),
        (_each([_value("a", "{{ steps.nope.output }}")]), "unknown_node"),
        (_each([_value("a", "{{ steps.later.output }}")]), "not_upstream"),
        (_each([_value("a", 1)], [{"from": "a", "to": "gone"}]), "missing_node"),
        (_each([]), "missing_field"),
        (_each([{"id": "a", "kind": "transform"}]), "missing_field"),
        ({"id": "each", "kind": "loop", "max_rounds": 3, "condition": "output > itm",
          "body": {"nodes": [_value("a", 1)]}}, "unknown_name"),
        ({"id": "each", "kind": "loop", "body": {"nodes": [_value("a", 1)]}}, "missing_field"),
        ({"id": "each", "kind": "subflow"}, "missing_field"),
        ({"id": "each", "kind": "subflow", "blueprint": "Not A Name"}, "bad_name"),
    ],
)  # fmt: skip
def test_mistakes_in_a_body_are_found_where_they_are(node, code):
    problems = _problems_of([node, _value("later", 1)], [{"from": "each", "to": "later"}])
    assert [c for c, _ in problems] == [code]
    assert all(path.startswith("graph.nodes[0]") for _, path in problems)


def test_a_loops_condition_may_read_the_round_that_has_just_ended():
    node = {"id": "again", "kind": "loop", "max_rounds": 3, "condition": "steps.a.output > 2 && round > 1",
            "body": {"nodes": [_value("a", "{{ previous == null ? 1 : previous + 1 }}")]}}  # fmt: skip
    assert _problems_of([node]) == set()
