"""The mathematics of a layered drawing, on plain numbers: which column, which order, which height.

The classic four steps: break cycles, longest-path columns, fewer crossings by barycentres, heights that keep
lines straight. Source: K. Sugiyama, S. Tagawa, M. Toda, Methods for Visual Understanding of Hierarchical
System Structures, IEEE Trans. SMC 11(2), 1981. Heights by isotonic regression ("pool adjacent violators").

Everything is deterministic: ties keep the order of the document.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

ORDER_SWEEPS = 10
HEIGHT_SWEEPS = 3
SMALL = 150
"""Up to this many points, neighbours are also swapped one by one where that saves a crossing."""


@dataclass(frozen=True, slots=True)
class Link:
    source: int
    target: int
    offset: float = 0.0
    """Where it leaves its source, in px from the middle."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    middles: list[float]
    """Height of each node's middle."""
    bends: list[list[float]]
    """Of each link: the height at which it passes each column between its ends."""


def back_links(count: int, links: Sequence[Link], declared: Collection[int]) -> set[int]:
    """Indexes of the links to draw backwards, so that the others have no cycle.

    declared: indexes of links that the document calls back edges; each is one if it closes a cycle, and only
    those are chosen as long as that is enough.
    """
    following: list[list[tuple[int, int]]] = [[] for _ in range(count)]
    for index, link in enumerate(links):
        if index not in declared:
            following[link.source].append((index, link.target))
    back = _closing(count, following)
    forward: list[set[int]] = [set() for _ in range(count)]
    for node, leaving in enumerate(following):
        forward[node].update(target for index, target in leaving if index not in back)
    for index in sorted(declared):
        link = links[index]
        if _reaches(forward, link.target, link.source):
            back.add(index)
        else:
            forward[link.source].add(link.target)
    return back


def _closing(count: int, following: list[list[tuple[int, int]]]) -> set[int]:
    """Links that end at a node still being walked through, in a depth-first walk from the entries."""
    entered = {target for leaving in following for _index, target in leaving}
    starts = [n for n in range(count) if n not in entered]
    back: set[int] = set()
    state = bytearray(count)  # 0 not seen, 1 on the way, 2 done
    for start in (*starts, *range(count)):
        if state[start]:
            continue
        state[start] = 1
        walk = [(start, iter(following[start]))]
        while walk:
            node, rest = walk[-1]
            for index, target in rest:
                if state[target] == 1:
                    back.add(index)
                elif state[target] == 0:
                    state[target] = 1
                    walk.append((target, iter(following[target])))
                    break
            else:
                state[node] = 2
                walk.pop()
    return back


def _reaches(forward: list[set[int]], start: int, goal: int) -> bool:
    seen = {start}
    todo = [start]
    while todo:
        node = todo.pop()
        if node == goal:
            return True
        fresh = forward[node] - seen
        seen |= fresh
        todo.extend(fresh)
    return False


def columns(count: int, links: Sequence[Link]) -> list[int]:
    """The column of each node: as far left as its predecessors allow; an entry just before its first use."""
    waiting = [0] * count
    leaving: list[list[int]] = [[] for _ in range(count)]
    for link in links:
        waiting[link.target] += 1
        leaving[link.source].append(link.target)
    is_entry = [n == 0 for n in waiting]
    column = [0] * count
    todo = [n for n in range(count) if waiting[n] == 0]
    for node in todo:
        for target in leaving[node]:
            column[target] = max(column[target], column[node] + 1)
            waiting[target] -= 1
            if waiting[target] == 0:
                todo.append(target)
    for node in range(count):
        if is_entry[node] and leaving[node]:
            column[node] = min(column[target] for target in leaving[node]) - 1
    return column


def arrange(
    heights: Sequence[float], column: Sequence[int], links: Sequence[Link], *, gap: float, line_gap: float
) -> Arrangement:
    """Order and heights of all nodes and of the places where long links pass a column.

    links: forward only. gap: between two boxes. line_gap: between a line that passes and its neighbour.
    """
    grid = _Grid(heights, column, links, gap, line_gap)
    grid.order()
    grid.settle()
    count = len(heights)
    return Arrangement(grid.y[:count], [[grid.y[point] for point in chain[1:-1]] for chain in grid.chains])


