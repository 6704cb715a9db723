"""A step under a new name is the same step, in the comparison of versions and of a draft."""

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints import comparing, draft_log, drafts, services
from apps.blueprints.core.document import Graph
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.core.renames import Line, across, chained, done, renames_between
from mirrorneuron.base.ids import uuid7
from tests.blueprints.drafting import write
from tests.blueprints.graphs import document, edge, node

SOURCE = """\
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: names, title: Names}
card: {purpose: Tests, must_never: [lose a step], business_owner: A, technical_owner: A, model_steward: A}
contract: {goal: Recognise a step.}
graph:
  nodes:
    - {id: find, kind: transform, output: "what is found"}
    - id: each
      kind: map
      items: "{{ [steps.find.output] }}"
      body:
        nodes:
          - {id: inner, kind: transform, output: "{{ item }}"}
          - {id: last, kind: transform, output: "{{ steps.inner.output + '!' }}"}
        edges:
          - {from: inner, to: last}
    - {id: tell, kind: transform, output: "{{ steps.find.output }}, {{ steps.each.output }}"}
  edges:
    - {from: find, to: each}
    - {from: each, to: tell}
"""


def found(*nodes: Any, edges: tuple[Any, ...] = ()) -> Any:
    return document(Graph(nodes=list(nodes), edges=list(edges)))


def t(node_id: str, output: Any = 1) -> Any:
    return node(node_id, "transform", output=output)


def test_what_says_the_same_under_another_name_is_the_same() -> None:
    before, after = found(t("a"), t("b", 2)), found(t("a"), t("c", 2))
    assert renames_between(before, after) == [("b", "c")]
    assert renames_between(before, found(t("a"), t("c", 3))) == []


def test_of_several_that_say_the_same_the_connected_one_is_meant() -> None:
    ends = (edge("one", "x"), edge("two", "y"))
    before = found(t("one", 1), t("two", 2), t("x"), t("y"), edges=ends)
    after = found(t("one", 1), t("two", 2), t("p"), t("q"), edges=(edge("one", "q"), edge("two", "p")))
    assert sorted(renames_between(before, after)) == [("x", "q"), ("y", "p")]
    assert renames_between(found(t("x"), t("y")), found(t("p"), t("q"))) == []


def test_what_is_known_counts_though_the_step_was_changed_too() -> None:
    before, after = found(t("a", 1)), found(t("b", 2))
    assert renames_between(before, after, [("a", "b")]) == [("a", "b")]
    assert renames_between(before, after, [("a", "c"), ("x", "b")]) == []


def test_renames_one_after_the_other_come_to_one() -> None:
    made = [("a", "b"), ("b", "c"), ("each/x", "y"), ("each", "all"), ("all/y", "z")]
    assert sorted(chained(made)) == [("a", "c"), ("each", "all"), ("each/x", "all/z")]
    assert chained([("a", "b"), ("b", "a")]) == []


@pytest.fixture
def hers(alice: Any, principal: Any, db: None) -> Any:
    owner = principal(alice)
    services.import_blueprint(owner, SOURCE)
    return owner


def change(owner: Any, kind: str, **fields: Any) -> None:
    made = operation({"op_id": str(uuid7()), "kind": kind, **fields})
    version = drafts.draft_for(owner, "names").version
    draft_log.apply_operations(owner, "names", [made], seen_version=version)


def renamed(hers: Any, before: str = "1", after: str = "draft") -> Any:
    told = comparing.compare(hers, "names", before, after)
    return told, {c.subject: (c.renamed_from, [f.path for f in c.fields]) for c in told.difference.changes}


def test_a_draft_knows_its_renames_and_mentions_are_no_changes(hers: Any) -> None:
    change(hers, "rename", node="each/inner", to="middle")
    change(hers, "rename", node="each", to="all")
    change(hers, "rename", node="find", to="search")
    change(hers, "set_config", node="search", path=["output"], old="what is found", new="more")
    told, changes = renamed(hers)

    assert changes == {
        "all": ("each", ["id"]),
        "all/middle": ("inner", ["id"]),
        "search": ("find", ["id", "output"]),
    }
    assert [n.id for n in told.union.graph.nodes] == ["search", "all", "tell"]
    assert told.difference.marks()["edges"] == {}


def test_between_versions_the_same_content_tells(hers: Any) -> None:
    text = drafts.draft_for(hers, "names").source.replace("inner", "middle")
    for old, new in (("find,", "search,"), ("steps.find", "steps.search"), ("from: find", "from: search")):
        text = text.replace(old, new)
    write(hers, "names", text)
    services.import_blueprint(hers, drafts.draft_for(hers, "names").source)
    assert renamed(hers, "1", "2")[1] == {
        "each/middle": ("inner", ["id"]),
        "search": ("find", ["id"]),
    }


def test_a_step_gone_and_another_one_new_stay_two(hers: Any) -> None:
    change(hers, "remove_node", node="tell")
    change(hers, "add_node", node={"id": "other", "kind": "transform", "output": "else"})
    told, _changes = renamed(hers)
    assert {c.subject: c.kind for c in told.difference.of("steps")} == {"other": "added", "tell": "removed"}


def test_what_is_taken_back_is_a_rename_too_where_the_step_is_by_then() -> None:
    lines = [
        Line(1, "one", node="each/inner", to="core"),
        Line(2, "two", node="each", to="every"),
        Line(5, "back", undoes="one"),
        Line(6, "again", undoes="back"),
        Line(7, "other", undoes="what was no rename"),
    ]
    assert done(lines) == [
        (1, "each/inner", "core"),
        (2, "each", "every"),
        (5, "every/core", "inner"),
        (6, "every/inner", "core"),
    ]


def test_two_drafts_that_parted_find_each_others_steps() -> None:
    theirs, ours = [("a", "b"), ("each", "every"), ("same", "alike")], [("a", "c"), ("each/in", "each/mine")]
    assert across(theirs, [*ours, ("same", "alike")]) == [
        ("b", "c"),
        ("every", "each"),
        ("every/in", "each/mine"),
    ]
