"""The picture of a graph as SVG text: the same on every page, in an e-mail, on paper and on the command line.

Colours and fonts come from classes alone (a strict Content-Security-Policy allows no style attributes);
shapes and words carry every state besides its colour. Text is cut to fit; the whole of it is in the <title>.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from apps.blueprints.core import text_fit
from apps.blueprints.core.boundaries import WORDS, boundary_of, known_tools
from apps.blueprints.core.diff import edge_ids
from apps.blueprints.core.document import Document, Graph
from apps.blueprints.core.kinds import Boundary
from apps.blueprints.core.layout import Box, Density, Layout, Line, Point, layout
from apps.blueprints.core.svg_style import STYLE
from apps.blueprints.core.tools import ToolSpec

MARGIN: dict[Density, float] = {"full": 16, "thumbnail": 8}
TITLE_SIZE, SMALL_SIZE = 13.0, 11.0
THUMBNAIL_BADGE = 1.4
STATE_WORDS: dict[str, str] = {
    "ready": "next",
    "running": "running",
    "waiting": "waiting",
    "waiting:approval": "needs a person",
    "waiting:timer": "waiting for a time",
    "waiting:retry": "will try again",
    "waiting:signal": "waiting for a signal",
    "waiting:slot": "waiting for a free slot",
    "waiting:child": "waiting for its parts",
    "in_doubt": "in doubt",
    "succeeded": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "skipped": "skipped",
}
"""Words under a card. A step that is `blocked` has none: it is simply still to come."""
MARK_WORDS: dict[str, str] = {"added": "new", "removed": "gone", "changed": "changed"}
"""Words under a card in the picture of a difference."""

_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_BADGES: dict[Boundary, str] = {
    # Drawn in a field of 16 by 16.
    Boundary.DETERMINISTIC: "M4 4h8v8h-8z",
    Boundary.MODEL: "M8 2.5l1.5 4 4 1.5-4 1.5-1.5 4-1.5-4-4-1.5 4-1.5z",
    Boundary.EXTERNAL_READ: "M8 2.5v7M5 6.8l3 3 3-3M3 13.2h10",
    Boundary.EXTERNAL_WRITE: "M8 10V3M5 5.7l3-3 3 3M3 13.2h10",
    Boundary.HUMAN: "M8 2.6a2.6 2.6 0 1 1 0 5.2a2.6 2.6 0 1 1 0-5.2M3 13.6c.4-3 2.4-4 5-4s4.6 1 5 4",
}
_MARKS: dict[str, str] = {
    # Drawn in a disc of radius 8 around the middle.
    "succeeded": "M-3.6.2l2.4 2.6 4.8-5.2",
    "failed": "M-3-3l6 6M3-3l-6 6",
    "running": "M-2.2-3.6l5.6 3.6-5.6 3.6z",
    "ready": "M-3.4 0h.1M0 0h.1M3.3 0h.1",
    "waiting": "M0-4.4V.2l3 2",
    "waiting:approval": "M0-4.6a2.1 2.1 0 1 1 0 4.2a2.1 2.1 0 1 1 0-4.2M-4 4.2c.4-2.2 1.9-3 4-3s3.6.8 4 3",
    "in_doubt": "M-2.1-2.2a2.2 2.2 0 1 1 3.2 2C.2.4 0 .8 0 1.6M0 4.1v.1",
    "cancelled": "M-4 0h8",
    "skipped": "M-4-3l3.4 3-3.4 3M.8-3l3.4 3-3.4 3",
    "added": "M-4 0h8M0-4v8",
    "removed": "M-4 0h8",
    "changed": "M-4 1c1.4-3 2.8-3 4-1s2.6 2 4-1",
}


def render_svg(
    document: Document,
    states: Mapping[str, str] | None = None,
    *,
    tools: Mapping[str, ToolSpec] | None = None,
    step_paths: Mapping[str, str] | None = None,
    titles: Mapping[str, str] | None = None,
    href: Callable[[str], str | None] | None = None,
    selected: str = "",
    density: Density = "full",
    standalone: bool = False,
    placed: Layout | None = None,
    marks: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Draw a blueprint, a run of it, or what differs between two (`diff.union` with its marks).

    states: state by node path (`send`, inside containers `outer/inner`); `waiting:approval` adds the reason.
    None draws a plan, without states.
    tools: built-in tools by name, for the boundary badges; those the document declares are known anyway.
    step_paths: step path by node path, for `data-step-path`; the node's path unless given.
    titles: titles with their values filled in, by node path.
    href: link of a node by its path, or None. With links the picture is a group of links, else one image.
    selected: path of the node to mark.
    density: `thumbnail` draws small boxes with badges and no text, for cards in a gallery.
    standalone: carries its style sheet and background, for files; never use it inside a page.
    placed: a layout made before, to save making it again; it must be of the same density.
    marks: `added`, `removed` or `changed` of `nodes` by path and of `edges` by id (`Difference.marks`);
    never together with states.
    """
    drawing = placed or layout(document.graph, document.layout, density=density)
    picture = _Picture(document, drawing, states, tools or {}, density)
    picture.step_paths = step_paths or {}
    picture.titles = titles or {}
    picture.href = href
    picture.selected = selected
    picture.marks = (marks or {}).get("nodes", {})
    picture.edge_marks = _named_lines(document.graph, (marks or {}).get("edges", {}))
    return picture.draw(standalone=standalone)


