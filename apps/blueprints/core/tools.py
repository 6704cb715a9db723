"""What validation, the gateway and the pages need to know of a tool, built-in or declared."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from apps.blueprints.core.document import DeclaredTool, Document
from apps.ledger.core.states import EffectClass


class ToolSpec(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    permission: str = ""
    """What it touches, in words for a person: "send e-mail", "read the documents you give"."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    output: dict[str, Any] | None = None
    effect: EffectClass
    actions: tuple[str, ...] = ()
    """Names a contract may forbid, besides the tool's own."""
    sinks: tuple[str, ...] = ()
    """Arguments that decide where something goes."""
    open_world: bool = True
    """True: its output is untrusted."""
    timeout_seconds: float = 30.0
    key_ttl_seconds: float = 86400.0
    reversible: bool = False
    by_arguments: bool = False
    """True: its arguments decide whether it reads or writes; `effect` is the strongest it can do."""
    declared: bool = False
    """True when it comes from the blueprint itself."""

    @property
    def is_write(self) -> bool:
        return self.effect is not EffectClass.READ


def declared_tools(document: Document) -> dict[str, ToolSpec]:
    """The tools a blueprint declares itself."""
    return {name: declared_spec(name, tool) for name, tool in document.tools.items()}


def declared_spec(name: str, tool: DeclaredTool) -> ToolSpec:
    """The spec of a tool a blueprint declares; opaque unless it is a GET or HEAD, or says otherwise."""
    reads = tool.method.upper() in {"GET", "HEAD"}
    effect = EffectClass(tool.effect or ("read" if reads else "opaque"))
    host = tool.url.split("://", 1)[-1].split("/", 1)[0]
    verb = "read from" if effect is EffectClass.READ else "change data at"
    return ToolSpec(
        name=name,
        description=tool.description or f"{tool.method.upper()} {tool.url}",
        permission=f"{verb} {host}" if host else name,
        parameters=tool.parameters,
        output=tool.output,
        effect=effect,
        actions=tuple(tool.actions),
        sinks=tuple(tool.sinks),
        open_world=tool.open_world,
        timeout_seconds=tool.timeout,
        key_ttl_seconds=tool.key_ttl,
        reversible=tool.undo is not None,
        declared=True,
    )
