"""What an editor shows of a draft: boxes, lines, ports, badges, and what is wrong with each.

The same drawing as every other picture (`layout`), as plain JSON values. All coordinates are px of that
drawing's plane and absolute: a node inside a container says where it stands in the plane, not where it stands
in its container. Works on a draft that is wrong: what can be drawn is drawn, the rest says why not.

What a collapsed container holds is left out of the view; members of a collapsed group stay in it with
`hidden: true`, and so do the lines among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.blueprints.core.boundaries import WORDS, boundary_of, known_tools
from apps.blueprints.core.editing.sketch import Sketch, SketchedEdge, all_ports, number, sketch, text
from apps.blueprints.core.kinds import PORTS, Boundary
from apps.blueprints.core.layout import METRICS, Box, Layout, Line, layout
from apps.blueprints.core.problems import Path, Problem, path_parts
from apps.blueprints.core.tools import ToolSpec

View = dict[str, Any]
"""{version, mode, nodes, edges, groups, notes, x, y, width, height}; see docs/editor.md."""

PORT_WORDS: dict[str, str] = {
    "done": "done",
    "failed": "failed",
    "approved": "approved",
    "rejected": "rejected",
    "changes": "changes asked for",
    "answered": "answered",
    "expired": "time is up",
    "pass": "passed",
    "fail": "not passed",
    "exhausted": "rounds used up",
    "else": "otherwise",
}
VERB_OF = {"approved": "approve", "rejected": "reject", "changes": "request_changes", "answered": "answer"}
STUB = 44.0
"""Px of a line that leads nowhere."""
GROUP_PADDING, GROUP_HEADER = 20.0, 34.0
NOTE_SIZE = (200.0, 120.0)
SMALLEST, LARGEST = 40.0, 2000.0
MOST_NOTES = 500
LONGEST_TEXT = 4000


def view_of(
    data: Any,
    *,
    problems: Sequence[Problem] = (),
    tools: Mapping[str, ToolSpec] | None = None,
    version: int = 0,
    mode: str = "edit",
    marks: Mapping[str, Mapping[str, Any]] | None = None,
    drawn: Sketch | None = None,
) -> View:
    """The view of a draft's plain values. Never raises for what they contain.

    tools: built-in ones, for the badges; those the draft declares are known anyway.
    marks: more to say of nodes, by path: state, seconds, cost_usd, stale, pinned, diff.
    drawn: the sketch of the same values, when the caller has made it already.
    """
    plan = drawn or sketch(data)
    return _Viewer(plan, _Found.of(plan, problems), tools or {}, marks or {}).view(version, mode)


@dataclass
class _Tally:
    errors: int = 0
    warnings: int = 0
    first: str = ""

    def add(self, problem: Problem) -> None:
        if problem.level == "error":
            if not self.errors:
                self.first = problem.message  # What stops a run is said before what does not.
            self.errors += 1
        else:
            self.first = self.first or problem.message
            self.warnings += 1

    def as_json(self) -> dict[str, Any]:
        return {"errors": self.errors, "warnings": self.warnings, "first": self.first}


@dataclass
class _Found:
    """Problems by what they are about."""

    nodes: dict[str, _Tally] = field(default_factory=dict)
    edges: dict[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, plan: Sketch, problems: Iterable[Problem]) -> _Found:
        found = cls()
        for problem in problems:
            place = path_parts(problem.path)
            edge = plan.edge_at(place)
            if edge is not None:
                found.edges.setdefault(edge.place, problem.message)
            path = plan.node_at(place)
            if not path and problem.node and edge is None:
                path = problem.node
            if path in plan.nodes:
                found.nodes.setdefault(path, _Tally()).add(problem)
        return found


def node_of(plan: Sketch, problem: Problem) -> str:
    """Path of the node a problem is about: where to go to see it. Empty when it is about the whole."""
    place = path_parts(problem.path)
    edge = plan.edge_at(place)
    if edge is not None:
        return edge.source or edge.target
    path = plan.node_at(place) or problem.node
    return path if path in plan.nodes else ""


class _Viewer:
    def __init__(
        self,
        plan: Sketch,
        found: _Found,
        tools: Mapping[str, ToolSpec],
        marks: Mapping[str, Mapping[str, Any]],
    ) -> None:
        self.plan = plan
        self.found = found
        self.marks = marks
        self.tools = known_tools(plan.document, tools)
        self.drawing: Layout = layout(plan.document.graph, plan.document.layout)
        self.boxes = {box.path: box for box in self.drawing.boxes}
        self.collapsed = {path for path in _texts(plan.canvas.get("collapsed")) if path in plan.nodes}

    def view(self, version: int, mode: str) -> View:
        nodes = {box.path: self.node(box) for box in self.drawing.boxes if not self.is_inside_collapsed(box)}
        edges = self.edges(nodes)
        groups = self.groups(nodes, edges)
        notes = self.notes()
        x, y, right, bottom = _extent(self.drawing, [*groups.values(), *notes.values()])
        return {
            "version": version, "mode": mode, "nodes": nodes, "edges": edges, "groups": groups,
            "notes": notes, "x": x, "y": y, "width": right - x, "height": bottom - y,
        }  # fmt: skip

    # Nodes

    def is_inside_collapsed(self, box: Box) -> bool:
        scope = self.plan.scopes[box.path]
        while scope:
            if scope in self.collapsed:
                return True
            scope = self.plan.scopes[scope]
        return False

    def node(self, box: Box) -> dict[str, Any]:
        node, path = box.node, box.path
        boundary = boundary_of(self.plan.document, node, self.tools)
        kind = text(self.plan.written[path].get("kind"))
        collapsed = path in self.collapsed
        tally = self.found.nodes.get(path, _Tally())
        if collapsed:
            tally = self._with_content(path, tally)
        return {
            "path": path,
            "id": text(self.plan.written[path].get("id")),
            "scope": self.plan.scopes[path],
            "kind": kind,
            "title": self.plan.title(path),
            # What an operation has to name as the old one; None when there is none.
            "written_title": node.title if isinstance(self.plan.written[path].get("title"), str) else None,
            "subtitle": subtitle(self.plan, path),
            "boundary": str(boundary),
            "boundary_words": WORDS[boundary],
            "x": _px(box.x), "y": _px(box.y), "w": _px(box.width), "h": _px(box.height),
            "container": node.body is not None or kind in ("map", "loop"),
            "collapsed": collapsed,
            "children": len(node.body.nodes) if node.body is not None else 0,
            # Whether a person has put it there; the others stand where the layout puts them.
            "placed": path in self.plan.document.layout,
            "ports": {"in": True, "out": ports_of(self.plan, path)},
            "problems": tally.as_json(),
            **self.marks.get(path, {}),
        }  # fmt: skip

    def _with_content(self, path: str, own: _Tally) -> _Tally:
        """A collapsed container also answers for what it hides."""
        total = _Tally(own.errors, own.warnings, own.first)
        for inner, tally in self.found.nodes.items():
            if inner.startswith(f"{path}/"):
                total.first = total.first or tally.first
                total.errors += tally.errors
                total.warnings += tally.warnings
        return total

    # Edges

    def edges(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        lines = {id(line.edge): line for line in self.drawing.lines}
        shown = {}
        for edge in self.plan.edges:
            line = lines.get(id(edge.edge))
            if line is not None:
                if line.source in nodes and line.target in nodes:
                    shown[edge.id] = self.edge(edge, line)
            elif not edge.scope or (edge.scope in nodes and edge.scope not in self.collapsed):
                shown[edge.id] = self.loose(edge)
        return shown

    def edge(self, edge: SketchedEdge, line: Line) -> dict[str, Any]:
        return {
            **self._said(edge),
            "from": line.source,
            "to": line.target,
            "label": line.label,
            "back": line.is_back,
            "closes": line.closes,
            "points": [[_px(x), _px(y)] for x, y in line.points],
            "label_at": [_px(line.label_at[0]), _px(line.label_at[1])],
            **self._problem(edge, ""),
        }

    def loose(self, edge: SketchedEdge) -> dict[str, Any]:
        """An edge with an end that does not exist: a stub at the end that does."""
        source, target = self.boxes.get(edge.source), self.boxes.get(edge.target)
        points: list[list[float]] = []
        missing = edge.edge.to if source is not None else edge.edge.source
        if source is not None:
            points = [[_px(source.right), _px(source.middle)], [_px(source.right + STUB), _px(source.middle)]]
        elif target is not None:
            points = [[_px(target.x - STUB), _px(target.middle)], [_px(target.x), _px(target.middle)]]
        words = f'There is no node "{missing}" here.' if missing else "An end of this edge is missing."
        return {
            **self._said(edge),
            "from": edge.source or _end(edge, edge.edge.source),
            "to": edge.target or _end(edge, edge.edge.to),
            "label": text(edge.edge.label),
            "back": False,
            "closes": False,
            "points": points,
            "label_at": points[0] if points else [0, 0],
            **self._problem(edge, words),
        }

    def _said(self, edge: SketchedEdge) -> dict[str, Any]:
        return {
            "id": edge.id,
            "scope": edge.scope,
            "port": edge.port,
            "when": edge.edge.when,
            "max_rounds": edge.edge.max_rounds,
            # What an operation calls it by: both ends as written, and which of several alike.
            "written": {"from": text(edge.written.get("from")), "to": text(edge.written.get("to"))},
            "at": edge.at,
        }

    def _problem(self, edge: SketchedEdge, otherwise: str) -> dict[str, str]:
        words = self.found.edges.get(edge.place, otherwise)
        return {"problem": words} if words else {}

    # Groups and notes

    def groups(self, nodes: dict[str, Any], edges: dict[str, Any]) -> dict[str, Any]:
        groups = {}
        for group_id, written in _mappings(self.plan.canvas.get("groups")):
            members = [path for path in _texts(written.get("nodes")) if path in nodes]
            inside = [nodes[path] for path in members]
            collapsed = written.get("collapsed") is True and bool(inside)
            box = _around(inside, collapsed)
            groups[group_id] = {
                "id": group_id,
                "title": text(written.get("title"))[:LONGEST_TEXT],
                "description": text(written.get("description"))[:LONGEST_TEXT],
                "nodes": members,
                "collapsed": collapsed,
                **box,
            }
            if collapsed:
                _hide(set(members), box, nodes, edges)
        return groups

    def notes(self) -> dict[str, Any]:
        notes = {}
        for note_id, written in _mappings(self.plan.canvas.get("notes")):
            width, height = (number(written.get(key)) for key in ("w", "h"))
            notes[note_id] = {
                "id": note_id,
                "text": text(written.get("text"))[:LONGEST_TEXT],
                "x": _px(number(written.get("x")) or 0.0),
                "y": _px(number(written.get("y")) or 0.0),
                "w": _px(min(max(width or NOTE_SIZE[0], SMALLEST), LARGEST)),
                "h": _px(min(max(height or NOTE_SIZE[1], SMALLEST), LARGEST)),
            }
        return notes


# --- words, also for the outline --------------------------------------------------------------------------


def subtitle(plan: Sketch, path: str) -> str:
    """`tool · send_email`: the kind, and what it uses."""
    node = plan.nodes[path]
    kind = text(plan.written[path].get("kind")) or "no kind"
    name = {"tool": node.tool, "agent": node.agent, "subflow": node.blueprint}.get(kind, "")
    return f"{kind} · {name}" if name else kind


def ports_of(plan: Sketch, path: str) -> list[dict[str, str]]:
    """Ways out of a node, as {name, label}; of an approval that offers certain verbs, only theirs."""
    node = plan.nodes[path]
    verbs = _texts(plan.written[path].get("verbs")) if node.kind == "approval" else []
    used = {e.port for e in plan.leaving(path)} if verbs else set()
    return [
        {"name": port, "label": port_words(node.kind, port)}
        for port in all_ports(node)
        if not verbs or port in used or VERB_OF.get(port, verbs[0]) in verbs
    ]


def port_words(kind: str, port: str) -> str:
    """A port as people say it; a router's routes are called what their author called them."""
    known = PORTS.get(kind, ("done", "failed"))
    return PORT_WORDS.get(port, port) if port in known else port.replace("_", " ")


