"""One operation on a draft: the text after it and what takes it back, or in words why it cannot be.

`apply` is pure. It never raises for what an operation or a text contains.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from apps.blueprints.core.document import ID_PATTERN
from apps.blueprints.core.editing import operations as ops
from apps.blueprints.core.editing import references
from apps.blueprints.core.editing.edits import GONE, Edits, Refusal, same
from apps.blueprints.core.editing.spans import Source, advance, read
from apps.blueprints.core.editing.splices import Splice, difference, reverse
from apps.blueprints.core.problems import MOST, Path, path_text, shown

MAX_PASTED = 200_000
"""Characters of a fragment."""
MAX_NODES = 2_000
"""Nodes of one graph that the editor works on."""
_ID = re.compile(ID_PATTERN)
_HALVES = re.compile("[\x00\ud800-\udfff]")
_FIXED = {
    "graph": "Use the operations for nodes and edges.",
    "layout": "Use set_layout.",
    "canvas": "Use set_layout.",
    "apiVersion": "It is the same for every blueprint.",
    "kind": "It is the same for every blueprint.",
}


@dataclass(frozen=True)
class Applied:
    source: Source
    op: ops.AnyOperation
    """As applied: with the ids that were chosen on the way."""
    splices: tuple[Splice, ...]
    inverse: tuple[Splice, ...]

    @property
    def text(self) -> str:
        return self.source.text


@dataclass(frozen=True)
class Conflict:
    message: str
    theirs: Any = None
    """What stands there now."""
    mine: Any = None
    """What the operation wanted to put there."""


def apply(source: Source | str, op: ops.AnyOperation) -> Applied | Conflict:
    """Do one operation. A source is cheaper than its text, which is read first."""
    source = read(source) if isinstance(source, str) else source
    if not isinstance(source.data, dict) and not isinstance(op, ops.SetSource):
        return Conflict("The draft cannot be read as a blueprint; repair its text in the YAML view.")
    if (bad := _unstorable(op.model_dump(mode="python"))) is not None:
        return Conflict(f"The text {shown(bad)} contains a character that cannot be stored; remove it.")
    try:
        if isinstance(op, ops.SetSource):
            return _set_source(source, op)
        edits = Edits(source)
        applied = _Doing(source, edits).do(op)
        splices, after = edits.done()
    except Refusal as refusal:
        mine = refusal.mine if refusal.mine is not None else getattr(op, "new", None)
        return Conflict(refusal.message, refusal.theirs, mine)
    except RecursionError:
        return Conflict("The value is nested too deeply.")
    return Applied(after, applied, tuple(splices), tuple(reverse(source.text, splices)))


def _signature(edge: Mapping[str, Any]) -> tuple[Any, ...]:
    """What makes two edges the same."""
    return edge.get("from"), edge.get("to"), edge.get("when"), edge.get("label")


def _is_text(signature: tuple[Any, ...]) -> bool:
    return all(part is None or isinstance(part, str) for part in signature)


def text_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _unstorable(value: Any) -> str | None:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode() if _HALVES.search(value) else None
    if isinstance(value, dict):
        inner: Iterable[Any] = [*value, *value.values()]
    elif isinstance(value, (list, tuple)):
        inner = value
    else:
        return None
    return next((found for item in inner if (found := _unstorable(item)) is not None), None)


def _set_source(source: Source, op: ops.SetSource) -> Applied | Conflict:
    if op.old_hash and op.old_hash != text_hash(source.text):
        return Conflict(
            "The draft has been changed since this text was opened.", theirs=text_hash(source.text)
        )
    if op.text == source.text:
        return Applied(source, op, (), ())
    if not op.text.strip():
        return Conflict("The text is empty; the draft stays as it was.")
    splices = difference(source.text, op.text)
    after = advance(source, splices) if source.readable else read(op.text)
    if not after.readable or not isinstance(after.data, dict):
        first = next(iter(after.problems), None)
        place = f"line {first.line}: " if first is not None and first.line else ""
        said = f"{place}{first.message} {first.fix}" if first is not None else "It is not a mapping."
        return Conflict(f"The text cannot be read, so the draft stays as it was: {said}")
    if (name := _name(source.data)) and _name(after.data) != name:
        return Conflict(f'The draft is the blueprint "{name}"; metadata.name must stay so.', theirs=name)
    if len(_list(after.data, ("graph", "nodes"))) > MAX_NODES:
        return Conflict(
            f"The graph has more than {MAX_NODES:,} nodes, which is more than the editor works on."
        )
    return Applied(after, op, tuple(splices), tuple(reverse(source.text, splices)))


def _name(data: Any) -> Any:
    metadata = data.get("metadata") if isinstance(data, dict) else None
    return metadata.get("name") if isinstance(metadata, dict) else None


def _list(data: Any, path: Path) -> list[Any]:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data if isinstance(data, list) else []


class _Doing:
    """The operations, each as edits of one source."""

    def __init__(self, source: Source, edits: Edits) -> None:
        self.source = source
        self.edits = edits

    def do(self, op: ops.AnyOperation) -> ops.AnyOperation:
        match op:
            case ops.AddNode():
                return self.add_node(op)
            case ops.RemoveNode():
                self.remove_node(op)
            case ops.MoveNodes():
                self.move_nodes(op)
            case ops.SetConfig():
                self.set_config(op)
            case ops.Rename():
                self.rename(op)
            case ops.AddEdge():
                self.check_edges(op.scope, [op.edge], set())
                self.edits.append((*self.graph(op.scope), "edges"), [op.edge])
            case ops.RemoveEdge():
                path, index = self.edge(op.scope, op.edge, op.at)
                self.edits.drop(path, [index])
            case ops.SetEdge():
                self.set_edge(op)
            case ops.GroupNodes():
                return self.group(op)
            case ops.Ungroup():
                self.ungroup(op)
            case ops.SetContract():
                self.set_contract(op)
            case ops.SetLayout():
                self.set_layout(op)
            case ops.Paste():
                return self.paste(op)
            case _:  # pragma: no cover - set_source has no edits
                raise Refusal("This is not an edit.")
        return op

    # Finding things

    def graph(self, scope: str) -> Path:
        return ("graph",) if not scope else (*self.node(scope), "body")

    def node(self, path: str) -> Path:
        """Where a node stands in the document. Refuses, naming the node, when it is not there."""
        at: Path = ("graph",)
        way = path.split("/")
        for depth, node_id in enumerate(way):
            nodes = self.source.value((*at, "nodes"))
            index = next(
                (i for i, n in enumerate(nodes if isinstance(nodes, list) else []) if _id_of(n) == node_id),
                None,
            )
            if index is None:
                where = f' in "{"/".join(way[:depth])}"' if depth else ""
                raise Refusal(f'There is no node "{node_id}"{where}; somebody may have removed it.')
            at = (*at, "nodes", index) if depth == len(way) - 1 else (*at, "nodes", index, "body")
        return at

    def ids(self, scope: str) -> list[str]:
        nodes = self.source.value((*self.graph(scope), "nodes"))
        return [_id_of(n) for n in nodes if _id_of(n)] if isinstance(nodes, list) else []

    def edges(self, scope: str) -> list[Any]:
        found = self.source.value((*self.graph(scope), "edges"))
        return found if isinstance(found, list) else []

    def edge(self, scope: str, ends: ops.EdgeEnds, at: int | None) -> tuple[Path, int]:
        """The list an edge stands in, and its place there."""
        alike = [
            i
            for i, e in enumerate(self.edges(scope))
            if isinstance(e, dict) and e.get("from") == ends.from_ and e.get("to") == ends.to
        ]
        if (at or 0) >= len(alike):
            raise Refusal(f'There is no edge "{ends.from_} → {ends.to}"; somebody may have removed it.')
        return (*self.graph(scope), "edges"), alike[at or 0]

    # Nodes

    def add_node(self, op: ops.AddNode) -> ops.AnyOperation:
        node_id = self.check_node(op.scope, op.node)
        graph = self.graph(op.scope)
        edges = [*op.edges, *([op.edge] if op.edge is not None else [])]
        self.check_edges(op.scope, edges, {node_id})
        self.add_nodes(graph, [op.node])
        if op.split is not None:
            path, index = self.edge(op.scope, op.split, None)
            held = self.source.value((*path, index))
            self.edits.set((*path, index, "to"), node_id)
            edges = [{"from": node_id, "to": held["to"]}, *edges]
            if held.get("max_rounds") is not None:
                # The way back stays the one that is counted.
                edges[0]["max_rounds"] = held["max_rounds"]
                self.edits.drop((*path, index), ["max_rounds"])
        self.edits.append((*graph, "edges"), edges)
        if op.position is not None:
            self.edits.set_all(("layout",), {_join(op.scope, node_id): _place(op.position)})
        return op

    def check_node(self, scope: str, node: dict[str, Any], taken: Iterable[str] = ()) -> str:
        node_id = node.get("id")
        if not isinstance(node_id, str) or not _ID.fullmatch(node_id):
            raise Refusal(
                f"{shown(node_id)} is no id: a lower-case letter, then lower-case letters, digits or _.",
                mine=node_id,
            )
        if not isinstance(node.get("kind"), str):
            raise Refusal(f'The node "{node_id}" has no kind.')
        known = self.ids(scope)
        if node_id in known or node_id in taken:
            raise Refusal(f'The id "{node_id}" is taken.', theirs=node_id, mine=node_id)
        if len(known) >= MAX_NODES:
            raise Refusal(f"A graph has at most {MAX_NODES:,} nodes.")
        return node_id

    def add_nodes(self, graph: Path, nodes: list[dict[str, Any]]) -> None:
        held = self.source.find((*graph, "nodes"))
        last = held[0].children[-1] if held is not None and held[0].children else None
        self.edits.append((*graph, "nodes"), nodes, small=last is not None and last.flow)

    def check_edges(self, scope: str, edges: list[dict[str, Any]], coming: set[str]) -> None:
        known = {*self.ids(scope), *coming}
        # What stands there already may be of any shape; one that is no text equals no text.
        standing = (_signature(e) for e in self.edges(scope) if isinstance(e, dict))
        here = {signature for signature in standing if _is_text(signature)}
        for edge in edges:
            source, target = edge.get("from"), edge.get("to")
            if not isinstance(source, str) or not isinstance(target, str):
                raise Refusal('An edge needs "from" and "to", both ids of nodes.')
            for end, what in ((source.partition(".")[0], "begins"), (target, "ends")):
                if end not in known:
                    raise Refusal(
                        f'Edge "{source} → {target}" {what} at node "{end}", which does not exist; '
                        "somebody may have removed it."
                    )
            signature = _signature(edge)
            if not _is_text(signature):
                raise Refusal(f'"when" and "label" of edge "{source} → {target}" are texts.')
            if signature in here:
                raise Refusal(f'The edge "{source} → {target}" is there already.', theirs=edge, mine=edge)
            here.add(signature)

    def remove_node(self, op: ops.RemoveNode) -> None:
        path = self.node(op.node)
        scope, _, node_id = op.node.rpartition("/")
        graph = path[:-2]
        self.edits.drop((*graph, "nodes"), [path[-1]], comments=True)
        gone = [
            i
            for i, e in enumerate(self.edges(scope))
            if isinstance(e, dict) and node_id in (str(e.get("from")).partition(".")[0], e.get("to"))
        ]
        if gone:
            self.edits.drop((*graph, "edges"), gone)
        self.forget(op.node)

    def forget(self, node: str) -> None:
        """Take a node, and what is inside it, out of layout and canvas."""

        def is_gone(path: Any) -> bool:
            return isinstance(path, str) and (path == node or path.startswith(node + "/"))

        layout = self.source.value(("layout",))
        if isinstance(layout, dict) and (keys := [k for k in layout if is_gone(k)]):
            self.edits.drop(("layout",), keys)
        collapsed = self.source.value(("canvas", "collapsed"))
        if isinstance(collapsed, list) and (places := [i for i, p in enumerate(collapsed) if is_gone(p)]):
            self.edits.drop(("canvas", "collapsed"), places)
        groups = self.source.value(("canvas", "groups"))
        for name, group in groups.items() if isinstance(groups, dict) else ():
            nodes = group.get("nodes") if isinstance(group, dict) else None
            if isinstance(nodes, list) and (places := [i for i, p in enumerate(nodes) if is_gone(p)]):
                self.edits.drop(("canvas", "groups", name, "nodes"), places)

    def move_nodes(self, op: ops.MoveNodes) -> None:
        for path in op.positions:
            self.node(path)
        layout = self.source.value(("layout",))
        held = layout if isinstance(layout, dict) else {}
        moved: dict[str, Any] = {}
        for path, place in op.positions.items():
            values = _place(place)
            if path in held and isinstance(held[path], dict) and {"x", "y"} <= held[path].keys():
                for axis, value in values.items():
                    if not same(held[path][axis], value):
                        self.edits.set(("layout", path, axis), value)
            else:
                moved[path] = values
        self.edits.set_all(("layout",), moved)

    def set_config(self, op: ops.SetConfig) -> None:
        if op.path[0] == "id":
            raise Refusal("The id of a node is changed by renaming it.")
        if op.path[0] == "body" and len(op.path) > 1:
            raise Refusal("What is inside a body is changed node by node.")
        self.change((*self.node(op.node), *op.path), op, f'{path_text(tuple(op.path))} of "{op.node}"')

    def set_edge(self, op: ops.SetEdge) -> None:
        path, index = self.edge(op.scope, op.edge, op.at)
        ends = {op.path[0]: op.new} if len(op.path) == 1 and op.path[0] in ("from", "to") else {}
        if ends:
            self.check_edges(op.scope, [{**self.source.value((*path, index)), **ends}], set())
        what = f'{path_text(tuple(op.path))} of the edge "{op.edge.from_} → {op.edge.to}"'
        self.change((*path, index, *op.path), op, what)

    def set_contract(self, op: ops.SetContract) -> None:
        first = op.path[0]
        if first in _FIXED:
            raise Refusal(f"{first} is not changed this way. {_FIXED[str(first)]}")
        if tuple(op.path) in (("metadata",), ("metadata", "name")):
            raise Refusal("The name of a blueprint stays; fork it to get another one.")
        self.change(tuple(op.path), op, path_text(tuple(op.path)))

    def set_layout(self, op: ops.SetLayout) -> None:
        if op.path[0] not in ("layout", "canvas"):
            raise Refusal(f"{op.path[0]} is no part of the layout.")
        self.change(tuple(op.path), op, path_text(tuple(op.path)), check="old" in op.model_fields_set)

    def change(
        self,
        path: Path,
        op: ops.SetConfig | ops.SetEdge | ops.SetContract | ops.SetLayout,
        what: str,
        check: bool = True,
    ) -> None:
        """Put `new` in the place of `old`; what stands there must be `old`, or `new` already."""
        held = self.source.value(path, GONE)
        old = op.old if "old" in op.model_fields_set else GONE
        new = op.new if "new" in op.model_fields_set else GONE
        if same(held, new) or (held is GONE and new is GONE):
            return
        if check and not same(held, old) and not (_is_nothing(held) and _is_nothing(old)):
            raise Refusal(
                f"{what} has been changed meanwhile.",
                theirs=None if held is GONE else held,
                mine=None if new is GONE else new,
            )
        if new is GONE:
            self.edits.drop(path[:-1], [path[-1]])
            return
        parent = self.source.value(path[:-1])
        if isinstance(parent, list) and path[-1] == len(parent):
            self.edits.append(path[:-1], [new])
        else:
            self.edits.set(path, new)

    # Renaming

    def rename(self, op: ops.Rename) -> None:
        path = self.node(op.node)
        scope, _, old = op.node.rpartition("/")
        if op.to == old:
            return
        if op.to in self.ids(scope):
            raise Refusal(f'The id "{op.to}" is taken.', theirs=op.to, mine=op.to)
        self.edits.set((*path, "id"), op.to)
        self.rename_edges(scope, old, op.to)
        self.rename_paths(op.node, _join(scope, op.to))
        self.rename_fields(scope, old, op.to)
        inside = self.source.value(path[:-2]) if scope else self.source.data
        start: Path = path[:-2] if scope else ()
        self.rename_mentions(inside, start, old, op.to, top=True)

    def rename_edges(self, scope: str, old: str, new: str) -> None:
        graph = self.graph(scope)
        for index, edge in enumerate(self.edges(scope)):
            if not isinstance(edge, dict):
                continue
            source, dot, port = str(edge.get("from")).partition(".")
            if source == old:
                self.edits.set((*graph, "edges", index, "from"), f"{new}{dot}{port}")
            if edge.get("to") == old:
                self.edits.set((*graph, "edges", index, "to"), new)

    def rename_paths(self, old: str, new: str) -> None:
        def follows(path: Any) -> str | None:
            if isinstance(path, str) and (path == old or path.startswith(old + "/")):
                return new + path[len(old) :]
            return None

        layout = self.source.value(("layout",))
        for key in layout if isinstance(layout, dict) else ():
            if (to := follows(key)) is not None:
                self.edits.rename_key(("layout",), key, to)
        lists: list[Path] = [("canvas", "collapsed")]
        groups = self.source.value(("canvas", "groups"))
        lists += [("canvas", "groups", g, "nodes") for g in (groups if isinstance(groups, dict) else ())]
        for place in lists:
            held = self.source.value(place)
            for index, item in enumerate(held if isinstance(held, list) else []):
                if (to := follows(item)) is not None:
                    self.edits.set((*place, index), to)

    def rename_fields(self, scope: str, old: str, new: str) -> None:
        """Fields that hold ids of nodes beside them."""
        nodes = self.source.value((*self.graph(scope), "nodes"))
        for index, node in enumerate(nodes):
            if not isinstance(node, dict):
                continue
            place = (*self.graph(scope), "nodes", index)
            if node.get("proposes") == old:
                self.edits.set((*place, "proposes"), new)
            shows = node.get("show")
            for at, item in enumerate(shows if isinstance(shows, list) else []):
                if item == old:
                    self.edits.set((*place, "show", at), new)
        points = self.source.value(("contract", "human_checkpoints"))
        for at, point in enumerate(points if isinstance(points, list) and not scope else []):
            if isinstance(point, dict) and point.get("step") == old:
                self.edits.set(("contract", "human_checkpoints", at, "step"), new)

    def rename_mentions(
        self, value: Any, path: Path, old: str, new: str, *, top: bool, key: str = ""
    ) -> None:
        if isinstance(value, dict):
            if key == "body" and not top and references.shadowed(value, old):
                return
            for name, inner in value.items():
                self.rename_mentions(inner, (*path, name), old, new, top=False, key=name)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                self.rename_mentions(inner, (*path, index), old, new, top=False, key=key)
        elif isinstance(value, str) and old in value:
            self.rename_in_text(value, path, old, new, key)

    def rename_in_text(self, value: str, path: Path, old: str, new: str, key: str) -> None:
        roots = ("steps", "results") if "merge" in path else ("steps",)
        places = sorted(
            p for root in roots for p in references.mentions(value, references.pattern(old, root), key)
        )
        found = self.source.find(path)
        if not places:
            return
        wanted = references.replaced(value, places, new)
        if found is None or found[0].kind == "odd":
            raise Refusal(
                f"{path_text(path)} names the node, but is written as an alias; change it in the YAML view."
            )
        span, start = found
        raw = self.source.text[start : start + span.size]
        inside = sorted(
            p for root in roots for p in references.mentions(raw, references.pattern(old, root), key)
        )
        if len(inside) == len(places):
            self.edits.within(path, [Splice(start + a, start + b, new) for a, b in inside], wanted)
        else:
            self.edits.set(path, wanted)

    # Groups and pasting

    def group(self, op: ops.GroupNodes) -> ops.AnyOperation:
        for path in op.nodes:
            self.node(path)
        groups = self.source.value(("canvas", "groups"))
        held = groups if isinstance(groups, dict) else {}
        name = op.id or next(f"g{n}" for n in range(1, len(held) + 2) if f"g{n}" not in held)
        if name in held:
            raise Refusal(f'There is a group "{name}" already.', theirs=held[name])
        value: dict[str, Any] = {"title": op.title}
        if op.description:
            value["description"] = op.description
        self.edits.set_all(("canvas", "groups"), {name: value | {"nodes": list(op.nodes)}})
        return op.model_copy(update={"id": name})

    def ungroup(self, op: ops.Ungroup) -> None:
        groups = self.source.value(("canvas", "groups"))
        if not isinstance(groups, dict) or op.id not in groups:
            raise Refusal(f'There is no group "{op.id}"; somebody may have removed it.')
        self.edits.drop(("canvas", "groups"), [op.id])

    def paste(self, op: ops.Paste) -> ops.AnyOperation:
        nodes, edges, layout = self.fragment(op.text)
        taken = set(self.ids(op.scope))
        ids: dict[str, str] = {}
        for node in nodes:
            wanted = (op.ids or {}).get(str(node.get("id")), str(node.get("id")))
            ids[str(node["id"])] = fresh = _free_id(wanted, taken)
            taken.add(fresh)
        changed = {old: new for old, new in ids.items() if old != new}
        written = []
        for node in nodes:
            copy = references.renamed_values(node, changed)
            copy["id"] = ids[str(node["id"])]
            if copy.get("proposes") in changed:
                copy["proposes"] = changed[copy["proposes"]]
            if isinstance(copy.get("show"), list):
                copy["show"] = [changed.get(s, s) if isinstance(s, str) else s for s in copy["show"]]
            self.check_node(op.scope, copy, [])
            written.append(copy)
        links = []
        for edge in edges:
            source, dot, port = str(edge.get("from")).partition(".")
            if source in ids and edge.get("to") in ids:
                copy = references.renamed_values(edge, changed)
                links.append(copy | {"from": f"{ids[source]}{dot}{port}", "to": ids[edge["to"]]})
        graph = self.graph(op.scope)
        self.check_edges(op.scope, links, set(ids.values()))
        self.add_nodes(graph, written)
        self.edits.append((*graph, "edges"), links)
        self.edits.set_all(("layout",), self.placed(op, layout, ids))
        return op.model_copy(update={"ids": ids})

    def fragment(self, text: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
        """Nodes, edges and places of a pasted text."""
        if len(text) > MAX_PASTED:
            raise Refusal(f"The pasted text has {len(text):,} characters; at most {MAX_PASTED:,} are taken.")
        found = read(text)
        if not found.readable or not isinstance(found.data, dict):
            first = next((p.message for p in found.problems), "It is not a mapping.")
            raise Refusal(f"The pasted text is no part of a blueprint. {first}")
        graph = found.data.get("graph")
        data = graph if isinstance(graph, dict) else found.data
        nodes, edges = data.get("nodes"), data.get("edges") or []
        if not isinstance(nodes, list) or not nodes or not isinstance(edges, list):
            raise Refusal("The pasted text holds no nodes; copy some nodes first.")
        if len(nodes) > MOST:
            raise Refusal(f"At most {MOST} nodes are pasted at once.")
        if not all(isinstance(n, dict) and isinstance(n.get("id"), str) for n in nodes):
            raise Refusal("A node of the pasted text has no id.")
        layout = found.data.get("layout")
        return nodes, [e for e in edges if isinstance(e, dict)], layout if isinstance(layout, dict) else {}

    def placed(self, op: ops.Paste, layout: dict[str, Any], ids: dict[str, str]) -> dict[str, Any]:
        """Where pasted nodes go: as they stood to each other, the first corner at `at`."""
        spots: dict[str, tuple[float, float]] = {}
        for old in ids:
            spot = layout.get(old)
            if isinstance(spot, dict) and all(_is_number(spot.get(axis)) for axis in "xy"):
                spots[old] = (spot["x"], spot["y"])
        if not spots:
            if op.at is None:
                return {}
            spots = {old: (n * 40.0, n * 40.0) for n, old in enumerate(ids)}
        left, top = min(x for x, _ in spots.values()), min(y for _, y in spots.values())
        by = (op.at.x - left, op.at.y - top) if op.at is not None else (40.0, 40.0)
        return {
            _join(op.scope, ids[old]): _place(ops.Place(x=_bounded(x + by[0]), y=_bounded(y + by[1])))
            for old, (x, y) in spots.items()
        }


def _id_of(node: Any) -> str:
    return node["id"] if isinstance(node, dict) and isinstance(node.get("id"), str) else ""


def _join(scope: str, node_id: str) -> str:
    return f"{scope}/{node_id}" if scope else node_id


def _place(place: ops.Place) -> dict[str, int]:
    return {"x": round(place.x), "y": round(place.y)}


def _bounded(value: float) -> float:
    return max(-1_000_000.0, min(1_000_000.0, value))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_nothing(value: Any) -> bool:
    return value is GONE or value is None or value == "" or value == [] or value == {}


def _free_id(wanted: str, taken: set[str]) -> str:
    if wanted not in taken:
        return wanted
    stem = re.sub(r"_\d+$", "", wanted)[:58]
    return next(f"{stem}_{n}" for n in range(2, len(taken) + 3) if f"{stem}_{n}" not in taken)
