"""`mn user`: how people come back to a server."""

from __future__ import annotations

import pytest

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
