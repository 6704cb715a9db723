"""The draft through the door: versions, repeats, conflicts, undo, and who may."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from apps.blueprints.core.editing.patch import patched
from apps.blueprints.models import Draft, DraftOperation
from apps.blueprints.services import import_blueprint
from apps.workspaces.models import Membership, User
from tests.api.conftest import SOURCE, Caller, CallerOf

pytestmark = pytest.mark.django_db
DRAFT = "/blueprints/greet/draft"


def op(kind: str, **fields: Any) -> dict[str, Any]:
    return {"op_id": str(uuid.uuid4()), "kind": kind, **fields}


def titled(old: str | None, new: str, node: str = "ask") -> dict[str, Any]:
    return op("set_config", node=node, path=["title"], new=new) | ({"old": old} if old is not None else {})


ASKED = "Greet {{ inputs.name }}?"


@pytest.fixture
def blueprint(alice: User, principal: Callable[..., Any]) -> None:
    import_blueprint(principal(alice), SOURCE)


@pytest.fixture
def hers(blueprint: None, alice: User, caller: CallerOf) -> Caller:
    return caller(alice)


@pytest.fixture
def his(blueprint: None, bob: User, caller: CallerOf) -> Caller:
    Membership.objects.filter(user=bob).update(roles=["editor"])
    return caller(bob)


def send(caller: Caller, version: int, *ops: dict[str, Any], **more: Any) -> Any:
    return caller.post(f"{DRAFT}/ops", {"ops": list(ops), **more}, If_Match=f'"{version}"')


def test_a_draft_is_there_as_soon_as_somebody_looks(hers: Caller) -> None:
    answer = hers.get(DRAFT)
    body = answer.json()
    assert (answer.status_code, answer.headers["ETag"], body["version"]) == (200, '"0"', 0)
    assert body["source"] == SOURCE
    assert set(body["view"]["nodes"]) == {"hello", "ask", "bye"}


def test_a_batch_changes_only_its_places_and_says_what_the_picture_becomes(hers: Caller) -> None:
    answer = send(
        hers,
        0,
        titled(ASKED, "Shall we?"),
        op("add_node", node={"id": "log", "kind": "transform"}, edge={"from": "bye", "to": "log"}),
    )
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["version"], answer.headers["ETag"]) == (2, '"2"')
    assert [row["kind"] for row in body["ops"]] == ["set_config", "add_node"]
    assert (body["patch"]["from_version"], body["patch"]["to_version"]) == (0, 2)
    assert set(body["patch"]["nodes"]) >= {"ask", "log"}
    source = Draft.objects.get().source
    assert source.startswith("# A small blueprint.\n")
    assert (
        source.replace('"Shall we?"', f'"{ASKED}"')
        .replace("\n    - {id: log, kind: transform}", "")
        .replace("\n    - {from: bye, to: log}", "")
        == SOURCE
    )


def test_what_is_sent_twice_is_done_once(hers: Caller) -> None:
    change = titled(ASKED, "Shall we?")
    first, again = send(hers, 0, change), send(hers, 0, change)
    assert again.status_code == 200
    assert (again.json()["version"], again.json()["ops"]) == (1, first.json()["ops"])
    assert DraftOperation.objects.count() == 1


def test_without_the_version_nothing_is_done(hers: Caller) -> None:
    answer = hers.post(f"{DRAFT}/ops", {"ops": [titled(ASKED, "Shall we?")]})
    assert (answer.status_code, answer.json()["code"]) == (428, "if_match_missing")
    assert not DraftOperation.objects.exists()


def test_a_stale_version_does_no_harm_where_nothing_was_changed(hers: Caller, his: Caller) -> None:
    assert send(hers, 0, titled(ASKED, "Shall we?")).status_code == 200
    answer = send(his, 0, titled(None, "Farewell", node="bye"))
    assert (answer.status_code, answer.json()["version"]) == (200, 2)
    assert (answer.json()["patch"]["from_version"], answer.json()["patch"]["to_version"]) == (0, 2)


def test_a_conflict_shows_both_values_and_what_happened_and_does_nothing(hers: Caller, his: Caller) -> None:
    send(hers, 0, titled(ASKED, "Hers"))
    other, mine = titled(None, "Farewell", node="bye"), titled(ASKED, "His")
    answer = send(his, 0, other, mine)
    body = answer.json()
    assert (answer.status_code, body["code"], body["version"]) == (409, "draft_conflict", 1)
    assert body["conflict"] == {
        "op_id": mine["op_id"],
        "kind": "set_config",
        "message": 'title of "ask" has been changed meanwhile.',
        "theirs": "Hers",
        "mine": "His",
    }
    assert [row["new"] for row in body["ops_since"]] == ["Hers"]
    assert body["patch"]["to_version"] == 1
    assert DraftOperation.objects.count() == 1


def test_undo_is_each_persons_own_and_redo_brings_it_back(hers: Caller, his: Caller) -> None:
    first = titled(ASKED, "Hers")
    send(hers, 0, first)
    send(his, 1, titled(None, "His", node="bye"))
    answer = hers.post(f"{DRAFT}/undo", If_Match='"2"')
    assert (answer.status_code, answer.json()["undone"]) == (200, first["op_id"])
    assert "His" in Draft.objects.get().source and "Hers" not in Draft.objects.get().source
    assert hers.post(f"{DRAFT}/undo").json()["code"] == "nothing_to_undo"
    assert hers.post(f"{DRAFT}/redo").status_code == 200
    assert "Hers" in Draft.objects.get().source
    assert hers.post(f"{DRAFT}/redo").json()["code"] == "nothing_to_undo"


def test_undo_says_who_has_changed_it_since(hers: Caller, his: Caller) -> None:
    send(hers, 0, titled(ASKED, "Hers"))
    send(his, 1, titled("Hers", "His"))
    answer = hers.post(f"{DRAFT}/undo")
    assert (answer.status_code, answer.json()["code"]) == (409, "undo_refused")
    assert answer.json()["detail"].startswith("Bob has changed the same place since")


def test_a_stranger_finds_nothing_and_a_reader_may_not_write(
    hers: Caller, bob: User, charlie: User, caller: CallerOf
) -> None:
    Membership.objects.filter(user=bob).update(roles=["viewer"])
    reader, stranger = caller(bob), caller(charlie)
    assert reader.get(DRAFT).status_code == 200
    assert send(reader, 0, titled(ASKED, "Mine")).status_code == 403
    for path in ("undo", "redo", "tidy", "merge"):
        assert reader.post(f"{DRAFT}/{path}").status_code == 403
        assert stranger.post(f"{DRAFT}/{path}").status_code == 404
    assert reader.get(f"{DRAFT}?private=true").status_code == 403
    assert stranger.get(DRAFT).status_code == 404
    assert send(stranger, 0, titled(ASKED, "Mine")).status_code == 404
    assert not DraftOperation.objects.exists()


def test_a_text_of_ten_megabytes_is_refused_at_the_door(hers: Caller) -> None:
    huge = send(hers, 0, op("set_source", text="x" * 10_000_000))
    assert huge.status_code in (409, 413)
    assert huge.json()["code"] in ("draft_conflict", "too_large")
    assert not DraftOperation.objects.exists()


def test_scripts_in_titles_prompts_and_notes_come_back_as_text(hers: Caller) -> None:
    script = "</script><script>alert(1)</script>"
    note = op("set_layout", path=["canvas", "notes", "n1"], new={"text": script, "x": 1, "y": 2})
    answer = send(hers, 0, titled(ASKED, script), note)
    assert answer.status_code == 200
    body = hers.get(DRAFT).json()
    assert body["view"]["nodes"]["ask"]["title"] == script
    assert body["document"]["canvas"]["notes"]["n1"]["text"] == script


def test_an_operation_nobody_knows_is_named(hers: Caller) -> None:
    answer = send(hers, 0, op("explode"))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert "ops[0]" in answer.json()["detail"]


class Page:
    """Knows only what answers told it: applies patches, and reads again when there is none."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller
        self.read_again = 0
        self.read()

    def read(self) -> None:
        self.view: dict[str, Any] = self.caller.get(DRAFT).json()["view"]
        self.read_again += 1

    def send(self, change: dict[str, Any], *, answer_is_lost: bool) -> None:
        answer = send(self.caller, self.view["version"], change)
        if answer_is_lost:
            answer = send(self.caller, self.view["version"], change)
        assert answer.status_code in (200, 409), answer.content
        self.take(answer.json())

    def take(self, body: dict[str, Any]) -> None:
        if body.get("patch") is None:
            self.read()
        else:
            self.view = patched(self.view, body["patch"])


