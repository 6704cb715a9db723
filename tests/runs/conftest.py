from __future__ import annotations

import pytest

from apps.runs import ports
from apps.runs.ports import Done


@pytest.fixture(autouse=True)
def recorded_steps(monkeypatch):
    """Let `code` nodes stand for steps whose result is recorded by itself."""
    monkeypatch.setitem(ports._handlers, "code", lambda context: Done(context.render(context.node.output)))
