"""Nodes and edges: do they exist, do they connect, does every path end?"""

from __future__ import annotations

from itertools import combinations

from apps.blueprints.core.document import Edge, Graph
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.kinds import RUNNABLE, main_port, ports
from apps.blueprints.core.problems import Path, article, path_text, shown
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import IN_NODES, Scope, check_condition
from apps.blueprints.core.suggest import instead, listed, nearest

MOST_OVERLAPS = 20


def check_graph(case: Case) -> None:
    if case.outer is None:
        _check_whole(case)
    _check_kinds(case)
    _check_edges(case)
    _check_duplicate_edges(case)
    _check_cycles(case)
    _check_rounds(case)
    _check_reach(case)
    _check_ends(case)


def _check_whole(case: Case) -> None:
    if not case.document.graph.nodes and not case.node_ids:
        case.error(
            ("graph",),
            "empty_graph",
            "The graph has no node, so there is nothing to run.",
            "Add a node under graph.nodes, such as {id: start, kind: transform, output: …}.",
        )
    _check_ids(case, case.document.graph, ("graph",))


def _check_ids(case: Case, graph: Graph, path: Path) -> None:
    first: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        if node.id in first:
            before = case.found.line_of(case.fitted.original((*path, "nodes", first[node.id])))
            where = f" (the first is in line {before})" if before else ""
            case.error(
                (*path, "nodes", index, "id"),
                "duplicate_id",
                f"Two nodes have the id {shown(node.id)}{where}.",
                f'Give this one another id, such as "{_free(node.id, case.node_ids)}".',
                node=node.id,
            )
        first.setdefault(node.id, index)
        if len(path) > 1 and node.id == "undo":
            case.error(
                (*path, "nodes", index, "id"),
                "reserved_id",
                'A node in a body cannot be called "undo": that is the name of the step that takes it back.',
                'Give it another id, such as "take_back".',
                node=node.id,
            )
        if node.body is not None and len(path) < 30:
            _check_ids(case, node.body, (*path, "nodes", index, "body"))


def _check_kinds(case: Case) -> None:
    for path, node in case.nodes():
        if node.kind not in RUNNABLE:
            case.error(
                (*path, "kind"),
                "kind_not_runnable",
                f'Node "{node.id}" is {article(node.kind)}; the format knows this kind, but this '
                "release does not run it.",
                f"Use one of {', '.join(sorted(RUNNABLE))}.",
                node=node.id,
            )


def _check_edges(case: Case) -> None:
    for path, _, edge in case.edges():
        name = edge_name(edge)
        for field, node_id, verb in (("from", edge.source, "begins"), ("to", edge.to, "ends")):
            if node_id not in case.node_ids:
                hint = instead(node_id, case.node_ids, one_of="one of the nodes") or "add the node"
                case.error(
                    (*path, field),
                    "missing_node",
                    f'Edge "{name}" {verb} at node {shown(node_id)}, which does not exist.',
                    f"{hint[:1].upper()}{hint[1:]}, add the node, or remove the edge.",
                )
        source = case.shape.nodes.get(edge.source)
        if source is None:
            continue
        if edge.port and edge.port not in ports(source):
            case.error(
                (*path, "from"),
                "missing_port",
                f'Edge "{name}" leaves by port {shown(edge.port)}, but {source.kind} "{source.id}" has '
                "no such port.",
                _port_fix(source.id, edge.port, ports(source)),
                node=source.id,
            )
        elif source.verbs and edge.port in VERB_OF and VERB_OF[edge.port] not in source.verbs:
            verb = VERB_OF[edge.port]
            case.warning(
                (*path, "from"),
                "port_never_used",
                f'Edge "{name}" is never taken: "{source.id}" does not offer the verb {verb}.',
                f"Add {verb} to its verbs, or remove the edge.",
                node=source.id,
            )
        if edge.when:
            before = case.shape.ever_before[edge.source] | case.shape.bit[edge.source]
            check_condition(
                case,
                edge.when,
                (*path, "when"),
                Scope(IN_NODES | case.given | {"output"}, edge.source, before),
            )


def _free(name: str, taken: frozenset[str]) -> str:
    return next(free for n in range(2, len(taken) + 3) if (free := f"{name[:60]}_{n}") not in taken)


VERB_OF = {"approved": "approve", "rejected": "reject", "changes": "request_changes", "answered": "answer"}
"""Port of an approval → the verb that leads there."""


def edge_name(edge: Edge) -> str:
    return f"{edge.from_} → {edge.to}"


def _port_fix(node_id: str, port: str, known: tuple[str, ...]) -> str:
    near = nearest(port, known)
    if near:
        return f'Write "{node_id}.{near}".'
    return f"Write one of {', '.join(f'{node_id}.{name}' for name in known)}."


