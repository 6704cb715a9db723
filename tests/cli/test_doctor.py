import pytest

from apps.ledger.services import Line, append
from mirrorneuron import datalock, doctor
from mirrorneuron.config import config

pytestmark = pytest.mark.django_db


def _by_name(report):
    return {check["name"]: check for check in report["checks"]}


def test_sound_installation_is_well(mn, autovacuum):
    said = mn("doctor", "--json")
    assert said.code == 0 and said.json["ok"]
    checks = _by_name(said.json)
    assert {"database", "migrations", "data folder", "secret key", "workers", "full-text search"} <= set(
        checks
    )
    assert checks["workers"]["level"] == "warn" and "Start `mn " in checks["workers"]["next"]
    assert "\nAll right, with " in mn("doctor").out


def test_nothing_to_warn_of_is_said_too(mn, monkeypatch):
    monkeypatch.setattr(doctor, "_CHECKS", (doctor.python,))
    assert mn("doctor").out.endswith("Everything is well.\n")


def test_run_that_needs_a_worker_fails_the_check_while_none_is_there(mn, workspace, alice, principal):
    from apps.blueprints.services import store_unpublished
    from apps.runs.services import start_run
    from mirrorneuron.cli.blueprint import STARTER

    text = STARTER.replace("NAME", "starter").replace("required: [topic, documents]", "required: [topic]")
    who = principal(alice)
    run = start_run(who, store_unpublished(who, text), {"topic": "x"})
    said = mn("doctor", "--json")
    workers = _by_name(said.json)["workers"]
    assert said.code == 1 and workers["level"] == "fail"
    assert "one unfinished run needs one" in workers["found"] and "Start `mn" in workers["next"]
    assert "hold for the one run" in _by_name(said.json)["promises"]["found"]
    type(run).objects.filter(pk=run.pk).update(status="paused")
    assert _by_name(mn("doctor", "--json").json)["workers"]["level"] == "warn"


def test_secret_key_from_a_file_is_said_so(monkeypatch):
    from pydantic import SecretStr

    monkeypatch.setattr(config(), "secret_key", SecretStr("k" * 40))
    monkeypatch.setenv("MN_SECRET_KEY_FILE", "/run/secrets/key")
    assert "MN_SECRET_KEY_FILE (/run/secrets/key)" in doctor.secret_key().found


def test_missing_tables_are_not_shown_as_sql(mn, monkeypatch):
    monkeypatch.setattr(doctor.schema, "pending", lambda: ["runs.0001_initial"])
    checks = _by_name(mn("doctor", "--json").json)
    assert checks["workers"]["found"] == "not looked at: the database comes first"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ('connection failed: FATAL:  database "nodb" does not exist', "nodb on"),
        ('connection failed: FATAL:  role "nobody" does not exist', "no role nobody"),
        ('FATAL:  password authentication failed for user "mn"', "wrong or missing password"),
        ("connection failed: Connection refused. Is the server running?", "refuses the connection"),
        ("failed to resolve host 'nohost': [Errno -2] Name or service not known", "There is no host"),
        ("connection timeout expired", "does not answer"),
        ("unable to open database file", "cannot be opened"),
    ],
)
def test_database_that_cannot_be_reached_is_named_and_not_called_out_of_date(said, expected):
    from django.db import OperationalError

    from mirrorneuron.cli.frame import unexpected

    error = unexpected(OperationalError(said))
    assert expected in error.message and error.code == "database" and error.next


@pytest.mark.parametrize(
    "said", ["no such table: runs_run", 'relation "runs_run" does not exist', 'column "x.y" does not exist']
)
def test_missing_table_means_migrate(said):
    from django.db import ProgrammingError

    from mirrorneuron.cli.frame import unexpected

    assert unexpected(ProgrammingError(said)).code == "not_migrated"


def test_broken_promise_is_found(mn, workspace):
    from uuid import uuid4

    from mirrorneuron.base.clock import now

    line = Line("run.started", "", None, {})
    append(workspace_id=workspace.id, run_id=uuid4(), first_seq=2, at=now(), lines=[line])
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
