"""Each operation on a text somebody wrote by hand: what changes, what stays, and what is refused in words."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from apps.blueprints.core.editing import spans
from apps.blueprints.core.editing.apply import Applied, Conflict, apply, text_hash
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.core.editing.spans import read
from apps.blueprints.core.editing.splices import apply_splices
from apps.blueprints.core.layout import layout
from apps.blueprints.core.parse import MAX_BYTES, parse
from apps.blueprints.core.skeleton import empty_blueprint
from apps.blueprints.core.validate import validate
from tests.blueprints.wide import wide_text
from tests.patience import within

TEXT = """\
# Head.
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: mail, title: "Mail"}   # short

contract:
  goal: Write.
  human_checkpoints: [{step: ask, required: true}]

agents:
  writer: {instructions: Write., sees: [steps.find.output, inputs]}

graph:
  nodes:
    # Looks the customer up.
    - id: find
      kind: tool          # a read
      tool: search
      with: {query: "{{ inputs.company }}", limit: 5}

    # Asks a person.
    - id: ask
      kind: approval
      title: 'Send to {{ steps.find.output.name }}?'
      show: [find]
      with:
        body: >-
          Dear {{ steps.find.output.name }},
          steps.find stays in prose.
    - {id: send, kind: tool, when: steps.find.output != null, with: {to: "{{ steps.ask.output }}"}}
    - id: each
      kind: map
      items: steps.find.output.all
      body:
        nodes:
          - {id: one, kind: transform, output: "{{ steps.find.output }}"}
          - {id: two, kind: transform, output: "{{ steps.one.output }}"}
        edges:
          - {from: one, to: two}
  edges:
    - {from: find, to: ask}
    # The way on.
    - {from: ask.approved, to: send}
    - {from: ask.changes, to: find, max_rounds: 3}
outputs: {said: "{{ steps.find.output }}"}
layout: {find: {x: 0, y: 0}, each/one: {x: 5, y: 5}}
canvas:
  groups: {g1: {title: First, nodes: [find, ask]}}
  collapsed: [each]
