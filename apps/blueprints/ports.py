"""What blueprints need to know of the rooms above, filled in by their `AppConfig.ready()`.

`agents` registers the catalog of built-in tools here, so that validation knows tools without importing them.
"""

from __future__ import annotations

from typing import Protocol

from apps.blueprints.core.tools import ToolSpec


class ToolCatalog(Protocol):
    def specs(self) -> dict[str, ToolSpec]:
        """Every built-in tool by name."""
        ...


class _Empty:
    def specs(self) -> dict[str, ToolSpec]:
        return {}


_catalog: ToolCatalog = _Empty()


def register_tool_catalog(catalog: ToolCatalog) -> None:
    global _catalog
    _catalog = catalog


def builtin_tools() -> dict[str, ToolSpec]:
    return _catalog.specs()
