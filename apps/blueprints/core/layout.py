"""Where everything of a graph stands: boxes, lines, labels. One layout for every picture and for "Tidy".

The drawing runs from left to right. Forward lines leave a box on its right, each port at its own height in
the order of `kinds.ports`, and enter on the left; long lines pass other boxes at a distance. Back edges run
below the boxes they span. A node with a `body` is a box around the drawing of its body. Positions a person
has chosen are kept; what has none is placed near its neighbours.

Coordinates are px, y downwards, of the same plane as `Document.layout`. Pure and deterministic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import median
from typing import Literal

from apps.blueprints.core import kinds
from apps.blueprints.core.document import Edge, Graph, Node, Position
from apps.blueprints.core.layering import Arrangement, Link, arrange, back_links, columns

Density = Literal["full", "thumbnail"]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Sizes in px."""

    width: float = 188
    height: float = 64
    port_gap: float = 17
    """Between two lines that leave one box."""
    column_gap: float = 48
    """Room for the bends between two columns, labels not counted."""
    row_gap: float = 26
    line_gap: float = 18
    lane: float = 20
    """Between the lowest box and a back edge, and between back edges."""
    header: float = 56
    """Above the drawing inside a container."""
    padding: float = 18
    letter: float = 6.3
    """Of a label."""
    labels: bool = True


METRICS: dict[Density, Metrics] = {
    "full": Metrics(),
    "thumbnail": Metrics(
        width=56, height=34, port_gap=8, column_gap=22, row_gap=14, line_gap=9, lane=9, header=14, padding=8,
        labels=False,
    ),
}  # fmt: skip
MAX_LABEL = 24
"""Characters of a label in the picture; the whole of it is its title."""


@dataclass(frozen=True, slots=True)
class Box:
    path: str
    """The node's id; inside containers `outer/inner`."""
    node: Node
    x: float
    y: float
    width: float
    height: float
    column: int
    level: int = 0
    """0 at the top, 1 inside a container, …"""

    @property
    def is_container(self) -> bool:
        return self.node.body is not None and bool(self.node.body.nodes)

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Line:
    """One edge as drawn."""

    source: str
    """Path of the box it leaves."""
    target: str
    edge: Edge
    port: str
    """The port it leaves by, its main port named."""
    is_back: bool
    """Whether it is drawn backwards: it closes a circle, or somebody has put its target to the left."""
    closes: bool
    """Whether it closes a circle, wherever its ends stand."""
    points: tuple[Point, ...]
    """From the source's right side to the target's left side. Between two points of different height the line
    bends, leaving and arriving horizontally; a back edge has right angles instead."""
    label: str
    """Text beside its start, cut to size; empty where there is no choice or another line says it."""
    label_at: Point


@dataclass(frozen=True, slots=True)
class Layout:
    boxes: tuple[Box, ...]
    """In the order of the document, a container before its content."""
    lines: tuple[Line, ...]
    x: float
    y: float
    width: float
    height: float
    """What everything together covers."""

    def positions(self) -> dict[str, Position]:
        """Top-level positions as a document stores them, whole pixels."""
        return {b.path: Position(x=round(b.x), y=round(b.y)) for b in self.boxes if b.level == 0}


def layout(
    graph: Graph, positions: Mapping[str, Position] | None = None, *, density: Density = "full"
) -> Layout:
    """Lay out a graph. Edges to or from nodes that do not exist, and repeated ids, are left out.

    positions: by path, in the plane of the whole drawing. Of what stands in a container only the places of
    its nodes to one another count: the container is drawn around them wherever it stands itself.
    """
    placed = _Drawing(graph, METRICS[density], "", 0, (positions or {}) if density == "full" else {})
    return placed.finish()


@lru_cache(maxsize=64)
def _arranged(
    heights: tuple[float, ...], links: tuple[Link, ...], gap: float, line_gap: float
) -> tuple[list[int], Arrangement]:
    """Columns and heights of a graph, kept: most changes of a draft leave them as they are."""
    column = columns(len(heights), links)
    return column, arrange(heights, column, links, gap=gap, line_gap=line_gap)


@dataclass(frozen=True, slots=True)
class _Exit:
    """One place where lines leave a box: a port, or a label of its own at that port."""

    port: str
    text: str


