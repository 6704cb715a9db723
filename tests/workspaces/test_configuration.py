"""What the configuration keeps to itself."""

import stat
import traceback

import pytest

from mirrorneuron import datalock
from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.config import config, read_config


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
