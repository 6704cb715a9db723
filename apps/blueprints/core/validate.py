"""Everything wrong with a blueprint, in one answer.

First the text (`parse`), then the shape (`shape`), then the rules on whatever remains well-formed, so that
one mistake never hides another. An error is what cannot run or breaks the blueprint's own contract; a
warning never blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.document import Document
from apps.blueprints.core.parse import Parsed
from apps.blueprints.core.problems import Problem, Problems
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.contract import check_contract
from apps.blueprints.core.rules.graph import check_graph
from apps.blueprints.core.rules.nodes import check_nodes
from apps.blueprints.core.rules.tools import check_tools
from apps.blueprints.core.shape import fit
from apps.blueprints.core.tools import ToolSpec, declared_spec

MOST_NESTED = 8
RUNTIME = "0.1.0"
"""Version that `metadata.requires` is held against unless the caller says otherwise."""


@dataclass(frozen=True)
class Validation:
    document: Document | None
    """The blueprint, when its shape is whole; it may still have errors of meaning."""
    problems: list[Problem]
    remainder: Document | None = None
    """What could be read of a blueprint that is not whole, for pictures of work in progress."""

    @property
    def valid(self) -> bool:
        """No errors; warnings may remain."""
        return self.document is not None and not self.errors

    @property
    def errors(self) -> list[Problem]:
        return [p for p in self.problems if p.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        return [p for p in self.problems if p.level == "warning"]


def validate(
    source: Parsed | Mapping[str, Any],
    tools: Mapping[str, ToolSpec],
    *,
    publishing: bool = False,
    runtime: str = RUNTIME,
) -> Validation:
    """Check a blueprint. Never raises for what it contains.

    tools: the built-in ones; those the blueprint declares are added here.
    publishing: what only a published blueprint needs (the agent card) is an error instead of a warning.
    """
    parsed = source if isinstance(source, Parsed) else None
    found = Problems(parsed.line if parsed else lambda path: None)
    if parsed is not None:
        found.found.extend(parsed.problems)
        if not parsed.readable:
            return Validation(None, found.sorted())
    data = parsed.data if parsed is not None else source
    if isinstance(data, dict) and "workflow_contract" in data and "graph" not in data:
        found.error(
            ("workflow_contract",),
            "is_contract",
            "This is a stand-alone workflow contract, not a blueprint.",
            "Import it: it becomes a blueprint skeleton.",
        )
        return Validation(None, found.sorted())
    fitted = fit(data, found)
    if fitted.document is None:
        return Validation(None, found.sorted())
    document = fitted.document
    case = Case(
        document=document,
        fitted=fitted,
        found=found,
        tools={**tools_of(document), **{n: s for n, s in tools.items() if not s.declared}},
        builtin=frozenset(name for name, spec in tools.items() if not spec.declared),
        publishing=publishing,
        runtime=runtime,
    )
    _check_graphs(case)
    check_tools(case)
    check_contract(case)
    return Validation(document if fitted.is_whole else None, found.sorted(), document)


def _check_graphs(case: Case, depth: int = 0) -> None:
    """The graph, and every body inside it."""
    check_graph(case)
    check_nodes(case)
    for body in case.bodies() if depth < MOST_NESTED else ():
        _check_graphs(body, depth + 1)


def tools_of(document: Document) -> dict[str, ToolSpec]:
    """The tools a blueprint declares itself."""
    return {name: declared_spec(name, tool) for name, tool in document.tools.items()}