class _Drawing:
    def __init__(
        self, graph: Graph, metrics: Metrics, prefix: str, level: int, positions: Mapping[str, Position]
    ) -> None:
        self.metrics = metrics
        self.prefix = prefix
        self.level = level
        self.positions = positions
        self.nodes = list({node.id: node for node in reversed(graph.nodes)}.values())[::-1]
        self.number = {node.id: index for index, node in enumerate(self.nodes)}
        self.edges = [e for e in graph.edges if e.source in self.number and e.to in self.number]
        self.inside = [self._content(node) for node in self.nodes]
        self.ends = [(self.number[e.source], self.number[e.to]) for e in self.edges]
        self.exits = self._exits()
        self.labels = self._labels()
        self.sizes = [self._size(index) for index in range(len(self.nodes))]
        self.links = [Link(*ends, self._offset(index)) for index, ends in enumerate(self.ends)]
        declared = {i for i, e in enumerate(self.edges) if e.max_rounds is not None}
        self.back = back_links(len(self.nodes), self.links, declared)
        self.boxes: list[Box] = []
        self.lines: list[Line] = []
        self.passes: dict[int, list[tuple[float, float, float]]] = {}
        self.moved = False
        self.place()
        if positions:
            self.move()

    # Sizes and ports

    def _content(self, node: Node) -> Layout | None:
        if node.body is None or not node.body.nodes:
            return None
        prefix = f"{self.prefix}{node.id}/"
        return _Drawing(node.body, self.metrics, prefix, self.level + 1, self.positions).finish()

    def _exits(self) -> list[list[_Exit]]:
        """Of each node, the exits its edges use, in the order of its ports."""
        used: list[dict[_Exit, None]] = [{} for _ in self.nodes]
        for edge, (source, _target) in zip(self.edges, self.ends, strict=True):
            used[source][self._exit(edge, source)] = None
        return [_in_port_order(node, list(exits)) for node, exits in zip(self.nodes, used, strict=True)]

    def _exit(self, edge: Edge, source: int) -> _Exit:
        return _Exit(edge.port or kinds.main_port(self.nodes[source]), edge.label)

    def _size(self, index: int) -> tuple[float, float]:
        m = self.metrics
        content = self.inside[index]
        height = max(m.height, (len(self.exits[index]) - 1) * m.port_gap + 24)
        if content is None:
            return m.width, height
        return (
            max(m.width, content.width + 2 * m.padding),
            max(height, content.height + m.header + m.padding),
        )

    def _offset(self, edge_index: int) -> float:
        """How far from the middle of its box's right side an edge leaves."""
        source = self.ends[edge_index][0]
        exits = self.exits[source]
        place = exits.index(self._exit(self.edges[edge_index], source))
        return (place - (len(exits) - 1) / 2) * self.metrics.port_gap

    def _labels(self) -> list[str]:
        """An edge says its label, or its port where there is a choice; of several alike, the first one."""
        said: set[tuple[int, _Exit]] = set()
        labels = []
        for edge, (source, _target) in zip(self.edges, self.ends, strict=True):
            mine = self._exit(edge, source)
            is_choice = len(self.exits[source]) > 1 or mine.port != kinds.main_port(self.nodes[source])
            silent = not self.metrics.labels or (source, mine) in said
            said.add((source, mine))
            labels.append("" if silent else mine.text or (mine.port if is_choice else ""))
        return labels

    # Places

    def place(self) -> None:
        m = self.metrics
        forward = [i for i in range(len(self.links)) if i not in self.back]
        links = [self.links[i] for i in forward]
        heights = tuple(height for _w, height in self.sizes)
        column, arrangement = _arranged(heights, tuple(links), m.row_gap, m.line_gap)
        self.lefts, self.widths, self.gutters = self._columns(column)
        self.boxes = []
        for index, node in enumerate(self.nodes):
            width, height = self.sizes[index]
            x = self.lefts[column[index]] + (self.widths[column[index]] - width) / 2
            y = arrangement.middles[index] - height / 2
            box = Box(f"{self.prefix}{node.id}", node, x, y, width, height, column[index], self.level)
            self.boxes.append(box)
        for position, edge_index in enumerate(forward):
            start = column[links[position].source]
            self.passes[edge_index] = [
                (self.lefts[place], self.lefts[place] + self.widths[place], y)
                for place, y in enumerate(arrangement.bends[position], start + 1)
            ]

    def _columns(self, column: list[int]) -> tuple[list[float], list[float], list[float]]:
        """Left side and width of each column, and the room for labels to its right."""
        count = max(column, default=-1) + 1
        widths, rooms = [0.0] * count, [0.0] * count
        for index, place in enumerate(column):
            widths[place] = max(widths[place], self.sizes[index][0])
        for label, (source, _target) in zip(self.labels, self.ends, strict=True):
            place = column[source]
            rooms[place] = max(rooms[place], self._label_width(_cut(label)))
        lefts, x = [], 0.0
        for width, room in zip(widths, rooms, strict=True):
            lefts.append(x)
            x += width + room + self.metrics.column_gap
        return lefts, widths, rooms

    def _label_width(self, label: str) -> float:
        return len(label) * self.metrics.letter + 10 if label else 0.0

    def move(self) -> None:
        """Put boxes where a person wants them; the others stay, moved down only where one is in their way.

        So whoever moves one box sees one box move.
        """
        wanted = {b.path: self.positions[b.path] for b in self.boxes if b.path in self.positions}
        if not wanted or (len(wanted) == len(self.boxes) and self._is_as_drawn(wanted)):
            return
        self.moved = True
        if self.level:
            self._beside(wanted)
        fixed = {
            b.path: replace(b, x=wanted[b.path].x, y=wanted[b.path].y) for b in self.boxes if b.path in wanted
        }
        taken = _Taken(fixed.values())
        for index, box in enumerate(self.boxes):
            if box.path in fixed:
                self.boxes[index] = fixed[box.path]
            else:
                self.boxes[index] = taken.free(box, self.metrics.row_gap)
                taken.add(self.boxes[index])

    def _beside(self, wanted: Mapping[str, Position]) -> None:
        """Take the whole arrangement to where most of its placed boxes are wanted.

        In a container people's places count to one another only, so what has none has to come along.
        """
        drawn = [b for b in self.boxes if b.path in wanted]
        dx = median(wanted[b.path].x - b.x for b in drawn)
        dy = median(wanted[b.path].y - b.y for b in drawn)
        self.boxes = [replace(b, x=b.x + dx, y=b.y + dy) for b in self.boxes]

    def _is_as_drawn(self, wanted: Mapping[str, Position]) -> bool:
        """Whether people want every box where it is anyway; whole pixels are as good as halves of them."""
        dx = [wanted[b.path].x - b.x for b in self.boxes]
        dy = [wanted[b.path].y - b.y for b in self.boxes]
        within = 1 if self.level else 0.5  # Inside a container all of them together stand anywhere.
        shift_x, shift_y = (dx[0], dy[0]) if self.level else (0.0, 0.0)
        return all(abs(x - shift_x) <= within for x in dx) and all(abs(y - shift_y) <= within for y in dy)

    # Lines

    def finish(self) -> Layout:
        lanes = _Lanes(self.metrics.lane)
        for index in sorted(range(len(self.edges)), key=self._reach):
            self.lines.append(self._line(index, lanes))
        order = {id(edge): index for index, edge in enumerate(self.edges)}
        self.lines.sort(key=lambda line: order[id(line.edge)])
        boxes: list[Box] = []
        lines = list(self.lines)
        for box, content in zip(self.boxes, self.inside, strict=True):
            boxes.append(box)
            if content is not None:
                room = box.width - content.width
                dx, dy = box.x + room / 2 - content.x, box.y + self.metrics.header - content.y
                boxes += [replace(b, x=b.x + dx, y=b.y + dy) for b in content.boxes]
                lines += [_shifted(line, dx, dy) for line in content.lines]
        return _covering(boxes, lines)

    def _reach(self, index: int) -> tuple[float, int]:
        """Short back edges get the inner lanes."""
        link = self.links[index]
        return abs(self.boxes[link.source].x - self.boxes[link.target].x), index

    def _line(self, index: int, lanes: _Lanes) -> Line:
        edge, link = self.edges[index], self.links[index]
        source, target = self.boxes[link.source], self.boxes[link.target]
        label = self.labels[index]
        start = (source.right, source.middle + link.offset)
        room = self._label_width(_cut(label))
        if not self.moved:
            room = (
                self.gutters[source.column]
                + self.lefts[source.column]
                + self.widths[source.column]
                - source.right
            )
        is_back = index in self.back or (self.moved and target.x < source.right + 8)
        if is_back:
            points = self._backwards(source, target, start, room, lanes)
        elif self.moved:
            bend = min(start[0] + room, max(start[0], target.x - 12))
            points = (start, (bend, start[1]), (target.x, target.middle))
        else:
            points = self._forwards(index, start, (target.x, target.middle), room)
        return Line(
            source=source.path,
            target=target.path,
            edge=edge,
            port=self._exit(edge, link.source).port,
            is_back=is_back,
            closes=index in self.back,
            points=points,
            label=_cut(label),
            label_at=(start[0] + 7, start[1] - 5),
        )

    def _forwards(self, index: int, start: Point, end: Point, room: float) -> tuple[Point, ...]:
        source, target = self.boxes[self.links[index].source], self.boxes[self.links[index].target]
        points = [start, (start[0] + room, start[1])]
        place = source.column
        for left, right, y in self.passes[index]:
            place += 1
            points += [(left, y), (right + self.gutters[place], y)]
        # A box narrower than its column is reached by a straight piece from the column's side.
        points += [(self.lefts[target.column], end[1]), end]
        return _without_repeats(points)

    def _backwards(
        self, source: Box, target: Box, start: Point, room: float, lanes: _Lanes
    ) -> tuple[Point, ...]:
        """Right of the source, down, left below every box on the way, up beside the target, into it."""
        turn = self.metrics.column_gap / 4
        spread = lanes.next_spread() * (3 if self.metrics.labels else 1)
        right, left = start[0] + room + turn - spread, target.x - turn - spread
        # Somebody may have put the target to the right of the source.
        low, high = min(left, target.x, source.right), max(right, source.right, target.x)
        floor = max(b.bottom for b in self.boxes if b.x <= high and b.right >= low)
        if not self.moved:
            passing = (p for passes in self.passes.values() for p in passes)
            floor = max([floor, *(y for start_x, end_x, y in passing if start_x <= high and end_x >= low)])
        lane = lanes.below(floor, low, high)
        end = (target.x, target.bottom - min(12.0, target.height / 4))
        return (start, (right, start[1]), (right, lane), (left, lane), (left, end[1]), end)


