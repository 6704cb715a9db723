"""Parts of a draft as blueprints of their own: valid, no larger than asked, never past a person."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.blueprints.core import canonical
from apps.blueprints.core.boundaries import all_nodes
from apps.blueprints.core.document import Document, Graph
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.trial import PINNED, Aim, Given, NotTestable, derive, one_of, stale, touches_outside
from apps.blueprints.core.validate import validate
from tests.blueprints.graphs import document, edge, graphs, node
from tests.blueprints.samples import BLUEPRINT, TOOLS, changed

SAMPLE = Document.model_validate(BLUEPRINT)
ANY = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
BODY = {"body": "Hello", "summary": "Hi", "size": 5}


def kinds(found: Document) -> dict[str, str]:
    return {path: one.kind for path, one in all_nodes(found.graph)}


def errors(found: Document) -> list[str]:
    checked = validate(canonical.stored(found), TOOLS)
    return [f"{p.path}: {p.message}" for p in checked.errors]


def test_the_whole_without_data_is_the_draft_itself_but_for_its_title() -> None:
    trial = derive(SAMPLE, Aim(), {})
    same = trial.document.model_copy(update={"metadata": SAMPLE.metadata, "layout": SAMPLE.layout})
    assert canonical.content_hash(same) == canonical.content_hash(SAMPLE)
    assert trial.document.metadata.title == "Follow up (test: all of it)"


def test_up_to_a_step_ends_with_it_and_leaves_out_what_comes_after() -> None:
    trial = derive(SAMPLE, Aim("upto", "draft"), {})
    assert list(kinds(trial.document)) == ["search", "draft"]
    assert not trial.document.outputs and not errors(trial.document)
    assert trial.asks_for_inputs


def test_up_to_an_approval_asks_a_person_and_proposes_nothing_that_is_not_there() -> None:
    trial = derive(SAMPLE, Aim("upto", "approve"), {})
    assert list(kinds(trial.document)) == ["search", "draft", "approve"]
    assert not errors(trial.document)


def test_a_step_alone_gets_what_it_needs_from_data() -> None:
    trial = derive(SAMPLE, Aim("only", "approve"), {"draft": Given(BODY)})
    assert kinds(trial.document) == {"draft": "transform", "approve": "approval"}
    assert trial.data == {"draft": BODY} and trial.runs == ("approve",)
    assert not errors(trial.document)


def test_a_step_alone_says_whose_data_it_lacks() -> None:
    with pytest.raises(NotTestable) as refused:
        derive(SAMPLE, Aim("only", "approve"), {})
    assert (refused.value.code, refused.value.missing) == ("data_missing", ("draft",))


def test_a_person_is_never_replaced_by_data() -> None:
    everything = {path: Given({"approved": True}) for path, _ in all_nodes(SAMPLE.graph)}
    for aim in (Aim("upto", "send"), Aim("only", "send")):
        found = derive(SAMPLE, aim, everything).document
        assert kinds(found)["approve"] == "approval"
        assert [(e.from_, e.to) for e in found.graph.edges if e.to == "send"] == [
            ("approve.approved", "send")
        ]


def test_what_only_feeds_replaced_steps_does_not_run() -> None:
    trial = derive(SAMPLE, Aim("upto", "approve"), {"draft": Given(BODY)})
    assert trial.runs == ("approve",)
    assert not errors(trial.document)


def test_data_that_left_by_one_port_does_not_open_the_others() -> None:
    graph = Graph(
        nodes=[
            node("pick", "router", routes=[{"name": "big", "when": "inputs.x"}]),
            node("a", "transform", output=1),
            node("b", "transform", output="{{ steps.a.output }}"),
            node("c", "transform", output=2),
        ],
        edges=[edge("pick.big", "a"), edge("a", "b"), edge("pick.else", "c")],
    )
    trial = derive(document(graph), Aim(), {"pick": Given({}, "else")})
    assert list(kinds(trial.document)) == ["pick", "c"]


def test_what_stands_in_the_data_is_never_evaluated() -> None:
    trial = derive(SAMPLE, Aim("only", "approve"), {"draft": Given({"body": "{{ inputs.secret }}"})})
    (pinned,) = [one for one in trial.document.graph.nodes if one.id == "draft"]
    assert pinned.output == '{{ inputs.pinned["draft"] }}'
    assert PINNED in trial.document.contract.inputs["required"]


def test_a_part_that_reads_no_inputs_asks_for_none() -> None:
    graph = Graph(
        nodes=[node("a", "transform", output=1), node("b", "transform", output="{{ steps.a.output }}")],
        edges=[edge("a", "b")],
    )
    needy = document(graph).model_copy(update={"contract": SAMPLE.contract})
    assert not derive(needy, Aim("only", "b"), {"a": Given(2)}).asks_for_inputs


def mapped() -> Document:
    body = {"nodes": [{"id": "score", "kind": "transform", "output": "{{ item * steps.base.output }}"},
                      {"id": "file", "kind": "transform", "output": "{{ steps.score.output }}"}],
            "edges": [{"from": "score", "to": "file"}]}  # fmt: skip
    graph = Graph(
        nodes=[
            node("base", "transform", output=3),
            node("each", "map", items="{{ inputs.list }}", body=body),
            node("end", "transform", output="{{ steps.each.output }}"),
        ],
        edges=[edge("base", "each"), edge("each", "end")],
    )
    return document(graph)


def test_one_item_of_a_map_runs_the_body_once() -> None:
    trial = derive(mapped(), Aim("item", "each", 2), {"base": Given(3)})
    assert trial.document.node("each").items == "{{ [(inputs.list)[2]] }}"  # type: ignore[union-attr]
    assert trial.runs == ("each", "each/score", "each/file")


def test_one_item_without_data_runs_what_leads_to_the_map() -> None:
    assert derive(mapped(), Aim("item", "each"), {}).runs == ("base", "each", "each/score", "each/file")


def test_a_step_inside_a_map_alone_takes_one_item_and_its_neighbours_data() -> None:
    trial = derive(mapped(), Aim("only", "each/file"), {"base": Given(3), "each/score": Given(6)})
    assert trial.data == {"base": 3, "each/score": 6}
    assert trial.runs == ("each", "each/file")


@pytest.mark.parametrize(
    ("items", "one"),
    [
        ([1, 2, 3], [2]),
        ("{{ inputs.a }}", "{{ [(inputs.a)[1]] }}"),
        ("inputs.a + inputs.b", "{{ [(inputs.a + inputs.b)[1]] }}"),
    ],
)
def test_items_are_cut_to_one(items: Any, one: Any) -> None:
    assert one_of(items, 1) == one


@pytest.mark.parametrize(
    "aim", [Aim("upto", "nobody"), Aim("only", "draft/x"), Aim("item", "draft"), Aim("upto")]
)
def test_a_step_that_is_not_there_is_said(aim: Aim) -> None:
    with pytest.raises(NotTestable):
        derive(SAMPLE, aim, {})


def test_given_data_must_not_reach_a_write() -> None:
    assert touches_outside(derive(SAMPLE, Aim("only", "send"), {"draft": Given(BODY)}), TOOLS) == ["send"]
    assert not touches_outside(derive(SAMPLE, Aim("only", "approve"), {"draft": Given(BODY)}), TOOLS)


@ANY
@given(graphs(), st.data())
def test_a_part_has_no_step_that_the_draft_has_not_and_starts_nowhere_new(graph: Graph, data: Any) -> None:
    drawn = document(graph)
    nodes = dict(all_nodes(graph))
    paths = [p for p in nodes if "/" not in p]
    if not paths:
        return
    target = data.draw(st.sampled_from(paths))
    pins = {p: Given(1) for p in data.draw(st.sets(st.sampled_from(paths)))}

    try:
        trial = derive(drawn, Aim("upto", target), pins)
    except NotTestable as refused:
        assert (pins or Shape(graph).cycles) and refused.code == "not_reached"
        return

    found = kinds(trial.document)
    assert set(found) <= set(nodes) and target in found
    assert all(found[p] == nodes[p].kind for p in trial.runs)
    replaced = set(trial.data)
    assert replaced <= set(pins) and not any(nodes[p].kind == "approval" for p in replaced)
    old, new = Shape(graph), Shape(trial.document.graph)
    assert set(new.roots) <= set(old.roots) | replaced | {target}


# --- stale ------------------------------------------------------------------------------------------------


def test_a_result_is_stale_when_its_step_or_what_it_uses_has_changed() -> None:
    paths = [path for path, _ in all_nodes(SAMPLE.graph)]
    assert stale(SAMPLE, SAMPLE, paths) == set()

    agent = Document.model_validate(
        changed(lambda d: d["agents"]["writer"].update(instructions="Differently."))
    )
    assert stale(agent, SAMPLE, paths) == {"draft"}
    prompt = Document.model_validate(changed(lambda d: d["graph"]["nodes"][1].update(prompt="Another.")))
    assert stale(prompt, SAMPLE, paths) == {"draft"}
    title = Document.model_validate(changed(lambda d: d["metadata"].update(title="Another")))
    assert stale(title, SAMPLE, paths) == set()