def describe(document: Document, states: Mapping[str, str] | None = None) -> str:
    """The picture in one sentence, for those who do not see it."""
    nodes = document.graph.nodes
    steps = []
    for node in nodes:
        word = STATE_WORDS.get((states or {}).get(node.id, ""), "")
        title = text_fit.title_of(node.title, node.id)
        steps.append(f"{title} ({word})" if word else title)
    name = document.metadata.title or document.metadata.name
    count = f"{len(nodes)} step{'' if len(nodes) == 1 else 's'}"
    return f"{name}: {count}. {', '.join(steps)}".strip().rstrip(".") + "."


class _Picture:
    step_paths: Mapping[str, str]
    titles: Mapping[str, str]
    href: Callable[[str], str | None] | None
    selected: str
    marks: Mapping[str, str]
    edge_marks: Mapping[int, str]
    """By the identity of the edge drawn."""

    def __init__(
        self,
        document: Document,
        drawing: Layout,
        states: Mapping[str, str] | None,
        tools: Mapping[str, ToolSpec],
        density: Density,
    ) -> None:
        self.document = document
        self.drawing = drawing
        self.has_states = states is not None
        self.states = states or {}
        self.tools = known_tools(document, tools)
        self.density = density

    def draw(self, *, standalone: bool) -> str:
        d, margin = self.drawing, MARGIN[self.density]
        x, y, width, height = d.x - margin, d.y - margin, d.width + 2 * margin, d.height + 2 * margin
        classes = "mn-graph-picture"
        classes += " mn-thumbnail" if self.density == "thumbnail" else ""
        classes += " mn-alone" if standalone else ""
        role = "group" if self.href is not None else "img"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="{classes}"'
            f' viewBox="{_n(x)} {_n(y)} {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}"'
            f' role="{role}" aria-label={_attribute(describe(self.document, self.states))}'
            ' data-testid="graph">'
        ]
        if standalone:
            parts += [f"<style>{escape(STYLE)}</style>", _rect("mn-canvas", x, y, width, height, 0)]
        parts += [self.box(box) for box in d.boxes if box.is_container]
        parts += [self.line(line) for line in d.lines]
        parts += [self.box(box) for box in d.boxes if not box.is_container]
        return "\n".join([*parts, "</svg>"]) + "\n"

    # Boxes

    def box(self, box: Box) -> str:
        boundary = boundary_of(self.document, box.node, self.tools)
        title = text_fit.title_of(self.titles.get(box.path) or box.node.title, box.node.id)
        full = ", ".join(filter(None, [title, self._kind(box), WORDS[boundary], self._state_word(box.path)]))
        small = self.density == "thumbnail"
        group = (
            f'<g class="{self._classes(box, boundary)}" {self._data(box)}'
            f' transform="translate({_n(box.x)} {_n(box.y)})">'
            f"<title>{_text(full)}</title>"
            f"{_rect('mn-card', 0, 0, box.width, box.height, 6 if small else 8)}"
            f"{self._small(box, boundary) if small else self._full(box, boundary, title)}"
            f"{self._mark(box)}</g>"
        )
        target = self.href(box.path) if self.href is not None else None
        if not target:
            return group
        return f'<a class="mn-link" href={_attribute(target)} aria-label={_attribute(full)}>{group}</a>'

    def _classes(self, box: Box, boundary: Boundary) -> str:
        state, _, reason = self._state(box.path).partition(":")
        classes = f"mn-node mn-kind-{box.node.kind} mn-boundary-{boundary}"
        classes += f" mn-state-{_word(state)}" if state else ""
        classes += f" mn-reason-{_word(reason)}" if reason else ""
        classes += " mn-container" if box.is_container else ""
        classes += f" mn-diff-{_word(self.marks[box.path])}" if box.path in self.marks else ""
        return classes + (" mn-selected" if self.selected == box.path else "")

    def _data(self, box: Box) -> str:
        step_path = self.step_paths.get(box.path, box.path)
        state = self._state(box.path).partition(":")[0]
        data = f"data-node-id={_attribute(box.node.id)} data-step-path={_attribute(step_path)}"
        if box.path != box.node.id:
            data += f" data-node-path={_attribute(box.path)}"
        mark = self.marks.get(box.path, "")
        data += f" data-diff={_attribute(mark)}" if mark else ""
        return data + (f" data-state={_attribute(state)}" if state else "")

    def _state(self, path: str) -> str:
        return self.states.get(path) or ("blocked" if self.has_states else "")

    def _state_word(self, path: str) -> str:
        if path in self.marks:
            return MARK_WORDS.get(self.marks[path], "")
        state = self._state(path)
        return STATE_WORDS.get(state) or STATE_WORDS.get(state.partition(":")[0], "")

    def _kind(self, box: Box) -> str:
        node = box.node
        name = node.tool if node.kind == "tool" else node.agent if node.kind == "agent" else node.blueprint
        return f"{node.kind} · {name}" if name else node.kind

    def _kind_beside(self, box: Box, word: str, room: float) -> str:
        """The kind and its name; beside a state as much of it as is whole, since the badge says the rest."""
        whole = self._kind(box)
        if not word:
            return text_fit.cut(whole, room, SMALL_SIZE)
        room -= text_fit.width(word, SMALL_SIZE, bold=True) + 8
        fitting = (text for text in (whole, box.node.kind) if text_fit.width(text, SMALL_SIZE) <= room)
        return next(fitting, "")

    def _small(self, box: Box, boundary: Boundary) -> str:
        if box.is_container:
            return ""
        half = 8 * THUMBNAIL_BADGE
        x, y = box.width / 2 - half, box.height / 2 - half
        return _shape("mn-badge", _BADGES[boundary], x, y, THUMBNAIL_BADGE)

    def _full(self, box: Box, boundary: Boundary, title: str) -> str:
        """Badge on the left; title in up to two lines; below it the kind, and the state on the right."""
        left, room = 40.0, box.width - 40 - 12
        lines = text_fit.lines(title, room, TITLE_SIZE, 1 if box.is_container else 2, bold=True)
        block = 16 * len(lines) + 15
        top = 10.0 if box.is_container else (box.height - block) / 2
        middle, base = top + block / 2, top + 16 * len(lines) + 11
        word = self._state_word(box.path)
        kind = self._kind_beside(box, word, room)
        return "".join([
            _rect("mn-badge-field", 9, middle - 12, 24, 24, 6),
            _shape("mn-badge", _BADGES[boundary], 13, middle - 8),
            *(_words("mn-title", left, top + 12 + 16 * index, line) for index, line in enumerate(lines)),
            _words("mn-kind", left, base, kind),
            _words("mn-state-word", box.width - 12, base, word, from_end=True),
        ])  # fmt: skip

    def _mark(self, box: Box) -> str:
        """The state's sign on the card's upper right corner."""
        state = self.marks.get(box.path) or self._state(box.path)
        mark = _MARKS.get(state) or _MARKS.get(state.partition(":")[0])
        if mark is None:
            return ""
        return (
            f'<g transform="translate({_n(box.width - 3)} 3)"><circle class="mn-mark-field" r="8.5"/>'
            f"{_shape('mn-mark', mark)}</g>"
        )

    # Lines

    def line(self, line: Line) -> str:
        classes = "mn-line" + (" mn-back" if line.is_back else "") + self._progress(line)
        mark = self.edge_marks.get(id(line.edge), "")
        classes += f" mn-diff-{_word(mark)}" if mark else ""
        path = _angles(line.points) if line.is_back else _curves(line.points)
        x, y = line.points[-1]
        size = 7 if self.density == "full" else 5
        arrow = f"M{_n(x)} {_n(y)}l{-size} {_n(-size * 0.55)}v{_n(size * 1.1)}z"
        label = _words("mn-edge-label", *line.label_at, line.label)
        return (
            f'<g class="{classes}" data-edge={_attribute(f"{line.source}.{line.port} {line.target}")}>'
            f"<title>{_text(self._line_title(line))}</title>"
            f'<path class="mn-edge" d="{path}"/><path class="mn-arrow" d="{arrow}"/>{label}</g>'
        )

    def _line_title(self, line: Line) -> str:
        words = f"{line.source} → {line.target}, {line.port}"
        if line.edge.label:
            words += f": {line.edge.label}"
        if line.edge.max_rounds:
            words += f", at most {line.edge.max_rounds} rounds"
        mark = MARK_WORDS.get(self.edge_marks.get(id(line.edge), ""), "")
        return f"{words} ({mark})" if mark else words

    def _progress(self, line: Line) -> str:
        """Ways that were not taken fade. Which port a finished step left by shows in what follows it."""
        if not self.has_states:
            return ""
        source, target = (self._state(path).partition(":")[0] for path in (line.source, line.target))
        if "skipped" in (source, target):
            return " mn-unused"
        if line.closes or source not in ("succeeded", "failed"):
            return ""
        return " mn-taken" if target not in ("blocked", "cancelled") else ""


