"""What an expression may name at one place of a draft, with the type of each, for completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.problems import Problems
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.schemas import resolve, types, words
from apps.blueprints.core.shape import fit
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec
from apps.blueprints.core.validate import RUNTIME, tools_of

MOST = 400
DEEPEST = 3
_OF_PASS = {
    "item": "what this pass works on",
    "index": "number of the item, from 0",
    "previous": "what the round before handed over",
    "args": "what the steps around it are given",
}


@dataclass(frozen=True)
class Name:
    text: str
    type: str
    """In words, "" when nothing is known."""
    source: str
    """Where it comes from: "input", a step's title, "run"."""

    def as_json(self) -> dict[str, str]:
        return {"name": self.text, "type": self.type, "from": self.source}


def names_at(data: Any, tools: Mapping[str, ToolSpec], node: str = "") -> list[Name]:
    """Everything a node's expressions may read, nearest first; without a node, what the outputs may read.

    node: a path such as `each/score`. Never raises for what the draft holds.
    """
    top = _case(data, tools)
    if top is None:
        return []
    *scope, node_id = node.split("/")
    case = top
    for container in scope:
        inner = next((c for c in case.bodies() if c.container == container), None)
        if inner is None:
            return []
        case = inner
    found: list[Name] = []
    found += [Name(name, "", _OF_PASS.get(name, "")) for name in sorted(case.given)]
    found += _steps(case, node_id)
    found += _fields("inputs", case.lookup(("inputs",)), "input")
    found += [Name("run.id", "text", "run"), Name("run.started_at", "text", "run")]
    found += [Name("round", "a whole number", "how often this step has run, from 1")]
    return list({name.text: name for name in found}.values())[:MOST]


def _case(data: Any, tools: Mapping[str, ToolSpec]) -> Case | None:
    found = Problems()
    fitted = fit(data, found)
    if fitted.document is None:
        return None
    return Case(
        document=fitted.document,
        fitted=fitted,
        found=found,
        tools={**tools_of(fitted.document), **{n: s for n, s in tools.items() if not s.declared}},
        builtin=frozenset(n for n, s in tools.items() if not s.declared),
        publishing=False,
        runtime=RUNTIME,
    )


def _steps(case: Case, node_id: str) -> Iterator[Name]:
    """Steps that can have run by then, the nearest first, then those around the body."""
    before = case.shape.ever_before.get(node_id)
    for node in reversed(case.document.graph.nodes):
        if node.id == node_id or node.id not in case.shape.bit:
            continue
        if before is not None and not case.shape.bit[node.id] & before:
            continue
        title = title_of(node.title, node.id)
        yield from _fields(f"steps.{node.id}.output", case.output_of(node.id), title)
        yield Name(f"steps.{node.id}.status", "text", title)
    if case.outer is not None:
        yield from _steps(case.outer, case.container)


def _fields(name: str, schema: Any, source: str, root: Any = None, depth: int = 0) -> Iterator[Name]:
    root = schema if root is None else root
    here = resolve(schema, root) if schema is not None else None
    kinds = types(here)
    yield Name(name, words(kinds) if kinds else "", source)
    properties = here.get("properties") if here is not None else None
    if isinstance(properties, dict) and depth < DEEPEST:
        for key, part in properties.items():
            if isinstance(key, str) and key.isidentifier():
                yield from _fields(f"{name}.{key}", part, source, root, depth + 1)
