"""A changed field becomes one operation; what stands around it is told, the field itself is left alone."""

from __future__ import annotations

import json
from html import unescape
from typing import Any
from urllib.parse import urlencode

import pytest
from django.test import Client

from apps.blueprints.models import Draft, DraftOperation
from apps.web.core.inspector.inputs import Input
from apps.workspaces.models import User
from tests.web.conftest import DEMO, ClientOf


@pytest.fixture
def drafted(gallery: list[str], alice: User, browser: ClientOf) -> str:
    """A blueprint of the workspace that came from the gallery."""
    browser(alice).post(f"/gallery/{DEMO}/run", {"key": "first"})
    return DEMO


def name_of(*path: str | int, aspect: str = "") -> str:
    return Input(tuple(path), "text", "", aspect=aspect).name


def source_of(name: str) -> str:
    return Draft.objects.get(blueprint__name=name, owner=None).source


def node_of(name: str) -> str:
    """A step of the draft with a title."""
    from apps.blueprints.core.parse import parse

    return str(parse(source_of(name)).data["graph"]["nodes"][0]["id"])


def change(client: Client, name: str, subject: dict[str, str], field: str, value: str, **more: str) -> Any:
    body = urlencode({"field": field, "value": value, **more})
    return client.patch(
        f"/blueprints/{name}/edit/field?{urlencode(subject)}",
        body,
        content_type="application/x-www-form-urlencoded",
        headers={"HX-Request": "true"},
    )


def seen(client: Client, name: str, subject: dict[str, str], field: str) -> str:
    """The value the form showed, as it comes back with a change."""
    html = client.get(f"/blueprints/{name}/edit/inspector?{urlencode(subject)}").content.decode()
    form = unescape(html.split(f'data-field="{_escaped(field)}"')[1].split("</form>")[0])
    return form.split('name="seen" value="')[1].split('">')[0].split('">')[0]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")


