"""A worker starts quickly because it loads only what it works with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT, environment

PROGRAM = """
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "mirrorneuron.settings"
import mirrorneuron.cli.frame as frame
frame.open_house()
import mirrorneuron.cli.processes, mirrorneuron.workers
print(*sorted({name.partition(".")[0] for name in sys.modules} | set(sys.modules)))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules in memory when `mn worker` begins to look for work."""
    data: Path = tmp_path_factory.mktemp("data")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT,
        env=environment(data, PYTHONPATH=str(ROOT)), check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "name",
    [
        "celery", "kombu", "redis", "rich", "httpx", "httpcore", "ruamel", "cryptography", "pydantic_ai",
        "openai", "pypdf", "bs4", "uvicorn", "mirrorneuron.urls", "apps.web.views", "apps.api.build",
        "apps.blueprints.core.validate",
    ],
)  # fmt: skip
def test_a_worker_begins_without(loaded: set[str], name: str) -> None:
    assert "apps.runs.worker" in loaded
    assert name not in loaded


def test_whoever_rings_has_the_configured_broker() -> None:
    from apps.runs.tasks import drain
    from mirrorneuron import celery_app

    assert drain.app is celery_app
