"""`mn runs retry`, `skip` and `fork`, in this process."""

import json

import pytest

from apps.runs.models import Run
from mirrorneuron.config import config
from tests.runs.engine import DIVIDE, work_all

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def failed(mn, tmp_path):
    file = tmp_path / "divide.yaml"
    file.write_text(DIVIDE)
    said = mn("run", file, "-i", "by=0", "--wait", "--json")
    assert said.code == 1, said
    return said.json["id"]


def test_a_preview_is_printed_and_changes_nothing(mn, failed):
    said = mn("runs", "retry", failed, "two", "--preview")
    assert said.code == 0, said
    assert "would be tried again" in said.out and "kept: one" in said.out
    assert Run.objects.get().status == "failed"


def worked():
    """On a laptop the command itself works on; on a server a worker does."""
    if not config().is_sqlite:
        work_all()


def test_a_step_is_skipped_and_the_run_ends_here(mn, failed):
    said = mn("runs", "skip", failed, "two", "--value", "5", "--reason", "by hand", "--json")
    assert said.code == 0, said
    worked()
    assert said.json["action"] == "skip"
    shown = mn("runs", "show", failed, "--json").json
    assert (shown["status"], shown["output"]) == ("succeeded", {"result": 6})


def test_a_retry_is_worked_here_and_fails_again(mn, failed):
    if not config().is_sqlite:
        pytest.skip("on a server a worker does it")
    said = mn("runs", "retry", failed, "two", "--reason", "perhaps now")
    assert said.code == 0 and "failed" in said.err


def test_a_fork_with_another_input_or_output(mn, failed, tmp_path):
    said = mn("runs", "fork", failed, "-i", "by=5", "--reason", "not by zero", "--json")
    assert said.code == 0, said
    worked()
    fork = mn("runs", "show", said.json["fork"], "--json").json
    assert (fork["output"], fork["forked_from"]) == ({"result": 3}, failed)
    value = tmp_path / "two.json"
    value.write_text("41")
    text = mn("runs", "fork", failed, "--edit-file", f"two={value}", "--reason", "known", "--key", "k")
    assert text.code == 0 and "kept with another output: two" in text.out, text
    again = mn("runs", "fork", failed, "--edit", "two=41", "--reason", "known", "--key", "k", "--json")
    worked()
    assert mn("runs", "show", again.json["fork"], "--json").json["output"] == {"result": 42}
    assert Run.objects.count() == 3


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["retry", "{id}", "two"], 2, "reason"),
        (["retry", "{id}", "one", "--reason", "x"], 1, "only a failed step"),
        (["skip", "{id}", "two", "--value", "1", "--value-file", "-", "--reason", "x"], 2, "not both"),
        (["fork", "{id}", "--edit", "two", "--reason", "x"], 2, "STEP=VALUE"),
        (["fork", "{id}", "--redo", "nope", "--reason", "x"], 1, "no step"),
        (["fork", "00000000-0000-0000-0000-000000000000", "--reason", "x"], 1, "no run"),
    ],
)
def test_what_cannot_be_done_has_a_code_and_words(mn, failed, args, code, says):
    said = mn("runs", *[a.format(id=failed) for a in args])
    assert said.code == code and says in said.err, said


def test_a_stranger_and_a_viewer_recover_nothing(mn, failed, charlie, workspace):
    from apps.workspaces.models import Membership, User

    vera = User.objects.create_user("vera@example.com", name="Vera")
    Membership.objects.create(workspace=workspace, user=vera, roles=["viewer"])
    for args in (["retry", failed, "two"], ["skip", failed, "two"], ["fork", failed]):
        assert mn("runs", *args, "--reason", "x", as_=charlie).code == 1
        assert mn("runs", *args, "--reason", "x", as_=vera).code == 4
    assert json.loads(mn("runs", "list", "--json").out)["items"][0]["status"] == "failed"