"""


def do(kind: str, source: str = TEXT, /, **fields: Any) -> Applied | Conflict:
    return apply(source, operation({"op_id": str(uuid.uuid4()), "kind": kind, **fields}))


def done(kind: str, source: str = TEXT, /, **fields: Any) -> str:
    result = do(kind, source, **fields)
    assert isinstance(result, Applied), result
    return result.text


def refused(kind: str, source: str = TEXT, /, **fields: Any) -> Conflict:
    result = do(kind, source, **fields)
    assert isinstance(result, Conflict)
    return result


def lines_changed(after: str, before: str = TEXT) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_one_value_in_a_flow_mapping_changes_and_its_line_stays_as_it_was() -> None:
    after = done("set_config", node="find", path=["with", "limit"], old=5, new=7)
    assert after == TEXT.replace("limit: 5}", "limit: 7}")


def test_a_new_key_goes_below_the_others_and_a_missing_mapping_is_made() -> None:
    after = done("set_config", node="find", path=["retry", "max_attempts"], new=3)
    assert lines_changed(after) == ([], ["      retry: {max_attempts: 3}"])


def test_several_lines_become_a_block() -> None:
    after = done("set_config", node="ask", path=["notes"], new="First line.\n\nSecond line.\n")
    assert "      notes: |\n        First line.\n\n        Second line.\n    - {id: send" in after


def test_taking_a_value_away_takes_its_line() -> None:
    after = done("set_config", node="find", path=["tool"], old="search")
    assert lines_changed(after) == (["      tool: search"], [])


def test_a_value_that_others_changed_shows_both() -> None:
    found = refused("set_config", node="find", path=["with", "limit"], old=4, new=7)
    assert (found.theirs, found.mine) == (5, 7)
    assert "changed meanwhile" in found.message


def test_what_stands_there_already_is_no_conflict_and_no_change() -> None:
    assert done("set_config", node="find", path=["with", "limit"], old=4, new=5) == TEXT


def test_an_empty_field_of_a_form_and_a_missing_key_are_the_same() -> None:
    assert "title: Look up" in done("set_config", node="find", path=["title"], old="", new="Look up")


def test_a_node_goes_with_its_edges_its_place_and_its_comment() -> None:
    after = done("remove_node", node="find")
    gone, _ = lines_changed(after)
    assert "    # Looks the customer up." in gone and "    # Asks a person." not in gone
    assert "    # The way on." not in gone
    data = parse(after).data
    assert [n["id"] for n in data["graph"]["nodes"]] == ["ask", "send", "each"]
    assert data["graph"]["edges"] == [{"from": "ask.approved", "to": "send"}]
    assert data["layout"] == {"each/one": {"x": 5, "y": 5}}
    assert data["canvas"]["groups"]["g1"]["nodes"] == ["ask"]


def test_a_container_goes_with_everything_in_it() -> None:
    data = parse(done("remove_node", node="each")).data
    assert data["layout"] == {"find": {"x": 0, "y": 0}}
    assert data["canvas"]["collapsed"] == []


def test_the_last_node_leaves_an_empty_list() -> None:
    after = done("remove_node", node="each/one")
    assert parse(done("remove_node", after, node="each/two")).data["graph"]["nodes"][3]["body"]["nodes"] == []


def test_a_renamed_node_is_followed_everywhere_and_prose_is_left_alone() -> None:
    result = do("rename", node="find", to="look_up")
    assert isinstance(result, Applied)
    data = parse(result.text).data
    assert data["graph"]["nodes"][0]["id"] == "look_up"
    assert [e["from"] for e in data["graph"]["edges"]] == ["look_up", "ask.approved", "ask.changes"]
    assert data["graph"]["edges"][2]["to"] == "look_up"
    assert data["graph"]["nodes"][1]["show"] == ["look_up"]
    assert data["agents"]["writer"]["sees"] == ["steps.look_up.output", "inputs"]
    assert data["outputs"]["said"] == "{{ steps.look_up.output }}"
    assert data["graph"]["nodes"][3]["body"]["nodes"][0]["output"] == "{{ steps.look_up.output }}"
    assert "steps.find stays in prose" in result.text and result.text.count("find") == 1
    assert set(data["layout"]) == {"look_up", "each/one"}
    assert data["canvas"]["groups"]["g1"]["nodes"] == ["look_up", "ask"]
    assert all(len(splice.text) <= len("look_up") for splice in result.splices)


def test_a_renamed_container_takes_its_inside_along_and_checkpoints_follow() -> None:
    assert set(parse(done("rename", node="each", to="all")).data["layout"]) == {"find", "all/one"}
    points = parse(done("rename", node="ask", to="decide")).data["contract"]["human_checkpoints"]
    assert points[0]["step"] == "decide"


def test_a_name_inside_a_body_is_its_own() -> None:
    after = done("rename", node="each/one", to="find")
    data = parse(after).data
    inside = data["graph"]["nodes"][3]["body"]
    assert inside["edges"] == [{"from": "find", "to": "two"}]
    assert inside["nodes"][1]["output"] == "{{ steps.find.output }}"
    # The outer one of that name is hidden inside now, and a rename of it leaves the inside alone.
    outer = parse(done("rename", after, node="find", to="outer")).data["graph"]["nodes"][3]
    assert outer["items"] == "steps.outer.output.all"
    assert outer["body"]["nodes"][1]["output"] == "{{ steps.find.output }}"


def test_a_node_put_on_an_edge_takes_its_place_in_the_way() -> None:
    after = done(
        "add_node",
        node={
            "id": "check_it",
            "kind": "check",
            "checks": [{"check": "expression", "args": {"that": "true"}}],
        },
        position={"x": 10.4, "y": -3},
        split={"from": "ask.changes", "to": "find"},
    )
    data = parse(after).data
    assert data["graph"]["edges"][2:] == [
        {"from": "ask.changes", "to": "check_it"},
        {"from": "check_it", "to": "find", "max_rounds": 3},
    ]
    assert data["layout"]["check_it"] == {"x": 10, "y": -3}
    assert after.startswith(TEXT[: TEXT.index("  edges:")].rsplit("        edges", 1)[0])


def test_moving_changes_numbers_only() -> None:
    after = done("move_nodes", positions={"find": {"x": 40, "y": 0}, "ask": {"x": 9, "y": 9}})
    gone, come = lines_changed(after)
    assert len(gone) == len(come) == 1
    assert come == ["layout: {find: {x: 40, y: 0}, each/one: {x: 5, y: 5}, ask: {x: 9, y: 9}}"]


def test_edges_come_and_go_one_line_each() -> None:
    added = done("add_edge", edge={"from": "send", "to": "each", "label": "then"})
    assert lines_changed(added) == ([], ["    - {from: send, to: each, label: then}"])
    assert done("remove_edge", added, edge={"from": "send", "to": "each"}) == TEXT
    labelled = done("set_edge", edge={"from": "find", "to": "ask"}, path=["label"], new="found")
    assert lines_changed(labelled)[1] == ["    - {from: find, to: ask, label: found}"]


def test_groups_are_made_with_a_free_name_and_taken_apart() -> None:
    result = do("group", title="Second: one", nodes=["send"])
    assert isinstance(result, Applied) and result.op.id == "g2"
    assert parse(result.text).data["canvas"]["groups"]["g2"] == {"title": "Second: one", "nodes": ["send"]}
    assert parse(done("ungroup", result.text, id="g2")).data == parse(TEXT).data


def test_pasted_nodes_get_free_names_and_keep_to_each_other() -> None:
    fragment = """\
