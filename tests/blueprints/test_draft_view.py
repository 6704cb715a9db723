"""What an editor shows of a draft, right or wrong, and the patches between two such views."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.blueprints.core.document import Document
from apps.blueprints.core.editing.patch import patch_between, patched
from apps.blueprints.core.editing.view import view_of
from apps.blueprints.core.layout import layout
from apps.blueprints.core.problems import Problem
from apps.blueprints.core.validate import validate

PATIENT = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
"""For drafts of any shape, which take a while to think up on a busy machine."""
WORDS = st.sampled_from(["", "a", "b", "c", "a.done", "b.nowhere", "x/y", "#0", "map", "tool", "agent"])
VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=4,
)
KINDS = st.sampled_from(["tool", "agent", "router", "map", "loop", "approval", "banana", ""])


def nodes(body: Any) -> Any:
    return st.fixed_dictionaries(
        {},
        optional={
            "id": WORDS | VALUES, "kind": KINDS | VALUES, "title": WORDS | VALUES, "tool": VALUES,
            "routes": VALUES, "verbs": VALUES, "poll": VALUES, "body": body,
        },
    )  # fmt: skip


def graphs(body: Any) -> Any:
    ends = WORDS | VALUES
    edges = st.fixed_dictionaries({}, optional={"from": ends, "to": ends, "max_rounds": VALUES})
    return st.fixed_dictionaries(
        {},
        optional={
            "nodes": st.lists(nodes(body) | VALUES, max_size=3) | VALUES,
            "edges": st.lists(edges | VALUES, max_size=3) | VALUES,
        },
    )


PLACES = st.dictionaries(WORDS, VALUES | st.fixed_dictionaries({"x": VALUES, "y": VALUES}), max_size=4)
DRAFTS = VALUES | st.fixed_dictionaries(
    {},
    optional={
        "graph": graphs(graphs(VALUES)) | VALUES, "layout": PLACES | VALUES, "tools": VALUES,
        "agents": VALUES,
        "canvas": st.fixed_dictionaries({}, optional={
            "notes": PLACES | VALUES, "groups": st.dictionaries(WORDS, st.fixed_dictionaries(
                {}, optional={"nodes": st.lists(WORDS), "collapsed": st.booleans() | VALUES, "title": VALUES}
            ) | VALUES, max_size=3) | VALUES, "collapsed": st.lists(WORDS) | VALUES,
        }) | VALUES,
    },
)  # fmt: skip


def draft(**more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mirrorneuron/v1",
        "kind": "Blueprint",
        "metadata": {"name": "sample"},
        "graph": {
            "nodes": [
                {"id": "one", "kind": "transform", "output": "{{ 1 }}"},
                {
                    "id": "each",
                    "kind": "map",
                    "items": "{{ [1] }}",
                    "body": {
                        "nodes": [
                            {"id": "first", "kind": "transform", "output": "{{ item }}"},
                            {"id": "second", "kind": "tool", "tool": "send_email"},
                        ],
                        "edges": [{"from": "first", "to": "second"}],
                    },
                },
            ],
            "edges": [{"from": "one", "to": "each"}],
        },
        **more,
    }


@PATIENT
@given(DRAFTS)
def test_anything_can_be_shown_and_sent_as_json(data: Any) -> None:
    problems = validate(data, {}).problems if isinstance(data, dict) else []
    view = view_of(data, problems=problems)
    json.dumps(view, allow_nan=False)
    for edge in view["edges"].values():
        assert "problem" in edge or (edge["from"] in view["nodes"] and edge["to"] in view["nodes"])
    for group in view["groups"].values():
        assert set(group["nodes"]) <= set(view["nodes"])


@PATIENT
@given(DRAFTS, DRAFTS)
def test_a_patch_turns_the_view_before_into_the_one_after(before: Any, after: Any) -> None:
    old, new = view_of(before, version=1), view_of(after, version=2)
    patch = json.loads(json.dumps(patch_between(old, new)))
    assert patched(old, patch) == new


def test_a_patch_refuses_a_view_of_another_version() -> None:
    old, new = view_of(draft(), version=1), view_of(draft(), version=2)
    with pytest.raises(ValueError, match="starts from version 1"):
        patched(new, patch_between(old, new))


def test_a_patch_names_only_what_has_changed() -> None:
    data = draft()
    old = view_of(data, version=1)
    data["graph"]["nodes"][0]["title"] = "Another title"
    patch = patch_between(old, view_of(data, version=2))
    assert list(patch["nodes"]) == ["one"]
    assert patch["edges"] == patch["groups"] == patch["notes"] == {}


def test_nodes_stand_where_every_other_picture_has_them() -> None:
    data = draft()
    boxes = layout(Document.model_validate(data).graph).boxes
    view = view_of(data)
    assert {b.path: (round(b.x, 1), round(b.y, 1)) for b in boxes} == {
        path: (node["x"], node["y"]) for path, node in view["nodes"].items()
    }


def test_a_node_in_a_body_has_a_path_and_its_badge() -> None:
    view = view_of(draft())
    node = view["nodes"]["each/second"]
    assert (node["id"], node["scope"], node["boundary"]) == ("second", "each", "external_write")
    assert view["nodes"]["each"]["container"] is True
    assert view["edges"]["each|first.done|second|0"]["from"] == "each/first"


def test_a_collapsed_container_hides_its_content_and_answers_for_it() -> None:
    data = draft(canvas={"collapsed": ["each"]})
    problem = Problem("graph.nodes[1].body.nodes[1].with", None, "error", "x", "No address.", "")
    view = view_of(data, problems=[problem])
    assert set(view["nodes"]) == {"one", "each"}
    assert view["nodes"]["each"]["problems"] == {"errors": 1, "warnings": 0, "first": "No address."}


def test_a_problem_inside_a_body_marks_the_node_it_is_about() -> None:
    problem = Problem("graph.nodes[1].body.nodes[0].output", None, "warning", "x", "Odd.", "", "one")
    view = view_of(draft(), problems=[problem])
    assert view["nodes"]["each/first"]["problems"]["warnings"] == 1
    assert view["nodes"]["one"]["problems"]["warnings"] == 0


def test_an_edge_to_nowhere_is_a_stub_that_says_so() -> None:
    data = draft()
    data["graph"]["edges"].append({"from": "each.failed", "to": "gone"})
    edge = view_of(data)["edges"]["|each.failed|gone|0"]
    assert edge["problem"] == 'There is no node "gone" here.'
    assert len(edge["points"]) == 2
    assert edge["written"] == {"from": "each.failed", "to": "gone"}


def test_edges_alike_are_told_apart() -> None:
    data = draft()
    data["graph"]["edges"].append({"from": "one.done", "to": "each", "when": "true"})
    edges = view_of(data)["edges"]
    one, other = edges["|one.done|each|0"], edges["|one.done|each|1"]
    assert (one["written"]["from"], one["at"]) == ("one", 0)
    assert (other["written"]["from"], other["at"]) == ("one.done", 0)


def test_whoever_moves_one_node_sees_one_node_move() -> None:
    before = view_of(draft())["nodes"]
    after = view_of(draft(layout={"one": {"x": -70, "y": 300}}))["nodes"]
    assert [path for path in before if before[path] != after[path]] == ["one"]


def test_a_node_without_an_id_and_one_of_no_known_kind_are_drawn() -> None:
    data = draft()
    data["graph"]["nodes"] += [{"kind": "tool"}, {"id": "odd", "kind": "banana"}, {"id": "odd"}]
    nodes = view_of(data)["nodes"]
    assert {"#2", "odd", "odd#4"} <= set(nodes)
    assert [port["name"] for port in nodes["odd"]["ports"]["out"]] == ["done", "failed"]


def test_a_collapsed_group_hides_its_members_and_takes_their_lines() -> None:
    groups = {"g": {"title": "Both", "nodes": ["one", "gone"], "collapsed": True}}
    view = view_of(draft(canvas={"groups": groups}))
    group = view["groups"]["g"]
    assert (group["nodes"], view["nodes"]["one"]["hidden"]) == (["one"], True)
    assert view["edges"]["|one.done|each|0"]["points"][0][0] == group["x"] + group["w"]


def test_an_approval_offers_the_ports_of_its_verbs() -> None:
    node = {"id": "ask", "kind": "approval", "verbs": ["approve", "reject"]}
    ports = view_of({"graph": {"nodes": [node]}})["nodes"]["ask"]["ports"]["out"]
    assert [port["name"] for port in ports] == ["approved", "rejected", "expired", "failed"]


def test_hand_placed_nodes_of_a_body_keep_their_places_to_one_another() -> None:
    placed = {"each/first": {"x": 500, "y": 900}, "each/second": {"x": 510, "y": 1100}}
    nodes = view_of(draft(layout=placed))["nodes"]
    first, second, around = nodes["each/first"], nodes["each/second"], nodes["each"]
    assert (second["x"] - first["x"], second["y"] - first["y"]) == (10, 200)
    assert around["y"] < first["y"] and second["y"] + second["h"] < around["y"] + around["h"]
