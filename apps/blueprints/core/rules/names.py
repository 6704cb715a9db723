"""Expressions and templates: can they be read, and does everything they name exist where they stand?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from apps.blueprints.core.expression_types import guarded_paths, type_of_expression
from apps.blueprints.core.expressions import Expression, ExpressionError, compile_expression, parts
from apps.blueprints.core.problems import Path, shown
from apps.blueprints.core.rules.case import STEP_FIELDS, Case
from apps.blueprints.core.schemas import Missing, types, words
from apps.blueprints.core.suggest import instead, listed, nearest

IN_NODES = frozenset(["inputs", "steps", "run", "round", "effects"])


@dataclass(frozen=True)
class Scope:
    """What an expression may name at one place."""

    names: frozenset[str]
    node: str = ""
    """The node it belongs to, for pictures."""
    before: int | None = None
    """Mask of the nodes that can have run by then; None when any can."""
    given: frozenset[tuple[str, ...]] = frozenset()
    """Paths that are known to be there, because a condition has asked."""
    only: Callable[[tuple[str, ...]], str | None] | None = None
    """Says in words what is wrong with a path under a name of its own; None when nothing is."""


def check_template(case: Case, template: Any, path: Path, scope: Scope) -> None:
    """Every `{{ … }}` in a value, through lists and mappings."""
    if isinstance(template, str):
        if "{{" not in template:
            return
        try:
            pieces = parts(template)
        except ExpressionError as error:
            _unreadable(case, path, error, scope)
            return
        for piece in pieces:
            if piece.is_expression:
                check_expression(case, piece.text, path, scope)
    elif isinstance(template, dict):
        for key, value in template.items():
            check_template(case, value, (*path, str(key)), scope)
    elif isinstance(template, list):
        for index, value in enumerate(template):
            check_template(case, value, (*path, index), scope)


def check_condition(case: Case, source: str, path: Path, scope: Scope) -> None:
    """An expression that must be true or false."""
    expression = check_expression(case, source, path, scope)
    if expression is None:
        return
    have = types(type_of_expression(expression, case.lookup))
    if have is not None and "boolean" not in have:
        case.error(
            path,
            "type_clash",
            f"The condition {shown(source)} gives {words(have)}, not true or false.",
            "Compare it with something, as in … == … or size(…) > 0.",
            node=scope.node,
        )


def check_expression(case: Case, source: str, path: Path, scope: Scope) -> Expression | None:
    """Read one expression and check every name in it; None when it cannot be read."""
    try:
        expression = compile_expression(source)
    except ExpressionError as error:
        _unreadable(case, path, error, scope)
        return None
    guards = guarded_paths(expression) | scope.given
    for reference in sorted(expression.references):
        _check_reference(case, tuple(reference.split(".")), path, scope, guards)
    return expression


def guards_of(source: str) -> frozenset[tuple[str, ...]]:
    """What a condition makes sure of; nothing when it cannot be read."""
    try:
        return guarded_paths(compile_expression(source)) if source else frozenset()
    except ExpressionError:
        return frozenset()


def _unreadable(case: Case, path: Path, error: ExpressionError, scope: Scope) -> None:
    fix = "Correct the expression; it is written like inputs.company, a == 'b' or size(items) > 0."
    if "never closed" in error.message:
        fix = "Close it with }}."
    case.error(
        path,
        "bad_expression",
        f"The expression {shown(error.source)} cannot be read: {error.message}.",
        fix,
        node=scope.node,
    )


def _check_reference(
    case: Case, way: tuple[str, ...], path: Path, scope: Scope, guards: frozenset[tuple[str, ...]]
) -> None:
    root = way[0]
    if root not in scope.names:
        _unknown_root(case, root, path, scope)
    elif scope.only is not None and (wrong := scope.only(way)) is not None:
        case.error(path, "unknown_name", wrong, "Correct the name.", node=scope.node)
    elif root == "steps":
        _check_step(case, way, path, scope)
    elif root in ("inputs", "run"):
        _check_fields(case, way, 1, path, scope)
        if root == "inputs" and len(way) > 1:
            _check_optional(case, way[1], path, scope, guards)


def _unknown_root(case: Case, root: str, path: Path, scope: Scope) -> None:
    if root in case.node_ids:
        fix = f"Write steps.{root}.output."
    elif root in (case.document.contract.inputs.get("properties") or {}) and "inputs" in scope.names:
        fix = f"Write inputs.{root}."
    else:
        near = nearest(root, scope.names)
        fix = (
            f'Write "{near}".' if near else f"Write one of {listed(sorted(scope.names))}; put text in quotes."
        )
    case.error(path, "unknown_name", f"There is no name {shown(root)} here.", fix, node=scope.node)


def _check_step(case: Case, way: tuple[str, ...], path: Path, scope: Scope) -> None:
    if len(way) < 2:
        return
    node_id = way[1]
    if node_id not in case.node_ids and _stands_around(case, node_id):
        # A body reads what was done before its map or loop began.
        assert case.outer is not None
        before = case.outer.shape.ever_before.get(case.container)
        around = replace(scope, node=case.container, before=before)
        _check_step(case.outer, way, case.outward(path), around)
        return
    if node_id not in case.node_ids:
        case.error(
            path,
            "unknown_node",
            f"The expression reads steps.{node_id}, but there is no node {shown(node_id)}.",
            _sentence(instead(node_id, case.node_ids, one_of="one of the nodes") or "add the node"),
            node=scope.node,
        )
        return
    if node_id not in case.shape.nodes:
        return  # It is there, but what is wrong with it has been said already.
    if len(way) > 2 and way[2] not in STEP_FIELDS:
        near = nearest(way[2], STEP_FIELDS)
        fix = f"Write steps.{node_id}.{near}." if near else f"Write steps.{node_id}.output.{way[2]}."
        case.error(
            path,
            "unknown_field",
            f"A step has output, status and attempts; steps.{node_id}.{way[2]} is none of them.",
            fix,
            node=scope.node,
        )
        return
    if scope.before is not None and not case.shape.bit[node_id] & scope.before:
        case.error(
            path,
            "not_upstream",
            f'The expression reads steps.{node_id}, but "{node_id}" cannot have run by then: '
            + (
                f'no edge leads from it to "{scope.node}".'
                if node_id != scope.node
                else "it is this node itself."
            ),
            f"Read a node before it, or add an edge from {node_id} to {scope.node}."
            if node_id != scope.node
            else "Read a node that comes before it.",
            node=scope.node,
        )
    _check_fields(case, way, 3, path, scope)


def _stands_around(case: Case, node_id: str) -> bool:
    outer = case.outer
    return outer is not None and (node_id in outer.node_ids or _stands_around(outer, node_id))


def _check_fields(case: Case, way: tuple[str, ...], start: int, path: Path, scope: Scope) -> None:
    if len(way) <= start:
        return
    found = case.look(way)
    if not isinstance(found, Missing):
        return
    if found.found:
        case.error(
            path,
            "type_clash",
            f"{'.'.join(way)} asks for the field {shown(found.name)} of {found.found}.",
            f"Write {'.'.join(way[: way.index(found.name, start)])} alone, or read something that has "
            "fields.",
            node=scope.node,
        )
        return
    owner = f'the output of "{way[1]}"' if way[0] == "steps" else f"{way[0]}"
    near = nearest(found.name, found.known)
    message = f"{'.'.join(way)}: {owner} declares no field {shown(found.name)}."
    where = "declare it under contract.inputs" if way[0] == "inputs" else "declare the field"
    fix = f'Write "{near}".' if near else _sentence(instead(found.name, found.known) or where)
    node = case.shape.nodes.get(way[1]) if way[0] == "steps" else None
    if node is not None and node.kind == "tool" and not found.closed and near is None:
        # A tool may return more than it declares; without a likely slip of the pen this is not sure to fail.
        case.warning(path, "undeclared_field", message, fix, node=scope.node)
    else:
        case.error(path, "unknown_field", message, fix, node=scope.node)


def _check_optional(
    case: Case, name: str, path: Path, scope: Scope, guards: frozenset[tuple[str, ...]]
) -> None:
    inputs = case.document.contract.inputs
    properties, required = inputs.get("properties"), inputs.get("required")
    schema = properties.get(name) if isinstance(properties, dict) else None
    if not isinstance(schema, dict) or "default" in schema:
        return
    if isinstance(required, list) and name in required:
        return
    if ("inputs", name) not in guards:
        case.warning(
            path,
            "optional_input",
            f"inputs.{name} may be missing when the run starts, and then the expression fails.",
            f"Write has(inputs.{name}) ? inputs.{name} : '', or add {name} to contract.inputs.required.",
            node=scope.node,
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."
