"""The image and the compose files: their shape, and their very commands run as processes."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from mirrorneuron.config import Config
from tests.cli.installation import Installation, empty_database
from tests.processes import MN, ROOT, eventually

DOCKER = ROOT / "docker"
SETTINGS = {field.alias for field in Config.model_fields.values()}


def instructions(text: str) -> list[tuple[str, str]]:
    """(INSTRUCTION, rest) of a Dockerfile, continued lines joined, comments left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (w, r.strip()) for w, _, r in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def compose(*names: str) -> dict[str, Any]:
    """The files merged as `docker compose -f … -f …` does: mappings deeply, everything else replaced."""
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, YAML(typ="safe").load(DOCKER / name))
    return merged


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            into[key] = dict(into[key])
            _merge(into[key], value)
        else:
            into[key] = value


DOCKERFILE = instructions((DOCKER / "Dockerfile").read_text())
OURS = ("migrate", "web", "worker", "worker-cpu")


def last(instruction: str) -> str:
    return [rest for word, rest in DOCKERFILE if word == instruction][-1]


# --- shape ------------------------------------------------------------------------------------------------


def test_the_image_is_pinned_runs_as_nobody_special_and_has_a_health_check() -> None:
    bases = [rest.split(" ")[0] for word, rest in DOCKERFILE if word == "FROM"]
    assert len(bases) == 2 and all(re.fullmatch(r"[a-z/]+:\d+\.\d+-[a-z-]+", base) for base in bases)
    assert last("USER") == "10001:10001"
    assert json.loads(last("HEALTHCHECK").partition("CMD")[2])[0] == "python"
    words = " ".join(rest for _, rest in DOCKERFILE)
    assert "node" not in words and "apt-get" not in words and "secret" not in words.lower()


def test_everything_the_image_copies_exists_and_passes_the_ignore_file() -> None:
    allowed = {
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"
    }
    for word, rest in DOCKERFILE:
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and source in allowed


def test_the_health_check_is_python_that_runs() -> None:
    program = json.loads(last("HEALTHCHECK").partition("CMD")[2])[2]
    compile(program, "healthcheck", "exec")
    assert "/healthz" in program


def test_what_is_taken_out_of_the_image_is_only_for_development() -> None:
    prune = runpy.run_path(str(DOCKER / "prune.py"))
    gone = set(prune["superfluous"](ROOT / "pyproject.toml"))
    kept = prune["needed"](["django>=5", "celery[redis]~=5.7", "pydantic-monty~=1.4"])
    assert {"pytest", "mypy", "playwright"} <= gone
    assert not gone & {"django", "celery", "redis", "psycopg", "psycopg-binary", "uvicorn", "pydantic-monty"}
    assert {"redis", "kombu", "asgiref", "pydantic-monty-runtime"} <= kept


def test_services_have_no_more_rights_than_they_need_and_set_only_what_exists() -> None:
    for names in (("compose.yaml",), ("compose.yaml", "compose.rabbitmq.yaml")):
        found = compose(*names)
        for name in OURS:
            service = found["services"][name]
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert {key.removesuffix("_FILE") for key in service["environment"]} <= SETTINGS
            assert set(service["secrets"]) <= set(found["secrets"])
            assert set(service["depends_on"]) <= set(found["services"])
        for volume in (v.partition(":")[0] for s in found["services"].values() for v in s.get("volumes", [])):
            assert volume in found["volumes"]
    assert compose("compose.yaml")["services"]["web"]["ports"] == ["127.0.0.1:8000:8000"]


def test_workers_get_longer_to_stop_than_they_take() -> None:
    from apps.runs.worker import IN_FLIGHT_SECONDS
    from mirrorneuron.workers import STOP_SECONDS

    for name in ("worker", "worker-cpu"):
        grace = compose("compose.yaml")["services"][name]["stop_grace_period"]
        assert int(grace.removesuffix("s")) > STOP_SECONDS + IN_FLIGHT_SECONDS + 10


def test_redis_keeps_what_it_has_and_never_drops_it() -> None:
    command = compose("compose.yaml")["services"]["redis"]["command"]
    assert command[command.index("--appendonly") + 1] == "yes"
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


# --- the very commands ------------------------------------------------------------------------------------


@pytest.fixture
def installation(postgres_url: str, redis_url: str, tmp_path: Path) -> Iterator[Installation]:
    with empty_database(postgres_url) as database:
        (tmp_path / "database_url").write_text(database)
        (tmp_path / "mn_secret_key").write_text("k" * 40)
        yield Installation(database, tmp_path / "data", BROKER_URL=redis_url)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.services
@pytest.mark.parametrize("files", [("compose.yaml",), ("compose.yaml", "compose.rabbitmq.yaml")])
def test_the_commands_of_the_compose_files_run(
    installation: Installation, tmp_path: Path, redis_url: str, files: tuple[str, ...], request: Any
) -> None:
    services = compose(*files)["services"]
    entry = json.loads(last("ENTRYPOINT"))
    assert entry == ["mn"] and json.loads(last("CMD")) == services["web"]["command"]
    port = str(free_port())
    started = []

    def run(name: str) -> subprocess.Popen[bytes]:
        """As the container would: its command and settings, with the services of this machine put in."""
        service = services[name]
        settings = {key: str(value) for key, value in service["environment"].items()}
        for key in ("DATABASE_URL_FILE", "MN_SECRET_KEY_FILE"):
            settings[key] = str(tmp_path / Path(settings[key]).name)
        if settings["BROKER_URL"].startswith("amqp"):
            settings["BROKER_URL"] = request.getfixturevalue("amqp_url")
        else:
            settings["BROKER_URL"] = redis_url
        settings["CHANNEL_URL"] = redis_url
        settings["MN_BASE_URL"] = f"http://127.0.0.1:{port}"
        settings["MN_ALLOWED_HOSTS"] = "127.0.0.1"
        settings["MN_DATA"] = str(tmp_path / "data")
        command = [port if part == "8000" else part for part in service["command"]]
        kept = {k: v for k, v in os.environ.items() if not k.startswith("MN_") and k != "DATABASE_URL"}
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*MN, *command], stdout=log, stderr=log, cwd=ROOT, env={**kept, **settings}
            )
        started.append(process)
        return process

    try:
        assert run("migrate").wait(120) == 0, (tmp_path / "migrate.log").read_text()
        for name in ("web", "worker", "worker-cpu"):
            run(name)
        check = json.loads(last("HEALTHCHECK").partition("CMD")[2])
        check[0], check[2] = sys.executable, check[2].replace("8000", port)
        eventually(lambda: subprocess.run(check, capture_output=True).returncode == 0, 60, 0.3)
        installation.until_workers(1 + 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as answer:
            assert json.loads(answer.read())["status"] == "ok"
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
        codes = [process.wait(60) for process in started]
    logs = "".join(path.read_text() for path in tmp_path.glob("*.log"))
    migrated, web, *workers = codes
    assert (migrated, *workers) == (0, 0, 0), logs
    # The web server finishes what it has, then ends by the signal it was sent, as a service manager expects.
    assert web in (0, -signal.SIGTERM), logs
    assert "Traceback" not in logs, logs


def test_the_notes_in_the_compose_file_are_shell_that_parses() -> None:
    head = (DOCKER / "compose.yaml").read_text().partition("name:")[0]
    commands = [line.removeprefix("#").strip() for line in head.splitlines() if line.startswith("#     ")]
    assert len(commands) >= 4
    assert all(shlex.split(command) for command in commands)
