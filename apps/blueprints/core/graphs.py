"""What follows what in a graph, for any list of nodes and edges, however wrong.

An edge with `max_rounds` whose target leads to its source is a back edge; every other edge goes forward.
Sets of nodes are bit masks, so that a graph of hundreds of nodes costs a few milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from apps.blueprints.core.document import Edge, Graph, Node
from apps.blueprints.core.kinds import main_port


class Shape:
    """Facts about one graph. Of nodes with the same id the first counts; edges to nowhere are left out."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: dict[str, Node] = {}
        self.index: dict[str, int] = {}
        for index, node in enumerate(graph.nodes):
            if node.id not in self.nodes:
                self.nodes[node.id] = node
                self.index[node.id] = index
        self.bit = {node_id: 1 << n for n, node_id in enumerate(self.nodes)}
        self.edges: list[tuple[int, Edge]] = [
            (i, e) for i, e in enumerate(graph.edges) if e.source in self.nodes and e.to in self.nodes
        ]
        plain = self._closure([e for _, e in self.edges if e.max_rounds is None])
        self.back: set[int] = {
            i
            for i, e in self.edges
            if e.max_rounds is not None and (e.source == e.to or self.bit[e.to] & plain[e.source])
        }
        self.forward = [(i, e) for i, e in self.edges if i not in self.back]
        self.outgoing: dict[str, list[tuple[int, Edge]]] = {n: [] for n in self.nodes}
        self.incoming: dict[str, list[tuple[int, Edge]]] = {n: [] for n in self.nodes}
        for i, e in self.edges:
            self.outgoing[e.source].append((i, e))
            self.incoming[e.to].append((i, e))
        self.before = self._closure([e for _, e in self.forward])
        """node → mask of all nodes that lead to it without a back edge."""
        self.ever_before = self._closure([e for _, e in self.edges])
        """node → mask of all nodes that can have finished when it runs in some round."""

    def port(self, edge: Edge) -> str:
        return edge.port or main_port(self.nodes[edge.source])

    def names(self, mask: int) -> list[str]:
        return [n for n, bit in self.bit.items() if mask & bit]

    @cached_property
    def roots(self) -> list[str]:
        """Nodes that start a run: nothing leads to them but back edges."""
        led_to = {e.to for _, e in self.forward}
        return [n for n in self.nodes if n not in led_to]

    @cached_property
    def cycles(self) -> list[tuple[int, list[str]]]:
        """Every forward edge that closes a cycle, with the cycle's nodes from its target to its source."""
        found: list[tuple[int, list[str]]] = []
        after: dict[str, list[tuple[int, Edge]]] = {n: [] for n in self.nodes}
        for i, e in self.forward:
            after[e.source].append((i, e))
        state: dict[str, int] = {}
        for start in [*self.roots, *self.nodes]:
            if start in state:
                continue
            way = [start]
            state[start] = 1
            stack = [iter(after[start])]
            while stack:
                for i, edge in stack[-1]:
                    if state.get(edge.to) == 1:
                        found.append((i, way[way.index(edge.to) :]))
                    elif edge.to not in state:
                        state[edge.to] = 1
                        way.append(edge.to)
                        stack.append(iter(after[edge.to]))
                        break
                else:
                    state[way.pop()] = 2
                    stack.pop()
        return found

    def reached(self, *, closed: Iterable[tuple[str, str]] = ()) -> set[str]:
        """Nodes a run can get to from its roots over forward edges.

        closed: (node, port) pairs that are taken to lead nowhere.
        """
        shut = set(closed)
        seen = set(self.roots)
        stack = list(seen)
        while stack:
            node = stack.pop()
            for i, edge in self.outgoing[node]:
                if i not in self.back and edge.to not in seen and (node, self.port(edge)) not in shut:
                    seen.add(edge.to)
                    stack.append(edge.to)
        return seen

    @cached_property
    def bodies(self) -> dict[int, int]:
        """Back edge → mask of the nodes it repeats: all between its target and its source."""
        result: dict[int, int] = {}
        for i, e in self.edges:
            if i not in self.back:
                continue
            ends = self.before[e.source] | self.bit[e.source]
            mask = self.bit[e.to] | self.bit[e.source]
            for node_id, bit in self.bit.items():
                if bit & ends and self.bit[e.to] & self.before[node_id]:
                    mask |= bit
            result[i] = mask
        return result

    def _closure(self, edges: Iterable[Edge]) -> dict[str, int]:
        """node → mask of all nodes with a way to it over these edges."""
        into: dict[str, list[str]] = {n: [] for n in self.nodes}
        out: dict[str, list[str]] = {n: [] for n in self.nodes}
        for edge in edges:
            into[edge.to].append(edge.source)
            out[edge.source].append(edge.to)
        before = dict.fromkeys(self.nodes, 0)
        # In rough topological order one pass settles an acyclic graph; cycles need a few more.
        waiting = {n: len(into[n]) for n in self.nodes}
        order = [n for n in self.nodes if not waiting[n]]
        for node in order:
            for target in out[node]:
                waiting[target] -= 1
                if not waiting[target]:
                    order.append(target)
        placed = set(order)
        order += [n for n in self.nodes if n not in placed]
        changed = True
        while changed:
            changed = False
            for node in order:
                mask = before[node]
                for source in into[node]:
                    mask |= before[source] | self.bit[source]
                if mask != before[node]:
                    before[node] = mask
                    changed = True
        return before
