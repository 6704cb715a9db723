"""The graph as a tree to read and to edit: what each step is, where it leads, what is wrong with it.

Steps stand in the order of the picture, from left to right and from top to bottom; a body stands inside its
map or loop, and the members of a group inside the group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from apps.blueprints.core.editing.sketch import Sketch, SketchedEdge
from apps.blueprints.core.editing.view import port_words
from apps.blueprints.core.kinds import main_port

COLUMN = 60
"""Px by which steps may differ and still stand in one column."""
MOST_NESTED = 12


@dataclass(frozen=True)
class Onward:
    """One edge that leaves a step."""

    way: str
    """The port or the label; empty for the usual way."""
    to: str
    """Title of the step it leads to, or what is written there when there is none."""
    back: bool
    rounds: int | None
    condition: str
    problem: str


@dataclass(frozen=True)
class Row:
    key: str
    """Path of a node, or the id of a group."""
    title: str
    kind: str
    """Empty for a group."""
    name: str = ""
    """The tool, agent or blueprint it uses; a group's description."""
    boundary: str = ""
    boundary_words: str = ""
    errors: int = 0
    warnings: int = 0
    first: str = ""
    onward: list[Onward] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    has_rows: bool = False
    holds: bool = False
    """Whether it is made to hold steps, with or without any."""
    folded: bool = False
    comments: int = 0
    """Comments of a review on it that wait."""
    comments_url: str = ""
    members: list[str] = field(default_factory=list)
    """Paths of the steps of a group."""

    @property
    def is_group(self) -> bool:
        return not self.kind

    @property
    def called(self) -> str:
        """What the page calls this row."""
        return f"group:{self.key}" if self.is_group else self.key

    @property
    def mark(self) -> str:
        """For what refers to the row; an id may hold anything while it is wrong."""
        return hashlib.blake2s(self.called.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()

    @property
    def wrong(self) -> int:
        return self.errors + self.warnings


@dataclass(frozen=True)
class Line:
    """A row by itself, without those inside it."""

    row: Row
    level: int


Tree = list[tuple[str, "Tree"]]
"""Rows by what they are called, with those inside them, in their order."""


def lines_of(rows: list[Row]) -> dict[str, Line]:
    """Every row by what it is called: two versions of one row are equal when they look alike."""
    return dict(_lines(rows, 1))


def _lines(rows: list[Row], level: int) -> Iterator[tuple[str, Line]]:
    for row in rows:
        yield row.called, Line(replace(row, rows=[], has_rows=bool(row.rows)), level)
        yield from _lines(row.rows, level + 1)


def tree_of(rows: list[Row]) -> Tree:
    return [(row.called, tree_of(row.rows)) for row in rows]


def rows_of(
    plan: Sketch, view: Mapping[str, Any], comments: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Row]:
    """The tree.

    view: a view of the same draft in which nothing is collapsed. comments: {path: {count, url}}.
    """
    return _Rows(plan, view, comments or {}).inside("", 0)


class _Rows:
    def __init__(
        self, plan: Sketch, view: Mapping[str, Any], comments: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.plan = plan
        self.comments = comments
        self.nodes: Mapping[str, Any] = view["nodes"]
        self.problems = {edge["id"]: edge.get("problem", "") for edge in view["edges"].values()}
        self.back = {edge["id"] for edge in view["edges"].values() if edge["closes"]}
        self.children: dict[str, list[str]] = {}
        for path, scope in plan.scopes.items():
            self.children.setdefault(scope, []).append(path)
        self.leaving: dict[str, list[SketchedEdge]] = {}
        for edge in plan.edges:
            self.leaving.setdefault(edge.source, []).append(edge)
        folded = plan.canvas.get("collapsed")
        self.folded = {f for f in folded if isinstance(f, str)} if isinstance(folded, list) else set()
        self.groups = view["groups"]
        self.member_of = {path: key for key, group in self.groups.items() for path in group["nodes"]}

    def inside(self, scope: str, depth: int) -> list[Row]:
        rows: list[Row] = []
        done: set[str] = set()
        for path in sorted(self.children.get(scope, []), key=self._place):
            group = self.member_of.get(path, "")
            if not group:
                rows.append(self.node(path, depth))
            elif group not in done:
                done.add(group)
                rows.append(self.group(group, scope, depth))
        return rows

    def _place(self, path: str) -> tuple[int, float]:
        node = self.nodes.get(path)
        return (int(node["x"]) // COLUMN, node["y"]) if node is not None else (1 << 30, 0)

    def group(self, key: str, scope: str, depth: int) -> Row:
        group = self.groups[key]
        members = [p for p in group["nodes"] if self.plan.scopes.get(p) == scope]
        rows = [self.node(path, depth) for path in sorted(members, key=self._place)]
        errors, warnings = sum(r.errors for r in rows), sum(r.warnings for r in rows)
        return Row(
            key, group["title"] or key, "", name=group["description"],
            rows=rows, has_rows=bool(rows), holds=True, folded=group["collapsed"],
            errors=errors, warnings=warnings, members=members,
        )  # fmt: skip

    def node(self, path: str, depth: int) -> Row:
        seen = self.nodes.get(path, {})
        problems = seen.get("problems", {})
        node = self.plan.nodes[path]
        said = self.comments.get(path, {})
        rows = self.inside(path, depth + 1) if depth < MOST_NESTED else []
        return Row(
            path, self.plan.title(path), node.kind,
            name={"tool": node.tool, "agent": node.agent, "subflow": node.blueprint}.get(node.kind, ""),
            boundary=seen.get("boundary", ""), boundary_words=seen.get("boundary_words", ""),
            errors=problems.get("errors", 0), warnings=problems.get("warnings", 0),
            first=problems.get("first", ""),
            comments=said.get("count", 0), comments_url=said.get("url", ""),
            onward=[self.onward(edge) for edge in self.leaving.get(path, [])],
            rows=rows, has_rows=bool(rows),
            holds=bool(seen.get("container")), folded=path in self.folded,
        )  # fmt: skip

    def onward(self, edge: SketchedEdge) -> Onward:
        node = self.plan.nodes[edge.source]
        usual = edge.port == main_port(node) and node.kind != "router"
        way = edge.edge.label or (
            "" if usual and node.kind != "approval" else port_words(node.kind, edge.port)
        )
        to = self.plan.title(edge.target) if edge.target else edge.edge.to or "nowhere"
        return Onward(
            way,
            to,
            edge.id in self.back,
            edge.edge.max_rounds,
            edge.edge.when,
            self.problems.get(edge.id, ""),
        )
