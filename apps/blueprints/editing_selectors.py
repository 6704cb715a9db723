"""What an editor asks about a draft before it changes anything, each for one principal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import F, Max

from apps.blueprints import drafts
from apps.blueprints.core.editing import connect, palette
from apps.blueprints.core.editing.fixes import Fix, Fixer
from apps.blueprints.core.editing.fragment import fragment_of
from apps.blueprints.core.editing.view import View, node_of
from apps.blueprints.core.problems import Problem
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


def view_for(principal: Principal, name: str, *, private: bool = False) -> View:
    """Raises BlueprintNotFound for a stranger."""
    return drafts.seen(drafts.draft_for(principal, name, private=private)).view


def targets_for(
    principal: Principal, name: str, source: str, *, private: bool = False
) -> list[connect.Target]:
    """Where an edge from `path` or `path.port` may go."""
    found = drafts.seen(drafts.draft_for(principal, name, private=private))
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
    found = drafts.seen(drafts.draft_for(principal, name, private=private))
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
    found = drafts.seen(drafts.draft_for(principal, name, private=private))
    return to_fix(found.source.data, found.problems)


def to_fix(data: object, problems: Sequence[Problem]) -> list[ToFix]:
    fixer = Fixer(data, builtin_tools())
    entries = []
    for problem in sorted(problems, key=lambda p: p.level != "error"):
        node = node_of(fixer.plan, problem)
        title = fixer.plan.title(node) if node else ""
        entries.append(ToFix(problem, node, title, fixer.fix(problem)))
    return entries


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
