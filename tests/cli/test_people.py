"""`mn user`: how people come back to a server."""

from __future__ import annotations

import pytest

from mirrorneuron import datalock
from mirrorneuron.cli import address
from mirrorneuron.config import config

pytestmark = pytest.mark.django_db
GOOD = "a long sentence nobody guesses 7"


def test_password_is_asked_twice_and_signs_the_person_in(mn, bob):
    said = mn("user", "password", bob.email, input=f"{GOOD}\n{GOOD}\n")
    assert said.code == 0 and GOOD not in said.out, said
    bob.refresh_from_db()
    assert bob.check_password(GOOD)


def test_password_comes_from_a_file(mn, bob, tmp_path):
    (tmp_path / "password").write_text(GOOD + "\n")
    said = mn("user", "password", bob.email, "--password-file", tmp_path / "password", "--json")
    assert said.json == {"email": bob.email}
    bob.refresh_from_db()
    assert bob.check_password(GOOD)


def test_weak_password_and_unknown_person_are_refused(mn, bob):
    said = mn("user", "password", bob.email, "--password-file", "-", input="12345\n")
    assert said.code == 2 and "too weak" in said.err
    assert mn("user", "password", "nobody@example.com", "--password-file", "-", input=GOOD).code == 1


def test_a_link_leads_to_the_port_that_mn_up_listens_on(mn, bob, tmp_path, monkeypatch):
    """It led to port 8000, wherever `mn up --port` was."""
    settings = config().model_copy(update={"data": tmp_path, "base_url": "", "database_url": ""})
    monkeypatch.setattr(address, "config", lambda: settings)
    assert address.base_url() == "http://127.0.0.1:8000"
    lock = datalock.acquire(tmp_path, command="mn up", url="http://127.0.0.1:8131/")
    try:
        assert "http://127.0.0.1:8131/sign-in/" in mn("user", "link", bob.email).out
    finally:
        lock.release()