nodes:
  - {id: find, kind: tool, tool: search}
  - {id: ask, kind: approval, show: [find], proposes: find, with: {a: "{{ steps.find.output }}"}}
edges:
  - {from: find, to: ask}
  - {from: elsewhere, to: ask}
layout: {find: {x: 100, y: 100}, ask: {x: 300, y: 120}}
"""
    result = do("paste", text=fragment, at={"x": 0, "y": 0})
    assert isinstance(result, Applied)
    assert result.op.ids == {"find": "find_2", "ask": "ask_2"}
    data = parse(result.text).data
    assert data["graph"]["nodes"][-1] == {
        "id": "ask_2", "kind": "approval", "show": ["find_2"], "proposes": "find_2",
        "with": {"a": "{{ steps.find_2.output }}"},
    }  # fmt: skip
    assert data["graph"]["edges"][-1] == {"from": "find_2", "to": "ask_2"}
    assert data["layout"]["ask_2"] == {"x": 200, "y": 20}


def test_another_text_is_taken_when_it_can_be_read_and_the_old_one_was_seen() -> None:
    better = TEXT.replace("goal: Write.", "goal: Write well.")
    assert done("set_source", text=better, old_hash=text_hash(TEXT)) == better
    assert "line 10" in refused("set_source", text=TEXT.replace("goal: Write.", "goal: [")).message
    assert "since" in refused("set_source", text=better, old_hash=text_hash(better)).message
    assert "must stay so" in refused("set_source", text=TEXT.replace("name: mail", "name: other")).message


def test_json_stays_json() -> None:
    text = json.dumps(parse(TEXT).data, indent=2)
    after = done("add_edge", text, edge={"from": "send", "to": "each"})
    assert json.loads(after)["graph"]["edges"][-1] == {"from": "send", "to": "each"}
    assert lines_changed(after, text)[0] == []
    renamed = done("rename", after, node="find", to="look_up")
    assert json.loads(renamed)["outputs"]["said"] == "{{ steps.look_up.output }}"
    removed = done("remove_node", renamed, node="look_up")
    assert [n["id"] for n in json.loads(removed)["graph"]["nodes"]] == ["ask", "send", "each"]


@pytest.mark.parametrize(
    ("kind", "fields", "says"),
    [
        ("remove_node", {"node": "nobody"}, 'no node "nobody"'),
        ("remove_node", {"node": "each/nobody"}, 'in "each"'),
        ("remove_node", {"node": "find/inside"}, 'no node "inside"'),
        ("remove_node", {"node": ""}, "no node"),
        ("move_nodes", {"positions": {"nobody": {"x": 1, "y": 1}}}, 'no node "nobody"'),
        ("add_node", {"node": {"id": "find", "kind": "tool"}}, "is taken"),
        ("add_node", {"node": {"id": "Find", "kind": "tool"}}, "is no id"),
        ("add_node", {"node": {"kind": "tool"}}, "is no id"),
        ("add_node", {"node": {"id": "fresh"}}, "has no kind"),
        ("add_node", {"node": {"id": "fresh", "kind": "tool"}, "edge": {"from": "x", "to": "fresh"}}, '"x"'),
        ("rename", {"node": "find", "to": "ask"}, "is taken"),
        ("add_edge", {"edge": {"from": "find", "to": "nobody"}}, "does not exist"),
        ("add_edge", {"edge": {"from": "find"}}, "needs"),
        ("add_edge", {"edge": {"from": "find", "to": "ask"}}, "there already"),
        ("add_edge", {"edge": {"from": "find", "to": "send", "when": {"a": []}}}, "texts"),
        ("remove_edge", {"edge": {"from": "find", "to": "send"}}, "no edge"),
        ("remove_edge", {"edge": {"from": "find", "to": "ask"}, "at": 1}, "no edge"),
        ("set_config", {"node": "find", "path": ["id"], "new": "x"}, "renaming"),
        ("set_config", {"node": "find", "path": ["tool", "deeper"], "new": "x"}, "not a mapping"),
        ("set_config", {"node": "ask", "path": ["show", 9], "new": "x"}, "does not exist"),
        ("set_config", {"node": "ask", "path": ["with", 0], "new": "x"}, "not a list"),
        ("set_contract", {"path": ["graph", "nodes"], "new": []}, "not changed this way"),
        ("set_contract", {"path": ["metadata", "name"], "new": "other"}, "stays"),
        ("set_layout", {"path": ["contract"], "new": {}}, "no part of the layout"),
        ("ungroup", {"id": "g9"}, "no group"),
        ("group", {"id": "g1", "title": "x", "nodes": []}, "already"),
        ("paste", {"text": "nodes: ["}, "no part of a blueprint"),
        ("paste", {"text": "nodes: []"}, "holds no nodes"),
        ("paste", {"text": "nodes: [1]"}, "has no id"),
        ("paste", {"text": "a: &a [1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nnodes: *b"}, "no id"),
        ("set_config", {"node": "find", "path": ["title"], "new": "a\x00b"}, "cannot be stored"),
        ("set_config", {"node": "find", "path": ["title"], "new": {"\ud800": 1}}, "cannot be stored"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(kind: str, fields: dict[str, Any], says: str) -> None:
    assert says in refused(kind, **fields).message


ALIASED = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: mail}
graph:
  nodes:
    - {id: a, kind: tool, retry: &again {max_attempts: 3}}
    - {id: b, kind: tool, retry: *again}
    - id: c
      kind: tool
      retry:
        <<: *again
        base: 2s
"""


