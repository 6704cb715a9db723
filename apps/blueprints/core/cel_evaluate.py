"""Evaluates a tree of `cel_syntax` over JSON values, counting every operation.

Own rather than the Rust library's evaluator, which holds the interpreter lock and cannot be stopped: there,
`x.map(a, x.map(b, a + b))` over 1,000 items takes half a minute. Here the same stops after a fixed number of
operations. The tests hold this evaluator against that library.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from apps.blueprints.core import cel_syntax as syntax
from apps.blueprints.core.cel_functions import GLOBAL, METHODS
from apps.blueprints.core.cel_values import (
    CelError,
    Exhausted,
    Meter,
    below,
    checked,
    inward,
    is_number,
    key_text,
    kind,
    same,
)

Items = list[Any] | Mapping[str, Any]
"""What a macro walks over; of an object, its keys."""


class Missing(CelError):
    """A field that is not there; what `has()` turns into false."""


def evaluate(tree: syntax.Tree, names: Mapping[str, Any], meter: Meter) -> Any:
    """Raises CelError, and Exhausted when the meter runs out."""
    meter.work(1)
    return _BY_TREE[type(tree)](tree, names, meter)


def path_of(tree: syntax.Tree) -> tuple[str, ...]:
    """`steps.draft.output` and `steps["draft"].output` as names; empty for what is not a plain path."""
    match tree:
        case syntax.Name(name):
            return (name,)
        case syntax.Select(operand, field):
            path = path_of(operand)
            return (*path, field) if path else ()
        case syntax.Index(operand, syntax.Literal(value)) if isinstance(value, str):
            path = path_of(operand)
            return (*path, value) if path else ()
        case _:
            return ()


def _literal(tree: syntax.Literal, names: Mapping[str, Any], meter: Meter) -> Any:
    return tree.value


def _name(tree: syntax.Name, names: Mapping[str, Any], meter: Meter) -> Any:
    try:
        return inward(names[tree.name])
    except KeyError:
        raise CelError(_no_such_name(tree.name, names)) from None


def _no_such_name(name: str, names: Mapping[str, Any]) -> str:
    hint = f"; known here: {', '.join(sorted(names))}" if names else ""
    if name in GLOBAL or name in METHODS:
        hint = "; it is a function and needs brackets"
    return f'there is no name "{name}"{hint}'


def _select(tree: syntax.Select, names: Mapping[str, Any], meter: Meter) -> Any:
    operand = evaluate(tree.operand, names, meter)
    if isinstance(operand, dict):
        if tree.field in operand:
            return inward(operand[tree.field])
    elif isinstance(operand, Mapping) and tree.field in operand:
        return inward(operand[tree.field])
    raise Missing(_missing(path_of(tree.operand), tree.field, operand))


def _missing(path: tuple[str, ...], field: str, operand: Any) -> str:
    """What is not there, in the words of the blueprint."""
    is_object = isinstance(operand, Mapping)
    match path:
        case ("steps",) if is_object:
            return f'there is no step "{field}"'
        case ("steps", step):
            return f'step "{step}" has no "{field}"; it has output, status and attempts'
        case ("steps", step, "output"):
            if operand is None:
                return f'step "{step}" has no output (skipped, or it has not run), so there is no "{field}"'
            if is_object:
                return f'step "{step}" has no output "{field}"'
            return f'the output of step "{step}" is {kind(operand)}, so it has no "{field}"'
        case ("inputs",) if is_object:
            return f'there is no input "{field}"'
        case ():
            where = "this value"
        case ("steps", step, "output", *rest):
            where = f'"{".".join(rest)}" of the output of step "{step}"'
        case _:
            where = f'"{".".join(path)}"'
    return f'{where} has no "{field}"' if is_object else f'{where} is {kind(operand)} and has no "{field}"'


def _has(tree: syntax.Has, names: Mapping[str, Any], meter: Meter) -> bool:
    """False when anything on the way is missing or null, except a step or a name that does not exist."""
    path = path_of(tree.select)
    if path[:1] == ("steps",) and len(path) > 2:
        evaluate(_first_two(tree.select), names, meter)
    try:
        evaluate(tree.select, names, meter)
    except Missing:
        return False
    return True


def _first_two(tree: syntax.Tree) -> syntax.Tree:
    while len(path_of(tree)) > 2 and isinstance(tree, (syntax.Select, syntax.Index)):
        tree = tree.operand
    return tree


def _index(tree: syntax.Index, names: Mapping[str, Any], meter: Meter) -> Any:
    operand = evaluate(tree.operand, names, meter)
    key = evaluate(tree.key, names, meter)
    if isinstance(operand, list):
        if not is_number(key) or int(key) != key:
            raise CelError(f"a place in a list is a whole number, found {kind(key)}")
        if not 0 <= key < len(operand):
            raise Missing(f"there is no item {int(key)} in a list of {len(operand)}")
        return inward(operand[int(key)])
    if not isinstance(operand, Mapping):
        raise Missing(_missing(path_of(tree.operand), _field(key), operand))
    name = key_text(key)
    if name not in operand:
        raise Missing(_missing(path_of(tree.operand), name, operand))
    return inward(operand[name])


def _field(key: Any) -> str:
    return key_text(key) if isinstance(key, (str, bool)) or is_number(key) else kind(key)


def _call(tree: syntax.Call, names: Mapping[str, Any], meter: Meter) -> Any:
    table = GLOBAL if tree.target is None else METHODS
    if tree.function not in table:
        raise CelError(unknown_function(tree))
    function, _fewest, _most = table[tree.function]
    values = [evaluate(argument, names, meter) for argument in tree.arguments]
    if tree.target is not None:
        values.insert(0, evaluate(tree.target, names, meter))
    return function(meter, *values)


def unknown_function(tree: syntax.Call) -> str:
    """Why this call can never work; empty when it can."""
    table, other = (GLOBAL, METHODS) if tree.target is None else (METHODS, GLOBAL)
    name, count = tree.function, len(tree.arguments)
    if name in table:
        _function, fewest, most = table[name]
        if fewest <= count <= most:
            return ""
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        return f"{name}() takes {wanted} argument{'' if wanted == '1' else 's'} here, found {count}"
    if name in other or name in syntax.MACROS:
        form = f"{name}(value)" if tree.target is not None else f"value.{name}(…)"
        return f"{name}() is written {form}"
    known = ", ".join(sorted({*GLOBAL, *METHODS, *syntax.MACROS, "has"}))
    return f'there is no function "{name}"; there are {known}'


def _macro(tree: syntax.Macro, names: Mapping[str, Any], meter: Meter) -> Any:
    target = evaluate(tree.target, names, meter)
    if not isinstance(target, (list, Mapping)):
        path = ".".join(path_of(tree.target)) or "this value"
        raise CelError(f"{path} is {kind(target)}, and {tree.function}() needs a list or an object")
    scope = _Scope(names, tree.variable)
    return _MACROS[tree.function](tree, target, scope, meter)


class _Scope(dict[str, Any]):
    """The names outside plus one variable, copied once per macro and not once per item."""

    def __init__(self, names: Mapping[str, Any], variable: str) -> None:
        super().__init__(names)
        self.variable = variable

    def each(self, items: Items) -> Iterator[Any]:
        for item in items:
            self[self.variable] = value = inward(item)
            yield value


def _truth(tree: syntax.Tree, names: Mapping[str, Any], meter: Meter, where: str) -> bool:
    value = evaluate(tree, names, meter)
    if not isinstance(value, bool):
        raise CelError(f"{where} needs true or false, found {kind(value)}")
    return value


def _all(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter) -> bool:
    return _any(tree, items, scope, meter, decisive=False)


def _exists(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter) -> bool:
    return _any(tree, items, scope, meter, decisive=True)


def _any(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter, *, decisive: bool) -> bool:
    """As `||` and `&&` do, one deciding item outvotes an error in another."""
    failure: CelError | None = None
    for _item in scope.each(items):
        try:
            if _truth(tree.body, scope, meter, f"{tree.function}()") is decisive:
                return decisive
        except Exhausted:
            raise
        except CelError as error:
            failure = failure or error
    if failure is not None:
        raise failure
    return not decisive


def _exists_one(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter) -> bool:
    return sum(_truth(tree.body, scope, meter, "exists_one()") for _item in scope.each(items)) == 1


def _filter(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter) -> list[Any]:
    meter.build(8 * len(items))
    return [item for item in scope.each(items) if _truth(tree.body, scope, meter, "filter()")]


def _map(tree: syntax.Macro, items: Items, scope: _Scope, meter: Meter) -> list[Any]:
    meter.build(8 * len(items))
    return [
        evaluate(tree.body, scope, meter)
        for _item in scope.each(items)
        if tree.condition is None or _truth(tree.condition, scope, meter, "map()")
    ]


_MACROS: dict[str, Callable[[syntax.Macro, Items, _Scope, Meter], Any]] = {
    "all": _all,
    "exists": _exists,
    "exists_one": _exists_one,
    "filter": _filter,
    "map": _map,
}


def _unary(tree: syntax.Unary, names: Mapping[str, Any], meter: Meter) -> Any:
    if tree.sign == "!":
        return not _truth(tree.operand, names, meter, "!")
    value = evaluate(tree.operand, names, meter)
    if isinstance(value, timedelta):
        return -value
    if not is_number(value):
        raise CelError(f"cannot negate {kind(value)}")
    return checked(-value)


def _choice(tree: syntax.Choice, names: Mapping[str, Any], meter: Meter) -> Any:
    chosen = tree.then if _truth(tree.condition, names, meter, "? :") else tree.otherwise
    return evaluate(chosen, names, meter)


def _list(tree: syntax.ListOf, names: Mapping[str, Any], meter: Meter) -> list[Any]:
    meter.build(8 * len(tree.items))
    return [evaluate(item, names, meter) for item in tree.items]


def _map_of(tree: syntax.MapOf, names: Mapping[str, Any], meter: Meter) -> dict[str, Any]:
    meter.build(16 * len(tree.items))
    result: dict[str, Any] = {}
    for key_tree, value_tree in tree.items:
        key = key_text(evaluate(key_tree, names, meter))
        if key in result:
            raise CelError(f'the key "{key}" stands twice')
        result[key] = evaluate(value_tree, names, meter)
    return result


def _binary(tree: syntax.Binary, names: Mapping[str, Any], meter: Meter) -> Any:
    if tree.sign in ("||", "&&"):
        return _logic(tree, names, meter, decisive=tree.sign == "||")
    left = evaluate(tree.left, names, meter)
    right = evaluate(tree.right, names, meter)
    return _OPERATIONS[tree.sign](left, right, meter)


def _logic(tree: syntax.Binary, names: Mapping[str, Any], meter: Meter, *, decisive: bool) -> bool:
    """The side that decides wins, even when the other one is an error: `has_no_such || true` is true."""
    try:
        if _truth(tree.left, names, meter, tree.sign) is decisive:
            return decisive
    except Exhausted:
        raise
    except CelError:
        if _truth(tree.right, names, meter, tree.sign) is decisive:
            return decisive
        raise
    return _truth(tree.right, names, meter, tree.sign)


def _add(left: Any, right: Any, meter: Meter) -> Any:
    if is_number(left) and is_number(right):
        return checked(left + right)
    if isinstance(left, (str, bytes, list)) and type(left) is type(right):
        meter.build((len(left) + len(right)) * (8 if isinstance(left, list) else 1))
        return operator.add(left, right)
    if isinstance(left, timedelta) and isinstance(right, (datetime, timedelta)):
        return _in_time(lambda: right + left)
    if isinstance(left, datetime) and isinstance(right, timedelta):
        return _in_time(lambda: left + right)
    hint = "; use string()" if isinstance(left, str) or isinstance(right, str) else ""
    raise CelError(f"cannot add {kind(left)} and {kind(right)}{hint}")


def _subtract(left: Any, right: Any, meter: Meter) -> Any:
    if is_number(left) and is_number(right):
        return checked(left - right)
    if isinstance(left, datetime) and isinstance(right, (datetime, timedelta)):
        return _in_time(lambda: left - right)
    if isinstance(left, timedelta) and isinstance(right, timedelta):
        return _in_time(lambda: left - right)
    raise CelError(f"cannot subtract {kind(right)} from {kind(left)}")


def _in_time(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except (OverflowError, TypeError):
        raise CelError("gives a time beyond the years 1 to 9999") from None


def _multiply(left: Any, right: Any, meter: Meter) -> Any:
    _both_numbers("multiply", left, right)
    return checked(left * right)


def _divide(left: Any, right: Any, meter: Meter) -> Any:
    """Whole numbers divide to a whole number, towards zero; write double(a) / b for a fraction."""
    _both_numbers("divide", left, right)
    if right == 0:
        raise CelError("divides by zero")
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return checked(quotient if (left < 0) == (right < 0) else -quotient)
    return checked(left / right)


def _modulo(left: Any, right: Any, meter: Meter) -> Any:
    _both_numbers("divide", left, right)
    if not (float(left).is_integer() and float(right).is_integer()):
        raise CelError("% needs whole numbers")
    if right == 0:
        raise CelError("divides by zero")
    remainder = abs(int(left)) % abs(int(right))
    return -remainder if left < 0 else remainder


def _both_numbers(verb: str, left: Any, right: Any) -> None:
    if not (is_number(left) and is_number(right)):
        raise CelError(f"cannot {verb} {kind(left)} and {kind(right)}")


def _in(left: Any, right: Any, meter: Meter) -> bool:
    if isinstance(right, Mapping):
        meter.work(1)
        return key_text(left) in right
    if isinstance(right, list):
        return any(same(left, inward(item), meter) for item in right)
    hint = "; use contains()" if isinstance(right, str) else ""
    raise CelError(f"in needs a list or an object on its right, found {kind(right)}{hint}")


_OPERATIONS: dict[str, Callable[[Any, Any, Meter], Any]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "%": _modulo,
    "in": _in,
    "==": same,
    "!=": lambda left, right, meter: not same(left, right, meter),
    "<": below,
    "<=": lambda left, right, meter: not below(right, left, meter, swapped=True),
    ">": lambda left, right, meter: below(right, left, meter, swapped=True),
    ">=": lambda left, right, meter: not below(left, right, meter),
}

_BY_TREE: dict[type, Callable[[Any, Mapping[str, Any], Meter], Any]] = {
    syntax.Literal: _literal,
    syntax.Name: _name,
    syntax.Select: _select,
    syntax.Has: _has,
    syntax.Index: _index,
    syntax.Call: _call,
    syntax.Macro: _macro,
    syntax.Unary: _unary,
    syntax.Binary: _binary,
    syntax.Choice: _choice,
    syntax.ListOf: _list,
    syntax.MapOf: _map_of,
}
