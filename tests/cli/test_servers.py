"""The parts as separate processes: PostgreSQL with a broker, workers as threads and as processes."""

import json
import uuid

import psycopg
import pytest

from tests.cli.installation import empty_database
from tests.processes import Background, eventually, run_mn

pytestmark = pytest.mark.services

BLUEPRINT = """
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: doubling, title: Doubling}
contract:
  goal: Double a number in a few steps.
  inputs: {type: object, required: [n], properties: {n: {type: integer}}}
graph:
  nodes:
    - {id: one, kind: transform, output: "{{ inputs.n * 2 }}"}
    - {id: left, kind: transform, output: "{{ steps.one.output + 1 }}"}
    - {id: right, kind: transform, output: "{{ steps.one.output + 2 }}"}
    - {id: pause, kind: timer, duration: 200ms}
    - {id: both, kind: aggregator, join: all}
  edges:
    - {from: one, to: left}
    - {from: one, to: right}
    - {from: one, to: pause}
    - {from: left, to: both}
    - {from: right, to: both}
    - {from: pause, to: both}
outputs: {left: "{{ steps.left.output }}", right: "{{ steps.right.output }}"}
"""


@pytest.fixture
def database(postgres_url):
    """An empty database of its own on the server."""
    with empty_database(postgres_url) as url:
        yield url


@pytest.fixture
def server(postgres_url, prepared, tmp_path):
    """`mn` against a migrated server with one person; `server(...)` gives exit code and document."""
    data = tmp_path / "data"
    settings = {
        "MN_SECRET_KEY": "k" * 40, "MN_BASE_URL": "http://mn.example", "MN_TOKEN": prepared.token,
    }  # fmt: skip

    def mn(*args, **more):
        done = run_mn(data, *args, "--json", **{**settings, **more})
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    mn.data, mn.settings = data, settings
    with empty_database(postgres_url, prepared.name) as settings["DATABASE_URL"]:
        yield mn


@pytest.fixture
def blueprint(tmp_path):
    file = tmp_path / "doubling.yaml"
    file.write_text(BLUEPRINT)
    return file


def test_without_a_token_nobody_acts(server):
    code, said = server("runs", "list", MN_TOKEN="")
    assert code == 1 and said["error"]["code"] == "no_actor" and "MN_TOKEN" in said["error"]["next"]


def test_run_without_any_worker_is_worked_by_the_command(server, blueprint):
    code, run = server("run", blueprint, "-i", "n=4", "--wait")
    assert code == 0 and run["output"] == {"left": 9, "right": 10}


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("broker", ["redis_url", "amqp_url"])
def test_worker_process_works_and_stops_cleanly(server, blueprint, tmp_path, request, broker, pool):
    environ = {**server.settings, "BROKER_URL": request.getfixturevalue(broker)}
    queue = f"q{uuid.uuid4().hex[:8]}"
    log = tmp_path / "worker.log"
    worker = Background(
        server.data, log, "worker", "-c", "2", "--pool", pool, "-Q", f"default,{queue}", **environ
    )
    try:
        eventually(lambda: _workers(server) >= (1 if pool == "threads" else 2), pause=0.5)
        code, run = server("run", blueprint, "-i", "n=4", "--wait", BROKER_URL=environ["BROKER_URL"])
        assert code == 0 and run["output"] == {"left": 9, "right": 10}, log.read_text()
        report = server("doctor", BROKER_URL=environ["BROKER_URL"])[1]
        assert not report["findings"], report
    finally:
        code = worker.stop()
    assert code == 0, log.read_text()
    assert _workers(server) == 0
    assert "Traceback" not in log.read_text()


def test_worker_goes_on_without_its_broker(server, blueprint, tmp_path):
    environ = {**server.settings, "BROKER_URL": "redis://127.0.0.1:1/0"}
    log = tmp_path / "worker.log"
    worker = Background(server.data, log, "worker", **environ)
    try:
        eventually(lambda: _workers(server) == 1, pause=0.5)
        code, run = server("run", blueprint, "-i", "n=1", "--wait", BROKER_URL=environ["BROKER_URL"])
        assert code == 0 and run["status"] == "succeeded"
        checks = {c["name"]: c for c in server("doctor", BROKER_URL=environ["BROKER_URL"])[1]["checks"]}
        assert checks["broker"]["level"] == "warn" and "cannot be reached" in checks["broker"]["found"]
    finally:
        assert worker.stop() == 0


def test_database_that_is_not_there_is_one_sentence(tmp_path):
    done = run_mn(
        tmp_path, "runs", "list", DATABASE_URL="postgres://nobody@127.0.0.1:1/x", MN_SECRET_KEY="k" * 40,
        MN_TOKEN="mn_x",
    )  # fmt: skip
    said = "The database server at 127.0.0.1:1 refuses the connection"
    assert done.returncode == 1 and done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_server_start_without_migrations_says_so(database, tmp_path):
    environ = {"DATABASE_URL": database, "MN_SECRET_KEY": "k" * 40}
    for command in ("web", "worker"):
        done = run_mn(tmp_path, command, **environ)
        assert done.returncode == 1 and "mn migrate" in done.stderr


def _workers(server) -> int:
    """How many worker processes hold a lease."""
    with psycopg.connect(server.settings["DATABASE_URL"]) as connection:
        query = "SELECT count(*) FROM runs_worker WHERE stopped_at IS NULL AND lease_until > now()"
        return connection.execute(query).fetchone()[0]
