"""What is known of a draft's data: what each step puts out, what a tool asks for, what stands before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from apps.blueprints.core.document import Node
from apps.blueprints.core.problems import Problems
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.schemas import Schema, types
from apps.blueprints.core.shape import fit
from apps.blueprints.core.tools import ToolSpec, declared_tools

RUNTIME = "0"
"""No rule that is asked here depends on the version."""


class Meaning:
    """Types of a draft, as far as it is well-formed; where nothing is known nothing is said."""

    def __init__(self, data: Any, tools: Mapping[str, ToolSpec]) -> None:
        found = Problems()
        fitted = fit(data, found)
        self.tools: dict[str, ToolSpec] = dict(tools)
        self.cases: dict[str, Case] = {}
        """By scope: the graph there, with everything around it."""
        if fitted.document is None:
            return
        self.tools = {**declared_tools(fitted.document), **tools}
        case = Case(
            document=fitted.document,
            fitted=fitted,
            found=found,
            tools=self.tools,
            builtin=frozenset(tools),
            publishing=False,
            runtime=RUNTIME,
        )
        self._add("", case, 0)

    def _add(self, scope: str, case: Case, depth: int) -> None:
        self.cases[scope] = case
        for body in case.bodies() if depth < 8 else ():
            self._add(f"{scope}/{body.container}" if scope else body.container, body, depth + 1)

    def node(self, path: str) -> Node | None:
        scope, _, node_id = path.rpartition("/")
        case = self.cases.get(scope)
        return case.shape.nodes.get(node_id) if case is not None else None

    def output_of(self, path: str) -> Schema | None:
        scope, _, node_id = path.rpartition("/")
        case = self.cases.get(scope)
        return case.output_of(node_id) if case is not None and node_id in case.shape.nodes else None

    def fields_of(self, path: str) -> dict[str, Schema]:
        """Named fields of what a step puts out, with their types."""
        output = self.output_of(path)
        properties = output.get("properties") if output is not None else None
        return _schemas(properties)

    def inputs(self) -> dict[str, Schema]:
        case = self.cases.get("")
        return _schemas(case.document.contract.inputs.get("properties")) if case is not None else {}

    def before(self, path: str) -> Iterator[str]:
        """Paths of the steps that can have run when this one does, the nearest first, those around it too."""
        scope, _, node_id = path.rpartition("/")
        case = self.cases.get(scope)
        if case is not None and node_id in case.shape.nodes:
            names = case.shape.names(case.shape.ever_before[node_id])
            near = sorted(names, key=lambda n: -bin(case.shape.before[n]).count("1"))
            yield from (f"{scope}/{name}" if scope else name for name in near if name != node_id)
        if scope:
            yield from self.before(scope)

    def needs(self, tool: str) -> dict[str, Schema]:
        """Arguments a tool cannot do without, with their types."""
        spec = self.tools.get(tool)
        if spec is None:
            return {}
        properties = _schemas(spec.parameters.get("properties"))
        required = spec.parameters.get("required")
        names = [n for n in required if isinstance(n, str)] if isinstance(required, list) else []
        return {name: properties.get(name, {}) for name in names}


def fits(have: Schema, need: Schema) -> bool:
    """Whether a value of one type can stand where another is asked for; unknown types may."""
    one, other = types(have), types(need)
    return one is None or other is None or bool(one & other)


def known_to_fit(have: Schema, need: Schema) -> bool:
    """Whether both types are known and agree."""
    one, other = types(have), types(need)
    return one is not None and other is not None and bool(one & other)


def _schemas(value: Any) -> dict[str, Schema]:
    return (
        {str(name): schema for name, schema in value.items() if isinstance(schema, dict)}
        if isinstance(value, dict)
        else {}
    )