def _named_lines(graph: Graph, marks: Mapping[str, str], scope: str = "") -> dict[int, str]:
    """Marks of edges by the identity of the edge, bodies included."""
    if not marks:
        return {}
    named = zip(edge_ids(graph, scope), graph.edges, strict=True)
    found = {id(edge): marks[name] for name, edge in named if name in marks}
    for node in graph.nodes:
        if node.body is not None:
            found |= _named_lines(node.body, marks, f"{scope}/{node.id}" if scope else node.id)
    return found


def _rect(name: str, x: float, y: float, width: float, height: float, radius: float) -> str:
    place = f'x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}"'
    return f'<rect class="{name}" {place} rx="{_n(radius)}"/>'


def _shape(name: str, path: str, x: float = 0, y: float = 0, scale: float = 1) -> str:
    moved = f"translate({_n(x)} {_n(y)})" if x or y else ""
    scaled = f" scale({_n(scale)})" if scale != 1 else ""
    transform = f' transform="{moved}{scaled}"' if moved or scaled else ""
    return f'<path class="{name}"{transform} d="{path}"/>'


def _words(name: str, x: float, y: float, words: str, *, from_end: bool = False) -> str:
    anchor = ' text-anchor="end"' if from_end else ""
    return f'<text class="{name}" x="{_n(x)}" y="{_n(y)}"{anchor}>{_text(words)}</text>' if words else ""


