"""What a picture shows for a node that many steps are of."""

from __future__ import annotations

from apps.runs.core.nodes import node_path, standing


def shown(*steps: tuple[str, str]) -> dict[str, tuple[str, str]]:
    given = [{"path": path, "status": status} for path, status in steps]
    return {node: (step["path"], step["status"]) for node, step in standing(given).items()}


def test_a_step_is_of_the_node_that_is_drawn() -> None:
    assert node_path("each[3]/again[2]/score[1]") == "each/again/score"
    assert node_path("each[3]/.") == node_path("send/undo") == ""


def test_of_several_rounds_the_latest_stands() -> None:
    assert shown(("draft", "failed"), ("draft[2]", "succeeded")) == {"draft": ("draft[2]", "succeeded")}


def test_a_map_stands_for_itself_and_not_for_its_last_item() -> None:
    found = shown(("each", "failed"), ("each[0]/.", "failed"), ("each[1]/.", "succeeded"))
    assert found == {"each": ("each", "failed")}


def test_of_several_items_the_one_that_wants_to_be_looked_at_stands() -> None:
    found = shown(
        ("each[0]/one", "succeeded"), ("each[1]/one", "failed"), ("each[2]/one", "succeeded"),
        ("each[1]/one[2]", "running"),
    )  # fmt: skip
    assert found == {"each/one": ("each[1]/one[2]", "running")}
