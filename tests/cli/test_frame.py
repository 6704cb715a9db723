import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from apps.workspaces.models import ApiToken, User
from mirrorneuron.base.errors import ConfigurationError, Forbidden, InvalidInput, NotFound
from mirrorneuron.cli import COMMANDS, main
from mirrorneuron.cli.frame import exit_code, settle_data, table
from mirrorneuron.config import config

ROOT = Path(__file__).resolve().parents[2]


def _process(*args, **environ):
    """The real program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "mirrorneuron.cli", *args],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**{k: v for k, v in os.environ.items() if k != "DATABASE_URL"}, **environ},
    )


def test_help_lists_every_command_without_loading_django():
    code = (
        "import sys; from mirrorneuron.cli import main\n"
        "try: main(['--help'])\n"
        "finally: print('django.db' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert all(f"\n  {name} " in done.stdout for name in COMMANDS)
    assert done.stderr.strip().endswith("False")


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "bench"])
def test_every_command_takes_json_and_data(name):
    command = main.get_command(click.Context(main), name)
    for leaf in command.commands.values() if isinstance(command, click.Group) else [command]:
        options = {option for parameter in leaf.params for option in parameter.opts}
        assert {"--json", "--data", "--as", "--workspace"} <= options, leaf.name


@pytest.mark.parametrize(
    ("error", "code"),
    [(Forbidden("no"), 4), (InvalidInput("no"), 2), (NotFound("no"), 1), (ConfigurationError("no"), 1)],
)
def test_exit_code_tells_kinds_of_failure_apart(error, code):
    assert exit_code(error) == code


def test_wrong_use_exits_2():
    for args in (["nothing"], ["runs", "nothing"], ["token", "create"], ["runs", "list", "--status", "odd"]):
        assert CliRunner().invoke(main, args).exit_code == 2


def test_data_folder_is_known_before_anything_is_loaded(monkeypatch):
    monkeypatch.setenv("MN_DATA", "before")
    for args in (["runs", "list", "--data", "a"], ["--data=a", "runs"], ["runs", "--", "--data", "b"]):
        settle_data(args)
        assert os.environ["MN_DATA"] == "a"


def test_wrong_setting_is_one_sentence_and_names_it(tmp_path):
    done = _process("token", "list", MN_DATA=str(tmp_path), MN_LEASE_SECONDS="never")
    assert done.returncode == 1 and done.stdout == ""
    assert "MN_LEASE_SECONDS" in done.stderr and "'never'" in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 1


def test_wrong_setting_with_json_is_one_document(tmp_path):
    done = _process("token", "list", "--json", MN_DATA=str(tmp_path), DATABASE_URL="mysql://x")
    assert json.loads(done.stdout)["error"]["code"] == "configuration"
    assert "mysql" not in done.stderr  # an address may hold a password


def test_unwritable_data_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    done = _process("token", "list", "--data", str(tmp_path / "file" / "x"))
    assert done.returncode == 1 and "cannot be written" in done.stderr and "--data" in done.stderr


def test_unforeseen_error_is_a_sentence_and_a_traceback_only_on_request(monkeypatch):
    def broken():
        raise KeyError("odd")

    monkeypatch.setattr("mirrorneuron.cli.people.acting", broken)
    said = CliRunner().invoke(main, ["token", "list"])
    assert said.exit_code == 1 and "KeyError" in said.stderr and "MN_DEBUG=1" in said.stderr
    asked = CliRunner().invoke(main, ["token", "list"], env={"MN_DEBUG": "1"})
    assert isinstance(asked.exception, KeyError)


def test_table_keeps_columns_and_cuts_long_cells():
    lines = table([["a", "x" * 100], ["long", None]], ("one", "two"), "nothing").splitlines()
    assert lines[1].startswith("a     x") and lines[1].endswith("…") and len(lines[1]) == 66
    assert table([], ("one",), "nothing") == "nothing"


@pytest.mark.django_db
class TestPeople:
    def test_token_is_shown_once_and_works(self, mn, alice):
        made = mn(
            "token", "create", "ci", "--scope", "viewer", "--days", 3, "--as", alice.email, "--json"
        ).json
        assert made["token"].startswith("mn_") and made["scopes"] == ["viewer"]
        assert made["token"] not in mn("token", "list", "--json").out
        assert mn("token", "revoke", made["id"], MN_TOKEN=made["token"]).code == 0
        assert "revoked" in mn("token", "list", MN_TOKEN=made["token"]).err

    @pytest.fixture(autouse=True)
    def address(self, monkeypatch):
        monkeypatch.setattr(config(), "base_url", "https://mn.example.com")

    def test_person_gets_a_link_and_a_role(self, mn, workspace):
        said = mn(
            "user", "add", "dora@example.com", "--workspace", workspace.slug, "--role", "operator", "--json",
        ).json  # fmt: skip
        assert said["sign_in"].startswith("https://mn.example.com/sign-in/") and said["roles"] == ["operator"]
        assert User.objects.get(email="dora@example.com").memberships.get().workspace == workspace

    def test_first_person_of_a_new_workspace_owns_it(self, mn):
        assert mn("user", "add", "dora@example.com", "--workspace", "new", "--json").json["roles"] == [
            "owner"
        ]

    def test_token_of_somebody_else_is_not_mixed_with_as(self, mn, alice):
        said = mn("token", "list", "--as", "bob@example.com")
        assert said.code == 1 and alice.email in said.err

    def test_invented_token_is_refused(self, mn):
        said = mn("token", "list", MN_TOKEN="mn_invented")
        assert said.code == 1 and "not a valid token" in said.err

    def test_laptop_owner_acts_without_a_token(self, mn):
        if "sqlite" not in os.environ.get("DATABASE_URL", "sqlite"):
            pytest.skip("a server asks for a token")
        assert CliRunner().invoke(main, ["token", "create", "x"]).exit_code == 0
        assert ApiToken.objects.get().user.email == "owner@localhost"


def test_unknown_setting_is_said_beside_the_result(mn):
    said = mn("runs", "list", "--json", MN_ALOWED_HOSTS="x")
    assert said.code == 0 and said.json["items"] == []
    assert said.err.count("did you mean MN_ALLOWED_HOSTS?") == 1


def test_worker_refuses_a_data_folder_it_cannot_write(mn, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("mirrorneuron.cli.frame.config", lambda: config())
    monkeypatch.setattr(config(), "data", tmp_path / "file" / "data")
    said = mn("worker")
    assert said.code == 1 and "cannot be written" in said.err
