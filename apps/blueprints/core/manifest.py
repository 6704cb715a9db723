"""What a blueprint will touch, in words, told from the document before anything runs.

A write counts as gated when an approval proposes it, or when every way to it leaves an approval by
`approved`. This is the promise on a gallery card; the gateway keeps it at run time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from apps.blueprints.core.boundaries import all_nodes, known_tools, tools_of_node
from apps.blueprints.core.document import Document, Graph, Node, Quorum
from apps.blueprints.core.text_fit import title_of
from apps.blueprints.core.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class Needed:
    """A connection a workspace must fill in."""

    name: str
    kind: str
    fields: list[str]
    hosts: list[str]
    sentence: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Whole sentences, each list in the order of the graph, nothing twice."""

    reads: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list)
    approvals: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    connections: list[Needed] = field(default_factory=list)
    ungated: list[str] = field(default_factory=list)
    """Paths of the nodes that can write with no approval before them."""

    sentences: list[str] = field(default_factory=list)
    """All of it in reading order."""


def manifest(document: Document, tools: Mapping[str, ToolSpec]) -> Manifest:
    """Read a document as a list of what it touches.

    tools: built-in tools by name; those the document declares are added. A tool nobody knows is a write.
    """
    known = known_tools(document, tools)
    ungated = _ungated(document, known)
    reads = _unique(
        f"{permission_sentence(known[name])}." for _path, name in _calls(document) if not _writes(known, name)
    )
    writes = _write_sentences(document, known, set(ungated))
    approvals = _unique(_asks(node) for _path, node in all_nodes(document.graph) if node.kind == "approval")
    models = _unique(_model_sentences(document))
    connections = [
        Needed(name, need.kind, list(need.fields), list(need.hosts), _connection_sentence(name, need.hosts))
        for name, need in document.connections.items()
    ]
    sentences = [*reads, *models, *(writes or ["Changes nothing outside."]), *approvals]
    sentences += [needed.sentence for needed in connections]
    return Manifest(reads, writes, approvals, models, connections, ungated, sentences)


def gated_nodes(document: Document) -> frozenset[str]:
    """Paths of the nodes that cannot start before a person has approved."""
    return frozenset(_gated(document.graph, "", outside=False))


def permission_sentence(spec: ToolSpec) -> str:
    """`send e-mail` as what the blueprint does: "Sends e-mail"; no full stop."""
    verb, _, rest = spec.permission.partition(" ")
    if not rest:
        return f"Uses {(spec.permission or spec.name).replace('_', ' ')}"
    return f"{_third_person(verb)} {rest.rstrip('.')}"


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh", "o")):
        verb += "es"
    elif verb.endswith("y") and verb[-2:-1] not in "aeiou":
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return verb[:1].upper() + verb[1:]


def _calls(document: Document) -> Iterator[tuple[str, str]]:
    """Path and tool of everything a node may call."""
    for path, node in all_nodes(document.graph):
        for name in tools_of_node(document, node):
            yield path, name


def _writes(known: Mapping[str, ToolSpec], name: str) -> bool:
    return name not in known or known[name].is_write


def _write_sentences(document: Document, known: Mapping[str, ToolSpec], ungated: set[str]) -> list[str]:
    callers: dict[str, list[str]] = {}
    for path, name in _calls(document):
        if _writes(known, name):
            callers.setdefault(name, []).append(path)
    nodes = dict(all_nodes(document.graph))
    sentences = []
    for name, paths in callers.items():
        does = permission_sentence(known[name]) if name in known else f"Uses {name.replace('_', ' ')}"
        limit = document.contract.tool_limits.get(name)
        if limit is not None and limit.per_run is not None:
            does += (
                ", at most once per run" if limit.per_run == 1 else f", at most {limit.per_run} times per run"
            )
        free = [title_of(nodes[path].title, nodes[path].id) for path in paths if path in ungated]
        if not free:
            sentences.append(f"{does}, only after a person approves.")
        elif len(free) == len(paths):
            sentences.append(f"{does}, with no approval before it.")
        else:
            sentences.append(f"{does}, with no approval before it at “{'”, “'.join(free)}”.")
    return _unique(sentences)


def _ungated(document: Document, known: Mapping[str, ToolSpec]) -> list[str]:
    gated = gated_nodes(document)
    return _unique(path for path, name in _calls(document) if _writes(known, name) and path not in gated)


def _gated(graph: Graph, prefix: str, *, outside: bool) -> Iterator[str]:
    """outside: the container of this graph is gated itself, and so is everything in it."""
    proposed = {node.proposes for node in graph.nodes if node.kind == "approval"}
    reached = _reached_without_approval(graph)
    for node in graph.nodes:
        is_gated = outside or node.id in proposed or node.id not in reached
        if is_gated:
            yield f"{prefix}{node.id}"
        if node.body is not None:
            yield from _gated(node.body, f"{prefix}{node.id}/", outside=is_gated)


def _reached_without_approval(graph: Graph) -> set[str]:
    """Nodes with a way from the start that never leaves an approval by `approved`."""
    kind = {node.id: node.kind for node in graph.nodes}
    open_ways: dict[str, list[str]] = {}
    for edge in graph.edges:
        port = edge.port or "approved"
        if not (kind.get(edge.source) == "approval" and port == "approved"):
            open_ways.setdefault(edge.source, []).append(edge.to)
    entered = {edge.to for edge in graph.edges if edge.max_rounds is None and edge.source != edge.to}
    # In a graph that is one circle (refused by validation) any node may be the first.
    todo = [node.id for node in graph.nodes if node.id not in entered] or list(kind)
    reached: set[str] = set()
    while todo:
        node_id = todo.pop()
        if node_id not in reached:
            reached.add(node_id)
            todo.extend(open_ways.get(node_id, ()))
    return reached


def _asks(node: Node) -> str:
    return f"Asks {_who(node)}: “{title_of(node.title, node.id)}”"


def _who(node: Node) -> str:
    if node.quorum:
        return " and ".join(_quorum(rule) for rule in node.quorum)
    groups = [group.replace("_", " ") for group in node.assign.groups]
    return f"a person of {' or '.join(groups)}" if groups else "a person"


def _quorum(rule: Quorum) -> str:
    people = "a person" if rule.count == 1 else f"{rule.count} people"
    return f"{people} of {rule.of.replace('_', ' ')}" if rule.of else people


def _model_sentences(document: Document) -> Iterator[str]:
    for _path, node in all_nodes(document.graph):
        if node.kind in ("agent", "extract") or (node.kind == "router" and (node.model or node.agent)):
            agent = document.agents.get(node.agent)
            name = node.model or (agent.model if agent else "")
            yield from _uses_of(document, name)


def _uses_of(document: Document, name: str) -> Iterator[str]:
    """A model's name and those it falls back to, each as a sentence."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        choice = document.models.get(name)
        use = choice.use if choice is not None else name
        if not use:
            yield "Asks the model the workspace has chosen."
        elif use.partition(":")[0] == "offline":
            yield "Works with the built-in offline model; nothing leaves this machine for it."
        else:
            yield f"Asks the model {use}."
        if choice is None or not choice.fallback:
            return
        name = choice.fallback


def _connection_sentence(name: str, hosts: list[str]) -> str:
    where = f" to {', '.join(hosts)}" if hosts else ""
    return f"Needs your connection “{name}”{where}."


def _unique(items: Iterator[str] | list[str]) -> list[str]:
    return list(dict.fromkeys(items))