def _check_duplicate_edges(case: Case) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    for path, index, edge in case.edges():
        source = case.shape.nodes.get(edge.source)
        port = edge.port or (main_port(source) if source else "")
        key = (edge.source, port, edge.to)
        if key not in seen:
            seen[key] = index
            continue
        other = case.document.graph.edges[seen[key]]
        joined = edge.when != other.when
        case.error(
            path,
            "duplicate_edge",
            f'Edge "{edge_name(edge)}" stands twice (first at '
            f"{path_text(case.fitted.original(('graph', 'edges', seen[key])))}).",
            f"Keep one edge with both conditions: when: ({other.when or 'true'}) || ({edge.when or 'true'})."
            if joined
            else "Remove one of them.",
            node=edge.source,
        )


def _check_cycles(case: Case) -> None:
    for index, way in case.shape.cycles:
        edge = case.document.graph.edges[index]
        shown_way = " → ".join([*way[:8], *(["…"] if len(way) > 8 else []), way[0]])
        if edge.max_rounds is not None:
            fix = f"Put max_rounds on the one edge that goes back to {way[0]}, and on no other of the cycle."
        else:
            fix = (
                "Add max_rounds to the edge that goes back: "
                f"{{from: {edge.from_}, to: {edge.to}, max_rounds: 3}}."
            )
        case.error(
            ("graph", "edges", index),
            "cycle_without_bound",
            f"The cycle {shown_way} has no bound, so the run might never end.",
            fix,
            node=edge.source,
        )


def _check_rounds(case: Case) -> None:
    shape = case.shape
    if not shape.cycles:
        for index, edge in shape.edges:
            if edge.max_rounds is not None and index not in shape.back:
                case.warning(
                    ("graph", "edges", index, "max_rounds"),
                    "not_a_back_edge",
                    f'Edge "{edge_name(edge)}" has max_rounds, but it goes forward: nothing leads from '
                    f'"{edge.to}" to '
                    f'"{edge.source}".',
                    "Remove max_rounds, or let the edge end at a node that comes before.",
                    node=edge.source,
                )
    overlaps = 0
    for (one, body), (other, more) in combinations(sorted(shape.bodies.items()), 2):
        common = body & more
        if not common or common in (body, more) or overlaps >= MOST_OVERLAPS:
            continue
        overlaps += 1
        first, second = case.document.graph.edges[one], case.document.graph.edges[other]
        nodes = ", ".join(f'"{n}"' for n in shape.names(common)[:5])
        case.error(
            ("graph", "edges", other),
            "overlapping_back_edges",
            f'The back edges "{edge_name(first)}" and "{edge_name(second)}" overlap: both repeat {nodes}, '
            "but neither repeats all of the other.",
            f"Let both go back to the same node, for example both to {_outermost(shape, first, second)}.",
            node=second.source,
        )


def _outermost(shape: Shape, one: Edge, other: Edge) -> str:
    return one.to if shape.bit[one.to] & shape.before[other.to] else other.to


def _check_reach(case: Case) -> None:
    """Nodes nothing leads to start the run, so only what hangs on an island of cycles is never reached."""
    shape = case.shape
    reached = shape.reached()
    for node_id, node in shape.nodes.items():
        path = ("graph", "nodes", shape.index[node_id])
        if node_id not in reached and shape.roots:
            before = sorted({e.source for _, e in shape.incoming[node_id]})
            case.error(
                path,
                "unreachable_node",
                f'Node "{node_id}" can never run: only {listed(before)} leads to it, and that never '
                "runs either.",
                f"Add an edge from a node that runs to {node_id}, or remove it.",
                node=node.id,
            )
        elif _is_alone(case, node_id):
            case.error(
                path,
                "unreachable_node",
                f'Node "{node_id}" is not connected: no edge leads to it or away from it.',
                f"Add an edge to {node_id}, such as {{from: {_other(case, node_id)}, to: {node_id}}}, "
                "or remove it.",
                node=node.id,
            )


def _is_alone(case: Case, node_id: str) -> bool:
    return bool(case.connected) and len(case.node_ids) > 1 and node_id not in case.connected


def _other(case: Case, node_id: str) -> str:
    return next((n for n in case.shape.nodes if n != node_id), "start")


def _check_ends(case: Case) -> None:
    """A path that can only go back uses up its rounds and fails; it needs a way on or an end."""
    shape = case.shape
    for node_id, node in shape.nodes.items():
        leaving = [(i, e) for i, e in shape.outgoing[node_id] if i in shape.back and not e.when]
        if not leaving:
            continue
        always_back = {shape.port(e) for _, e in leaving}
        good = [p for p in ports(node) if p not in ("failed", "expired")]
        if node.kind == "approval":
            offered = node.verbs or ["approve", "reject"]
            good = [p for p in good if VERB_OF[p] in offered or p in always_back]
        if set(good) <= always_back:
            index, edge = leaving[0]
            case.error(
                ("graph", "edges", index),
                "path_never_ends",
                f'After "{node_id}" the run always goes back to "{edge.to}": no path from here ends.',
                "Put a condition on the edge (when: …), or let it leave by a port that is not always "
                "taken, and add "
                f"an edge from {node_id} that goes on.",
                node=node_id,
            )
