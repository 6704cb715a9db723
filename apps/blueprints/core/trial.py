"""A part of a draft as a blueprint of its own, to be run as a test. Pure.

    whole   everything
    upto    one step and all it needs; nothing after it
    only    one step alone: what it needs comes from given data instead of running
    item    one item of a map: as `only` where there is data for what it needs, else as `upto`

Given data (pins, or what a past run made) replaces steps: each becomes a `transform` that hands over
`inputs.pinned[<path>]`. So data travels with the run's inputs and never in the text, which nobody can publish
by mistake, and a template inside the data is never evaluated.

An approval is never replaced. What a person decides cannot be had from data, and with it gone the step behind
it would act without having been approved: so the test asks for real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.blueprints.core.boundaries import all_nodes, boundary_of, known_tools, tools_of_node
from apps.blueprints.core.diff import diff
from apps.blueprints.core.document import Document, Edge, Graph, Node, SuccessCriteria
from apps.blueprints.core.graphs import Shape
from apps.blueprints.core.kinds import Boundary, main_port
from apps.blueprints.core.tools import ToolSpec

Kind = Literal["whole", "upto", "only", "item"]
PINNED = "pinned"
"""The input that carries the data."""
_STEP = re.compile(r"""(?<![\w.])steps\s*(?:\.\s*([a-z][a-z0-9_]*)|\[\s*["']([a-z][a-z0-9_]*)["']\s*\])""")
_INPUTS = re.compile(r"(?<![\w.])inputs(?!\w)")


class NotTestable(Exception):
    """code, message: what cannot be tested and why, in words; missing: steps whose data would be needed."""

    def __init__(self, code: str, message: str, missing: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.missing = code, message, tuple(missing)


@dataclass(frozen=True)
class Given:
    """What a step is taken to have made."""

    output: Any
    port: str = ""
    """The port it left by; empty for its main port."""


@dataclass(frozen=True)
class Aim:
    kind: Kind = "whole"
    node: str = ""
    """Path of the step; empty for the whole."""
    index: int = 0
    """Which item of a map, from 0."""

    @property
    def words(self) -> str:
        match self.kind:
            case "whole":
                return "all of it"
            case "upto":
                return f"up to {self.node}"
            case "only":
                return f"{self.node} alone"
            case "item":
                return f"item {self.index + 1} of {self.node}"


@dataclass(frozen=True)
class Trial:
    document: Document
    """What is run."""
    data: dict[str, Any] = field(default_factory=dict)
    """For the input `pinned`: outputs by path, of the steps that were replaced."""
    runs: tuple[str, ...] = ()
    """Paths of the steps that really run, in the order of the document."""

    @property
    def asks_for_inputs(self) -> bool:
        """Whether somebody has to fill in the blueprint's own inputs."""
        return bool(set(self.document.contract.inputs.get("properties", {})) - {PINNED})


def derive(document: Document, aim: Aim, given: Mapping[str, Given]) -> Trial:
    """The part of a document that a test runs.

    given: data by path. For `whole` and `upto` every step in it is replaced; for `only` what the step needs.
    Raises NotTestable: no such step, data missing, or nothing that could be run.
    """
    if aim.kind == "item" and aim.node:
        return _item(document, aim, given)
    path = tuple(aim.node.split("/")) if aim.node else ()
    if aim.kind != "whole" and not path:
        raise NotTestable("no_step", "Choose the step to test.")
    work = _Work(document, given, alone=aim.kind == "only", index=aim.index)
    graph = work.cut(document.graph, path, "")
    if work.missing:
        names = ", ".join(sorted(work.missing))
        raise NotTestable(
            "data_missing",
            f'"{aim.node}" needs what {names} made, and there is no pinned or captured data for that.',
            sorted(work.missing),
        )
    return _trial(document, aim, graph, work)


def touches_outside(trial: Trial, tools: Mapping[str, ToolSpec]) -> list[str]:
    """Steps of a test that must not meet given data for real: data has lost the mark of where it came from.

    Writing steps, and agents that choose where a tool they call looks.
    """
    known = known_tools(trial.document, tools)
    found = []
    for path, node in all_nodes(trial.document.graph):
        chooses = node.kind == "agent" and any(
            name not in known or known[name].sinks for name in tools_of_node(trial.document, node)
        )
        inside = node.body is not None
        if not inside and (chooses or boundary_of(trial.document, node, known) is Boundary.EXTERNAL_WRITE):
            found.append(path)
    return found


def stale(now: Document, tested: Document, paths: Iterable[str]) -> set[str]:
    """Of the steps a test has run, those that have changed since, by themselves or in what they use."""
    found = diff(tested, now)
    changed = {change.subject for change in found.of("steps")}
    names = {section: {c.subject for c in found.of(section)} for section in ("agents", "models", "tools")}
    nodes = dict(all_nodes(now.graph))
    result = set()
    for path in paths:
        node = nodes.get(path)
        if node is None:
            continue
        agent = now.agents.get(node.agent)
        models = {node.model, agent.model if agent else ""}
        tools = {node.tool, *(agent.tools if agent else ())}
        uses_changed = node.agent in names["agents"] or models & names["models"] or tools & names["tools"]
        inside_changed = any(other.startswith(f"{path}/") for other in changed)
        if path in changed or uses_changed or inside_changed:
            result.add(path)
    return result


# --- cutting ----------------------------------------------------------------------------------------------


class _Work:
    def __init__(self, document: Document, given: Mapping[str, Given], *, alone: bool, index: int) -> None:
        self.document = document
        self.given = given
        self.alone = alone
        self.index = index
        self.used: dict[str, Any] = {}
        self.missing: set[str] = set()

    def cut(self, graph: Graph, path: tuple[str, ...], prefix: str) -> Graph:
        """The part of one graph that a target needs; no target means all of it."""
        shape = Shape(graph)
        target = path[0] if path else ""
        if target and target not in shape.nodes:
            raise NotTestable("no_step", f'The draft has no step "{prefix}{target}".')
        if target and len(path) > 1 and shape.nodes[target].body is None:
            raise NotTestable("no_step", f'"{prefix}{target}" has no steps inside it.')
        before = {n: [e for i, e in shape.incoming[n] if i not in shape.back] for n in shape.nodes}
        ends = [target] if target else [n for n in shape.nodes if not _forward(shape, n)]
        alone = self.alone and bool(target)
        kept, replaced = self._needed(shape, before, ends, target, prefix)
        nodes = []
        for node in graph.nodes:
            if node.id in replaced:
                nodes.append(self._replacement(node, prefix))
            elif node.id in kept:
                nodes.append(self._body(node, path[1:] if node.id == target else (), prefix))
        edges = self._edges(graph, shape, kept | replaced, replaced, target, prefix)
        found = Graph(nodes=nodes, edges=edges)
        return found if alone else _reachable(found, set(shape.roots) | replaced)

    def _needed(
        self, shape: Shape, before: dict[str, list[Edge]], ends: list[str], target: str, prefix: str
    ) -> tuple[set[str], set[str]]:
        """(steps that run, steps that data replaces): from the ends backwards, stopping at data."""
        kept: set[str] = set()
        replaced: set[str] = set()
        waiting = list(ends)
        while waiting:
            node_id = waiting.pop()
            if node_id in kept or node_id in replaced:
                continue
            node, path = shape.nodes[node_id], f"{prefix}{node_id}"
            if node_id != target and node.kind != "approval" and path in self.given:
                replaced.add(node_id)
                continue
            kept.add(node_id)
            named = {name for name in _names(self.document, node) if name in shape.nodes}
            leading = {edge.source for edge in before[node_id]}
            for needed in sorted(leading | named):
                is_person = shape.nodes[needed].kind == "approval"
                if not (self.alone and target) or is_person or f"{prefix}{needed}" in self.given:
                    waiting.append(needed)
                elif needed in named and needed != node_id:
                    self.missing.add(f"{prefix}{needed}")
        return kept, replaced

    def _replacement(self, node: Node, prefix: str) -> Node:
        path = f"{prefix}{node.id}"
        self.used[path] = self.given[path].output
        return Node.model_validate(
            {
                "id": node.id,
                "kind": "transform",
                "title": f"{node.title or node.id} (pinned)",
                "output": f"{{{{ inputs.{PINNED}[{json.dumps(path)}] }}}}",
            }
        )

    def _body(self, node: Node, rest: tuple[str, ...], prefix: str) -> Node:
        """A container with its body cut to what is under test, or with data put in."""
        if node.body is None:
            return node
        body = self.cut(node.body, rest, f"{prefix}{node.id}/")
        changes: dict[str, Any] = {"body": body}
        if rest:
            changes |= {"merge": None, "join": None, "n": None}
            if node.kind == "loop":
                changes |= {"condition": "true", "max_rounds": 1}
            elif self.alone:
                changes["items"] = one_of(node.items, self.index)
        return node.model_copy(update=changes)

    def _edges(
        self, graph: Graph, shape: Shape, there: set[str], replaced: set[str], target: str, prefix: str
    ) -> list[Edge]:
        alone = self.alone and bool(target)
        edges = []
        for edge in graph.edges:
            if edge.source not in there or edge.to not in there or edge.source == target:
                continue
            if edge.to in replaced and alone:
                continue
            if edge.source in replaced:
                found = self._from_data(edge, shape.nodes[edge.source], f"{prefix}{edge.source}", alone)
                if found is not None:
                    edges.append(found)
            else:
                edges.append(edge)
        return edges

    def _from_data(self, edge: Edge, node: Node, path: str, alone: bool) -> Edge | None:
        """The way out of a replaced step, if its data left by that port; alone, any way leads on."""
        left_by = self.given[path].port or main_port(node)
        if not alone and (edge.port or main_port(node)) != left_by:
            return None
        changes: dict[str, Any] = {"from_": node.id}
        if alone:
            changes |= {"when": "", "max_rounds": None}
        return edge.model_copy(update=changes)


def one_of(items: Any, index: int) -> Any:
    """The items of a map, cut to one: a list of the one at this place."""
    if isinstance(items, list):
        return items[index : index + 1]
    if isinstance(items, str):
        source = items.strip()
        if source.startswith("{{") and source.endswith("}}"):
            source = source[2:-2].strip()
        return f"{{{{ [({source})[{index}]] }}}}"
    return items


def _item(document: Document, aim: Aim, given: Mapping[str, Given]) -> Trial:
    path = aim.node.split("/")
    node = dict(all_nodes(document.graph)).get(aim.node)
    if node is None or node.kind != "map":
        raise NotTestable("no_map", f'"{aim.node}" is no map, so it has no items.')
    if aim.index < 0:
        raise NotTestable("no_item", "Items are counted from 0.")
    cut = document.model_copy(
        update={"graph": _with_items(document.graph, path, one_of(node.items, aim.index))}
    )
    try:
        found = derive(cut, Aim("only", aim.node), given)
    except NotTestable as refused:
        if refused.code != "data_missing":
            raise
        found = derive(cut, Aim("upto", aim.node), given)
    titled = _titled(document, aim)
    return Trial(found.document.model_copy(update={"metadata": titled}), found.data, found.runs)


def _with_items(graph: Graph, path: list[str], items: Any) -> Graph:
    nodes = []
    for node in graph.nodes:
        if node.id != path[0]:
            nodes.append(node)
        elif len(path) == 1:
            nodes.append(node.model_copy(update={"items": items}))
        else:
            body = _with_items(node.body or Graph(), path[1:], items)
            nodes.append(node.model_copy(update={"body": body}))
    return graph.model_copy(update={"nodes": nodes})


def _forward(shape: Shape, node_id: str) -> list[Edge]:
    return [edge for i, edge in shape.outgoing[node_id] if i not in shape.back]


def _reachable(graph: Graph, roots: set[str]) -> Graph:
    """Without steps that only began to be roots because the way to them was cut."""
    nodes, edges = list(graph.nodes), list(graph.edges)
    while True:
        led_to = {e.to for _, e in Shape(Graph(nodes=nodes, edges=edges)).forward}
        lost = {n.id for n in nodes if n.id not in led_to and n.id not in roots}
        if not lost:
            return Graph(nodes=nodes, edges=edges)
        nodes = [n for n in nodes if n.id not in lost]
        edges = [e for e in edges if e.source not in lost and e.to not in lost]


# --- the document around it -------------------------------------------------------------------------------


def _trial(document: Document, aim: Aim, graph: Graph, work: _Work) -> Trial:
    there = dict(all_nodes(graph))
    if aim.node and aim.node not in there:
        raise NotTestable(
            "not_reached", f'With this data the way never leads to "{aim.node}": it leaves by another port.'
        )
    used = {path: output for path, output in work.used.items() if path in there}
    graph = _without_lost_names(graph)
    if not graph.nodes:
        raise NotTestable("nothing_to_run", "Nothing is left to run.")
    is_whole = aim.kind == "whole" and _named_in(document.outputs) <= {node.id for node in graph.nodes}
    contract = document.contract
    ids = {node.id for node in graph.nodes}
    changes: dict[str, Any] = {
        "human_checkpoints": [point for point in contract.human_checkpoints if point.step in ids]
    }
    if not is_whole:
        changes["outputs"] = {}
    judged = contract.success_criteria.model_dump(mode="json")
    if not is_whole or not _named_in(judged) <= {node.id for node in graph.nodes}:
        changes["success_criteria"] = SuccessCriteria()
    parts: dict[str, Any] = {
        "metadata": _titled(document, aim),
        "graph": graph,
        "layout": {},
        "outputs": document.outputs if is_whole else {},
    }
    inputs: dict[str, Any] = (
        dict(contract.inputs)
        if (is_whole and not used) or _uses_inputs(document, graph)
        else {"type": "object"}
    )
    if used:
        inputs["properties"] = {
            **inputs.get("properties", {}),
            PINNED: {"type": "object", "title": "Pinned data", "description": "What replaced steps made."},
        }
        inputs["required"] = [*inputs.get("required", []), PINNED]
    changes["inputs"] = inputs
    parts["contract"] = contract.model_copy(update=changes)
    runs = tuple(path for path in there if path not in used)
    return Trial(document.model_copy(update=parts), used, runs)


def _titled(document: Document, aim: Aim) -> Any:
    title = f"{document.metadata.title or document.metadata.name} (test: {aim.words})"
    return document.metadata.model_copy(update={"title": title})


def _without_lost_names(graph: Graph) -> Graph:
    """Approvals no longer show or propose steps that are not there."""
    ids = {node.id for node in graph.nodes}
    nodes = []
    for node in graph.nodes:
        changes: dict[str, Any] = {}
        if node.body is not None:
            changes["body"] = _without_lost_names(node.body)
        if node.kind == "approval" and node.proposes and node.proposes not in ids:
            changes["proposes"] = ""
        if any(name not in ids for name in node.show):
            changes["show"] = [name for name in node.show if name in ids]
        nodes.append(node.model_copy(update=changes) if changes else node)
    return graph.model_copy(update={"nodes": nodes})


def _named_in(values: Any) -> set[str]:
    """Ids of steps that any text below a value names."""
    text = json.dumps(values, ensure_ascii=False).replace('\\"', '"')
    return {found[0] or found[1] for found in _STEP.findall(text)}


def _names(document: Document, node: Node) -> set[str]:
    """Ids of steps a node reads, its agent's view included."""
    values = node.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    agent = document.agents.get(node.agent)
    return _named_in([values, agent.sees if agent is not None else []]) | set(node.show)


def _uses_inputs(document: Document, graph: Graph) -> bool:
    for _, node in all_nodes(graph):
        values = node.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        text = json.dumps(values, ensure_ascii=False).replace(f"inputs.{PINNED}[", "")
        agent = document.agents.get(node.agent)
        if _INPUTS.search(text) or (agent is not None and any(_INPUTS.search(s) for s in agent.sees)):
            return True
        if node.kind == "tool" and any(e.get("format") in ("file", "files") for e in _properties(document)):
            return True  # Tools that read files find them in the run's inputs.
        if (
            agent is not None
            and agent.tools
            and any(e.get("format") in ("file", "files") for e in _properties(document))
        ):
            return True
    return False


def _properties(document: Document) -> list[dict[str, Any]]:
    found = document.contract.inputs.get("properties", {})
    return [one for one in found.values() if isinstance(one, dict)] if isinstance(found, dict) else []
