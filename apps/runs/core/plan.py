"""A blueprint's graph, compiled for the engine: who follows whom, and what a back edge repeats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from apps.blueprints.core.document import Document, Node
from apps.blueprints.core.kinds import main_port

TOLERANT_JOINS = frozenset({"any", "n_of_m", "all_settled", "first_success"})
EARLY_JOINS = frozenset({"any", "n_of_m", "first_success"})


@dataclass(frozen=True)
class PlanEdge:
    index: int
    """Position in the blueprint's list; what `Step.taken` stores."""
    source: str
    port: str
    target: str
    when: str
    is_back: bool
    max_rounds: int
    catches_failure: bool
    """The edge leads from a node's main port into a join that tolerates failure, so it ends that failure."""


class Plan:
    """Immutable once built; build it through `compile_plan`."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.nodes: dict[str, Node] = {node.id: node for node in document.graph.nodes}
        self.order: tuple[str, ...] = tuple(self.nodes)
        plain = {
            (e.source, e.to)
            for e in document.graph.edges
            if e.max_rounds is None and e.source in self.nodes and e.to in self.nodes
        }
        forward: dict[str, set[str]] = {n: set() for n in self.nodes}
        for source, target in plain:
            forward[source].add(target)
        edges = []
        for index, edge in enumerate(document.graph.edges):
            leaving, entered = self.nodes[edge.source], self.nodes[edge.to]
            is_back = edge.max_rounds is not None and edge.source in _reach(forward, edge.to)
            edges.append(
                PlanEdge(
                    index=index,
                    source=leaving.id,
                    port=edge.port or main_port(leaving),
                    target=entered.id,
                    when=edge.when,
                    is_back=is_back,
                    max_rounds=edge.max_rounds or 1,
                    catches_failure=(
                        not is_back
                        and entered.kind == "aggregator"
                        and (entered.join or "all") in TOLERANT_JOINS
                        and edge.port in ("", main_port(leaving))
                    ),
                )
            )
            if not is_back:
                forward[leaving.id].add(entered.id)
        self.edges: tuple[PlanEdge, ...] = tuple(edges)
        self._forward = forward
        self.incoming: dict[str, tuple[PlanEdge, ...]] = {
            n: tuple(e for e in edges if e.target == n and not e.is_back) for n in self.nodes
        }
        self.outgoing: dict[str, tuple[PlanEdge, ...]] = {
            n: tuple(e for e in edges if e.source == n) for n in self.nodes
        }
        self.back_edges: tuple[PlanEdge, ...] = tuple(e for e in edges if e.is_back)
        self.body: dict[int, frozenset[str]] = {
            e.index: frozenset(n for n in _reach(forward, e.target) if e.source in _reach(forward, n))
            for e in self.back_edges
        }
        """For each back edge the nodes it repeats: all between its target and its source."""
        self.early_joins: tuple[str, ...] = tuple(
            n.id for n in self.nodes.values() if n.kind == "aggregator" and n.join in EARLY_JOINS
        )
        self._losers: dict[str, frozenset[str]] = {}

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """Nodes that start a run: nothing leads to them but back edges."""
        return tuple(n for n in self.order if not self.incoming[n])

    def topological(self) -> tuple[str, ...]:
        """Nodes so that each comes after all that lead to it; back edges do not count."""
        remaining = {n: len(self.incoming[n]) for n in self.order}
        queue = [n for n in self.order if remaining[n] == 0]
        done: list[str] = []
        while queue:
            node = queue.pop(0)
            done.append(node)
            for edge in self.outgoing[node]:
                if not edge.is_back:
                    remaining[edge.target] -= 1
                    if remaining[edge.target] == 0:
                        queue.append(edge.target)
        return tuple(done)

    def losers(self, join: str) -> frozenset[str]:
        """Nodes all of whose ways forward lead into `join`: of no use once it has settled."""
        if join not in self._losers:
            self._losers[join] = self._find_losers(join)
        return self._losers[join]

    def _find_losers(self, join: str) -> frozenset[str]:
        useful: set[str] = set()
        before: dict[str, list[str]] = {n: [] for n in self.order}
        for source, targets in self._forward.items():
            for target in targets:
                before[target].append(source)
        ends = [n for n in self.order if n != join and not self._forward[n]]
        while ends:
            node = ends.pop()
            if node in useful or node == join:
                continue
            useful.add(node)
            ends.extend(before[node])
        upstream = _reach({n: set(b) for n, b in before.items()}, join) - {join}
        return frozenset(upstream - useful)


def _reach(forward: dict[str, set[str]], start: str) -> set[str]:
    seen, stack = {start}, [start]
    while stack:
        for target in forward[stack.pop()]:
            if target not in seen:
                seen.add(target)
                stack.append(target)
    return seen


def compile_plan(document: Document) -> Plan:
    """Compile a validated document. Raises KeyError when an edge names a node that does not exist."""
    return Plan(document)


def path_of(node: str, round: int) -> str:
    """A step's identity in its run: `draft`, in round 2 `draft[2]`."""
    return node if round == 1 else f"{node}[{round}]"
