"""What differs between two blueprints in what they mean: steps, ways, contract, permissions, models, prompts.

How a document is written or drawn (comments, key order, layout, canvas) never shows up here: two documents
with one content hash have no difference. Steps are told apart by their path, ways by where they leave and
arrive; of several ways alike the first goes with the first.

`union` gives both graphs as one, with the marks a picture of the difference needs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from apps.blueprints.core.document import Document, Edge, Graph, Node, Position
from apps.blueprints.core.kinds import main_port
from apps.blueprints.core.permissions import permissions
from apps.blueprints.core.problems import Path, path_text
from apps.blueprints.core.tools import ToolSpec
from mirrorneuron.base.safejson import canonical, storable

Kind = Literal["added", "removed", "changed"]
Section = Literal[
    "steps", "ways", "contract", "agents", "models", "tools", "connections", "outputs", "card", "metadata"
]
SECTIONS: tuple[Section, ...] = (
    "steps", "ways", "contract", "agents", "models", "tools", "connections", "outputs", "card", "metadata",
)  # fmt: skip
"""In the order a reader needs them."""
_NAMED: tuple[Section, ...] = ("agents", "models", "tools", "connections")
"""Mappings of the document whose entries are things of their own."""
ABSENT = object()
"""No value at all, which is not the same as null."""


@dataclass(frozen=True)
class FieldChange:
    path: str
    """Within its subject: `with.to`, `retry.max_attempts`."""
    kind: Kind
    before: Any = None
    """None where there was nothing."""
    after: Any = None

    @property
    def is_text(self) -> bool:
        """Both are texts long enough to be compared word by word: prompts, instructions, code."""
        both = (self.before, self.after)
        return all(isinstance(text, str) for text in both) and any("\n" in t or len(t) > 40 for t in both)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"path": self.path, "kind": self.kind}
        if self.kind != "added":
            found["before"] = self.before
        if self.kind != "removed":
            found["after"] = self.after
        return found


@dataclass(frozen=True)
class Change:
    """One thing that was added, removed or changed."""

    section: Section
    kind: Kind
    subject: str
    """A node's path, an edge's id, the name of an agent or tool; empty for the section as a whole."""
    title: str
    fields: tuple[FieldChange, ...] = ()
    """What changed in it; of something added or removed, everything it says."""
    renamed_from: str = ""
    """The id a step had before, where it has another one now."""

    def as_json(self) -> dict[str, Any]:
        return {
            "section": self.section,
            "kind": self.kind,
            "subject": self.subject,
            "title": self.title,
            **({"renamed_from": self.renamed_from} if self.renamed_from else {}),
            "fields": [field.as_json() for field in self.fields],
        }


@dataclass(frozen=True)
class PermissionChange:
    kind: Literal["added", "removed"]
    key: str
    words: str
    allows_more: bool
    """With this change the blueprint may do more than before: worth a second look."""

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "key": self.key, "words": self.words, "allows_more": self.allows_more}


@dataclass(frozen=True)
class Difference:
    permissions: tuple[PermissionChange, ...] = ()
    changes: tuple[Change, ...] = ()
    """By section, within it in a stable order."""

    def __bool__(self) -> bool:
        return bool(self.changes or self.permissions)

    def of(self, section: str) -> tuple[Change, ...]:
        return tuple(change for change in self.changes if change.section == section)

    @property
    def subflows(self) -> tuple[tuple[str, str, str], ...]:
        """(path, before, after) of every subflow step that runs another blueprint or version now."""
        return tuple(
            (change.subject, field.before or "", field.after or "")
            for change in self.of("steps")
            for field in change.fields
            if field.path == "blueprint"
        )

    def marks(self) -> dict[str, dict[str, Kind]]:
        """{nodes: {path: kind}, edges: {id: kind}}; a container is changed when something inside it is."""
        nodes: dict[str, Kind] = {c.subject: c.kind for c in self.of("steps") if c.subject}
        edges: dict[str, Kind] = {c.subject: c.kind for c in self.of("ways")}
        inside = [*nodes, *(f"{edge.partition('|')[0]}/" for edge in edges if not edge.startswith("|"))]
        for path in inside:
            parts = path.split("/")[:-1]
            for length in range(1, len(parts) + 1):
                nodes.setdefault("/".join(parts[:length]), "changed")
        return {"nodes": nodes, "edges": edges}

    def as_json(self) -> dict[str, Any]:
        return {
            "same": not self,
            "permissions": [one.as_json() for one in self.permissions],
            "changes": [one.as_json() for one in self.changes],
            "marks": self.marks(),
        }


def diff(
    before: Document,
    after: Document,
    tools: Mapping[str, ToolSpec] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Difference:
    """Everything that is not the same in both.

    tools: the built-in ones, to say what they may do. renamed: by path, the ids that steps of `before` had
    until they were given the names of `after`.
    """
    changes: list[Change] = []
    changes += _steps(before.graph, after.graph, renamed or {})
    changes += _ways(before.graph, after.graph)
    old, new = _values(before), _values(after)
    changes += _whole("contract", "Contract", old.get("contract", {}), new.get("contract", {}))
    for section in _NAMED:
        changes += _named(section, old.get(section, {}), new.get(section, {}))
    changes += _whole("outputs", "Outputs", old.get("outputs", {}), new.get("outputs", {}))
    changes += _whole("card", "Card", old.get("card", {}), new.get("card", {}))
    changes += _whole("metadata", "Name and description", old.get("metadata", {}), new.get("metadata", {}))
    return Difference(_permissions(before, after, tools or {}), tuple(changes))


def edge_ids(graph: Graph, scope: str = "") -> list[str]:
    """The id of each edge of one graph, in order: `scope|from.port|to|n`, n counting those alike from 0."""
    nodes = {node.id: node for node in reversed(graph.nodes)}
    seen: dict[str, int] = {}
    found = []
    for edge in graph.edges:
        port = edge.port or (main_port(nodes[edge.source]) if edge.source in nodes else "done")
        key = f"{scope}|{edge.source}.{port}|{edge.to}"
        found.append(f"{key}|{seen.get(key, 0)}")
        seen[key] = seen.get(key, 0) + 1
    return found


# --- both graphs as one -----------------------------------------------------------------------------------


def union(before: Document, after: Document) -> Document:
    """The newer document with what was removed put back, to draw both at once.

    Never to be run or checked. What is only in the older one keeps its place there.
    """
    layout: dict[str, Position] = {}
    if before.layout and after.layout:
        layout = {**before.layout, **after.layout}
    return after.model_copy(update={"graph": _union(before.graph, after.graph), "layout": layout})


def _union(before: Graph, after: Graph) -> Graph:
    old = {node.id: node for node in reversed(before.nodes)}
    nodes = [_with_old_body(old[n.id], n) if n.id in old else n for n in after.nodes]
    there = {node.id for node in nodes}
    for index, node in enumerate(before.nodes):
        if node.id not in there:
            there.add(node.id)
            nodes.insert(min(index, len(nodes)), node)
    known = set(edge_ids(after))
    gone = [
        _by_port(edge, before)
        for edge, name in zip(before.edges, edge_ids(before), strict=True)
        if name not in known
    ]
    return Graph(nodes=nodes, edges=[*(_by_port(edge, after) for edge in after.edges), *gone])


def _with_old_body(old: Node, new: Node) -> Node:
    if old.body is None:
        return new
    body = _union(old.body, new.body) if new.body is not None else old.body
    return new.model_copy(update={"body": body})


def _by_port(edge: Edge, graph: Graph) -> Edge:
    """The edge with its port spelled out: the node it leaves may be of another kind in the other graph."""
    if edge.port:
        return edge
    node = next((n for n in graph.nodes if n.id == edge.source), None)
    return edge.model_copy(update={"from_": f"{edge.source}.{main_port(node) if node else 'done'}"})


# --- steps and ways ---------------------------------------------------------------------------------------


def _steps(before: Graph, after: Graph, renamed: Mapping[str, str], prefix: str = "") -> Iterator[Change]:
    old, new = _first(before.nodes), _first(after.nodes)
    for node_id in _both(old, new):
        path = f"{prefix}{node_id}"
        was, now = old.get(node_id), new.get(node_id)
        shown = now or was
        assert shown is not None
        title = shown.title or node_id
        if path in renamed and was is not None and now is not None:
            fields = tuple(_fields(_node_values(was), _node_values(now)))
            name = FieldChange("id", "changed", renamed[path], node_id)
            yield Change("steps", "changed", path, title, (name, *fields), renamed[path])
        else:
            yield from _one("steps", path, title, _node_values(was), _node_values(now))
        bodies = [node.body or Graph() if node is not None else Graph() for node in (was, now)]
        if bodies[0].nodes or bodies[1].nodes:
            yield from _steps(bodies[0], bodies[1], renamed, f"{path}/")
    kept = [node_id for node_id in old if node_id in new]
    kept_now = [node_id for node_id in new if node_id in old]
    if kept != kept_now:
        order = FieldChange("order", "changed", kept, kept_now)
        yield Change("steps", "changed", prefix.rstrip("/"), "Order of the steps", (order,))


def _ways(before: Graph, after: Graph, scope: str = "") -> Iterator[Change]:
    old, new = _edges(before, scope), _edges(after, scope)
    for name in _both(old, new):
        was, now = old.get(name), new.get(name)
        yield from _one("ways", name, _edge_title(name), was, now)
    kept, kept_now = [e for e in old if e in new], [e for e in new if e in old]
    if kept != kept_now:
        order = FieldChange(
            "order", "changed", [_edge_title(e) for e in kept], [_edge_title(e) for e in kept_now]
        )
        yield Change("ways", "changed", f"{scope}|", "Order of the ways", (order,))
    old_nodes, new_nodes = _first(before.nodes), _first(after.nodes)
    for node_id in _both(old_nodes, new_nodes):
        bodies = [
            nodes[node_id].body or Graph() if node_id in nodes else Graph()
            for nodes in (old_nodes, new_nodes)
        ]
        if bodies[0].edges or bodies[1].edges:
            yield from _ways(bodies[0], bodies[1], f"{scope}/{node_id}" if scope else node_id)


def _first(nodes: Iterable[Node]) -> dict[str, Node]:
    found: dict[str, Node] = {}
    for node in nodes:
        found.setdefault(node.id, node)
    return found


def _node_values(node: Node | None) -> dict[str, Any] | None:
    if node is None:
        return None
    values = _dumped(node)
    values.pop("id", None)
    values.pop("body", None)
    return values


def _edges(graph: Graph, scope: str) -> dict[str, dict[str, Any]]:
    found = {}
    for name, edge in zip(edge_ids(graph, scope), graph.edges, strict=True):
        values = _dumped(edge)
        values.pop("from", None)
        values.pop("to", None)
        found[name] = values
    return found


def _edge_title(name: str) -> str:
    scope, source, target, number = name.split("|")
    again = f" ({int(number) + 1})" if number != "0" else ""
    return f"{source} → {target}{again}" + (f" in {scope}" if scope else "")


# --- everything else --------------------------------------------------------------------------------------


def _named(section: Section, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    for name in _both(before, after):
        yield from _one(section, name, name, before.get(name), after.get(name))


def _whole(section: Section, title: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[Change]:
    fields = tuple(_fields(before, after))
    if fields:
        yield Change(section, "changed", "", title, fields)


def _one(
    section: Section, subject: str, title: str, was: dict[str, Any] | None, now: dict[str, Any] | None
) -> Iterator[Change]:
    fields = tuple(_fields(was or {}, now or {}))
    if was is None:
        yield Change(section, "added", subject, title, fields)
    elif now is None:
        yield Change(section, "removed", subject, title, fields)
    elif fields:
        yield Change(section, "changed", subject, title, fields)


def _fields(before: Any, after: Any, path: Path = ()) -> Iterator[FieldChange]:
    """Leaf by leaf: mappings by key, lists of one length by position, everything else whole."""
    if before is not ABSENT and after is not ABSENT and canonical(before) == canonical(after):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _fields(before.get(key, ABSENT), after.get(key, ABSENT), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (was, now) in enumerate(zip(before, after, strict=True)):
            yield from _fields(was, now, (*path, index))
    elif before is ABSENT:
        yield FieldChange(path_text(path), "added", None, after)
    elif after is ABSENT:
        yield FieldChange(path_text(path), "removed", before, None)
    else:
        yield FieldChange(path_text(path), "changed", before, after)


def _permissions(
    before: Document, after: Document, tools: Mapping[str, ToolSpec]
) -> tuple[PermissionChange, ...]:
    old, new = permissions(before, tools), permissions(after, tools)
    found = [PermissionChange("added", k, p.words, not p.limits) for k, p in new.items() if k not in old]
    found += [PermissionChange("removed", k, p.words, p.limits) for k, p in old.items() if k not in new]
    return tuple(sorted(found, key=lambda one: (not one.allows_more, one.key)))


def _values(document: Document) -> dict[str, Any]:
    found = _dumped(document)
    for key in ("graph", "layout", "canvas"):
        found.pop(key, None)
    return found


def _dumped(part: Any) -> dict[str, Any]:
    values: dict[str, Any] = storable(part.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    return values


def _both(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The keys of either, sorted, so that the answer does not depend on which is the older."""
    return sorted({*old, *new})