def test_two_pages_end_with_the_picture_the_server_has(hers: Caller, his: Caller) -> None:
    rng = random.Random(11)
    pages = [Page(hers), Page(his)]
    for step in range(70):
        page = rng.choice(pages)
        nodes = [*page.view["nodes"], "gone"]
        node, other = rng.choice(nodes), rng.choice(nodes)
        change = rng.choice(
            [
                op(
                    "add_node",
                    node={"id": f"n{step}", "kind": "transform"},
                    edge={"from": node, "to": f"n{step}"},
                ),
                op("remove_node", node=node),
                op("move_nodes", positions={node: {"x": rng.randrange(900), "y": rng.randrange(900)}}),
                op("rename", node=node, to=f"r{step}"),
                op("add_edge", edge={"from": node, "to": other}),
                op("set_config", node=node, path=["title"], new=f"Title {step}"),
                op("group", title="Together", nodes=[node]),
            ]
        )
        if rng.randrange(5) == 0:
            answer = page.caller.post(f"{DRAFT}/undo", If_Match=f'"{page.view["version"]}"')
            if answer.status_code == 200:
                page.take(answer.json())
        else:
            page.send(change, answer_is_lost=rng.randrange(4) == 0)
    assert DraftOperation.objects.count() > 30
    server = hers.get(DRAFT).json()["view"]
    for page in pages:
        # An operation that changes nothing, to hear what the other page did last.
        page.send(op("set_layout", path=["layout", "nobody"]), answer_is_lost=False)
        assert page.view["nodes"] == server["nodes"] and page.view["edges"] == server["edges"]
        assert page.view["groups"] == server["groups"]
        assert page.read_again == 1
