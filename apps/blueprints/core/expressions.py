"""Expressions and templates of blueprints: CEL, pure, bounded, with plain JSON in and out.

An expression reads the names it is given (`inputs`, `steps`, `item`, …) and nothing else: no clock, no
chance, no input or output. Its bounds are counted and not timed, so that it stops at the same place on every
machine: 2,000 characters of source, 200,000 operations (about 0.1 s), 4 MB of text and lists built on the
way, 16 MB of result. All expressions of a template together have four times that result and twenty times
the operations.

In a template, `{{ … }}` inserts text; a string that is exactly one `{{ … }}` stands for the typed value.
Spaces and line ends around it do not count, since YAML blocks add one.

The grammar is in `cel_syntax`, the meaning in `cel_evaluate`, `cel_functions` and `cel_values`; nothing else
imports those. Three things differ from the language definition: whole numbers and fractions mix, as in JSON;
keys of objects are text; `has()` is false, not an error, when something on the way to the field is missing or
null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from apps.blueprints.core import cel_syntax as syntax
from apps.blueprints.core.cel_evaluate import evaluate as evaluate_tree
from apps.blueprints.core.cel_evaluate import path_of, unknown_function
from apps.blueprints.core.cel_values import CelError, Meter, plain, text

MAX_SOURCE = 2_000
"""Characters of one expression."""
MAX_RESULT = 16_000_000
"""Bytes of one result, and of one text a template gives."""
MAX_STEPS = 200_000
MAX_BUILT = 4_000_000
MAX_TOGETHER = 4 * MAX_RESULT
"""Bytes of all results of one template."""
MAX_STEPS_TOGETHER = 20 * MAX_STEPS


class ExpressionError(Exception):
    """An expression that cannot be read or evaluated.

    source: the expression as written, without its braces.
    message: what is wrong, without the source.
    position: index into `source`, for errors of reading.
    """

    def __init__(self, source: str, message: str, position: int | None = None) -> None:
        super().__init__(source, message, position)
        self.source = source
        self.message = message
        self.position = position

    def __str__(self) -> str:
        shown = self.source if len(self.source) <= 200 else self.source[:199] + "…"
        return f"{shown}: {self.message}"


@dataclass(frozen=True, slots=True)
class Expression:
    source: str
    tree: syntax.Tree = field(repr=False)
    references: frozenset[str]
    """Names it reads, each as the longest plain path: `steps.draft.output.body`, `inputs`, `run.id`."""

    def evaluate(self, names: Mapping[str, Any], together: Meter | None = None) -> Any:
        """Plain JSON types, freshly copied; bytes as base64, moments as RFC 3339 text, spans like `90s`.

        together: what is left of the bounds of all expressions of a template; this one's share is taken off.
        Raises ExpressionError, also when a bound is reached.
        """
        meter, result = Meter(MAX_STEPS, MAX_BUILT), Meter(MAX_RESULT, MAX_RESULT)
        try:
            value = plain(evaluate_tree(self.tree, names, meter), result)
            if together is not None:
                together.work(MAX_STEPS - meter.steps_left)
                together.build(MAX_RESULT - result.bytes_left)
            return value
        except CelError as error:
            raise ExpressionError(self.source, str(error)) from None
        except RecursionError:
            raise ExpressionError(self.source, "is nested too deeply") from None
        except OverflowError:
            raise ExpressionError(self.source, "meets a number that is too large") from None


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a template: text as it stands, or an expression to insert."""

    text: str
    """The text, or the source between the braces."""
    is_expression: bool
    position: int
    """Where `text` begins in the template."""


def compile_expression(source: str) -> Expression:
    """An expression ready to evaluate. Braces around the whole of it are allowed: `{{ x > 1 }}` is `x > 1`.

    Raises ExpressionError with a position for what cannot be read, and for functions that do not exist.
    """
    return _compile(source)


def evaluate(source: str, names: Mapping[str, Any]) -> Any:
    return compile_expression(source).evaluate(names)


def parts(template: str) -> tuple[Part, ...]:
    """A template's pieces in order. Raises ExpressionError for a `{{` that nothing closes."""
    return _parts(template)


def is_template(text: str) -> bool:
    return "{{" in text


