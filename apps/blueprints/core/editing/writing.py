"""Values as text, the way a person would write them: plain where that is safe, quoted where it is not."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_LINE = 100
_PLAIN = re.compile(r"[A-Za-z_](?:[A-Za-z0-9_ ./%()'-]*[A-Za-z0-9_./%()'-])?|[0-9]+(?:ms|s|m|h|d)")
_RESERVED = frozenset(["true", "false", "null", "yes", "no", "on", "off"])
"""Words that some reader of YAML takes for something else than text."""
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def scalar(value: Any, *, is_json: bool = False, quote: str = "") -> str:
    """One line. quote: the kind of quotes that stood there before, kept for texts."""
    if isinstance(value, str):
        return quoted(value) if is_json or quote == '"' or not _is_plain(value) else value
    return json.dumps(value)


def quoted(text: str) -> str:
    """In double quotes, readable as YAML and as JSON."""
    return _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(text, ensure_ascii=False))


def flow(value: Any, *, is_json: bool = False) -> str:
    """On one line, braces and brackets included."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{key(k, is_json=is_json)}: {flow(v, is_json=is_json)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(flow(item, is_json=is_json) for item in value) + "]"
    return scalar(value, is_json=is_json)


def key(name: str, *, is_json: bool = False) -> str:
    return scalar(name, is_json=is_json)


def pretty_json(value: Any, indent: int, newline: str) -> str:
    """JSON over several lines when it is long, for a text whose line is indented so far."""
    short = flow(value, is_json=True)
    if len(short) <= MAX_LINE or not isinstance(value, (dict, list)):
        return short
    long = _UNSAFE.sub(lambda m: f"\\u{ord(m[0]):04x}", json.dumps(value, ensure_ascii=False, indent=2))
    return long.replace("\n", newline + " " * indent)


def is_small(value: Any) -> bool:
    """Whether it is written on one line in a block text."""
    if isinstance(value, (dict, list)):
        every = list(value.values() if isinstance(value, dict) else value)
        if any(isinstance(v, (dict, list)) and v for v in every):
            return False
        if any(isinstance(v, str) and "\n" in v for v in every):
            return False
        if isinstance(value, dict) and "" in every:
            return False  # It is there to be filled, with more than one line of braces can take.
        return len(flow(value)) <= 60 or not value
    return not (isinstance(value, str) and is_literal(value))


def is_literal(text: str) -> bool:
    """Several lines that a literal block holds without guessing."""
    lines = text.removesuffix("\n").split("\n")
    if len(lines) == 1 or text.endswith("\n\n") or not lines[0] or lines[0][0] in " \t":
        return False
    return all(
        (line.isprintable() and not line.endswith((" ", "\t")) and not _UNSAFE.search(line)) for line in lines
    )


def block(value: Any, indent: int, newline: str, *, small: bool = True) -> str:
    """What follows `key:` in a block text, its space or line break included.

    indent: of the lines below. small: short collections may stand on the same line.
    """
    if isinstance(value, str) and is_literal(value):
        body = value.removesuffix("\n")
        sign = "|" if value.endswith("\n") else "|-"
        lines = [" " * indent + line if line else "" for line in body.split("\n")]
        return f" {sign}{newline}{newline.join(lines)}"
    if not isinstance(value, (dict, list)) or not value or (small and is_small(value)):
        return " " + flow(value)
    if isinstance(value, dict):
        return newline + newline.join(entries(value, indent, newline))
    return newline + newline.join(items(value, indent, newline, small=small))


def entries(values: dict[str, Any], indent: int, newline: str) -> list[str]:
    """The entries of a block mapping, each with its indentation."""
    pad = " " * indent
    return [f"{pad}{key(name)}:{block(value, indent + 2, newline)}" for name, value in values.items()]


def items(values: list[Any], indent: int, newline: str, *, small: bool = True) -> list[str]:
    """The items of a block list. small: False writes mappings over several lines."""
    return [f"{' ' * indent}-{item(value, indent, newline, small=small)}" for value in values]


def item(value: Any, indent: int, newline: str, *, small: bool = True) -> str:
    """What follows the dash of a list item."""
    inner = indent + 2
    if isinstance(value, dict) and value and not (small and is_small(value)):
        first, *rest = entries(value, inner, newline)
        return newline.join([" " + first.lstrip(" "), *rest])
    if isinstance(value, list) and value and not (small and is_small(value)):
        return newline + newline.join(items(value, inner, newline))
    return block(value, inner, newline)


def _is_plain(text: str) -> bool:
    return len(text) <= 2000 and _PLAIN.fullmatch(text) is not None and text.lower() not in _RESERVED
