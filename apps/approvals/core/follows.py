"""What a decision lets happen outside: the writes that follow it before anybody is asked again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from apps.blueprints.core.boundaries import boundary_of, known_tools
from apps.blueprints.core.document import Document, Edge, Graph, Node
from apps.blueprints.core.kinds import Boundary, main_port
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec

_GOES_ON = ("", "approved", "answered")
"""Ways out that a yes takes."""


def acts_after(document: Document, node: Node, tools: Mapping[str, ToolSpec]) -> list[str]:
    """Titles of the steps that change something outside once this approval is given, in the graph's order.

    Up to the next approval, since that asks again; an agent's writes ask too, except at tier 2. Where the
    body of a map or loop may end before that, its next pass counts, and what follows the map or loop.
    tools: the built-in ones.
    """
    known = known_tools(document, tools)
    found: list[Node] = []
    for graph, inside in _around(document.graph, node):
        ways = [e for e in graph.edges if e.source == inside.id]
        if inside is node:
            ways = [e for e in ways if (e.port or "") in _GOES_ON]
        reached, ends = _reached(graph, [e.to for e in ways])
        ends = ends or all(e.when for e in ways)
        if ends and graph is not document.graph:
            reached |= _reached(graph, _roots(graph))[0]
        found += [one for one in graph.nodes if one.id in reached]
        if not ends:
            break
    return [
        title_of(one.title, one.id)
        for one in found
        if (one.kind != "agent" or one.tier == 2)
        and boundary_of(document, one, known) is Boundary.EXTERNAL_WRITE
    ]


def _around(graph: Graph, node: Node) -> Sequence[tuple[Graph, Node]]:
    """The graph a node is in and those around it, innermost first, each with what the node is in it. By
    identity: a body may use a name again that stands outside it."""
    for one in graph.nodes:
        if one is node:
            return [(graph, node)]
        if one.body is not None and (inner := _around(one.body, node)):
            return [*inner, (graph, one)]
    return []


def _reached(graph: Graph, first: Iterable[str]) -> tuple[set[str], bool]:
    """Nodes reached from these without passing a question, and whether the graph may end without one."""
    by_id, waiting = {one.id: one for one in graph.nodes}, list(first)
    reached: set[str] = set()
    ends = False
    while waiting:
        name = waiting.pop()
        if name in reached or name not in by_id or by_id[name].kind == "approval":
            continue
        reached.add(name)
        ways = [edge for edge in graph.edges if edge.source == name]
        waiting += [edge.to for edge in ways]
        ends = ends or not any(_is_always_taken(edge, by_id[name]) for edge in ways)
    return reached, ends


def _is_always_taken(edge: Edge, node: Node) -> bool:
    """Whether a step that succeeds leaves by this edge, as far as can be seen."""
    return not edge.when and (edge.port or main_port(node)) == main_port(node)


def _roots(graph: Graph) -> list[str]:
    entered = {edge.to for edge in graph.edges if edge.max_rounds is None}
    return [one.id for one in graph.nodes if one.id not in entered]