class _Grid:
    """Nodes and the passing points of long links, column by column."""

    def __init__(
        self,
        heights: Sequence[float],
        column: Sequence[int],
        links: Sequence[Link],
        gap: float,
        line_gap: float,
    ) -> None:
        self.count = len(heights)
        self.heights = list(heights)
        self.gap, self.line_gap = gap, line_gap
        self.layers: list[list[int]] = [[] for _ in range(max(column, default=-1) + 1)]
        self.before: list[list[tuple[int, float]]] = [[] for _ in heights]
        self.after: list[list[tuple[int, float]]] = [[] for _ in heights]
        self.chains: list[list[int]] = []
        for node, place in enumerate(column):
            self.layers[place].append(node)
        for link in links:
            chain = [link.source]
            for place in range(column[link.source] + 1, column[link.target]):
                point = len(self.heights)
                self.heights.append(0.0)
                self.before.append([])
                self.after.append([])
                self.layers[place].append(point)
                chain.append(point)
            chain.append(link.target)
            self.chains.append(chain)
            for index, (left, right) in enumerate(pairwise(chain)):
                offset = link.offset if index == 0 else 0.0
                self.after[left].append((right, offset))
                self.before[right].append((left, offset))
        self.y = [0.0] * len(self.heights)

    # Order

    def order(self) -> None:
        self._start()
        best, fewest = [list(layer) for layer in self.layers], self._crossings()
        stale = 0
        for sweep in range(ORDER_SWEEPS):
            if fewest == 0 or stale == 4:
                break
            self._sweep(forwards=sweep % 2 == 0)
            if len(self.heights) <= SMALL:
                self._swap()
            crossings = self._crossings()
            stale += 1
            if crossings < fewest:
                best, fewest, stale = [list(layer) for layer in self.layers], crossings, 0
        self.layers = best

    def _start(self) -> None:
        """First order: the walk through the graph from its entries, ports from top to bottom."""
        rank: dict[int, int] = {}
        for entry in [n for layer in self.layers for n in layer if not self.before[n]]:
            todo = [entry]
            while todo:
                node = todo.pop()
                if node in rank:
                    continue
                rank[node] = len(rank)
                todo.extend(n for n, _offset in sorted(self.after[node], key=lambda a: -a[1]))
        for layer in self.layers:
            layer.sort(key=lambda n: rank.get(n, n))

    def _sweep(self, *, forwards: bool) -> None:
        neighbours = self.before if forwards else self.after
        layers = self.layers if forwards else self.layers[::-1]
        place = [0.0] * len(self.heights)
        for index, node in enumerate(layers[0] if layers else []):
            place[node] = index
        for layer in layers[1:]:
            wanted: dict[int, float] = {}
            for index, node in enumerate(layer):
                near = neighbours[node]
                if near:
                    # A link's offset is a fraction of a place: it decides between links of one node.
                    tilt = 1e-3 if forwards else 0.0
                    wanted[node] = sum(place[n] + tilt * o for n, o in near) / len(near)
                else:
                    wanted[node] = float(index)
            layer.sort(key=wanted.__getitem__)
            for index, node in enumerate(layer):
                place[node] = index

    def _crossings(self) -> int:
        total = 0
        for left, right in pairwise(self.layers):
            place = {node: index for index, node in enumerate(right)}
            ends: list[int] = []
            for node in left:
                ends.extend(place[n] for n, _o in sorted(self.after[node], key=lambda a: (a[1], place[a[0]])))
            total += _inversions(ends)
        return total

    def _swap(self) -> None:
        for number, layer in enumerate(self.layers):
            left = {n: i for i, n in enumerate(self.layers[number - 1])} if number else {}
            right = (
                {n: i for i, n in enumerate(self.layers[number + 1])} if number + 1 < len(self.layers) else {}
            )
            for index in range(len(layer) - 1):
                upper, lower = layer[index], layer[index + 1]
                now = self._pair(upper, lower, left, right)
                if now and self._pair(lower, upper, left, right) < now:
                    layer[index], layer[index + 1] = lower, upper

    def _pair(self, upper: int, lower: int, left: dict[int, int], right: dict[int, int]) -> int:
        """Crossings between the links of two neighbours when `upper` stands above `lower`."""
        crossings = sum(right[a] > right[b] for a, _o in self.after[upper] for b, _p in self.after[lower])
        return crossings + sum(
            (left[a], o) > (left[b], p) for a, o in self.before[upper] for b, p in self.before[lower]
        )

    # Heights

    def settle(self) -> None:
        spacing = [self._spacing(layer) for layer in self.layers]
        for layer, distances in zip(self.layers, spacing, strict=True):
            y = 0.0
            for node, distance in zip(layer, distances, strict=True):
                y += distance
                self.y[node] = y
        for _sweep in range(HEIGHT_SWEEPS):
            for number in range(1, len(self.layers)):
                self._align(self.layers[number], spacing[number], before=True, after=False)
            for number in range(len(self.layers) - 2, -1, -1):
                self._align(self.layers[number], spacing[number], before=False, after=True)
        for number in range(len(self.layers)):
            self._align(self.layers[number], spacing[number], before=True, after=True)

    def _spacing(self, layer: list[int]) -> list[float]:
        """Of each point, how far its middle must be below the one above it."""
        distances = [0.0] if layer else []
        for upper, lower in pairwise(layer):
            boxes = upper < self.count and lower < self.count
            free = self.gap if boxes else self.line_gap
            distances.append((self.heights[upper] + self.heights[lower]) / 2 + free)
        return distances

    def _align(self, layer: list[int], distances: list[float], *, before: bool, after: bool) -> None:
        """Move every point of a column as near to its neighbours' heights as order and spacing allow."""
        blocks: list[tuple[float, float, int]] = []  # mean, weight, members
        base = 0.0
        bases: list[float] = []
        for node, distance in zip(layer, distances, strict=True):
            base += distance
            bases.append(base)
            mean, weight = self._wanted(node, before, after)
            mean -= base
            members = 1
            while blocks and blocks[-1][0] > mean:
                above, above_weight, above_members = blocks.pop()
                mean = (mean * weight + above * above_weight) / (weight + above_weight)
                weight += above_weight
                members += above_members
            blocks.append((mean, weight, members))
        index = 0
        for mean, _weight, members in blocks:
            for _ in range(members):
                self.y[layer[index]] = mean + bases[index]
                index += 1

    def _wanted(self, node: int, before: bool, after: bool) -> tuple[float, float]:
        y = self.y
        near = [y[n] + o for n, o in self.before[node]] if before else []
        if after:
            near += [y[n] - o for n, o in self.after[node]]
        if not near:
            return y[node], 0.1
        # A passing line is moved last: its straightness is what the eye follows.
        return _median(near), 4.0 if node >= self.count else 1.0 + 0.1 * len(near)


def _median(values: list[float]) -> float:
    values.sort()
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def _inversions(values: list[int]) -> int:
    seen: list[int] = []
    total = 0
    for value in values:
        total += len(seen) - bisect_left(seen, value + 1)
        insort(seen, value)
    return total