def test_an_alias_is_replaced_as_a_whole_but_never_written_through() -> None:
    assert "retry: {max_attempts: 9}}" in done(
        "set_config", ALIASED, node="b", path=["retry"], old={"max_attempts": 3}, new={"max_attempts": 9}
    )
    assert (
        "YAML view"
        in refused("set_config", ALIASED, node="b", path=["retry", "max_attempts"], old=3, new=9).message
    )
    # Everything of an alias would go with its anchor.
    assert "YAML view" in refused("remove_node", ALIASED, node="a").message
    assert "base: 5s" in done("set_config", ALIASED, node="c", path=["retry", "base"], old="2s", new="5s")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        "x: " + "y" * (10 * 1024 * 1024),
        BOMB,
        "[" * 100_000,
        "a: " * 1000,
        "- " * 100_000,
        "{" * 5000 + "}" * 5000,
    ],
    ids=["10 MB", "alias bomb", "open brackets", "nested keys", "nested dashes", "nested braces"],
)
def test_a_hostile_text_is_refused_and_the_draft_stays(text: str) -> None:
    with within(30):
        assert "the draft stays as it was" in refused("set_source", text=text).message
        assert refused("paste", text=text).message


def test_five_thousand_nodes_are_more_than_the_editor_works_on() -> None:
    nodes = "".join(f"    - {{id: n{i}, kind: transform}}\n" for i in range(5000))
    text = (
        f"apiVersion: mirrorneuron/v1\nkind: Blueprint\nmetadata: {{name: mail}}\ngraph:\n  nodes:\n{nodes}"
    )
    assert len(text) < MAX_BYTES
    with within(60):
        assert "2,000 nodes" in refused("set_source", text=text).message


@pytest.mark.parametrize(
    "value", ["<script>alert(1)</script>", "{{ '<img onerror=x>' }}", "]]>&\"'", "\u202etxt"]
)
def test_markup_is_only_text(value: str) -> None:
    after = done("set_config", node="find", path=["title"], new=value)
    assert parse(after).data["graph"]["nodes"][0]["title"] == value


