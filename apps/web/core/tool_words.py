"""The tools of a blueprint in words: what each may do, where it goes, who calls it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from apps.blueprints.core.boundaries import all_nodes, tools_of_node
from apps.blueprints.core.document import Document
from apps.blueprints.core.manifest import gated_nodes, permission_sentence
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec
from apps.ledger.core.states import EffectClass

EFFECT_WORDS: dict[EffectClass, str] = {
    EffectClass.READ: "reads; changes nothing",
    EffectClass.IDEMPOTENT: "changes something; the same call twice is as good as once",
    EffectClass.KEYED: "changes something; the other side refuses the same key twice",
    EffectClass.PROBE: "changes something; one can look whether it happened",
    EffectClass.OPAQUE: "changes something; nobody can tell from outside whether it happened",
}
_TEMPLATE = re.compile(r"\{\{.*?\}\}")


@dataclass(frozen=True)
class ToolLine:
    name: str
    sentence: str
    description: str
    effect: str
    hosts: tuple[str, ...]
    callers: tuple[str, ...]
    """Titles of the steps that may call it."""
    free: tuple[str, ...]
    """Those that may call it to write with no person before them."""
    is_allowed: bool
    is_known: bool
    is_declared: bool
    is_write: bool
    is_reversible: bool
    is_untrusted: bool
    sinks: tuple[str, ...]

    @property
    def is_used(self) -> bool:
        return bool(self.callers)


def tool_lines(document: Document, tools: Mapping[str, ToolSpec], allowed: Any) -> list[ToolLine]:
    """Tools that are used, declared or allowed, what changes the world first.

    allowed: `contract.boundaries.allowed_tools` as it is written.
    """
    listed = [a for a in allowed if isinstance(a, str)] if isinstance(allowed, list) else []
    gated = gated_nodes(document)
    callers: dict[str, list[str]] = {}
    free: dict[str, list[str]] = {}
    for path, node in all_nodes(document.graph):
        for name in tools_of_node(document, node):
            callers.setdefault(name, []).append(title_of(node.title, node.id))
            if path not in gated:
                free.setdefault(name, []).append(title_of(node.title, node.id))
    lines = [
        _line(
            name,
            tools.get(name),
            document,
            tuple(callers.get(name, ())),
            tuple(free.get(name, ())),
            name in listed,
        )
        for name in dict.fromkeys([*callers, *document.tools, *listed])
    ]
    return sorted(lines, key=lambda line: (not line.is_write, not line.is_used))


def _line(
    name: str,
    spec: ToolSpec | None,
    document: Document,
    callers: tuple[str, ...],
    free: tuple[str, ...],
    allowed: bool,
) -> ToolLine:
    if spec is None:
        return ToolLine(
            name, "Nobody knows this tool.", "", "counts as a write until it is known", (), callers, free,
            allowed, False, False, True, False, True, (),
        )  # fmt: skip
    return ToolLine(
        name=name,
        sentence=permission_sentence(spec) + ".",
        description=spec.description,
        effect=EFFECT_WORDS[spec.effect],
        hosts=_hosts(name, document),
        callers=callers,
        free=free if spec.is_write else (),
        is_allowed=allowed,
        is_known=True,
        is_declared=name in document.tools,
        is_write=spec.is_write,
        is_reversible=spec.reversible,
        is_untrusted=spec.open_world,
        sinks=spec.sinks,
    )


def _hosts(name: str, document: Document) -> tuple[str, ...]:
    """The host a declared tool calls, where its address says one."""
    declared = document.tools.get(name)
    if declared is None or not declared.url:
        return ()
    try:
        host = urlsplit(_TEMPLATE.sub("x", declared.url)).netloc
    except ValueError:
        return ()
    return (host,) if host and not _TEMPLATE.search(declared.url.split("://", 1)[-1].split("/", 1)[0]) else ()