def _curves(points: tuple[Point, ...]) -> str:
    """Straight where the height stays, else an S that leaves and arrives horizontally."""
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        if abs(y1 - y0) < 0.05:
            path.append(f"H{_n(x1)}")
        else:
            middle = (x0 + x1) / 2
            path.append(f"C{_n(middle)} {_n(y0)} {_n(middle)} {_n(y1)} {_n(x1)} {_n(y1)}")
    return "".join(path)


def _angles(points: tuple[Point, ...], radius: float = 8) -> str:
    """Right angles with round corners."""
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        (x0, y0), (x1, y1) = _towards(corner, before, radius), _towards(corner, after, radius)
        path.append(f"L{_n(x0)} {_n(y0)}Q{_n(corner[0])} {_n(corner[1])} {_n(x1)} {_n(y1)}")
    path.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(path)


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = max(abs(end[0] - start[0]) + abs(end[1] - start[1]), 0.01)
    part = min(distance / length, 0.5)
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _n(number: float) -> str:
    """At most one decimal, no trailing zero."""
    text = f"{number:.1f}"
    return "0" if text in ("-0.0", "0.0") else text.removesuffix(".0")


def _text(text: str) -> str:
    return escape(_printable(text))


def _attribute(text: str) -> str:
    return quoteattr(_printable(text))


def _printable(text: str) -> str:
    """Without what XML cannot hold even escaped."""
    return _UNPRINTABLE.sub("", text)


def _word(text: str) -> str:
    """A class name from a state; states come from our own table, but a picture must not depend on that."""
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in text)