def test_an_unreadable_draft_can_be_repaired_by_its_text_only() -> None:
    assert "YAML view" in refused("remove_node", "a: [", node="x").message
    assert done("set_source", "a: [", text=TEXT) == TEXT


def test_a_value_nested_without_end_is_refused() -> None:
    value: Any = "x"
    for _ in range(200):
        value = [value]
    assert refused("set_config", node="find", path=["output"], new=value).message
    assert read(TEXT).readable


GALLERY = Path(__file__).parents[2] / "blueprints"


@pytest.mark.parametrize("path", sorted(GALLERY.glob("*/blueprint.yaml")), ids=lambda p: p.parent.name)
def test_a_shipped_blueprint_gets_a_layout_and_nothing_else_changes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    source = read(text)
    document = validate(source.parsed, {}).remainder
    assert document is not None and "layout" not in source.data
    places = {name: {"x": int(p.x), "y": int(p.y)} for name, p in layout(document.graph).positions().items()}
    placed = apply(
        source, operation({"op_id": uuid.uuid4(), "kind": "set_layout", "path": ["layout"], "new": places})
    )
    assert isinstance(placed, Applied)
    assert placed.text.startswith(text.rstrip("\n")) and placed.source.value(("layout",)) == places
    node, to = next(iter(places)), {"x": 12, "y": 34}
    moved = apply(
        placed.source, operation({"op_id": uuid.uuid4(), "kind": "move_nodes", "positions": {node: to}})
    )
    assert isinstance(moved, Applied)
    gone, come = lines_changed(moved.text, placed.text)
    assert (len(gone), len(come)) == (1, 1)
    assert apply_splices(apply_splices(moved.text, moved.inverse), placed.inverse) == text


def test_a_change_among_three_hundred_nodes_is_read_and_validated_at_once() -> None:
    """Processor time, so that a busy machine does not decide; best of several."""
    nodes = "".join(
        f"    # step {i}\n    - id: n{i}\n      kind: transform\n      title: Step {i}\n"
        f'      output: {{text: "{{{{ steps.n{max(i - 1, 0)}.output }}}}", more: [1, 2, 3]}}\n'
        for i in range(300)
    )
    edges = "".join(f"    - {{from: n{i}, to: n{i + 1}}}\n" for i in range(299))
    head = "apiVersion: mirrorneuron/v1\nkind: Blueprint\nmetadata: {name: big}\n"
    source = read(f"{head}graph:\n  nodes:\n{nodes}  edges:\n{edges}")
    took = []
    for step in range(8):
        wanted = {"op_id": uuid.uuid4(), "kind": "set_config", "node": "n150", "path": ["title"]}
        old = source.value(("graph", "nodes", 150, "title"))
        start = time.process_time()
        result = apply(source, operation(wanted | {"old": old, "new": f"Title {step}"}))
        assert isinstance(result, Applied)
        validate(result.source.parsed, {})
        took.append(time.process_time() - start)
        source = result.source
    assert min(took) < 0.05, took


def test_the_first_place_in_a_large_draft_is_read_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in characters that YAML's reader was given."""
    source = read(wide_text(300))
    characters: list[int] = []
    whole = spans.compose
    monkeypatch.setattr(spans, "compose", lambda p: characters.append(len(p.text)) or whole(p))
    monkeypatch.setattr(spans, "parse", lambda text: pytest.fail("the whole text was read again"))
    moves = {"op_id": uuid.uuid4(), "kind": "move_nodes", "positions": {"n5": {"x": 1, "y": 2}}}
    first = apply(source, operation(moves))
    assert isinstance(first, Applied)
    grouped = {"op_id": uuid.uuid4(), "kind": "group", "nodes": ["n5"], "title": "Some"}
    assert isinstance(apply(first.source, operation(grouped)), Applied)
    assert sum(characters) < 500
    assert first.source.value(("layout",)) == {"n5": {"x": 1, "y": 2}}


