"""What an editor asks about a draft before it changes anything, each for one principal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import F, Max

from apps.blueprints import draft_texts, drafts
from apps.blueprints.core.editing import connect, palette
from apps.blueprints.core.editing.fixes import Fix, Fixer
from apps.blueprints.core.editing.fragment import fragment_of
from apps.blueprints.core.editing.sketch import Sketch
from apps.blueprints.core.editing.view import View, node_of
from apps.blueprints.core.problems import Problem, path_parts, path_text
from apps.blueprints.models import Version
from apps.blueprints.ports import builtin_tools
from apps.blueprints.selectors import blueprints_for
from apps.workspaces.access import Principal


@dataclass(frozen=True)
class ToFix:
    """One entry of the box that lists everything to fix."""

    problem: Problem
    node: str
    """Path of the node to go to; empty when it is about the blueprint as a whole."""
    title: str
    """What that node is called."""
    fix: Fix | None
    key: str = ""
    """What it is called while it is there, whatever else changes."""


def view_for(principal: Principal, name: str, *, private: bool = False) -> View:
    """Raises BlueprintNotFound for a stranger."""
    return draft_texts.seen(drafts.draft_for(principal, name, private=private)).view


def targets_for(
    principal: Principal, name: str, source: str, *, private: bool = False
) -> list[connect.Target]:
    """Where an edge from `path` or `path.port` may go."""
    found = draft_texts.seen(drafts.draft_for(principal, name, private=private))
    return connect.targets(found.source.data, source, builtin_tools())


def palette_for(
    principal: Principal,
    name: str,
    *,
    source: str = "",
    query: str = "",
    scope: str = "",
    private: bool = False,
) -> list[palette.Entry]:
    """What can be added, what fits best first."""
    found = draft_texts.seen(drafts.draft_for(principal, name, private=private))
    return palette.palette(
        found.source.data,
        builtin_tools(),
        source=source,
        query=query,
        scope=scope,
        subflows=_subflows(principal, name),
    )


def fragment_for(principal: Principal, name: str, paths: Sequence[str], *, private: bool = False) -> str:
    """Some nodes as YAML, to be pasted anywhere; empty when none of them is there."""
    return fragment_of(drafts.draft_for(principal, name, private=private).source, paths)


def to_fix_for(principal: Principal, name: str, *, private: bool = False) -> list[ToFix]:
    """Everything there is to fix, errors first, each with where it is and what mends it."""
    return to_fix_in(draft_texts.seen(drafts.draft_for(principal, name, private=private)))


def to_fix_in(found: draft_texts.Seen) -> list[ToFix]:
    """The same of a version that has been read, worked out once."""
    return found.once("to_fix", lambda: to_fix(found.source.data, found.problems, found.plan))


def to_fix(data: object, problems: Sequence[Problem], drawn: Sketch | None = None) -> list[ToFix]:
    """drawn: the sketch of the same values, when the caller has made it already."""
    fixer = Fixer(data, builtin_tools(), drawn)
    entries: list[ToFix] = []
    alike: dict[str, int] = {}
    for problem in sorted(problems, key=lambda p: p.level != "error"):
        node = node_of(fixer.plan, problem)
        title = fixer.plan.title(node) if node else ""
        key = _key(fixer.plan, problem)
        alike[key] = alike.get(key, 0) + 1
        key = f"{key} {alike[key]}" if alike[key] > 1 else key
        entries.append(ToFix(problem, node, title, fixer.fix(problem), key))
    return entries


def _key(plan: Sketch, problem: Problem) -> str:
    """Steps and edges by their names, as their places in the text are others' as soon as one is removed."""
    place = path_parts(problem.path)
    edge = plan.edge_at(place)
    if edge is not None:
        return f"edge {edge.id} {path_text(place[len(edge.place) :])} {problem.code}"
    node = plan.node_at(place)
    if node:
        return f"step {node} {path_text(place[len(plan.place_of(node)) :])} {problem.code}"
    return f"{problem.path} {problem.code}"


def _subflows(principal: Principal, name: str) -> list[palette.Subflow]:
    """The newest published version of every other blueprint of the workspace."""
    newest = (
        Version.objects.filter(blueprint__in=blueprints_for(principal).exclude(name=name))
        .annotate(newest=Max("blueprint__versions__number"))
        .filter(number=F("newest"))
        .order_by("blueprint__name")
    )
    rows = newest.values_list(
        "blueprint__name", "number", "blueprint__title", "blueprint__summary", "document__contract__inputs"
    )[: palette.MOST_SUBFLOWS]
    return [
        palette.Subflow(row_name, number, title, summary, inputs if isinstance(inputs, dict) else {})
        for row_name, number, title, summary, inputs in rows
        if number is not None
    ]
