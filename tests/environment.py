"""Gives every test session a data folder of its own, before Django reads its settings.

Loaded by `-p tests.environment` (pyproject.toml), because pytest-django reads settings before any conftest.
A developer's own environment must not steer the tests: only DATABASE_URL and the names of services pass.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

_OURS = ("MN_", "OPENAI_", "ANTHROPIC_", "OTEL_")
_PASS = ("MN_TEST_", "MN_SCREENSHOTS")

for _name in list(os.environ):
    if _name.startswith(_OURS) and not _name.startswith(_PASS):
        del os.environ[_name]
for _name in ("BROKER_URL", "CHANNEL_URL"):
    os.environ.pop(_name, None)
_folder = tempfile.mkdtemp(prefix="mn-test-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["MN_DATA"] = _folder
os.environ["MN_SECRET_KEY"] = "only for tests " * 4