class _Lanes:
    """The heights below the boxes that back edges run along; no two that overlap share one."""

    def __init__(self, distance: float) -> None:
        self.distance = distance
        self.taken: list[tuple[float, float, float]] = []

    def next_spread(self) -> int:
        return len(self.taken) % 4

    def below(self, floor: float, low: float, high: float) -> float:
        y = floor + self.distance
        for taken, left, right in sorted(self.taken):
            if left <= high and right >= low and abs(taken - y) < self.distance:
                y = taken + self.distance
        self.taken.append((y, low, high))
        return y


def _in_port_order(node: Node, exits: list[_Exit]) -> list[_Exit]:
    order = {port: index for index, port in enumerate(kinds.ports(node))}
    return sorted(exits, key=lambda e: order.get(e.port, len(order)))


def _covering(boxes: list[Box], lines: list[Line]) -> Layout:
    xs = [b.x for b in boxes] + [b.right for b in boxes] + [x for line in lines for x, _y in line.points]
    ys = [b.y for b in boxes] + [b.bottom for b in boxes] + [y for line in lines for _x, y in line.points]
    if not xs:
        return Layout((), (), 0, 0, 0, 0)
    x, y = min(xs), min(ys)
    return Layout(tuple(boxes), tuple(lines), x, y, max(xs) - x, max(ys) - y)