def boundary(plan: Sketch, path: str, tools: Mapping[str, ToolSpec]) -> Boundary:
    """tools: as `known_tools` gives them."""
    return boundary_of(plan.document, plan.nodes[path], tools)


def _end(edge: SketchedEdge, name: str) -> str:
    return f"{edge.scope}/{name}" if edge.scope and name else name


def _around(inside: Sequence[Mapping[str, Any]], collapsed: bool) -> dict[str, float]:
    """Where a group stands: around its members; collapsed, a card at their corner."""
    if not inside:
        return {"x": 0, "y": 0, "w": METRICS["full"].width, "h": METRICS["full"].height}
    x, y = min(n["x"] for n in inside), min(n["y"] for n in inside)
    if collapsed:
        return {"x": x, "y": y, "w": METRICS["full"].width, "h": METRICS["full"].height}
    right, bottom = max(n["x"] + n["w"] for n in inside), max(n["y"] + n["h"] for n in inside)
    return {
        "x": _px(x - GROUP_PADDING),
        "y": _px(y - GROUP_HEADER),
        "w": _px(right - x + 2 * GROUP_PADDING),
        "h": _px(bottom - y + GROUP_HEADER + GROUP_PADDING),
    }


def _hide(members: set[str], box: Mapping[str, float], nodes: dict[str, Any], edges: dict[str, Any]) -> None:
    """Members of a collapsed group, and what they hold, are not seen; lines to others end at the group."""

    def is_hidden(path: str) -> bool:
        return path in members or any(path.startswith(f"{member}/") for member in members)

    for path, node in nodes.items():
        if is_hidden(path):
            node["hidden"] = True
    middle = _px(box["y"] + box["h"] / 2)
    for edge in edges.values():
        leaves, enters = is_hidden(edge["from"]), is_hidden(edge["to"])
        if leaves and enters:
            edge["hidden"] = True
        elif edge["points"] and leaves:
            edge["points"] = [[_px(box["x"] + box["w"]), middle], edge["points"][-1]]
        elif edge["points"] and enters:
            edge["points"] = [edge["points"][0], [box["x"], middle]]


def _extent(drawing: Layout, others: Iterable[Mapping[str, Any]]) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of everything."""
    corners = [(o["x"], o["y"], o["x"] + o["w"], o["y"] + o["h"]) for o in others]
    if drawing.boxes:
        corners.append((drawing.x, drawing.y, drawing.x + drawing.width, drawing.y + drawing.height))
    if not corners:
        return 0, 0, 0, 0
    return (
        _px(min(c[0] for c in corners)), _px(min(c[1] for c in corners)),
        _px(max(c[2] for c in corners)), _px(max(c[3] for c in corners)),
    )  # fmt: skip


def _px(value: float) -> float:
    """At most one decimal; whole numbers without one, so that a patch sees no difference where none is."""
    rounded = round(value, 1)
    return int(rounded) if rounded == int(rounded) else rounded


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _mappings(value: Any) -> list[tuple[str, dict[str, Any]]]:
    found = value.items() if isinstance(value, dict) else ()
    return [(str(key), item) for key, item in found if isinstance(item, dict)][:MOST_NOTES]
