"""Steps inside maps and loops are shown under them, and called by where they are."""

from __future__ import annotations

from apps.web.core import tree


def step(path, round=1):
    return {"path": path, "round": round}


def test_passes_and_their_steps_come_under_their_container_in_order():
    steps = [
        step("first"), step("each"), step("each[1]/price"), step("each[0]/price"), step("last"),
        step("each[1]/.", 1), step("each[0]/.", 0), step("each[0]/again"), step("each[0]/again[1]/."),
        step("each[0]/again[1]/x"),
    ]  # fmt: skip
    assert [s["path"] for s in tree.ordered(steps)] == [
        "first", "each", "each[0]/.", "each[0]/price", "each[0]/again", "each[0]/again[1]/.",
        "each[0]/again[1]/x", "each[1]/.", "each[1]/price", "last",
    ]  # fmt: skip


def test_nothing_is_lost_when_its_container_is_not_shown():
    assert [s["path"] for s in tree.ordered([step("gone[0]/a")])] == ["gone[0]/a"]


def test_depth_counts_items_and_what_is_in_them():
    paths = ["a", "a[2]", "each[0]/.", "each[0]/a", "each[0]/again[1]/.", "each[0]/again[1]/x"]
    assert [tree.depth_of(p) for p in paths] == [0, 0, 1, 2, 3, 4]


def test_a_step_is_called_by_where_it_is():
    titles = {"each": "Every order", "again": "Until good", "x": "Try", "price": "Price"}
    kinds = {"each": "map", "again": "loop"}
    assert tree.named("price", titles, kinds) == "Price"
    assert tree.named("each[0]/.", titles, kinds) == "Item 1 of Every order"
    assert tree.named("each[2]/price", titles, kinds) == "Price, item 3 of Every order"
    assert (
        tree.named("each[0]/again[4]/x", titles, kinds) == "Try, round 4 of Until good, item 1 of Every order"
    )
