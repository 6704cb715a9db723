"""What a blueprint may do, as claims in words: what a person agrees to when they publish or install it.

Each claim has a stable key, so that two documents can be compared claim by claim.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from apps.blueprints.core.boundaries import all_nodes, known_tools, tools_of_node
from apps.blueprints.core.document import Document, ForbiddenAction, Graph
from apps.blueprints.core.kinds import MAIN_PORT
from apps.blueprints.core.tools import ToolSpec
from apps.ledger.core.states import EffectClass

EFFECT_WORDS: dict[EffectClass, str] = {
    EffectClass.READ: "only reads",
    EffectClass.IDEMPOTENT: "changes something; repeating it is harmless",
    EffectClass.KEYED: "changes something; the other side refuses doubles",
    EffectClass.PROBE: "changes something; the other side can be asked whether it happened",
    EffectClass.OPAQUE: "changes something; only a person can tell whether it happened",
}


@dataclass(frozen=True)
class Permission:
    key: str
    """Stable: `tool:send_email`, `host:shop.example`, `uses:draft:send_email`."""
    words: str
    limits: bool = False
    """True for a claim that holds the blueprint back: with it gone, the blueprint may do more."""


def permissions(document: Document, tools: Mapping[str, ToolSpec]) -> dict[str, Permission]:
    """Every claim by its key, in a stable order. tools: the built-in ones; declared ones are added."""
    found: dict[str, Permission] = {}
    for one in _all(document, known_tools(document, tools)):
        found.setdefault(one.key, one)
    return found


def _all(document: Document, tools: Mapping[str, ToolSpec]) -> Iterator[Permission]:
    yield from _tools(document, tools)
    yield from _outside(document)
    yield from _steps(document)
    yield from _limits(document, tools)


def _tools(document: Document, tools: Mapping[str, ToolSpec]) -> Iterator[Permission]:
    allowed = list(document.contract.boundaries.allowed_tools)
    users = _users(document)
    for name in [*allowed, *(n for n in users if n not in allowed)]:
        spec = tools.get(name)
        if name in allowed:
            what = f": {spec.permission}" if spec is not None and spec.permission else ""
            yield Permission(f"tool:{name}", f"The contract allows the tool {name}{what}.")
        if spec is not None:
            effect = EFFECT_WORDS[spec.effect]
            yield Permission(f"effect:{name}:{spec.effect}", f"The tool {name} {effect}.")
    for name, who in users.items():
        for user in who:
            yield Permission(f"uses:{user}:{name}", f"{user} calls {name}.")


def _users(document: Document) -> dict[str, list[str]]:
    """Tool → who calls it, in words: agents and steps."""
    users: dict[str, list[str]] = {}
    for agent_name, agent in document.agents.items():
        for name in agent.tools:
            users.setdefault(name, []).append(f"The agent {agent_name}")
    for path, node in all_nodes(document.graph):
        names = tools_of_node(document, node) if node.kind != "agent" else ()
        undo = (node.compensate.tool,) if node.compensate is not None else ()
        for name in (*names, *undo):
            users.setdefault(name, []).append(f"The step {path}")
    return users


def _outside(document: Document) -> Iterator[Permission]:
    """Hosts, connections and model vendors: where data may go."""
    for name, tool in document.tools.items():
        for url in (tool.url, tool.probe.url if tool.probe is not None else ""):
            host = _host(url)
            if host:
                yield Permission(f"host:{host}", f"It talks to {host} (first through the tool {name}).")
    for name, need in document.connections.items():
        yield Permission(f"connection:{name}", f"It needs the connection {name} ({need.kind}).")
        for field in need.fields:
            yield Permission(
                f"secret:{name}.{field}", f"It uses the secret {field} of the connection {name}."
            )
        for host in need.hosts:
            yield Permission(
                f"secret-host:{name}:{host}", f"The secrets of the connection {name} may go to {host}."
            )
    for name, model in document.models.items():
        vendor = model.use.partition(":")[0]
        if vendor:
            words = f"It asks models of {vendor} (first as {name})."
            yield Permission(f"vendor:{vendor}", words)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "") if "://" in url else ""
    except ValueError:
        return ""


def _steps(document: Document) -> Iterator[Permission]:
    for path, node in all_nodes(document.graph):
        if node.kind == "subflow" and node.blueprint:
            yield Permission(f"subflow:{node.blueprint}", f"It runs the blueprint {node.blueprint}.")
        elif node.kind == "code":
            library = ", with the standard library" if node.python == "full" else ""
            yield Permission(f"code:{path}:{node.python}", f"The step {path} runs Python{library}.")


def _limits(document: Document, tools: Mapping[str, ToolSpec]) -> Iterator[Permission]:
    contract = document.contract
    for action in contract.boundaries.forbidden_actions:
        whole = action if isinstance(action, ForbiddenAction) else ForbiddenAction(name=action)
        when = f" when {whole.when}" if whole.when else ""
        yield Permission(
            f"forbidden:{whole.name}:{whole.when}", f"The contract forbids {whole.name}{when}.", limits=True
        )
    for point in contract.human_checkpoints:
        if point.required:
            yield Permission(f"person:{point.step}", f"A person has to decide at {point.step}.", limits=True)
    for path in _asked_first(document, tools):
        yield Permission(f"asked:{path}", f"{path} happens only after a person approved it.", limits=True)
    for name in document.card.must_never:
        yield Permission(f"never:{name}", f"The card promises: never {name}.", limits=True)


def _asked_first(document: Document, tools: Mapping[str, ToolSpec]) -> Iterator[str]:
    """Writing tool steps that nothing leads to but the approval that proposes them, by path."""
    for prefix, graph in _graphs(document.graph):
        nodes = {node.id: node for node in graph.nodes}
        for node in graph.nodes:
            spec = tools.get(node.tool)
            if node.kind != "tool" or (spec is not None and not spec.is_write):
                continue
            into = [edge for edge in graph.edges if edge.to == node.id and edge.source in nodes]
            if into and all(
                nodes[edge.source].kind == "approval" and (edge.port or MAIN_PORT["approval"]) == "approved"
                for edge in into
            ):
                yield f"{prefix}{node.id}"


def _graphs(graph: Graph, prefix: str = "") -> Iterator[tuple[str, Graph]]:
    yield prefix, graph
    for node in graph.nodes:
        if node.body is not None:
            yield from _graphs(node.body, f"{prefix}{node.id}/")