def render(template: Any, names: Mapping[str, Any]) -> Any:
    """The template with every `{{ … }}` replaced, through lists and objects; keys and non-strings stay.

    Raises ExpressionError for the first expression that fails.
    """
    return _render(template, names, Meter(MAX_STEPS_TOGETHER, MAX_TOGETHER))


def _render(template: Any, names: Mapping[str, Any], together: Meter) -> Any:
    if isinstance(template, str):
        return _render_text(template, names, together)
    if isinstance(template, Mapping):
        return {key: _render(value, names, together) for key, value in template.items()}
    if isinstance(template, (list, tuple)):
        return [_render(value, names, together) for value in template]
    return template


def references(template: Any) -> frozenset[str]:
    """What all expressions of a template read. Raises ExpressionError for one that cannot be read."""
    return frozenset(name for source in sources(template) for name in compile_expression(source).references)


def sources(template: Any) -> Iterator[str]:
    """Every expression inside a template, in order."""
    if isinstance(template, str):
        yield from (part.text for part in parts(template) if part.is_expression)
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from sources(value)
    elif isinstance(template, (list, tuple)):
        for value in template:
            yield from sources(value)


def _render_text(template: str, names: Mapping[str, Any], together: Meter) -> Any:
    if "{{" not in template:
        return template
    only = _only_expression(template)
    if only is not None:
        return compile_expression(only.text).evaluate(names, together)
    pieces: list[str] = []
    size = 0
    for part in parts(template):
        piece = part.text
        if part.is_expression:
            piece = text(compile_expression(part.text).evaluate(names, together))
        size += len(piece)
        if size > MAX_RESULT:
            raise ExpressionError(part.text, f"makes the text longer than {MAX_RESULT:,} characters")
        pieces.append(piece)
    return "".join(pieces)


def _only_expression(template: str) -> Part | None:
    found = [part for part in parts(template) if part.is_expression or part.text.strip()]
    return found[0] if len(found) == 1 and found[0].is_expression else None


@lru_cache(maxsize=4096)
def _compile(source: str) -> Expression:
    inner = source
    if source.lstrip().startswith("{{"):
        only = _only_expression(source)
        inner = only.text if only is not None else source
    inner = inner.strip()
    if not inner:
        raise ExpressionError(source, "there is no expression here", 0)
    if len(inner) > MAX_SOURCE:
        raise ExpressionError(inner, f"has {len(inner):,} characters; at most {MAX_SOURCE:,} are allowed")
    try:
        tree = syntax.parse(inner)
    except syntax.CelSyntaxError as error:
        message = f"{error.message} (character {error.position + 1})"
        raise ExpressionError(inner, message, error.position) from None
    _refuse_unknown_functions(tree, inner)
    return Expression(inner, tree, frozenset(_references(tree, frozenset())))


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[Part, ...]:
    found: list[Part] = []
    position = 0
    while (start := template.find("{{", position)) >= 0:
        if start > position:
            found.append(Part(template[position:start], False, position))
        end = syntax.end_of_placeholder(template, start + 2)
        if end is None:
            raise ExpressionError(template[start : start + 80], "this {{ is never closed by }}", start)
        inside = template[start + 2 : end]
        if not inside.strip():
            empty = template[start : end + 2]
            raise ExpressionError(empty, "there is no expression between {{ and }}", start)
        lead = len(inside) - len(inside.lstrip())
        found.append(Part(inside.strip(), True, start + 2 + lead))
        position = end + 2
    if position < len(template):
        found.append(Part(template[position:], False, position))
    return tuple(found)


def _refuse_unknown_functions(tree: syntax.Tree, source: str) -> None:
    if isinstance(tree, syntax.Call) and (problem := unknown_function(tree)):
        raise ExpressionError(source, problem, max(source.find(tree.function), 0))
    for child in syntax.children(tree):
        _refuse_unknown_functions(child, source)


def _references(tree: syntax.Tree, bound: frozenset[str]) -> Iterator[str]:
    path = path_of(tree)
    if path:
        if path[0] not in bound:
            yield ".".join(path)
        return
    if isinstance(tree, syntax.Macro):
        yield from _references(tree.target, bound)
        inner = bound | {tree.variable}
        for part in (tree.condition, tree.body):
            if part is not None:
                yield from _references(part, inner)
        return
    for child in syntax.children(tree):
        yield from _references(child, bound)