def test_a_typed_title_is_one_operation_and_the_field_stays(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    node = node_of(drafted)
    field = name_of("title")
    answer = change(
        client,
        drafted,
        {"node": node},
        field,
        "Read <b>all</b>",
        seen=seen(client, drafted, {"node": node}, field),
    )
    assert answer.status_code == 200
    told = json.loads(answer.headers["HX-Trigger"])["mn:applied"]
    assert told["version"] == 1 and told["patch"]["nodes"][node]["title"] == "Read <b>all</b>"
    html = answer.content.decode()
    assert 'hx-swap-oob="true"' in html and "<textarea" not in html and 'name="value"' not in html
    assert "Read <b>all</b>" in source_of(drafted)
    assert [row.kind for row in DraftOperation.objects.all()] == ["set_config"]


def test_the_same_value_again_is_no_operation(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    for _ in range(2):
        change(client, drafted, {"part": "contract"}, name_of("contract", "goal"), "Less work.")
    assert DraftOperation.objects.count() == 1


def test_what_cannot_be_read_is_said_at_the_field_and_not_kept(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    answer = change(client, drafted, {"node": node_of(drafted)}, name_of("timeout"), "soon", seen="")
    assert "“soon” is not a duration" in unescape(answer.content.decode())
    assert "HX-Trigger" not in answer.headers and not DraftOperation.objects.exists()


def test_what_breaks_a_rule_is_kept_and_said_at_the_field(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    answer = change(client, drafted, {"node": node_of(drafted)}, name_of("when"), "inputs.nowhere == 1")
    html = unescape(answer.content.decode())
    around = html.split(f'data-around="{name_of("when")}"')[1].split('class="around"')[0]
    assert 'class="error"' in around and "nowhere" in around
    assert "inputs.nowhere" in source_of(drafted)


def test_what_somebody_else_changed_meanwhile_is_asked_about(
    drafted: str, browser: ClientOf, alice: User, viewer: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    node, field = node_of(drafted), name_of("title")
    before = seen(client, drafted, {"node": node}, field)
    viewer.memberships.update(roles=["editor"])
    change(browser(viewer), drafted, {"node": node}, field, "Theirs", seen=before)
    mine = change(client, drafted, {"node": node}, field, "Mine", seen=before)
    said = unescape(mine.content.decode())
    assert "Vera changed" in said and "“Theirs”. Keep yours, “Mine”?" in said
    assert "Theirs" in source_of(drafted) and "Mine" not in source_of(drafted)
    change(client, drafted, {"node": node}, field, "Mine")
    assert "Mine" in source_of(drafted)


def test_another_tool_gives_another_form(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    made: Any = client.post("/blueprints/new", {"title": "Send"})
    name = made.headers["Location"].split("/")[2]
    add(client, name, {"id": "send", "kind": "tool"})
    answer = change(client, name, {"node": "send"}, name_of("tool"), '"send_email"', seen="")
    assert answer.headers["HX-Retarget"] == "closest .subject-form"
    html = unescape(answer.content.decode())
    assert f'data-field="{name_of("with", "to")}"' in html and "(needed)" in html


def add(client: Client, name: str, node: dict[str, Any]) -> None:
    client.get(f"/blueprints/{name}/edit")
    version = Draft.objects.get(blueprint__name=name).version
    done = client.post(
        f"/api/v1/blueprints/{name}/draft/ops",
        {
            "ops": [
                {
                    "op_id": "0d4d8a3e-2e0c-4a43-9f43-0000000000" + f"{version:02x}",
                    "kind": "add_node",
                    "scope": "",
                    "node": node,
                }
            ]
        },
        content_type="application/json",
        headers={"If-Match": f'"{version}"'},
    )
    assert done.status_code == 200, done.content


def test_renaming_a_step_follows_it(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    node = node_of(drafted)
    refused = change(client, drafted, {"node": node}, name_of("id", aspect="id"), "Not A Name")
    assert "lower-case letters" in refused.content.decode()
    answer = change(client, drafted, {"node": node}, name_of("id", aspect="id"), "first_step")
    assert 'data-node-path="first_step"' in answer.content.decode()
    assert f"steps.{node}." not in source_of(drafted) and "first_step" in source_of(drafted)


def test_entries_are_added_renamed_and_removed(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    here = f"/blueprints/{drafted}/edit/entry?part=models&bare=1"

    def press(**sent: str) -> Any:
        return client.post(here, sent, headers={"HX-Request": "true"})

    added = press(do="add", field=name_of("models"), key="best")
    assert "data-focus=" in added.content.decode() and "best:" in source_of(drafted)
    row = Input(("models", "best"), "group", "", aspect="row").name
    press(do="rename", field=row, key="finest")
    assert "finest:" in source_of(drafted) and "best:" not in source_of(drafted)
    again = press(do="add", field=name_of("models"), key="finest")
    assert "There is “finest” already" in unescape(again.content.decode())
    press(do="remove", field=Input(("models", "finest"), "group", "", aspect="row").name)
    assert "finest:" not in source_of(drafted)


def test_hostile_text_is_shown_as_text(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    bad = '"><script>alert(1)</script>{{ constructor }}'
    node = node_of_after_open(client, drafted)
    for field in (name_of("title"), name_of("notes"), name_of("when")):
        change(client, drafted, {"node": node}, field, bad)
    for address in ("?", "/inspector?", "?tab=contract&", "?tab=yaml&"):
        html = client.get(f"/blueprints/{drafted}/edit{address}node={node}").content.decode()
        assert "<script>alert" not in html


def node_of_after_open(client: Client, name: str) -> str:
    client.get(f"/blueprints/{name}/edit")
    return node_of(name)


def test_completion_names_what_comes_before_with_its_type(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    found = client.get(f"/blueprints/{drafted}/edit/names?node={node_of(drafted)}").json()["names"]
    assert {"inputs", "run.id"} <= {one["name"] for one in found}


def test_a_text_that_cannot_be_read_changes_nothing_and_comes_back(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    before = source_of(drafted)
    here = f"/blueprints/{drafted}/edit/source"
    state = client.get(here).json()
    page = client.post(here, {"text": before + "\n  bad: [", "old_hash": state["hash"]})
    assert page.status_code == 422 and "What you typed is still here" in page.content.decode()
    assert "bad: [" in page.content.decode() and source_of(drafted) == before
    said = client.post(
        here, {"text": "a: [", "old_hash": state["hash"]}, headers={"Accept": "application/json"}
    ).json()
    assert said["refused"] and said["text"] == before and said["problems"][0]["line"]


def test_a_text_is_taken_as_it_was_written(drafted: str, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.get(f"/blueprints/{drafted}/edit")
    here = f"/blueprints/{drafted}/edit/source"
    state = client.get(here).json()
    wanted = "# mine\n" + state["text"]
    # A textarea sends its lines with CR LF.
    sent = client.post(here, {"text": wanted.replace("\n", "\r\n"), "old_hash": state["hash"]})
    assert sent.status_code == 302 and source_of(drafted) == wanted
    stale = client.post(
        here,
        {"text": "# old\n" + state["text"], "old_hash": state["hash"]},
        headers={"Accept": "application/json"},
    ).json()
    assert stale["stale"] and stale["text"] == wanted


@pytest.mark.parametrize("method", ["field", "entry", "source", "inspector", "names", "inputs"])
def test_a_stranger_finds_nothing_behind_any_door(
    method: str, browser: ClientOf, alice: User, charlie: User
) -> None:
    made: Any = browser(alice).post("/blueprints/new", {"title": "Private"})
    name = made.headers["Location"].split("/")[2]
    client = browser(charlie)
    address = f"/blueprints/{name}/edit/{method}?part=contract"
    if method in ("field", "entry", "source"):
        assert (
            client.post(
                address, {"field": name_of("contract", "goal"), "value": "x", "text": "x"}
            ).status_code
            == 404
        )
    if method not in ("field", "entry"):
        assert client.get(address).status_code == 404


def test_a_viewer_reads_forms_without_fields_and_changes_nothing(
    drafted: str, browser: ClientOf, viewer: User, alice: User
) -> None:
    browser(alice).get(f"/blueprints/{drafted}/edit")
    client = browser(viewer)
    html = client.get(f"/blueprints/{drafted}/edit?node={node_of(drafted)}").content.decode()
    assert "hx-patch" not in html and 'data-testid="add-' not in html
    refused = change(client, drafted, {"part": "contract"}, name_of("contract", "goal"), "Mine")
    assert refused.status_code == 403
    assert client.post(f"/blueprints/{drafted}/edit/source", {"text": "a: 1"}).status_code == 403
    assert not DraftOperation.objects.exists()


def test_a_gallery_blueprint_is_not_changed(gallery: list[str], browser: ClientOf, alice: User) -> None:
    answer = change(browser(alice), DEMO, {"part": "contract"}, name_of("contract", "goal"), "x")
    assert answer.status_code == 404


def test_opening_the_editor_costs_a_few_queries(
    drafted: str, browser: ClientOf, alice: User, django_assert_max_num_queries: Any
) -> None:
    client = browser(alice)
    node = node_of_after_open(client, drafted)
    with django_assert_max_num_queries(16):
        client.get(f"/blueprints/{drafted}/edit?node={node}")
    with django_assert_max_num_queries(12):
        client.get(f"/blueprints/{drafted}/edit/inspector?node={node}")


def test_the_inputs_tab_shows_the_form_people_will_see(drafted: str, browser: ClientOf, alice: User) -> None:
    html = browser(alice).get(f"/blueprints/{drafted}/edit?tab=inputs").content.decode()
    assert 'data-testid="inputs-preview"' in html and "inert" in html and 'name="in.' in html


def test_the_tools_tab_says_in_words_what_may_happen(drafted: str, browser: ClientOf, alice: User) -> None:
    html = unescape(browser(alice).get(f"/blueprints/{drafted}/edit?tab=tools").content.decode())
    assert 'data-testid="tool-line"' in html and "reads; changes nothing" in html and "allows it" in html


def test_a_line_has_a_form_and_several_steps_have_their_common_actions(
    drafted: str, browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    view = client.get(f"/blueprints/{drafted}/edit").context["view"]
    edge = next(iter(view["edges"]))
    html = client.get(f"/blueprints/{drafted}/edit/inspector?{urlencode({'edge': edge})}").content.decode()
    assert "Taken when" in html and "Rounds at most" in html
    change(client, drafted, {"edge": edge}, name_of("label"), "all is well")
    assert [row.kind for row in DraftOperation.objects.all()] == ["set_edge"]
    assert "label: all is well" in source_of(drafted)
    two = "&".join(urlencode({"node": path}) for path in list(view["nodes"])[:2])
    several = client.get(f"/blueprints/{drafted}/edit/inspector?{two}").content.decode()
    assert "2 steps selected" in several
    gone = client.get(f"/blueprints/{drafted}/edit/inspector?node=nowhere").content.decode()
    assert "is not in the draft any more" in gone


def test_what_is_missing_is_said_at_its_own_field(browser: ClientOf, alice: User) -> None:
    """It stood at the head of the form, as words of YAML, and an agent could be chosen from an empty list."""
    client = browser(alice)
    client.post("/blueprints/new", {"title": "Mail"})
    nodes = "[{id: think, kind: agent}, {id: send, kind: tool, tool: send_email}]"
    client.get("/blueprints/mail/edit")
    state = client.get("/blueprints/mail/edit/source").json()
    text = f"metadata: {{name: mail}}\ngraph:\n  nodes: {nodes}\n"
    client.post("/blueprints/mail/edit/source", {"text": text, "old_hash": state["hash"]})
    for step, field, words in (
        ("think", name_of("agent"), "has no agent"),
        ("think", name_of("prompt"), "has no prompt"),
        ("send", name_of("with", "to"), 'needs the argument "to"'),
    ):
        html = unescape(client.get(f"/blueprints/mail/edit/inspector?node={step}").content.decode())
        around = html.split(f'data-around="{field}"')[1].split('class="around"')[0]
        assert words in around and "Add to: with" not in around, around
        assert ('data-testid="nothing-to-choose"' in html) is (step == "think")
        head = html.split('class="subject-problems"')[1].split("</div>")[0]
        assert words not in head
