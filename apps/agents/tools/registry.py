"""The built-in tools by name, and the one place where a blueprint's tool names become tools.

`tool_for(document, name)` prefers a tool the blueprint declares; validation refuses a declared tool that
takes a built-in name, so there is never a choice to make.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.agents.tools.base import Tool
from apps.agents.tools.crm import RETRIEVE_CRM_CONTEXT
from apps.agents.tools.documents import READ_DOCUMENT, SEARCH_DOCUMENTS
from apps.agents.tools.email import DRAFT_EMAIL, SEND_EMAIL
from apps.agents.tools.http_request import HTTP_REQUEST
from apps.agents.tools.tables import MATCH_RECORDS, READ_TABLE
from apps.agents.tools.write_file import WRITE_FILE
from apps.blueprints.core.document import Document
from apps.blueprints.core.tools import ToolSpec

BUILTIN: dict[str, Tool] = {
    tool.spec.name: tool
    for tool in (
        SEARCH_DOCUMENTS,
        READ_DOCUMENT,
        RETRIEVE_CRM_CONTEXT,
        READ_TABLE,
        MATCH_RECORDS,
        DRAFT_EMAIL,
        SEND_EMAIL,
        HTTP_REQUEST,
        WRITE_FILE,
    )
}
"""Ask a tool for its spec at call time: `send_email` is another thing with a mail server than without."""


def specs() -> dict[str, ToolSpec]:
    """Every built-in tool's spec as the configuration makes it now."""
    return {name: tool.spec for name, tool in BUILTIN.items()}


def tool_for(document: Document, name: str) -> Tool | None:
    """The tool a blueprint means by a name; None when there is none."""
    from apps.agents.tools.declared import declared_tool

    declared = document.tools.get(name)
    return declared_tool(name, declared, document) if declared is not None else BUILTIN.get(name)


class Catalog:
    """What `apps.blueprints.ports` asks of us."""

    def specs(self) -> dict[str, ToolSpec]:
        return specs()

    def describe(self, document: Document, tool: str, arguments: Mapping[str, Any]) -> str:
        found = tool_for(document, tool)
        return found.describe(arguments) if found is not None else ""


CATALOG = Catalog()
