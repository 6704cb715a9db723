"""Which boundary a node crosses: what its badge says in every picture, and what validation warns about."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from apps.blueprints.core.document import Document, Graph, Node
from apps.blueprints.core.kinds import Boundary
from apps.blueprints.core.tools import ToolSpec, declared_spec

WORDS: dict[Boundary, str] = {
    Boundary.DETERMINISTIC: "only calculates",
    Boundary.MODEL: "asks a model",
    Boundary.EXTERNAL_READ: "reads from outside",
    Boundary.EXTERNAL_WRITE: "changes something outside",
    Boundary.HUMAN: "a person decides",
}
_STRENGTH = [
    Boundary.DETERMINISTIC,
    Boundary.EXTERNAL_READ,
    Boundary.MODEL,
    Boundary.HUMAN,
    Boundary.EXTERNAL_WRITE,
]


def known_tools(document: Document, tools: Mapping[str, ToolSpec]) -> dict[str, ToolSpec]:
    """The given tools and those the document declares itself."""
    return {**tools, **{name: declared_spec(name, tool) for name, tool in document.tools.items()}}


def all_nodes(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every node with its path, bodies included, in the order of the document."""
    for node in graph.nodes:
        yield f"{prefix}{node.id}", node
        if node.body is not None:
            yield from all_nodes(node.body, f"{prefix}{node.id}/")


def tools_of_node(document: Document, node: Node) -> tuple[str, ...]:
    """Names of the tools a node can call by itself."""
    if node.kind == "agent":
        agent = document.agents.get(node.agent)
        return tuple(agent.tools) if agent else ()
    if node.kind == "sensor" and node.poll is not None:
        return (node.poll.tool,)
    return (node.tool,) if node.kind == "tool" and node.tool else ()


def boundary_of(document: Document, node: Node, tools: Mapping[str, ToolSpec]) -> Boundary:
    """The strongest thing a node does. A tool nobody knows counts as a write; a subflow may do anything.

    tools: as `known_tools` gives them.
    """
    match node.kind:
        case "approval":
            return Boundary.HUMAN
        case "subflow":
            return Boundary.EXTERNAL_WRITE
        case "tool":
            return _of_tools([node.tool], tools)
        case "agent":
            return _strongest([Boundary.MODEL, _of_tools(tools_of_node(document, node), tools)])
        case "extract":
            return Boundary.MODEL
        case "router":
            return Boundary.MODEL if node.model or node.agent or node.prompt else Boundary.DETERMINISTIC
        case "sensor":
            return Boundary.EXTERNAL_READ
        case "map" | "loop":
            inner = node.body.nodes if node.body is not None else []
            return _strongest(boundary_of(document, child, tools) for child in inner)
        case _:
            return Boundary.DETERMINISTIC


def _of_tools(names: Iterable[str], tools: Mapping[str, ToolSpec]) -> Boundary:
    return _strongest(
        Boundary.EXTERNAL_WRITE if name not in tools or tools[name].is_write else Boundary.EXTERNAL_READ
        for name in names
    )


def _strongest(found: Iterable[Boundary]) -> Boundary:
    return max(found, key=_STRENGTH.index, default=Boundary.DETERMINISTIC)
