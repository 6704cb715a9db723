"""What blueprints need to know of the rooms above, filled in by their `AppConfig.ready()`.

`agents` registers the catalog of built-in tools here, so that validation knows tools without importing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from apps.blueprints.core.document import Document
from apps.blueprints.core.tools import ToolSpec


class ToolCatalog(Protocol):
    def specs(self) -> dict[str, ToolSpec]:
        """Every built-in tool by name."""
        ...

    def describe(self, document: Document, tool: str, arguments: Mapping[str, Any]) -> str:
        """What calling a tool of this blueprint will do, one sentence for the person who decides."""
        ...


class _Empty:
    def specs(self) -> dict[str, ToolSpec]:
        return {}

    def describe(self, document: Document, tool: str, arguments: Mapping[str, Any]) -> str:
        return ""


_catalog: ToolCatalog = _Empty()


def register_tool_catalog(catalog: ToolCatalog) -> None:
    global _catalog
    _catalog = catalog


def builtin_tools() -> dict[str, ToolSpec]:
    return _catalog.specs()


def describe_call(document: Document, tool: str, arguments: Mapping[str, Any]) -> str:
    """What a call will do, one sentence; empty when no catalog can say."""
    return _catalog.describe(document, tool, arguments)
