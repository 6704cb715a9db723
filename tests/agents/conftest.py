from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from apps.agents import memo
from apps.agents.providers import scripted
from apps.agents.tools import registry
from apps.agents.tools.base import Tool


@pytest.fixture(autouse=True)
def nothing_left_over() -> Iterator[None]:
    """No script and no remembered read of another test."""
    scripted.clear()
    memo.clear()
    yield
    scripted.clear()


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Adds built-in tools for one test."""

    def add(*given: Tool) -> None:
        for one in given:
            monkeypatch.setitem(registry.BUILTIN, one.spec.name, one)

    return add
