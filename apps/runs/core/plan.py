"""A blueprint's graph, compiled for the engine: who follows whom, what a back edge repeats, what bodies hold.

The body of a map or loop is a graph of its own and has a plan of its own. A step's path says where it is:
`each[17]/send` is node `send` in the body of `each`, item 17; `each[17]` is its *scope*, `""` the run itself.
`each[17]/.` is the pass through that body: the item or the round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apps.blueprints.core.document import Document, Graph, Node
from apps.blueprints.core.kinds import main_port
from apps.runs.core.limits import LIMITS

TOLERANT_JOINS = frozenset({"any", "n_of_m", "all_settled", "first_success"})
EARLY_JOINS = frozenset({"any", "n_of_m", "first_success"})
SELF = "."
"""Last part of a pass's path."""
UNDO = "/undo"
"""End of a compensation's path: `send/undo` takes back what `send` did. No node in a body has that id."""


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

    def __init__(self, document: Document, graph: Graph | None = None) -> None:
        """graph: a body's; None means the document's own."""
        graph = graph or document.graph
        self.document = document
        self.nodes: dict[str, Node] = {node.id: node for node in graph.nodes}
        self.bodies: dict[str, Plan] = {
            node.id: Plan(document, node.body) for node in graph.nodes if node.body is not None
        }
        """Plans of the maps' and loops' bodies, by node."""
        self.order: tuple[str, ...] = tuple(self.nodes)
        plain = {
            (e.source, e.to)
            for e in graph.edges
            if e.max_rounds is None and e.source in self.nodes and e.to in self.nodes
        }
        forward: dict[str, set[str]] = {n: set() for n in self.nodes}
        for source, target in plain:
            forward[source].add(target)
        edges = []
        for index, edge in enumerate(graph.edges):
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
        self.pure: frozenset[str] = frozenset(n.id for n in graph.nodes if _is_pure(n))
        """Nodes that only compute: repeating one is harmless, so several may share a commit."""
        self.light: frozenset[str] = frozenset(
            id for id in self.pure if _expressions_of(self.nodes[id]) <= LIMITS.light_expressions
        )
        """Those of them that cannot take long, whatever they are given."""
        self._losers: dict[str, frozenset[str]] = {}
        self.sinks: tuple[str, ...] = tuple(n for n in self.order if not forward[n])
        """Nodes nothing follows: their outputs are a body's result."""
        self._scopes: dict[tuple[str, ...], Plan] = {(): self}

    def for_scope(self, scope: str) -> Plan:
        """The plan of the graph that a scope runs. Raises KeyError when there is no such body."""
        if not scope:
            return self
        nodes = tuple(part.partition("[")[0] for part in scope.split("/"))
        plan = self._scopes.get(nodes)
        if plan is None:
            plan = self
            for node in nodes:
                plan = plan.bodies[node]
            self._scopes[nodes] = plan
        return plan

    @cached_property
    def all_pure(self) -> frozenset[str]:
        """Nodes here and in all bodies that only compute; a name may stand in several of them."""
        return self.pure.union(*(body.all_pure for body in self.bodies.values()))

    @cached_property
    def can_undo(self) -> bool:
        """Whether anything in it, its bodies included, says how to take back what it did."""
        return (
            any(tool.undo is not None for tool in self.document.tools.values())
            or any(node.compensate is not None for node in self.nodes.values())
            or any(body.can_undo for body in self.bodies.values())
        )

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


def _is_pure(node: Node) -> bool:
    if node.concurrency is not None:
        return False
    match node.kind:
        case "transform" | "aggregator":
            return True
        case "check":
            return all(check.kind == "expression" for check in node.checks)
        case "router":
            return not (node.agent or node.model or node.prompt)
        case _:
            return False


def _expressions_of(node: Node) -> int:
    """How many expressions it may take to work a node that only computes; each of them is bounded."""
    texts = sum(map(_count, (node.output, node.with_, node.merge, [check.args for check in node.checks])))
    return texts + len(node.routes) + len(node.checks) + isinstance(node.merge, str)


def _count(template: Any) -> int:
    if isinstance(template, str):
        return template.count("{{")
    if isinstance(template, dict):
        template = template.values()
    return sum(map(_count, template)) if isinstance(template, Iterable) else 0


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


def path_of(node: str, round: int, scope: str = "") -> str:
    """A step's identity in its run: `draft`, in round 2 `draft[2]`, in a body `each[17]/draft`."""
    name = node if round == 1 else f"{node}[{round}]"
    return f"{scope}/{name}" if scope else name


def scope_of(path: str) -> str:
    """The scope a step is in; a pass is in the scope it stands for, a compensation beside what it undoes."""
    return path.removesuffix(UNDO).rpartition("/")[0]


def undo_of(path: str) -> str:
    """The path of the step that takes back what another one has done."""
    return path + UNDO


def is_undo(path: str) -> bool:
    return path.endswith(UNDO)


def pass_scope(container: str, number: int) -> str:
    """The scope of one pass through a container's body: item 17 of `each` is `each[17]`."""
    return f"{container}[{number}]"


def pass_path(scope: str) -> str:
    return f"{scope}/{SELF}"


def container_of(scope: str) -> str:
    """Path of the map or loop whose body a scope runs."""
    return scope[: scope.rindex("[")]


def enclosing(scope: str) -> list[str]:
    """The scope and all around it, innermost first, the run itself ("") last."""
    scopes = []
    while scope:
        scopes.append(scope)
        scope = scope_of(container_of(scope))
    return [*scopes, ""]
