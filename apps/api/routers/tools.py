"""The built-in tools: what a blueprint may call, and what calling them touches."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from ninja import Router

from apps.api.doors import principal, reads
from apps.api.paging import Page, listed
from apps.api.shapes import Tool
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.ports import builtin_tools
from apps.workspaces.core.roles import Permission
from mirrorneuron.base.errors import NotFound

router = Router(by_alias=True)


@router.get("", response=reads(Page[Tool]), summary="List built-in tools")
def list_tools(request: HttpRequest) -> Any:
    principal(request).require(Permission.READ)
    return listed([_tool(spec) for _, spec in sorted(builtin_tools().items())])


@router.get("/{name}", response=reads(Tool), summary="Read one tool")
def get_tool(request: HttpRequest, name: str) -> Any:
    principal(request).require(Permission.READ)
    spec = builtin_tools().get(name)
    if spec is None:
        raise NotFound(f"There is no built-in tool {name!r}.", code="tool_not_found", next="List the tools.")
    return _tool(spec)


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "name": spec.name,
        "description": spec.description,
        "permission": spec.permission,
        "parameters": spec.parameters,
        "output": spec.output,
        "effect": str(spec.effect),
        "sinks": list(spec.sinks),
        "actions": list(spec.actions),
        "open_world": spec.open_world,
        "reversible": spec.reversible,
    }
