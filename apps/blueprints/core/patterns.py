r"""Schemas held against values, with patterns that take time in proportion to the text.

Python's `re` tries every way to read a text: `^(\w+\s?)*$` against forty letters and a `!` is tried for
years, and no other thread of the process runs meanwhile. Who fills a form or sends a webhook chooses that
text. So a `pattern` is matched by the engine that pydantic brings, which reads each character once. It has no
look-ahead, no look-behind and no references back; a schema that uses them is refused before it is published,
and a value held against one never fits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from jsonschema.validators import extend
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry

MAX_WORK = 200_000_000
"""Of a pattern's places, counted repeats unfolded, times the text's characters: seconds at worst."""
_REPEAT = re.compile(r"(\))?\{(\d+)(?:,(\d*))?\}")
_HALVES = re.compile("[\ud800-\udfff]")


def why_unusable(pattern: str) -> str:
    """What the engine cannot do with a pattern, as part of a sentence; empty for one that it can use."""
    found = _compiled(pattern)
    return found if isinstance(found, str) else ""


def occurs(pattern: str, text: str) -> bool | None:
    """Whether the pattern is found anywhere in the text; None when it cannot be said in reasonable time."""
    engine = _compiled(pattern)
    if isinstance(engine, str) or _places(pattern) * len(text) > MAX_WORK:
        return None
    # Half a character is a character to a pattern, and text to nobody else.
    return engine.isinstance_python(text if text.isascii() else _HALVES.sub("\ufffd", text))


@lru_cache(maxsize=100)
def _compiled(pattern: str) -> SchemaValidator | str:
    try:
        return SchemaValidator(core_schema.str_schema(pattern=_as_rust(pattern), regex_engine="rust-regex"))
    except (SchemaError, UnicodeEncodeError) as exc:
        said = str(exc).strip().splitlines()[-1]
        if "look-around" in said:
            return "it looks ahead or behind"
        if "backreference" in said:
            return "it refers back to a group"
        if "size limit" in said:
            return "it is too large once its repeats are written out"
        return said.removeprefix("error: ")


def _as_rust(pattern: str) -> str:
    """The same pattern where the engines read it differently: `<` after a backslash, sets inside sets."""
    found: list[str] = []
    at, inside = 0, False
    while at < len(pattern):
        char = pattern[at]
        if char == "\\":
            pair = pattern[at : at + 2]
            found.append(pair[1] if pair in (r"\<", r"\>") else pair)
            at += 2
            continue
        if inside and char in "[&~":
            found.append("\\")
        found.append(char)
        at += 1
        if not inside and char == "[":
            inside = True
            # A bracket right at the beginning of a set is one of its characters.
            begins = re.compile(r"\^?\]?").match(pattern, at)
            if begins is not None:
                found.append(begins[0])
                at = begins.end()
        elif inside and char == "]":
            inside = False
    return "".join(found)


def _places(pattern: str) -> int:
    atoms, groups = len(pattern), 1
    for after_group, low, high in _REPEAT.findall(pattern):
        count = max(int((high or low)[:9]), 1)
        if after_group:
            groups *= count
        else:
            atoms += count
    return atoms * groups


# --- the validator ----------------------------------------------------------------------------------------


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(value, "string"):
        return
    found = occurs(pattern, value)
    if found is None:
        yield _unknown(pattern)
    elif not found:
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(value, "object"):
        return
    for pattern, part in patterns.items():
        for name, item in value.items():
            found = occurs(pattern, name)
            if found is None:
                yield _unknown(pattern)
            elif found:
                yield from validator.descend(item, part, path=name, schema_path=pattern)


def _additional(validator: Any, allowed: Any, value: Any, schema: Any) -> Iterator[ValidationError]:
    patterns = schema.get("patternProperties")
    if patterns and validator.is_type(value, "object"):
        value = {k: v for k, v in value.items() if not any(occurs(pattern, k) for pattern in patterns)}
        schema = {k: v for k, v in schema.items() if k != "patternProperties"}
    yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, allowed, value, schema)


def _unknown(pattern: str) -> ValidationError:
    why = why_unusable(pattern) or "the text is too long for it"
    return ValidationError(f"It cannot be compared with the pattern {pattern[:120]!r}: {why}")


_Validator: Any = extend(  # type: ignore[no-untyped-call]
    Draft202012Validator,
    {"pattern": _pattern, "patternProperties": _pattern_properties, "additionalProperties": _additional},
    # Registered, for a schema that names its draft is otherwise handed to the library's own class.
    version="draft2020-12 in linear time",
)
NOTHING_OUTSIDE: Registry[Any] = Registry()
"""Where a schema's references may lead: within itself. Without it the library would fetch URLs."""


def validator_of(schema: Mapping[str, Any], formats: FormatChecker | None = None) -> Draft202012Validator:
    """The library's validator of a schema, but for its patterns and for references to elsewhere."""
    found: Draft202012Validator = _Validator(dict(schema), format_checker=formats, registry=NOTHING_OUTSIDE)
    return found
