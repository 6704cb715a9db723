"""JSON Schema as blueprints use it: is it well-formed, what can a value be, do two of them fit.

Own checks instead of the meta-schema: each mistake gets its own path and a fix, and a graph with hundreds of
schemas is checked in milliseconds. Whatever passes `check` also passes the meta-schema of draft 2020-12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from apps.blueprints.core.patterns import validator_of, why_unusable
from apps.blueprints.core.problems import Path, shown
from apps.blueprints.core.suggest import instead, nearest

Schema = dict[str, Any]
TYPES = ("string", "number", "integer", "boolean", "object", "array", "null")
FILE: Schema = {
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "name": {"type": "string"},
        "sha256": {"type": "string"},
        "media_type": {"type": "string"},
        "size": {"type": "integer"},
    },
    "additionalProperties": False,
}
"""What an input with `format: file` is for tools and expressions."""

_SCHEMA = frozenset(
    [
        "items",
        "additionalProperties",
        "not",
        "if",
        "then",
        "else",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)
_SCHEMAS = frozenset(["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"])
_SCHEMA_LIST = frozenset(["prefixItems", "allOf", "anyOf", "oneOf"])
_COUNTS = frozenset(
    [
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minContains",
        "maxContains",
    ]
)
_NUMBERS = frozenset(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"])
_TEXTS = frozenset(
    [
        "title",
        "description",
        "format",
        "pattern",
        "$ref",
        "$schema",
        "$id",
        "$comment",
        "$anchor",
        "contentMediaType",
        "contentEncoding",
    ]
)
_FLAGS = frozenset(["uniqueItems", "deprecated", "readOnly", "writeOnly"])
_OTHERS = frozenset(
    ["type", "required", "enum", "const", "default", "examples", "dependentRequired", "contentSchema"]
)
KEYWORDS = _SCHEMA | _SCHEMAS | _SCHEMA_LIST | _COUNTS | _NUMBERS | _TEXTS | _FLAGS | _OTHERS
_OPAQUE = frozenset(
    ["anyOf", "oneOf", "allOf", "not", "if", "patternProperties", "dependentSchemas", "unevaluatedProperties"]
)
"""With one of these, what a value can be is no longer plain to see."""


@dataclass(frozen=True)
class Flaw:
    path: Path
    message: str
    fix: str
    is_error: bool = True


# --- is it a schema? --------------------------------------------------------------------------------------


def check(schema: Any) -> list[Flaw]:
    """Everything wrong with a JSON Schema, with the path inside it."""
    return list(_check(schema, (), schema, 0))


def _check(schema: Any, path: Path, root: Any, depth: int) -> Iterator[Flaw]:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        yield Flaw(
            path, f"A JSON Schema is a mapping, found {word(schema)}.", "Write {type: string} or the like."
        )
        return
    if depth > 40:
        yield Flaw(path, "The schema is nested deeper than 40 levels.", "Flatten it or use $defs.")
        return
    for keyword, value in schema.items():
        here = (*path, keyword)
        if keyword in _SCHEMA or keyword == "contentSchema":
            if keyword == "items" and isinstance(value, list):
                yield Flaw(
                    here, "items is a list.", "Write prefixItems for a list of schemas, items for one schema."
                )
            else:
                yield from _check(value, here, root, depth + 1)
        elif keyword in _SCHEMAS:
            yield from _check_schemas(keyword, value, here, root, depth)
        elif keyword in _SCHEMA_LIST:
            if not isinstance(value, list) or not value:
                yield Flaw(here, f"{keyword} needs a list with at least one schema.", "Write [{…}, {…}].")
            else:
                for index, item in enumerate(value):
                    yield from _check(item, (*here, index), root, depth + 1)
        else:
            yield from _check_keyword(keyword, value, here, root)
    if "unevaluatedProperties" in schema and '"patternProperties"' in json.dumps(root, default=str):
        yield Flaw(
            (*path, "unevaluatedProperties"),
            "unevaluatedProperties cannot be used together with patternProperties.",
            "Write additionalProperties.",
        )
    yield from _check_required(schema, path)


def _check_schemas(keyword: str, value: Any, here: Path, root: Any, depth: int) -> Iterator[Flaw]:
    if not isinstance(value, dict):
        yield Flaw(
            here,
            f"{keyword} is {word(value)}, a mapping of names to schemas is needed.",
            "Write {name: {type: string}}.",
        )
        return
    for name, item in value.items():
        if keyword == "patternProperties":
            yield from _check_pattern(name, (*here, name))
        if keyword == "properties" and isinstance(item, str) and item in TYPES:
            yield Flaw(
                (*here, name), f"A JSON Schema is a mapping, found {shown(item)}.", f"Write {{type: {item}}}."
            )
            continue
        yield from _check(item, (*here, name), root, depth + 1)


def _check_keyword(keyword: str, value: Any, here: Path, root: Any) -> Iterator[Flaw]:
    if keyword == "type":
        yield from _check_type(value, here)
    elif keyword in _COUNTS:
        if not _is_number(value) or value != int(value) or value < 0:
            yield Flaw(
                here,
                f"{keyword} is {shown(value)}, a whole number from 0 is needed.",
                "Write a number such as 1.",
            )
    elif keyword in _NUMBERS:
        if not _is_number(value) or (keyword == "multipleOf" and value <= 0):
            yield Flaw(
                here, f"{keyword} is {shown(value)}, a number is needed.", "Write a number without quotes."
            )
    elif keyword in _TEXTS:
        if not isinstance(value, str):
            yield Flaw(here, f"{keyword} is {word(value)}, text is needed.", "Put it in quotes.")
        elif keyword == "pattern":
            yield from _check_pattern(value, here)
        elif keyword == "$ref" and not _resolves(root, value):
            yield Flaw(
                here,
                f"$ref {shown(value)} names nothing in this schema.",
                "Write #/$defs/NAME and define it under $defs.",
            )
    elif keyword in _FLAGS:
        if not isinstance(value, bool):
            yield Flaw(here, f"{keyword} is {shown(value)}, true or false is needed.", "Write true or false.")
    elif keyword in ("enum", "examples"):
        if not isinstance(value, list):
            yield Flaw(here, f"{keyword} is {word(value)}, a list is needed.", "Write [a, b].")
    elif keyword == "required":
        if value is True or value is False:
            yield Flaw(
                here,
                "required is a list of property names, not true or false.",
                "Write required: [name] beside properties.",
            )
        elif not _is_names(value):
            yield Flaw(here, "required is a list of different property names.", "Write required: [name].")
    elif keyword == "dependentRequired":
        if not isinstance(value, dict) or not all(_is_names(v) for v in value.values()):
            yield Flaw(here, "dependentRequired maps names to lists of names.", "Write {a: [b]}.")
    elif keyword not in KEYWORDS and not keyword.startswith(("x-", "$")):
        near = nearest(keyword, KEYWORDS)
        if near is not None:
            yield Flaw(
                here,
                f"{shown(keyword)} is not a JSON Schema keyword and has no effect.",
                f'Write "{near}".',
                False,
            )
    elif keyword.startswith("$") and keyword not in KEYWORDS:
        yield Flaw(here, f"{shown(keyword)} is not supported here.", "Use $defs and $ref.")


_OTHER_NAMES = {
    "text": "string", "str": "string", "int": "integer", "float": "number", "bool": "boolean",
    "list": "array",
    "dict": "object", "map": "object", "any": None,
}  # fmt: skip


def _check_type(value: Any, here: Path) -> Iterator[Flaw]:
    names = value if isinstance(value, list) else [value]
    if not names or len({str(n) for n in names}) != len(names):
        yield Flaw(here, "type is an empty list or names a type twice.", f"Write one of {', '.join(TYPES)}.")
    for name in names:
        if not isinstance(name, str) or name not in TYPES:
            near = _OTHER_NAMES.get(str(name), "")
            fix = (
                "Leave type out to allow anything"
                if near is None
                else f'Write "{near}"'
                if near
                else instead(str(name), TYPES)
            )
            yield Flaw(here, f"{shown(name)} is not a JSON Schema type.", _sentence(fix))


def _check_required(schema: Schema, path: Path) -> Iterator[Flaw]:
    properties, required = schema.get("properties"), schema.get("required")
    if not isinstance(properties, dict) or not _is_names(required):
        return
    for name in required or ():
        if name not in properties:
            closed = schema.get("additionalProperties") is False
            yield Flaw(
                (*path, "required"),
                f"required names {shown(name)}, which is not among the properties.",
                _sentence(instead(name, properties) or "add it to properties"),
                closed,
            )


def _is_names(value: Any) -> bool:
    return (
        isinstance(value, list) and all(isinstance(n, str) for n in value) and len(set(value)) == len(value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_pattern(text: str, here: Path) -> Iterator[Flaw]:
    if not _is_pattern(text):
        yield Flaw(here, f"pattern {shown(text)} is not a regular expression.", "Correct the pattern.")
    elif why := why_unusable(text):
        yield Flaw(
            here,
            f"pattern {shown(text)} cannot be used: {why}.",
            "Write it without; how long a text may be is said by minLength and maxLength.",
        )


@lru_cache(maxsize=1000)
def _is_pattern(text: str) -> bool:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _resolves(root: Any, reference: str) -> bool:
    return isinstance(_target(root, reference), (dict, bool))


def _target(root: Any, reference: str) -> Any:
    """The schema a reference names: only where a schema stands, because nothing else has been checked.

    A schema hidden in a `const` or a `default` could refer to any address, and who validates would fetch it.
    """
    if reference == "#":
        return root
    if not reference.startswith("#/") or "%" in reference:
        return None
    value = root
    parts = iter(part.replace("~1", "/").replace("~0", "~") for part in reference[2:].split("/"))
    for keyword in parts:
        value = value.get(keyword) if isinstance(value, dict) else None
        if keyword in _SCHEMAS:
            value = value.get(next(parts, "")) if isinstance(value, dict) else None
        elif keyword in _SCHEMA_LIST:
            index = next(parts, "")
            at = int(index[:9]) if index.isdecimal() else -1
            value = value[at] if isinstance(value, list) and 0 <= at < len(value) else None
        elif keyword not in _SCHEMA:
            return None
    return value


# --- what can a value be? ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Missing:
    """A way into a schema that ends nowhere."""

    name: str
    """The field that is not there."""
    known: tuple[str, ...]
    """Fields that are."""
    found: str
    """Type of the value asked for a field, in words, when it has no fields at all; otherwise empty."""
    closed: bool
    """The schema says that there is nothing else."""


def resolve(schema: Any, root: Any) -> Schema | None:
    """A schema with its `$ref` followed; None when nothing is known about the value."""
    for _ in range(20):
        if not isinstance(schema, dict):
            return None
        if "$ref" not in schema:
            break
        schema = _target(root, str(schema["$ref"]))
    else:
        return None
    if "type" not in schema and schema.get("format") == "file":
        return FILE
    if "type" not in schema and schema.get("format") == "files":
        return {"type": "array", "items": FILE}
    return schema


def at(schema: Any, way: tuple[str, ...], root: Any = None) -> Schema | Missing | None:
    """The schema at the end of a way such as `("passages", "0", "text")`; None when nothing is known."""
    root = schema if root is None else root
    here = resolve(schema, root)
    for name in way:
        if here is None or _OPAQUE & here.keys():
            return None
        kinds = types(here)
        if name.isdigit() and kinds is not None and "array" in kinds:
            here = resolve(here.get("items"), root)
            continue
        if kinds is not None and "object" not in kinds:
            return Missing(name, (), words(kinds), True)
        properties = here.get("properties")
        if isinstance(properties, dict) and name in properties:
            here = resolve(properties[name], root)
            continue
        more = here.get("additionalProperties")
        if isinstance(more, dict):
            here = resolve(more, root)
            continue
        if more is True or not isinstance(properties, dict):
            return None
        return Missing(name, tuple(properties), "", more is False)
    return here


def types(schema: Schema | None) -> frozenset[str] | None:
    """The JSON types a value may have; None when any. `integer` counts as `number` too."""
    if not schema:
        return None
    named = schema.get("type")
    if isinstance(named, str):
        found = frozenset({named})
    elif isinstance(named, list) and named:
        found = frozenset(str(n) for n in named)
    elif isinstance(schema.get("enum"), list):
        found = frozenset(type_name(v) for v in schema["enum"])
    elif "const" in schema:
        found = frozenset({type_name(schema["const"])})
    elif "properties" in schema and not _OPAQUE & schema.keys():
        found = frozenset({"object"})
    else:
        return None
    return found | {"integer"} if "number" in found else found


def type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "integer" if value.is_integer() else "number"
    if isinstance(value, str):
        return "string"
    return "object" if isinstance(value, dict) else "array"


_WORDS = {"string": "text", "integer": "a whole number", "number": "a number", "boolean": "true or false",
          "object": "a mapping", "array": "a list", "null": "nothing"}  # fmt: skip


def word(value: Any) -> str:
    """The type of a value, for people."""
    return _WORDS[type_name(value)]


def words(kinds: frozenset[str]) -> str:
    """A set of types, for people: `text or a list`."""
    named = [k for k in TYPES if k in kinds and not (k == "integer" and "number" in kinds)]
    named = [k for k in named if k != "null"] or named
    return " or ".join(_WORDS[k] for k in named)


# --- do they fit? -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Misfit:
    path: Path
    code: str
    """`type_clash`, `missing_argument`, `unknown_argument`."""
    message: str
    fix: str
    is_error: bool = True
    lacks: str = ""
    """Of a missing argument or field: its name."""


def misfits(
    given: Schema | None, wanted: Any, what: str, path: Path = (), *, root: Any = None, given_root: Any = None
) -> Iterator[Misfit]:
    """Where a value of one schema cannot be what another asks for. Silent wherever anything is unknown.

    given: with `x-written: true` its properties are all there is, because they stand in the blueprint.
    what: the wanted value in words, such as `argument "to" of send_email`.
    """
    root = wanted if root is None else root
    given_root = given if given_root is None else given_root
    here, given = resolve(wanted, root), resolve(given, given_root)
    if here is None or given is None or _OPAQUE & here.keys() or _OPAQUE & given.keys():
        return
    have, need = types(given), types(here)
    if have is not None and need is not None and not (have & need):
        yield Misfit(
            path,
            "type_clash",
            f"{what} takes {words(need)}, but gets {words(have)}.",
            _convert(have, need, given),
        )
        return
    if have != frozenset({"object"}):
        if (
            have == frozenset({"array"})
            and isinstance(here.get("items"), dict)
            and isinstance(given.get("items"), dict)
        ):
            yield from misfits(
                given["items"], here["items"], f"an item of {what}", path, root=root, given_root=given_root
            )
        return
    yield from _misfits_of_objects(given, here, what, path, root, given_root)


def _misfits_of_objects(
    given: Schema, wanted: Schema, what: str, path: Path, root: Any, given_root: Any
) -> Iterator[Misfit]:
    properties = wanted.get("properties")
    if not isinstance(properties, dict):
        return
    has = given.get("properties") if isinstance(given.get("properties"), dict) else {}
    assert isinstance(has, dict)
    written = given.get("x-written") is True
    inner = "argument {} of " + what if not path else "field {} of " + what
    for name, schema in has.items():
        if name in properties:
            yield from misfits(
                schema,
                properties[name],
                inner.format(f'"{name}"'),
                (*path, name),
                root=root,
                given_root=given_root,
            )
        elif written and not isinstance(wanted.get("additionalProperties"), dict):
            near = nearest(name, [p for p in properties if p not in has])
            yield Misfit(
                (*path, name),
                "unknown_argument",
                f"{what} has no {'argument' if not path else 'field'} {shown(name)}.",
                f'Write "{near}".' if near else _sentence(instead(name, properties) or "remove it"),
                wanted.get("additionalProperties") is False or near is not None,
            )
    if written:
        for name in wanted.get("required") or ():
            if isinstance(name, str) and name not in has:
                yield Misfit(
                    path,
                    "missing_argument",
                    f"{what} needs the {'argument' if not path else 'field'} {shown(name)}.",
                    f"Add {name}: with {_example(properties.get(name))}.",
                    lacks=name,
                )


def _convert(have: frozenset[str], need: frozenset[str], given: Schema) -> str:
    fields = given.get("properties")
    if "object" in have and isinstance(fields, dict):
        fitting = [n for n, s in fields.items() if isinstance(s, dict) and (types(s) or frozenset()) & need]
        if fitting:
            return f"Name one of its fields, such as .{fitting[0]}."
    if "array" in have and not need & {"array", "object"}:
        return "Name one item, such as [0], or join the list."
    if "string" in need:
        return 'Insert it into text, as in "… {{ … }}", or name a field that is text.'
    if "array" in need:
        return "Put it in a list: [ … ]."
    return f"Give {words(need)}."


def _example(schema: Any) -> str:
    kinds = types(schema) if isinstance(schema, dict) else None
    return words(kinds) if kinds else "a value"


def literal_flaws(value: Any, schema: Any) -> list[tuple[Path, str]]:
    """What is wrong with a value that stands in the blueprint as it is, in words."""
    try:
        text = json.dumps(schema, sort_keys=True)
    except (TypeError, ValueError):
        return []
    validator = _validator(text)
    found = []
    for error in validator.iter_errors(value):
        path: Path = tuple(p if isinstance(p, int) else str(p) for p in error.absolute_path)
        found.append((path, _explain(error)))
    return found


@lru_cache(maxsize=500)
def _validator(text: str) -> Draft202012Validator:
    return validator_of(json.loads(text))


def _explain(error: ValidationError) -> str:
    value: Any = error.instance
    wanted: Any = error.validator_value
    match error.validator:
        case "enum":
            return f"{shown(value)} is not one of {', '.join(shown(v) for v in wanted[:8])}"
        case "type":
            kinds = frozenset([wanted] if isinstance(wanted, str) else wanted)
            return f"{shown(value)} is {word(value)}, expected {words(kinds)}"
        case "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum":
            return f"{shown(value)} is out of range ({error.validator} {wanted})"
        case "pattern":
            return f"{shown(value)} does not match the pattern {wanted}"
        case _:
            return shown(error.message)
