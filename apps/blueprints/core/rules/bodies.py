"""Maps and loops: what they go through, and the graph they go through it with."""

from __future__ import annotations

import re
from dataclasses import replace

from apps.blueprints.core.document import Node
from apps.blueprints.core.expressions import is_template
from apps.blueprints.core.problems import Path, shown
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import Scope, check_condition, check_expression, check_template
from apps.blueprints.core.rules.said import missing


def check_map(case: Case, node: Node, path: Path, scope: Scope) -> None:
    _check_body(case, node, path)
    if node.items is None:
        missing(case, node, path, "items", "items: with an expression that gives a list")
    elif isinstance(node.items, str) and not is_template(node.items):
        check_expression(case, node.items, (*path, "items"), scope)
    else:
        check_template(case, node.items, (*path, "items"), scope)
    if node.join == "n_of_m" and node.n is None:
        missing(case, node, path, "n", "n: how many items must succeed")
    inside = replace(scope, names=scope.names | {"results", "failed"})
    if isinstance(node.merge, str) and not is_template(node.merge):
        check_expression(case, node.merge, (*path, "merge"), inside)
    else:
        check_template(case, node.merge, (*path, "merge"), inside)


def check_loop(case: Case, node: Node, path: Path, scope: Scope) -> None:
    _check_body(case, node, path)
    if node.max_rounds is None:
        missing(case, node, path, "max_rounds", "max_rounds: how often its body may run at most")
    if node.condition:
        # It is judged inside the round that has just ended, so the body's own steps are there too.
        inner = next((c for c in case.bodies() if c.container == node.id), None)
        here = case if inner is None else _seen_from(inner, case)
        names = scope.names | {"output", "round", "previous"}
        check_condition(here, node.condition, (*path, "condition"), replace(scope, names=names, before=None))


def _seen_from(inner: Case, case: Case) -> Case:
    """The body's names, for an expression that stands at its container."""
    inner.prefix = case.prefix
    return inner


_VERSION = re.compile(r"[a-z0-9_-]{1,64}(@[1-9][0-9]*)?")


def check_subflow(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.blueprint:
        missing(case, node, path, "blueprint", "blueprint: name@version with the blueprint to run")
    elif not _VERSION.fullmatch(node.blueprint):
        case.error(
            (*path, "blueprint"),
            "bad_name",
            f'Subflow "{node.id}" runs {shown(node.blueprint)}, which is not the name of a blueprint.',
            "Write it like research_account@3.",
            node=node.id,
        )
    elif node.blueprint.partition("@")[0] == case.document.metadata.name and not node.when:
        case.warning(
            (*path, "blueprint"),
            "runs_itself",
            f'Subflow "{node.id}" runs this very blueprint, and always does.',
            "Add when: with a condition that ends the recursion, or use a loop.",
            node=node.id,
        )


def _check_body(case: Case, node: Node, path: Path) -> None:
    if node.body is None or not node.body.nodes:
        missing(case, node, path, "body", "body: {nodes: […], edges: […]} with the steps to repeat")
