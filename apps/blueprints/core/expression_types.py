"""What an expression or a template gives, as a JSON Schema, as far as the text alone can tell.

Unknown is a proper answer (None): a clash is reported only where both sides are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apps.blueprints.core import cel_syntax as syntax
from apps.blueprints.core.cel_evaluate import path_of
from apps.blueprints.core.expressions import Expression, ExpressionError, compile_expression, parts
from apps.blueprints.core.schemas import Missing, Schema, at, resolve, type_name, types

Lookup = Callable[[tuple[str, ...]], Schema | None]
"""A path such as `("steps", "draft", "output")` → the schema of its value."""

_BOOLEAN = frozenset({"==", "!=", "<", "<=", ">", ">=", "in", "&&", "||"})
_CALLS: dict[str, str] = {
    "size": "integer", "int": "integer", "string": "string", "double": "number", "bool": "boolean",
    "contains": "boolean", "startsWith": "boolean", "endsWith": "boolean", "matches": "boolean",
    "lowerAscii": "string", "upperAscii": "string", "join": "string", "trim": "string", "replace": "string",
    "substring": "string", "split": "array", "type": "string", "indexOf": "integer",
}  # fmt: skip


def type_of_template(template: Any, lookup: Lookup) -> Schema | None:
    """The schema of a rendered template. Mappings that stand in the blueprint carry `x-written: true`."""
    if isinstance(template, str):
        return _type_of_text(template, lookup)
    if isinstance(template, Mapping):
        return {
            "type": "object",
            "properties": {str(k): type_of_template(v, lookup) or {} for k, v in template.items()},
            "x-written": True,
        }
    if isinstance(template, list):
        inner = [type_of_template(item, lookup) for item in template]
        same = bool(inner) and inner[0] is not None and all(i == inner[0] for i in inner)
        return {"type": "array", "items": inner[0]} if same else {"type": "array"}
    return {"type": type_name(template)}


def type_of_expression(expression: Expression, lookup: Lookup) -> Schema | None:
    return _type(expression.tree, lookup, {})


def guarded_paths(expression: Expression) -> frozenset[tuple[str, ...]]:
    """Paths the expression asks about with `has()` or compares with null: their absence is provided for."""
    found: set[tuple[str, ...]] = set()
    stack: list[syntax.Tree] = [expression.tree]
    while stack:
        tree = stack.pop()
        if isinstance(tree, syntax.Has):
            found.add(path_of(tree.select))
        if isinstance(tree, syntax.Binary) and tree.sign in ("==", "!="):
            for one, other in ((tree.left, tree.right), (tree.right, tree.left)):
                if isinstance(other, syntax.Literal) and other.value is None:
                    found.add(path_of(one))
        stack.extend(syntax.children(tree))
    return frozenset(found - {()})


def _type_of_text(template: str, lookup: Lookup) -> Schema | None:
    if "{{" not in template:
        return {"type": "string"}
    try:
        pieces = [p for p in parts(template) if p.is_expression or p.text.strip()]
        if len(pieces) == 1 and pieces[0].is_expression:
            return type_of_expression(compile_expression(pieces[0].text), lookup)
    except ExpressionError:
        return None
    return {"type": "string"}


def _type(tree: syntax.Tree, lookup: Lookup, bound: Mapping[str, Schema | None]) -> Schema | None:
    path = path_of(tree)
    if path:
        return _along(bound[path[0]], path[1:]) if path[0] in bound else lookup(path)
    match tree:
        case syntax.Literal(value):
            return None if isinstance(value, bytes) else {"type": type_name(value)}
        case syntax.Has():
            return {"type": "boolean"}
        case syntax.Select(operand, field):
            return _along(_type(operand, lookup, bound), (field,))
        case syntax.Index(operand, _):
            return _item(_type(operand, lookup, bound))
        case syntax.Unary(sign, _):
            return {"type": "boolean" if sign == "!" else "number"}
        case syntax.Choice(_, then, otherwise):
            return _either(_type(then, lookup, bound), _type(otherwise, lookup, bound))
        case syntax.Binary(sign, left, right):
            return _type_of_binary(sign, _type(left, lookup, bound), _type(right, lookup, bound))
        case syntax.Call(function, _, _):
            return {"type": _CALLS[function]} if function in _CALLS else None
        case syntax.Macro():
            return _type_of_macro(tree, lookup, bound)
        case syntax.ListOf(items):
            inner = [_type(item, lookup, bound) for item in items]
            if inner and inner[0] is not None and all(i == inner[0] for i in inner):
                return {"type": "array", "items": inner[0]}
            return {"type": "array"}
        case syntax.MapOf(pairs):
            if not all(isinstance(k, syntax.Literal) and isinstance(k.value, str) for k, _ in pairs):
                return {"type": "object"}
            fields = {str(getattr(k, "value", "")): _type(v, lookup, bound) or {} for k, v in pairs}
            return {"type": "object", "properties": fields, "x-written": True}
        case _:
            return None


def _type_of_binary(sign: str, left: Schema | None, right: Schema | None) -> Schema | None:
    if sign in _BOOLEAN:
        return {"type": "boolean"}
    if sign != "+":
        return {"type": "number"}
    have, other = types(left), types(right)
    if have is None or other is None:
        return None
    for kind in ("string", "array", "integer"):
        if have == other == frozenset({kind}):
            return {"type": kind}
    return {"type": "number"} if have | other <= frozenset({"number", "integer"}) else None


def _type_of_macro(tree: syntax.Macro, lookup: Lookup, bound: Mapping[str, Schema | None]) -> Schema | None:
    if tree.function in ("all", "exists", "exists_one"):
        return {"type": "boolean"}
    target = _type(tree.target, lookup, bound)
    if tree.function == "filter":
        return {"type": "array", "items": _item(target) or {}}
    body = _type(tree.body, lookup, {**bound, tree.variable: _item(target)})
    return {"type": "array", "items": body} if body else {"type": "array"}


def _item(schema: Schema | None) -> Schema | None:
    if schema is None or types(schema) != frozenset({"array"}):
        return None
    return resolve(schema.get("items"), schema)


def _along(schema: Schema | None, way: tuple[str, ...]) -> Schema | None:
    if schema is None:
        return None
    found = at(schema, way)
    return None if isinstance(found, Missing) else found


def _either(one: Schema | None, other: Schema | None) -> Schema | None:
    if one == other:
        return one
    have, more = types(one), types(other)
    if have is None or more is None:
        return None
    return {"type": sorted(have | more)}
