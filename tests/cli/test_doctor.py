import pytest

from apps.ledger.models import Entry
from mirrorneuron import datalock, doctor
from mirrorneuron.config import config

pytestmark = pytest.mark.django_db


def _by_name(report):
    return {check["name"]: check for check in report["checks"]}


def test_sound_installation_is_well(mn):
    said = mn("doctor", "--json")
    assert said.code == 0 and said.json["ok"]
    checks = _by_name(said.json)
    assert {"database", "migrations", "data folder", "secret key", "workers", "full-text search"} <= set(
        checks
    )
    assert checks["workers"]["level"] == "warn" and "mn up" in checks["workers"]["next"]
    assert "Everything is well" in mn("doctor").out


def test_broken_promise_is_found(mn, workspace):
    from uuid import uuid4

    from mirrorneuron.base.clock import now

    Entry.objects.create(workspace=workspace, run_id=uuid4(), seq=2, at=now(), kind="run.started")
    said = mn("doctor", "--json")
    assert said.code == 1 and said.json["findings"][0]["invariant"] == "I4"


def test_missing_migration_fails_and_says_what_to_do(mn, monkeypatch):
    monkeypatch.setattr(doctor.schema, "pending", lambda: ["runs.0002_more"])
    said = mn("doctor", "--json")
    assert said.code == 1 and _by_name(said.json)["migrations"]["next"] == "Run `mn migrate`."
    assert said.json["still"] == []


def test_check_that_breaks_is_itself_a_finding(monkeypatch):
    def clock():
        raise OSError("no clock")

    monkeypatch.setattr(doctor, "_CHECKS", (clock,))
    check = doctor.examine()["checks"][0]
    assert check["level"] == "fail" and "no clock" in check["found"]


def test_unreachable_broker_is_a_warning_without_its_password(monkeypatch):
    monkeypatch.setattr(config(), "broker_url", "redis://user:hidden@127.0.0.1:1/0")
    monkeypatch.setattr("mirrorneuron.celery.app.connection_for_write", _refused)
    result = doctor.broker()
    assert result.level == "warn" and "hidden" not in result.found and "127.0.0.1:1" in result.found


def _refused(**_):
    from kombu import Connection

    return Connection("redis://127.0.0.1:1/0", connect_timeout=1)


def test_secret_key_others_can_read_is_a_warning(data_folder, monkeypatch):
    from pydantic import SecretStr

    monkeypatch.setattr(config(), "secret_key", SecretStr(""))
    (data_folder / "secret.key").write_text("x")
    (data_folder / "secret.key").chmod(0o644)
    assert doctor.secret_key().level == "warn"


def test_holder_of_the_data_counts_as_a_worker_only_with_a_lease(data_folder):
    lock = datalock.acquire(data_folder, command="mn up")
    try:
        if config().is_sqlite:
            assert "none has a valid lease" in doctor.workers().found
    finally:
        lock.release()
