"""The blueprint under examination: what its rules look things up in, and where they report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apps.blueprints.core.document import Document, Edge, Node
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.problems import Path, Problems
from apps.blueprints.core.schemas import Missing, Schema, at, check
from apps.blueprints.core.shape import Fitted
from apps.blueprints.core.tools import ToolSpec

RUN: Schema = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "started_at": {"type": "string"}},
    "additionalProperties": False,
}
STEP_FIELDS = ("output", "status", "attempts")


@dataclass
class Case:
    document: Document
    fitted: Fitted
    found: Problems
    tools: Mapping[str, ToolSpec]
    """Built-in and declared."""
    builtin: frozenset[str]
    publishing: bool
    runtime: str
    """Version of this runtime."""
    _outputs: dict[str, Schema | None] = field(default_factory=dict)
    _asked: set[str] = field(default_factory=set)

    outer: Case | None = None
    """Of a body: the graph whose map or loop it belongs to."""
    container: str = ""
    """Of a body: that map's or loop's id."""
    prefix: Path = ("graph",)
    """Where the graph stands in the document."""
    given: frozenset[str] = frozenset()
    """Names that expressions have here because a map or a loop gives them."""

    def error(
        self, path: Path, code: str, message: str, fix: str, *, node: str = "", lacks: Path = ()
    ) -> None:
        place = self.fitted.original(self.outward(path))
        self.found.error(place, code, message, fix, node=node, lacks=lacks)

    def warning(
        self, path: Path, code: str, message: str, fix: str, *, node: str = "", lacks: Path = ()
    ) -> None:
        place = self.fitted.original(self.outward(path))
        self.found.warning(place, code, message, fix, node=node, lacks=lacks)

    def outward(self, path: Path) -> Path:
        """A path of this graph as a path of the document; rules call every graph `graph`."""
        return (*self.prefix, *path[1:]) if path[:1] == ("graph",) else path

    def bodies(self) -> Iterator[Case]:
        """The maps' and loops' bodies, each a graph of its own that may also read what is around it."""
        for path, node in self.nodes():
            if node.body is None or not node.body.nodes or self.shape.index[node.id] != path[-1]:
                continue
            names = {"map": ("item", "index"), "loop": ("previous",)}.get(node.kind, ())
            yield Case(
                document=self.document.model_copy(update={"graph": node.body}),
                fitted=self.fitted,
                found=self.found,
                tools=self.tools,
                builtin=self.builtin,
                publishing=self.publishing,
                runtime=self.runtime,
                outer=self,
                container=node.id,
                prefix=(*self.outward(path), "body"),
                given=self.given | {*names, *(["args"] if node.with_ is not None else [])},
            )

    @cached_property
    def shape(self) -> Shape:
        return Shape(self.document.graph)

    def nodes(self) -> Iterator[tuple[Path, Node]]:
        for index, node in enumerate(self.document.graph.nodes):
            yield ("graph", "nodes", index), node

    def edges(self) -> Iterator[tuple[Path, int, Edge]]:
        for index, edge in enumerate(self.document.graph.edges):
            yield ("graph", "edges", index), index, edge

    def raw(self, *path: str) -> Any:
        """What was written at a path, fitting or not."""
        value: Any = self.fitted.data
        if self.outer is not None and path[:1] == ("graph",):
            for part in self.fitted.original(self.prefix):
                if isinstance(value, list) and isinstance(part, int):
                    value = value[part]
                else:
                    value = value.get(part) if isinstance(value, dict) else None
            path = path[1:]
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def names(self, *path: str) -> frozenset[str]:
        """Keys written at a path, also of entries that did not fit: naming those is no mistake."""
        value = self.raw(*path)
        return frozenset(value) if isinstance(value, dict) else frozenset()

    @cached_property
    def node_ids(self) -> frozenset[str]:
        """Ids of all nodes written, also of those that did not fit."""
        nodes = self.raw("graph", "nodes")
        written = nodes if isinstance(nodes, list) else []
        return frozenset(
            str(n["id"]) for n in written if isinstance(n, dict) and isinstance(n.get("id"), str)
        ) | frozenset(self.shape.nodes)

    @cached_property
    def connected(self) -> frozenset[str]:
        """Ids at either end of any edge written, also of edges that did not fit."""
        edges = self.raw("graph", "edges")
        written = [e for e in edges if isinstance(e, dict)] if isinstance(edges, list) else []
        return frozenset(
            end for e in written for end in (str(e.get("to")), str(e.get("from")).partition(".")[0])
        )

    @cached_property
    def _inputs(self) -> Schema | None:
        schema = self.document.contract.inputs
        return None if any(flaw.is_error for flaw in check(schema)) else schema

    @cached_property
    def proposed_by(self) -> dict[str, list[str]]:
        """Node → approvals that propose it."""
        found: dict[str, list[str]] = {}
        for _, node in self.nodes():
            if node.kind == "approval" and node.proposes:
                found.setdefault(node.proposes, []).append(node.id)
        return found

    def is_tool_node(self, node_id: str) -> bool:
        node = self.shape.nodes.get(node_id)
        return node is not None and node.kind == "tool"

    def lookup(self, path: tuple[str, ...]) -> Schema | None:
        """The schema of what an expression names, where it is known."""
        found = self.look(path)
        return None if isinstance(found, Missing) else found

    def look(self, path: tuple[str, ...]) -> Schema | Missing | None:
        if path[0] == "inputs":
            return at(self._inputs, path[1:]) if self._inputs else None
        if path[0] == "run":
            return at(RUN, path[1:])
        if path[0] == "round":
            return {"type": "integer"}
        if path[0] == "steps" and len(path) >= 3 and path[1] in self.shape.nodes:
            if path[2] == "status":
                return {"type": "string"}
            if path[2] == "attempts":
                return {"type": "integer"}
            schema = self.output_of(path[1])
            return at(schema, path[3:]) if schema is not None and path[2] == "output" else None
        if path[0] == "steps" and self.outer is not None:
            return self.outer.look(path)
        return None

    def output_of(self, node_id: str) -> Schema | None:
        """What a node puts out, as far as the blueprint tells."""
        if node_id in self._outputs:
            return self._outputs[node_id]
        if node_id in self._asked:
            return None  # A transform that reads itself, by whatever way.
        self._asked.add(node_id)
        node = self.shape.nodes[node_id]
        schema: Any = None
        if node.kind in ("agent", "extract", "code"):
            # Of a schema with mistakes nothing is concluded.
            schema = node.output if not any(flaw.is_error for flaw in check(node.output)) else None
        elif node.kind == "tool" and node.tool in self.tools:
            schema = self.tools[node.tool].output
        elif node.kind == "transform":
            schema = type_of_template(node.output, self.lookup)
        elif node.kind == "sensor":
            body = node.schema_ if node.poll is None and node.schema_ else {}
            schema = _told(body if not any(flaw.is_error for flaw in check(body)) else {})
        elif node.kind == "aggregator" and node.merge is not None and not _mentions(node.merge, "results"):
            schema = type_of_template(node.merge, self.lookup)
        self._outputs[node_id] = schema if isinstance(schema, dict) else None
        return self._outputs[node_id]


def _told(body: Schema) -> Schema:
    """What a sensor puts out."""
    text: Schema = {"type": "string"}
    known: Schema = {
        "by": text, "body": body, "at": text, "signal": text, "key": {},
        "polls": {"type": "integer"}, "last": {},
    }  # fmt: skip
    return {"type": "object", "properties": known, "additionalProperties": False}


def _mentions(template: Any, word: str) -> bool:
    return word in str(template)
