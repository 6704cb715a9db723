"""Drafts in the database: one log without gaps, everybody's own undo, private drafts, and rivals."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, connections

from apps.blueprints import draft_log, draft_merging, draft_texts, drafts, services
from apps.blueprints.core.editing.apply import Applied, apply
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.core.editing.spans import read
from apps.blueprints.core.editing.splices import Splice, apply_splices
from apps.blueprints.core.parse import parse
from apps.blueprints.errors import BlueprintArchived, DraftConflict, NothingToUndo, StateNotFound, UndoRefused
from apps.blueprints.models import Draft, DraftOperation
from apps.workspaces.access import Principal
from apps.workspaces.models import AuditEntry, Membership, User
from mirrorneuron.base.errors import Forbidden, InvalidInput
from tests.api.conftest import SOURCE

pytestmark = pytest.mark.django_db
PrincipalOf = Callable[..., Principal]


@pytest.fixture
def hers(alice: User, principal: PrincipalOf) -> Principal:
    who = principal(alice)
    services.import_blueprint(who, SOURCE)
    return who


@pytest.fixture
def his(hers: Principal, bob: User, principal: PrincipalOf) -> Principal:
    Membership.objects.filter(user=bob).update(roles=["editor"])
    return principal(bob)


def do(
    who: Principal, kind: str, *, private: bool = False, group: str = "", **fields: Any
) -> draft_log.Outcome:
    op = operation({"op_id": str(uuid.uuid4()), "kind": kind, **fields})
    version = drafts.draft_for(who, "greet", private=private).version
    return draft_log.apply_operations(
        who, "greet", [op], seen_version=version, private=private, undo_group=group
    )


def goal(who: Principal, new: str, **more: Any) -> draft_log.Outcome:
    return do(who, "set_contract", path=["contract", "goal"], old=said(who, **more), new=new, **more)


def said(who: Principal, private: bool = False) -> Any:
    draft = drafts.draft_for(who, "greet", private=private)
    return parse(draft.source).data["contract"].get("goal")


def text(who: Principal, private: bool = False) -> str:
    return drafts.draft_for(who, "greet", private=private).source


def add(who: Principal, node: str, **more: Any) -> draft_log.Outcome:
    return do(who, "add_node", node={"id": node, "kind": "transform"}, **more)


def later(outcome: draft_log.Outcome, seconds: float = 3) -> draft_log.Outcome:
    """As if it had been done so long ago."""
    for row in outcome.rows:
        DraftOperation.objects.filter(pk=row.pk).update(at=row.at - timedelta(seconds=seconds))
    return outcome


def test_a_draft_nobody_touched_follows_the_newest_version(hers: Principal) -> None:
    assert text(hers) == SOURCE
    better = SOURCE.replace("Say hello.", "Say hello well.")
    services.publish(hers, "greet", better)
    assert text(hers) == better
    goal(hers, "Mine.")
    services.publish(hers, "greet", SOURCE.replace("Say hello.", "Later."))
    assert said(hers) == "Mine."


def test_all_operations_of_a_batch_or_none(hers: Principal) -> None:
    ops = [
        operation({"op_id": str(uuid.uuid4()), "kind": "add_node", "node": {"id": node, "kind": "transform"}})
        for node in ("one", "hello")
    ]
    with pytest.raises(DraftConflict) as caught:
        draft_log.apply_operations(hers, "greet", ops, seen_version=0)
    assert caught.value.conflicts[0]["op_id"] == str(ops[1].op_id)
    assert (text(hers), DraftOperation.objects.count()) == (SOURCE, 0)


def test_a_repeat_among_fresh_operations_is_not_done_again(hers: Principal) -> None:
    first = operation(
        {"op_id": str(uuid.uuid4()), "kind": "add_node", "node": {"id": "one", "kind": "transform"}}
    )
    second = operation(
        {"op_id": str(uuid.uuid4()), "kind": "add_node", "node": {"id": "two", "kind": "transform"}}
    )
    draft_log.apply_operations(hers, "greet", [first], seen_version=0)
    done = draft_log.apply_operations(hers, "greet", [first, second], seen_version=0)
    assert [row.seq for row in done.rows] == [1, 2]
    assert text(hers).count("id: one") == 1


def test_a_version_that_does_not_exist_is_a_conflict(hers: Principal) -> None:
    op = operation({"op_id": str(uuid.uuid4()), "kind": "remove_node", "node": "bye"})
    with pytest.raises(DraftConflict):
        draft_log.apply_operations(hers, "greet", [op], seen_version=7)


def test_an_archived_blueprint_keeps_its_draft_as_it_is(hers: Principal) -> None:
    services.archive(hers, "greet")
    with pytest.raises(BlueprintArchived):
        add(hers, "one")


def test_who_may_only_read_changes_nothing(hers: Principal, bob: User, principal: PrincipalOf) -> None:
    reader = principal(bob)
    for call in (
        lambda: add(reader, "one"),
        lambda: draft_log.undo(reader, "greet"),
        lambda: draft_log.redo(reader, "greet"),
        lambda: draft_log.tidy(reader, "greet"),
        lambda: draft_log.name_state(reader, "greet", "x"),
        lambda: draft_log.restore(reader, "greet", seq=0),
        lambda: draft_merging.merge(reader, "greet"),
        lambda: drafts.draft_for(reader, "greet", private=True),
    ):
        with pytest.raises(Forbidden):
            call()
    assert text(reader) == SOURCE


# --- undo -----------------------------------------------------------------------------------------------


def test_typing_on_in_a_field_is_one_step_and_a_pause_begins_another(hers: Principal) -> None:
    later(goal(hers, "S"))
    goal(hers, "Sa")
    goal(hers, "Say")
    done = draft_log.undo(hers, "greet")
    assert (said(hers), len(done.rows)) == ("S", 2)
    draft_log.redo(hers, "greet")
    assert said(hers) == "Say"
    draft_log.undo(hers, "greet")
    draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE


def test_a_choice_is_a_step_of_its_own_however_quickly_it_is_made(hers: Principal) -> None:
    do(hers, "set_config", node="bye", path=["notes"], new="polite")
    do(hers, "set_config", node="bye", path=["notes"], old="polite", new={"text": "polite"})
    do(hers, "set_config", node="bye", path=["notes"], old={"text": "polite"}, new=True)
    draft_log.undo(hers, "greet")
    draft_log.undo(hers, "greet")
    assert "polite" in text(hers) and "{" not in text(hers).partition("polite")[0].rpartition("notes")[2]
    draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE


def test_another_field_in_between_begins_another_step(hers: Principal) -> None:
    goal(hers, "S")
    do(hers, "set_config", node="bye", path=["title"], new="x")
    goal(hers, "Sa")
    draft_log.undo(hers, "greet")
    assert said(hers) == "S"


def test_a_group_is_undone_as_a_whole_also_when_it_came_in_several_calls(hers: Principal) -> None:
    add(hers, "one", group="paste")
    add(hers, "two", group="paste")
    assert len(draft_log.undo(hers, "greet").undone) == 2
    assert text(hers) == SOURCE
    draft_log.redo(hers, "greet")
    assert "two" in text(hers) and "one" in text(hers)


def test_everybody_undoes_their_own_whatever_the_order(hers: Principal, his: Principal) -> None:
    add(hers, "a1")
    add(his, "b1")
    add(hers, "a2")
    add(his, "b2")
    draft_log.undo(hers, "greet")
    draft_log.undo(hers, "greet")
    assert [n["id"] for n in parse(text(hers)).data["graph"]["nodes"]][3:] == ["b1", "b2"]
    draft_log.undo(his, "greet")
    draft_log.redo(hers, "greet")
    assert {n["id"] for n in parse(text(hers)).data["graph"]["nodes"]} - {"hello", "ask", "bye"} == {
        "a1",
        "b1",
    }
    with pytest.raises(NothingToUndo):
        for _ in range(3):
            draft_log.undo(his, "greet")
    assert {n["id"] for n in parse(text(hers)).data["graph"]["nodes"]} - {"hello", "ask", "bye"} == {"a1"}


def test_a_step_that_others_build_upon_is_not_taken_away(hers: Principal, his: Principal) -> None:
    add(hers, "one")
    do(his, "add_edge", edge={"from": "bye", "to": "one"})
    with pytest.raises(UndoRefused, match="bye → one"):
        draft_log.undo(hers, "greet")
    draft_log.undo(his, "greet")
    draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE


def test_the_first_of_a_list_can_be_taken_back_when_others_have_added_a_second(
    hers: Principal, his: Principal
) -> None:
    for node in ("hello", "ask", "bye"):
        do(his, "remove_node", node=node)
    add(hers, "one")
    do(hers, "add_edge", edge={"from": "one", "to": "one", "max_rounds": 2})
    do(his, "add_node", node={"id": "two", "kind": "transform"}, edge={"from": "two", "to": "two"})
    draft_log.undo(hers, "greet")
    draft_log.undo(hers, "greet")
    graph = parse(text(hers)).data["graph"]
    assert ([n["id"] for n in graph["nodes"]], graph["edges"]) == (["two"], [{"from": "two", "to": "two"}])
    draft_log.redo(hers, "greet")
    draft_log.redo(hers, "greet")
    assert {n["id"] for n in parse(text(hers)).data["graph"]["nodes"]} == {"one", "two"}
    with pytest.raises(NothingToUndo):
        draft_log.redo(hers, "greet")


def test_a_node_that_others_have_changed_is_not_taken_away(hers: Principal, his: Principal) -> None:
    add(hers, "one")
    do(his, "set_config", node="one", path=["title"], new="His")
    with pytest.raises(UndoRefused, match="Bob has changed"):
        draft_log.undo(hers, "greet")
    assert "His" in text(hers)


def test_an_edge_that_others_have_labelled_is_not_taken_away(hers: Principal, his: Principal) -> None:
    do(hers, "add_edge", edge={"from": "ask.rejected", "to": "bye"})
    do(his, "set_edge", edge={"from": "ask.rejected", "to": "bye"}, path=["label"], new="no")
    with pytest.raises(UndoRefused, match="Bob has changed"):
        draft_log.undo(hers, "greet")


def test_an_id_that_was_taken_meanwhile_keeps_a_removed_node_away(hers: Principal, his: Principal) -> None:
    do(hers, "remove_node", node="bye")
    add(his, "bye")
    with pytest.raises(UndoRefused):
        draft_log.undo(hers, "greet")


def test_what_was_changed_and_changed_back_is_no_obstacle(hers: Principal, his: Principal) -> None:
    goal(hers, "Hers.")
    goal(his, "His.")
    goal(his, "Hers.")
    draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE


def test_after_a_new_step_there_is_nothing_to_do_again(hers: Principal) -> None:
    add(hers, "one")
    draft_log.undo(hers, "greet")
    add(hers, "two")
    with pytest.raises(NothingToUndo):
        draft_log.redo(hers, "greet")


# --- states, tidy, restore ------------------------------------------------------------------------------


def test_tidy_gives_places_and_is_one_step(hers: Principal) -> None:
    before = parse(SOURCE).data
    draft_log.tidy(hers, "greet")
    data = parse(text(hers)).data
    assert set(data["layout"]) == {"hello", "ask", "bye"}
    assert {k: v for k, v in data.items() if k != "layout"} == before
    draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE


def test_tidy_can_leave_what_was_placed_by_hand(hers: Principal) -> None:
    do(hers, "move_nodes", positions={"ask": {"x": 777, "y": 555}})
    draft_log.tidy(hers, "greet", keep_placed=True)
    assert parse(text(hers)).data["layout"]["ask"] == {"x": 777, "y": 555}
    draft_log.tidy(hers, "greet")
    assert parse(text(hers)).data["layout"]["ask"] != {"x": 777, "y": 555}


def test_a_named_state_an_operation_and_a_version_can_be_come_back_to(hers: Principal) -> None:
    add(hers, "one")
    state = draft_log.name_state(hers, "greet", " With  one ")
    named = text(hers)
    add(hers, "two")
    draft_log.restore(hers, "greet", seq=0)
    assert text(hers) == SOURCE
    draft_log.restore(hers, "greet", state=state.id)
    assert (text(hers), state.title) == (named, "With one")
    draft_log.restore(hers, "greet", version=1)
    assert text(hers) == SOURCE
    draft_log.undo(hers, "greet")
    assert text(hers) == named
    assert AuditEntry.objects.filter(action="draft.restored").count() == 3
    with pytest.raises(StateNotFound):
        draft_log.restore(hers, "greet", seq=99)
    with pytest.raises(StateNotFound):
        draft_log.restore(hers, "greet", state=uuid.uuid4())
    with pytest.raises(InvalidInput):
        draft_log.restore(hers, "greet", seq=1, version=1)


# --- private drafts -------------------------------------------------------------------------------------


def test_a_private_draft_stays_private_until_it_is_merged(hers: Principal, his: Principal) -> None:
    add(hers, "mine", private=True)
    add(his, "theirs")
    assert "mine" not in text(his)
    assert "mine" not in text(his, private=True)
    done, conflicts = draft_merging.merge(hers, "greet")
    assert (conflicts, len(done.rows)) == ([], 1)
    assert "theirs" in text(his) and "mine" in text(his)
    assert AuditEntry.objects.filter(action="draft.merged").exists()
    draft_log.undo(hers, "greet")
    assert "theirs" in text(his) and "mine" not in text(his)
    with pytest.raises(StateNotFound):
        draft_merging.merge(hers, "greet")


def test_conflicts_of_a_merge_are_listed_and_may_be_left_out(hers: Principal, his: Principal) -> None:
    add(hers, "mine", private=True)
    goal(hers, "Hers.", private=True)
    goal(his, "His.")
    with pytest.raises(DraftConflict) as caught:
        draft_merging.merge(hers, "greet")
    assert [(c["theirs"], c["mine"]) for c in caught.value.conflicts] == [("His.", "Hers.")]
    assert "mine" not in text(his)
    _, skipped = draft_merging.merge(hers, "greet", skip_conflicts=True)
    assert len(skipped) == 1
    assert (said(his), "mine" in text(his)) == ("His.", True)


def test_what_was_undone_in_private_is_not_merged(hers: Principal) -> None:
    goal(hers, "Never.", private=True)
    draft_log.undo(hers, "greet", private=True)
    add(hers, "mine", private=True)
    draft_merging.merge(hers, "greet")
    assert said(hers) == "Say hello." and "mine" in text(hers)


def test_a_private_text_is_merged_where_others_have_not_been(hers: Principal, his: Principal) -> None:
    do(hers, "set_source", private=True, text=SOURCE.replace("Say hello.", "Hers."))
    add(his, "theirs")
    draft_merging.merge(hers, "greet")
    assert said(his) == "Hers." and "theirs" in text(his)
    do(hers, "set_source", private=True, text=text(hers).replace("Hers.", "Again."))
    goal(his, "His.")
    with pytest.raises(DraftConflict):
        draft_merging.merge(hers, "greet")


# --- the log as a whole ---------------------------------------------------------------------------------


def _random_change(rng: random.Random, source: str) -> dict[str, Any]:
    data = parse(source).data
    nodes = [n["id"] for n in data["graph"]["nodes"]]
    new = f"n{rng.randrange(40)}"
    if not nodes:
        return {"kind": "add_node", "node": {"id": new, "kind": "transform"}}
    node = rng.choice(nodes)
    edges = [(e["from"], e["to"]) for e in data["graph"]["edges"]] or [("x", "y")]
    source_, to = rng.choice(edges)
    return rng.choice(
        [
            {"kind": "add_node", "node": {"id": new, "kind": "transform"}, "edge": {"from": node, "to": new}},
            {"kind": "remove_node", "node": node},
            {"kind": "rename", "node": node, "to": f"r{rng.randrange(40)}"},
            {"kind": "move_nodes", "positions": {node: {"x": rng.randrange(900), "y": rng.randrange(900)}}},
            {"kind": "set_config", "node": node, "path": ["title"], "new": f"Title {rng.random()}"},
            {"kind": "set_config", "node": node, "path": ["notes"], "new": "two\nlines"},
            {"kind": "add_edge", "edge": {"from": node, "to": rng.choice(nodes)}},
            {"kind": "remove_edge", "edge": {"from": source_, "to": to}},
            {
                "kind": "set_edge",
                "edge": {"from": source_, "to": to},
                "path": ["label"],
                "new": f"{rng.random()}",
            },
            {"kind": "group", "title": "G", "nodes": [node]},
        ]
    )


def test_a_long_story_of_two_is_one_log_that_can_be_played_both_ways(hers: Principal, his: Principal) -> None:
    rng = random.Random(4)
    refused = 0
    for _ in range(150):
        who = rng.choice([hers, his])
        try:
            match rng.randrange(6):
                case 0:
                    draft_log.undo(who, "greet")
                case 1:
                    draft_log.redo(who, "greet")
                case _:
                    do(who, **_random_change(rng, text(who)))
        except (DraftConflict, UndoRefused, NothingToUndo):
            refused += 1
    draft = Draft.objects.get()
    rows = list(draft.operations.order_by("seq"))
    assert [row.seq for row in rows] == list(range(1, draft.version + 1)) and len(rows) > 60 and refused
    # Backwards, to the byte.
    back = draft.source
    for row in reversed(rows):
        back = apply_splices(back, [Splice(*s) for s in row.inverse])
    assert back == SOURCE == draft_texts.source_at(draft, 0)
    # Forwards, from what the log says was done.
    source = read(SOURCE)
    for row in rows:
        if "splices" in row.payload:
            source = read(apply_splices(source.text, [Splice(*s) for s in row.payload["splices"]]))
        else:
            again = apply(source, operation({"op_id": row.op_id, "kind": row.kind, **row.payload}))
            assert isinstance(again, Applied)
            source = again.source
    assert source.text == draft.source
    assert parse(draft.source).readable


def test_one_editor_who_undoes_everything_has_the_first_byte_back(hers: Principal) -> None:
    rng = random.Random(7)
    for _ in range(60):
        try:
            later(do(hers, **_random_change(rng, text(hers))))
        except DraftConflict:
            continue
    assert text(hers) != SOURCE
    with pytest.raises(NothingToUndo):
        for _ in range(100):
            draft_log.undo(hers, "greet")
    assert text(hers) == SOURCE
    with pytest.raises(NothingToUndo):
        for _ in range(100):
            draft_log.redo(hers, "greet")
    assert text(hers) != SOURCE


@pytest.mark.django_db(transaction=True)
def test_rivals_leave_one_log_without_gaps_and_nobody_loses_anything(hers: Principal, his: Principal) -> None:
    together = 4 if connection.vendor == "postgresql" else 2
    start = threading.Barrier(together)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            start.wait()
            for step in range(5):
                add((hers, his)[number % 2], f"w{number}_{step}")
        except BaseException as error:
            failed.append(error)
        finally:
            connections.close_all()

    drafts.draft_for(hers, "greet")
    threads = [threading.Thread(target=work, args=(n,)) for n in range(together)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    draft = Draft.objects.get()
    assert sorted(draft.operations.values_list("seq", flat=True)) == list(range(1, 5 * together + 1))
    ids = {n["id"] for n in parse(draft.source).data["graph"]["nodes"]}
    assert {f"w{n}_{s}" for n in range(together) for s in range(5)} <= ids


@pytest.mark.django_db(transaction=True)
def test_the_same_operation_sent_twice_at_once_is_done_once(hers: Principal) -> None:
    op = operation(
        {"op_id": str(uuid.uuid4()), "kind": "add_node", "node": {"id": "one", "kind": "transform"}}
    )
    start = threading.Barrier(2)
    found: list[Any] = []

    def work() -> None:
        try:
            start.wait()
            found.append(draft_log.apply_operations(hers, "greet", [op], seen_version=0).rows[0].seq)
        except BaseException as error:
            found.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1, 1]


@pytest.mark.django_db(transaction=True)
def test_two_who_open_a_draft_at_once_open_the_same(hers: Principal, his: Principal) -> None:
    start = threading.Barrier(2)
    found: list[Any] = []

    def work(who: Principal) -> None:
        try:
            start.wait()
            found.append(drafts.draft_for(who, "greet").id)
        except BaseException as error:
            found.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=work, args=(who,)) for who in (hers, his)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and found[0] == Draft.objects.get().id
