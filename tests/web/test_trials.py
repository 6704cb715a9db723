"""Testing a draft through its page: choose, start, see, pin."""

from __future__ import annotations

from html import unescape
from typing import Any

import pytest

from apps.blueprints import services
from apps.blueprints.core.editing.operations import operation
from apps.blueprints.draft_log import apply_operations
from apps.blueprints.drafts import draft_for
from apps.blueprints.models import Pin, Version
from apps.runs.models import Run
from apps.workspaces.models import Membership, User, Workspace
from mirrorneuron.base.ids import uuid7
from tests.blueprints.drafting import write
from tests.runs.engine import DIVIDE, work_all
from tests.web.conftest import ClientOf

pytestmark = pytest.mark.django_db
AT = "/blueprints/divide/test"


@pytest.fixture
def divide(alice: User, principal: Any) -> Any:
    owner = principal(alice)
    services.import_blueprint(owner, DIVIDE)
    return owner


def read(client: Any, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.content.decode()[:2000]
    return unescape(answer.content.decode())


def test_a_test_is_chosen_started_and_shown_on_the_draft(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    page = read(client, f"{AT}?kind=upto&node=two")
    assert "draft 0, up to two" in page and 'name="in.by"' in page
    client.post(AT, {"kind": "upto", "node": "two", "in.by": "2", "key": "k"})
    work_all()

    run = Run.objects.get()
    assert run.labels == {"test": "draft 0, up to two"} and run.simulate and run.status == "succeeded"
    page = read(client, AT)
    assert 'data-node-id="two" data-state="succeeded"' in page
    assert 'data-node-id="three" data-state' not in page
    assert "Test: draft 0, up to two" in read(client, f"/runs/{run.id}")


def test_an_earlier_test_can_be_shown_on_the_draft(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    for node in ("one", "two"):
        client.post(AT, {"kind": "upto", "node": node, "in.by": "2", "key": node})
        work_all()
    first, second = Run.objects.order_by("id")
    latest = client.get(f"{AT}/overlay").json()
    assert (latest["run"], latest["running"], latest["seq"]) == (str(second.id), False, second.seq)
    assert "two" in latest["nodes"]
    earlier = client.get(f"{AT}/overlay?run={first.id}").json()
    assert earlier["run"] == str(first.id) and earlier["nodes"].keys() == {"one"}
    page = read(client, "/blueprints/divide/edit")
    assert f'<option value="{first.id}">draft 0, up to one,' in page and 'value="none"' in page


def test_the_form_begins_with_what_was_given_last_time(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    assert 'value="7"' not in read(client, AT)
    client.post(AT, {"kind": "whole", "in.by": "7", "key": "k"})
    assert 'value="7"' in read(client, AT)


def test_files_given_last_time_need_not_be_given_again(
    gallery: list[str], browser: ClientOf, alice: User
) -> None:
    client = browser(alice)
    client.post("/gallery/invoice_reconciliation/run", {"key": "first"})
    page = read(client, "/blueprints/invoice_reconciliation/test")
    file = Run.objects.get().inputs["invoices"]
    assert f'name="in.invoices.kept" value="{file["id"]}"' in page
    period = Run.objects.get().inputs["period"]
    form = {"kind": "upto", "node": "match", "key": "k", "in.period": period}
    form |= {f"in.{n}.kept": Run.objects.get().inputs[n]["id"] for n in ("invoices", "payments")}
    assert client.post("/blueprints/invoice_reconciliation/test", form).status_code == 302
    assert Run.objects.filter(labels__test__startswith="draft 0").get().inputs["invoices"] == file


def test_a_test_can_be_watched_on_the_canvas(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    answer: Any = client.post(AT, {"kind": "upto", "node": "one", "key": "k", "then": "editor"})
    assert answer.headers["Location"] == f"/blueprints/divide/edit?test={Run.objects.get().id}"
    page = read(client, answer.headers["Location"])
    assert 'data-overlay="/blueprints/divide/test/overlay"' in page


def test_a_missing_input_is_said_at_its_field(divide: Any, browser: ClientOf, alice: User) -> None:
    answer = browser(alice).post(AT, {"kind": "whole", "key": "k"})
    assert answer.status_code == 422 and not Run.objects.exists()


def test_a_step_alone_without_data_says_what_it_lacks(divide: Any, browser: ClientOf, alice: User) -> None:
    page = read(browser(alice), f"{AT}?kind=only&node=three")
    assert "needs what two made" in page and 'data-testid="trial-form"' not in page


def test_pins_are_written_used_and_removed(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.post("/blueprints/divide/pins", {"node": "two", "output": "41"})
    page = read(client, f"{AT}?kind=only&node=three")
    assert "This test needs no inputs" in page and 'data-testid="pins"' in page
    client.post(AT, {"kind": "only", "node": "three", "key": "k"})
    work_all()
    assert Run.objects.get().steps.get(path="three").output == 42
    client.post("/blueprints/divide/pins", {"verb": "remove", "node": "two"})
    assert not Pin.objects.exists()


@pytest.mark.parametrize(
    "given",
    [
        {"node": "two", "output": "{"},
        {"node": "two", "output": "[" * 50_000},
        {"node": "nobody", "output": "1"},
    ],
)
def test_a_pin_that_cannot_be_is_refused_and_kept_in_the_form(
    given: dict[str, str], divide: Any, browser: ClientOf, alice: User
) -> None:
    answer = browser(alice).post("/blueprints/divide/pins", given)
    assert answer.status_code == 422 and given["output"] in unescape(answer.content.decode())
    assert not Pin.objects.exists()


def test_steps_edited_after_the_test_are_marked(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.post(AT, {"kind": "whole", "in.by": "2", "key": "k"})
    work_all()
    source = draft_for(divide, "divide").source
    write(divide, "divide", source.replace("steps.two.output + 1", "steps.two.output + 2"))
    page = read(client, AT)
    assert 'data-node-id="three" data-state="succeeded" data-stale="true"' in page
    assert 'data-node-id="two" data-state="succeeded" data-stale' not in page
    told = client.get("/blueprints/divide/test/overlay").json()
    assert told["nodes"]["three"]["stale"] is True


def test_tests_leave_no_trace_among_versions_and_records(divide: Any, browser: ClientOf, alice: User) -> None:
    client = browser(alice)
    client.post(AT, {"kind": "upto", "node": "one", "key": "k"})
    work_all()
    assert Version.objects.filter(is_trial=True).count() == 1
    assert "No runs yet" in read(client, "/blueprints")
    assert draft_for(divide, "divide").source == DIVIDE


def test_an_editor_tests_simulated_only_and_a_stranger_not_at_all(
    divide: Any, browser: ClientOf, charlie: User, viewer: User, workspace: Workspace
) -> None:
    erin = User.objects.create_user("erin@example.com", name="Erin")
    Membership.objects.create(workspace=workspace, user=erin, roles=["editor"])
    form = {"kind": "whole", "in.by": "2"}
    assert browser(erin).post(AT, {**form, "effects": "real", "key": "1"}).status_code == 403
    assert browser(erin).post(AT, {**form, "key": "2"}).status_code == 302
    assert browser(viewer).get(AT).status_code == 403
    stranger = browser(charlie)
    assert stranger.get(AT).status_code == 404 and stranger.post(AT, form).status_code == 404
    assert stranger.post("/blueprints/divide/pins", {"node": "two", "output": "1"}).status_code == 404
    assert Run.objects.count() == 1


def test_a_test_of_ones_own_draft_is_ones_own(divide: Any, browser: ClientOf, alice: User) -> None:
    own = f"{AT}?private=1"
    mine = draft_for(divide, "divide", private=True)
    op = operation(
        {"op_id": str(uuid7()), "kind": "set_config", "node": "two", "path": ["title"], "new": "Only mine"}
    )
    apply_operations(divide, "divide", [op], seen_version=mine.version, private=True)
    client = browser(alice)
    page = read(client, f"{own}&kind=whole")
    assert "Test your own draft" in page and "own draft 1, all of it" in page and "Only mine" in page
    assert "Only mine" not in read(client, AT)

    answer: Any = client.post(own, {"kind": "whole", "in.by": "2", "key": "k"})
    assert answer.headers["Location"] == f"{own}#result"
    work_all()
    run = Run.objects.get()
    assert run.status == "succeeded" and run.labels["test"] == "own draft 1, all of it"
    titles = {node["id"]: node.get("title") for node in run.version.document["graph"]["nodes"]}
    assert titles["two"] == "Only mine"

    # On that draft it is the latest test; on the shared one there is none.
    assert client.get(f"{AT}/overlay?private=1").json()["nodes"]["two"]["state"] == "succeeded"
    assert client.get(f"{AT}/overlay").json()["run"] is None
    inspector = read(client, "/blueprints/divide/edit/inspector?node=two&private=1")
    assert "/blueprints/divide/test?kind=upto&node=two&private=1" in inspector

    # Pins are shared; those of a step that only the own draft has are taken there.
    client.post("/blueprints/divide/pins?private=1", {"verb": "load", "run": str(run.id), "node": "two"})
    assert Pin.objects.get().node == "two"


def test_nobody_tests_the_own_draft_of_another(
    divide: Any, browser: ClientOf, alice: User, viewer: User
) -> None:
    draft_for(divide, "divide", private=True)
    browser(alice).post(f"{AT}?private=1", {"kind": "whole", "in.by": "2", "key": "k"})
    assert browser(viewer).get(f"{AT}?private=1").status_code == 403
    assert browser(viewer).get(f"{AT}/overlay?private=1").status_code == 403
