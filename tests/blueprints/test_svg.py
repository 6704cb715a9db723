"""The picture: well-formed whatever the titles are, readable without colour, allowed by a strict policy."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from apps.blueprints.core.diff import diff, union
from apps.blueprints.core.document import Graph
from apps.blueprints.core.svg import STATE_WORDS, describe, render_svg
from apps.blueprints.core.svg_style import STYLE
from apps.runs.core.states import StepStatus

from .graphs import chain, document, edge, graphs, node

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '</title><script>alert(1)</script>"onload="x" \x00\x1b\ud800 & \'<'


def parse(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def groups(svg: str) -> dict[str, ElementTree.Element]:
    return {g.attrib["data-node-id"]: g for g in parse(svg).iter(f"{SVG}g") if "data-node-id" in g.attrib}


@settings(max_examples=80)
@given(graphs())
def test_any_graph_gives_well_formed_xml_without_styles_or_scripts(graph: Graph) -> None:
    for density in ("full", "thumbnail"):
        svg = render_svg(document(graph), {"n0": "running"}, density=density, href=lambda path: f"#{path}")
        for element in parse(svg).iter():
            assert element.tag != f"{SVG}script"
            assert not {"style", "onload", "onclick"} & set(element.attrib)


def test_hostile_titles_stay_text() -> None:
    graph = Graph(nodes=[node("a", title=HOSTILE), node("b")], edges=[edge("a", "b", label=HOSTILE)])
    svg = render_svg(
        document(graph),
        {"a": HOSTILE},
        titles={"b": HOSTILE},
        href=lambda path: HOSTILE,
        step_paths={"a": HOSTILE},
    )

    assert "<script" not in svg
    assert not any("onload" in element.attrib for element in parse(svg).iter())
    assert "alert(1)" in "".join(parse(svg).itertext())


def test_every_node_says_what_it_is_and_how_it_stands() -> None:
    graph = Graph(nodes=[node("send", title="Send the e-mail", tool="send_email"), node("ask", "approval")])
    svg = render_svg(
        document(graph), {"send": "succeeded", "ask": "waiting:approval"}, step_paths={"ask": "ask[2]"}
    )
    found = groups(svg)

    assert found["send"].attrib["data-state"] == "succeeded"
    assert {"mn-node", "mn-kind-tool", "mn-state-succeeded", "mn-boundary-external_write"} <= set(
        found["send"].attrib["class"].split()
    )
    assert found["ask"].attrib["data-state"] == "waiting"
    assert found["ask"].attrib["data-step-path"] == "ask[2]"
    title = found["send"].find(f"{SVG}title")
    assert title is not None
    assert title.text == "Send the e-mail, tool · send_email, changes something outside, done"
    assert "needs a person" in "".join(found["ask"].itertext())
    assert found["ask"].find(f".//{SVG}path[@class='mn-mark']") is not None


@pytest.mark.parametrize("status", list(StepStatus))
def test_every_state_of_a_step_has_a_word_and_a_sign(status: StepStatus) -> None:
    svg = render_svg(document(chain("a")), {"a": status})
    has_sign = groups(svg)["a"].find(f".//{SVG}path[@class='mn-mark']") is not None

    assert has_sign is (status is not StepStatus.BLOCKED)
    assert (status in STATE_WORDS) is has_sign
    assert status is StepStatus.BLOCKED or f".mn-state-{status}" in STYLE


def test_a_plan_has_no_states_and_a_run_has_one_for_every_node() -> None:
    assert "data-state" not in render_svg(document(chain("a", "b")))
    assert {g.attrib["data-state"] for g in groups(render_svg(document(chain("a", "b")), {})).values()} == {
        "blocked"
    }


def test_ways_not_taken_fade_and_ways_taken_stand_out() -> None:
    graph = Graph(
        nodes=[node("c", "check"), node("yes"), node("no")],
        edges=[edge("c.pass", "yes"), edge("c.fail", "no")],
    )
    svg = render_svg(document(graph), {"c": "succeeded", "yes": "running", "no": "skipped"})
    lines = {
        g.attrib["data-edge"]: g.attrib["class"]
        for g in parse(svg).iter(f"{SVG}g")
        if "data-edge" in g.attrib
    }

    assert "mn-taken" in lines["c.pass yes"]
    assert "mn-unused" in lines["c.fail no"]


def test_links_make_a_group_that_can_be_walked_by_keyboard() -> None:
    svg = render_svg(document(chain("a", "b")), href=lambda path: f"?step={path}&x" if path == "a" else None)
    root = parse(svg)
    links = list(root.iter(f"{SVG}a"))

    assert root.attrib["role"] == "group"
    assert [a.attrib["href"] for a in links] == ["?step=a&x"]
    assert links[0].attrib["aria-label"].startswith("A, tool")


def test_the_picture_is_described_in_words() -> None:
    graph = Graph(nodes=[node("a", title="Write to {{ inputs.company }}"), node("b_c")])

    assert describe(document(graph), {"a": "failed"}) == "Sample: 2 steps. Write to ‹company› (failed), B c."
    assert parse(render_svg(document(graph))).attrib["role"] == "img"


def test_long_titles_are_cut_and_whole_in_the_title() -> None:
    long = "A title that goes on and on until nobody can read it any more on such a small card"
    svg = render_svg(document(Graph(nodes=[node("a", title=long)])))
    shown = [t.text or "" for t in groups(svg)["a"].findall(f"{SVG}text") if t.attrib["class"] == "mn-title"]

    assert len(shown) == 2
    assert shown[1].endswith("…")
    assert long in svg


def test_a_title_without_spaces_is_broken_anywhere() -> None:
    svg = render_svg(document(Graph(nodes=[node("a", title="入力された顧客の質問に対する回答を作成")])))
    shown = [t.text or "" for t in groups(svg)["a"].findall(f"{SVG}text") if t.attrib["class"] == "mn-title"]

    assert len(shown) == 2
    assert len(shown[0]) > 5


def test_only_a_picture_that_travels_alone_carries_its_style() -> None:
    assert "<style>" not in render_svg(document(chain("a")))
    assert STYLE in (parse(render_svg(document(chain("a")), standalone=True)).findtext(f"{SVG}style") or "")


def test_the_page_and_the_lone_picture_share_one_style_sheet() -> None:
    sheet = Path(__file__).parents[2] / "static" / "src" / "css" / "graph.css"

    assert sheet.read_text(encoding="utf-8") == STYLE
    classes = set(re.findall(r"\.(mn-[a-z_-]+)", STYLE))
    assert {"mn-card", "mn-title", "mn-edge", "mn-arrow", "mn-taken", "mn-unused", "mn-selected"} <= classes


def test_a_thumbnail_has_no_text_but_titles() -> None:
    svg = render_svg(document(chain("a", "b")), density="thumbnail")

    assert f"{SVG}text" not in {element.tag for element in parse(svg).iter()}
    assert len(groups(svg)) == 2


def test_a_difference_is_drawn_with_what_was_removed_and_said_in_words() -> None:
    before = document(Graph(nodes=[node("a"), node("b")], edges=[edge("a", "b")]))
    after = document(Graph(nodes=[node("a", title="Look"), node("c")], edges=[edge("a", "c")]))

    drawn = render_svg(union(before, after), marks=diff(before, after).marks())

    words = {n: re.search(rf'data-node-id="{n}".*?<title>(.*?)</title>', drawn)[1] for n in "abc"}  # type: ignore[index]
    assert [words[n].rpartition(", ")[2] for n in "abc"] == ["changed", "gone", "new"]
    assert drawn.count("mn-diff-removed") == 2 and "a → b, done (gone)" in drawn