def _shifted(line: Line, dx: float, dy: float) -> Line:
    points = tuple((x + dx, y + dy) for x, y in line.points)
    return replace(line, points=points, label_at=(line.label_at[0] + dx, line.label_at[1] + dy))


def _without_repeats(points: list[Point]) -> tuple[Point, ...]:
    kept = points[:1]
    for point in points[1:]:
        if abs(point[0] - kept[-1][0]) > 0.01 or abs(point[1] - kept[-1][1]) > 0.01:
            kept.append(point)
    return tuple(kept)


def _cut(label: str) -> str:
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1].rstrip() + "…"


class _Taken:
    """Boxes that stand already, found by where they are from left to right."""

    STRIPE = 200.0

    def __init__(self, boxes: Iterable[Box]) -> None:
        self.stripes: dict[int, list[Box]] = {}
        for box in boxes:
            self.add(box)

    def add(self, box: Box) -> None:
        for stripe in self._stripes(box):
            self.stripes.setdefault(stripe, []).append(box)

    def free(self, box: Box, gap: float) -> Box:
        """The box, moved down until it stands on no other."""
        near = {o.path: o for stripe in self._stripes(box) for o in self.stripes.get(stripe, ())}
        y, right, height = box.y, box.right, box.height
        for other in sorted(near.values(), key=lambda o: o.y):
            if other.x < right and box.x < other.right:
                bottom = other.bottom + gap
                if other.y < y + height + gap and y < bottom:
                    y = bottom
        return box if y == box.y else replace(box, y=y)

    def _stripes(self, box: Box) -> range:
        return range(int(box.x // self.STRIPE), int(box.right // self.STRIPE) + 1)
