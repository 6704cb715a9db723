"""What the configuration keeps to itself."""

import stat
import traceback

import pytest

from mirrorneuron import datalock
from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.config import config, read_config, unknown_settings


@pytest.mark.parametrize(
    "name", ["MN_SMTP_URL", "DATABASE_URL", "BROKER_URL", "CHANNEL_URL", "MN_SECRET_KEY", "OPENAI_API_KEY"]
)
def test_a_wrong_secret_is_named_and_never_quoted(name):
    wrong = "oops://user:hunter2-hunter2@mail.example"
    try:
        read_config({name: wrong, "MN_LEASE_SECONDS": "many"})
    except ConfigurationError as error:
        told = "".join(traceback.format_exception(error))
    else:
        pytest.fail("a wrong value stops the start")
    assert "hunter2" not in told
    assert "MN_LEASE_SECONDS" in told


def test_data_folder_is_entered_by_its_owner_only(tmp_path, monkeypatch):
    monkeypatch.setattr(config(), "data", tmp_path / "new")
    config().folder("outbox")
    datalock.make_folder(tmp_path / "locked")
    for folder in (tmp_path / "new", tmp_path / "locked"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


SERVER = {"DATABASE_URL": "postgres://mn@db.example/mn"}


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({**SERVER, "MN_SECRET_KEY": "short"}, "MN_SECRET_KEY has 5 characters"),
        ({"MN_ALLOWED_HOSTS": "https://flows.example.org"}, "not a bare host name"),
        ({"MN_ALLOWED_HOSTS": "a.example, flows.example.org/"}, "not a bare host name"),
        ({"MN_ALLOWED_HOSTS": "flows.example.org:8000"}, "not a bare host name"),
        ({"MN_MAIL_FROM": "flows"}, "expected an address"),
        ({"MN_SECRET_KEY": "k" * 40, "MN_SECRET_KEY_FILE": "/run/key"}, "both set"),
    ],
)
def test_a_setting_that_cannot_be_meant_stops_the_start(environ, said):
    with pytest.raises(ConfigurationError, match=said) as error:
        read_config(environ)
    assert "k" * 40 not in str(error.value)


def test_settings_as_people_write_them_are_taken(tmp_path):
    key = tmp_path / "key"
    key.write_text("k" * 40 + "\n")
    read = read_config(
        {
            **SERVER,
            "MN_SECRET_KEY_FILE": str(key),
            "MN_SECRET_KEY": "",
            "MN_ALLOWED_HOSTS": "flows.example.org, .example.com, [::1], fd00::1, *",
            "MN_MAIL_FROM": "Flows <flows@example.org>",
        }
    )
    assert read.secret_key.get_secret_value() == "k" * 40
    assert read_config({"MN_SECRET_KEY": "short"}).is_sqlite, "a laptop may"


def test_unknown_setting_is_said_with_the_nearest_name():
    assert unknown_settings({"MN_ALOWED_HOSTS": "x", "MN_DATA": "x", "MN_TOKEN": "x", "PATH": "x"}) == [
        "MN_ALOWED_HOSTS is set, but there is no such setting; did you mean MN_ALLOWED_HOSTS?"
    ]
    assert unknown_settings({"MN_SECRET_KEY_FILE": "x", "MN_TEST_REDIS": "x"}) == []
    assert unknown_settings({"MN_QQ": "x"}) == ["MN_QQ is set, but there is no such setting."]


def test_folders_of_the_data_are_for_their_owner_only(tmp_path, monkeypatch):
    monkeypatch.setattr(config(), "data", tmp_path)
    assert stat.S_IMODE(config().folder("files").stat().st_mode) == 0o700
