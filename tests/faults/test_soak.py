"""Scenario 80, as long as a test may take; `python -m tests.faults.soak` goes on for hours."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests import services
from tests.faults import cluster
from tests.faults.harness import ROOT, services_missing

pytestmark = [pytest.mark.faults]


@pytest.mark.parametrize(
    "options",
    [
        "--kills 25 --seed 1 --rate 4 --active 20",
        "--kills 40 --seed 2 --rate 5 --active 20 --database cluster --broker redis --workers 3 "
        "--flush-every 3 --restart-every 4",
    ],
    ids=["file", "server"],
)
def test_80_a_short_soak_loses_repeats_and_leaves_nothing(options: str) -> None:
    if "cluster" in options and (missing := cluster.missing() or services_missing()):
        (pytest.fail if services.required() else pytest.skip)(missing)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", *options.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert "PASSED" in done.stdout