@pytest.mark.parametrize("written", ["alias", "tab"])
def test_a_draft_with_aliases_or_tabs_is_read_by_entry_too(
    written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = wide_text(300).replace("goal: Be large.", 'goal: "Be\tlarge."')
    if written == "alias":
        text = wide_text(300).replace("purpose: Tests", "purpose: &who Tests")
        text = text.replace("business_owner: A", "business_owner: *who")
    source = read(text)
    with monkeypatch.context() as patched:
        patched.setattr(spans, "parse", lambda text: pytest.fail("the whole text was read again"))
        title = {"kind": "set_config", "node": "n5", "path": ["title"], "old": "Step 5", "new": "Five"}
        changed = apply(source, operation({"op_id": uuid.uuid4(), **title}))
    assert isinstance(changed, Applied) and changed.source.data["graph"]["nodes"][5]["title"] == "Five"
    if written == "alias":
        # What is repeated changes wherever it stands, so all of it is read.
        shared = {"kind": "set_contract", "path": ["card", "purpose"], "old": "Tests", "new": "Others"}
        after = apply(changed.source, operation({"op_id": uuid.uuid4(), **shared}))
        if isinstance(after, Applied):
            again = read(after.text)
            assert (after.source.data, after.source.root) == (again.data, again.root)


KEPT = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: kept}
graph:
  nodes:
    - id: first
      kind: code
      code: |+
        x = 1

    - {id: second, kind: transform}

    - {id: third, kind: transform}
"""


def test_a_text_that_keeps_its_blank_lines_is_not_changed_by_what_goes_below_it() -> None:
    result = do("remove_node", KEPT, node="second")
    if isinstance(result, Applied):
        assert result.source.data == read(result.text).data
        assert result.source.data["graph"]["nodes"][0]["code"] == "x = 1\n\n"
        assert apply_splices(result.text, result.inverse) == KEPT
    else:
        assert "YAML" in result.message


def test_an_edge_with_a_label_of_another_shape_stands_in_nobodys_way() -> None:
    text = done("set_edge", edge={"from": "find", "to": "ask"}, path=["label"], new=[])
    node = {"id": "late", "kind": "transform"}
    after = done("add_node", text, scope="", node=node, edge={"from": "send", "to": "late"})
    assert parse(after).data["graph"]["edges"][-1] == {"from": "send", "to": "late"}


@pytest.mark.parametrize("new", [None, "plain", {"type": "object"}])
def test_a_key_without_a_value_stands_where_it_is_written_whatever_follows(new: Any) -> None:
    text = KEPT.replace("      kind: code\n", "      kind: code\n      title:\n      output: {a: 1}\n")
    result = do(
        "set_config",
        text,
        node="first",
        path=["output"],
        old={"a": 1},
        **({} if new is None else {"new": new}),
    )
    assert isinstance(result, Applied)
    again = read(result.text)
    assert (result.source.data, result.source.root) == (again.data, again.root)
    titled = do("set_config", result.text, node="first", path=["title"], new="Begin")
    assert isinstance(titled, Applied) and "      title: Begin\n" in titled.text


def test_what_is_drawn_from_nothing_is_written_line_by_line() -> None:
    """A graph of twenty steps stood on one line, with every problem in the same line 18."""
    source = read(empty_blueprint("mail", 'Mail: "now" # {{ x }}'))
    for given in (
        {"kind": "add_node", "node": {"id": "draft", "kind": "agent", "title": "Draft it"}},
        {
            "kind": "add_node",
            "node": {"id": "ask", "kind": "approval"},
            "edge": {"from": "draft", "to": "ask"},
        },
        {"kind": "set_config", "node": "draft", "path": ["prompt"], "new": "Hello\nyou"},
        {
            "kind": "set_contract",
            "path": ["contract", "inputs", "properties", "q"],
            "new": {"type": "string", "description": "What somebody would like to know of us, in a line"},
        },
        {
            "kind": "set_contract",
            "path": ["agents", "helper"],
            "new": {"model": "", "instructions": "", "tools": []},
        },
        {
            "kind": "set_contract",
            "path": ["agents", "helper", "instructions"],
            "old": "",
            "new": "Be kind.\nBe brief.",
        },
    ):
        done = apply(source, operation({"op_id": uuid.uuid4().hex, **given}))
        assert isinstance(done, Applied), done
        source = done.source
    assert source.data["metadata"]["title"] == 'Mail: "now" # {{ x }}'
    assert max(len(line) for line in source.text.splitlines()) < 80
    assert source.text.endswith(
        """\
graph:
  nodes:
    - id: draft
      kind: agent
      title: Draft it
      prompt: |-
        Hello
        you
    - id: ask
      kind: approval
  edges:
    - {from: draft, to: ask}
outputs: {}
agents:
  helper:
    model: ""
    instructions: |-
      Be kind.
      Be brief.
    tools: []
"""
    )
