"""One field of an editor form: how its value reads as text, and what value a typed text is.

A draft may hold anything, so nothing here trusts the shape of a value: what a field cannot show as what it
is, it shows as JSON.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from apps.blueprints.core.durations import format_duration, parse_duration

Path = tuple[str | int, ...]
Value = Any
"""A JSON value, or MISSING."""
Widget = Literal[
    "text", "long", "prompt", "code", "number", "whole", "duration", "tick", "choice", "lines", "names",
    "expression", "template", "json",
    "group", "rows", "entries", "map", "schema",
]  # fmt: skip
CONTAINERS: Final = frozenset({"group", "rows", "entries", "map", "schema"})
SPEAKING: Final = frozenset({"expression", "template", "prompt"})
"""Widgets whose text may name other steps: they complete names and show a preview."""
MOST_TEXT = 200_000


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The key is not in the document."""


class Unreadable(ValueError):
    """What was typed is no value of the field; the text says why, for the person who typed."""


@dataclass(frozen=True)
class Input:
    path: Path
    """From the form's subject, such as ("with", "to")."""
    widget: Widget
    label: str
    value: Value = MISSING
    default: Value = MISSING
    """What holds when nothing is written."""
    hint: str = ""
    enforces: str = ""
    """One sentence: what the product does with it."""
    required: bool = False
    options: tuple[tuple[Any, str], ...] = ()
    """Values and their words, of choice and names; suggestions of a text."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Of the value, where one is known."""
    inputs: tuple[Input, ...] = ()
    """Parts of a container; of rows and entries each is a group."""
    aspect: str = ""
    """What of the value at `path` this is about, when not the value itself: see `schema_rows`, `key`."""
    reshapes: bool = False
    """Another value gives another form."""
    closed: bool = False
    """A container whose entries cannot be added or removed."""
    noun: str = ""
    """What one entry of a container is called."""
    bare: bool = False
    """A template whose text is an expression as a whole where it has no braces."""

    @property
    def name(self) -> str:
        """Unique in its form: path and aspect as JSON, which is also what a request names it by."""
        return json.dumps([*self.path, {"": self.aspect}] if self.aspect else self.path, ensure_ascii=False)

    @property
    def id(self) -> str:
        return f"f-{zlib.crc32(self.name.encode('utf-8', 'surrogatepass')):08x}"

    @property
    def is_container(self) -> bool:
        return self.widget in CONTAINERS

    @property
    def is_expression(self) -> bool:
        """Is the whole text an expression, without braces?"""
        return self.widget == "expression" or (
            self.bare and isinstance(self.value, str) and "{{" not in self.value
        )

    @property
    def speaks(self) -> bool:
        return self.widget in SPEAKING

    @property
    def is_set(self) -> bool:
        return self.value is not MISSING

    @property
    def text(self) -> str:
        return as_text(self)

    @property
    def seen(self) -> str:
        """The value as it was when the form was drawn; comes back with a change, to notice another's."""
        return "" if self.value is MISSING else canonical(self.value)

    @property
    def ticked(self) -> bool:
        value = self.default if self.value is MISSING else self.value
        return value is True

    @property
    def chosen(self) -> tuple[str, ...]:
        value = self.value if isinstance(self.value, list) else []
        return tuple(canonical(v) for v in value)

    @property
    def choices(self) -> tuple[tuple[str, str, bool], ...]:
        """(what the form sends, words, is it chosen); a value nobody offers is offered as it is."""
        if self.widget == "names":
            chosen = self.chosen
            known = [(canonical(v), words) for v, words in self.options]
            strange = [c for c in dict.fromkeys(chosen) if c not in {k for k, _ in known}]
            return tuple(
                (k, words, k in chosen) for k, words in [*known, *((c, unquoted(c)) for c in strange)]
            )
        now = self.default if self.value is MISSING else self.value
        current = "" if now is MISSING or now is None or now == "" else canonical(now)
        known = [(canonical(v), words) for v, words in self.options]
        if current and current not in {k for k, _ in known}:
            known.append((current, unquoted(current)))
        return tuple((k, words, k == current) for k, words in known)

    @property
    def rows_shown(self) -> int:
        lines = self.text.count("\n") + 1 + len(self.text) // 46
        least = {"prompt": 5, "long": 3, "code": 8, "json": 4, "lines": 3}.get(self.widget, 1)
        return max(least, min(lines, 16))


def canonical(value: Any) -> str:
    """JSON, keys in their own order; equal texts are equal values."""
    return json.dumps(value, ensure_ascii=False, allow_nan=True, default=str)


def unquoted(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str) else text


def flat(inputs: Sequence[Input]) -> Iterator[Input]:
    """Every input, containers before what is in them."""
    for one in inputs:
        yield one
        yield from flat(one.inputs)


# --- value → text -----------------------------------------------------------------------------------------


def as_text(one: Input) -> str:
    value = one.value
    if one.is_container or one.widget in ("tick", "names"):
        return ""
    if value is MISSING or value is None:
        return ""
    if one.widget == "lines" and fits_lines(value):
        return "\n".join(value)
    if isinstance(value, str) and one.widget != "json":
        return value
    return json.dumps(
        value, ensure_ascii=False, indent=2 if isinstance(value, (dict, list)) else None, default=str
    )


def fits_lines(value: Any) -> bool:
    """Can a list be shown one item a line, and read back the same?"""
    return isinstance(value, list) and all(
        isinstance(v, str) and v == v.strip() and v and len(v.splitlines()) == 1 for v in value
    )


# --- text → value -----------------------------------------------------------------------------------------


def read(one: Input, sent: Sequence[str]) -> Value:
    """The value that was typed or chosen; MISSING when the field was emptied. Raises Unreadable.

    sent: what the form sent under the field's name; several for `names`, none for an unticked box.
    """
    if one.widget == "tick":
        return bool(sent and sent[-1] == "yes")
    if one.widget == "names":
        return _in_order(one, list(dict.fromkeys(s for s in sent if s))) or MISSING
    text = (sent[-1] if sent else "").replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > MOST_TEXT:
        raise Unreadable(f"This has {len(text):,} characters; at most {MOST_TEXT:,} fit here.")
    if any("\ud800" <= c <= "\udfff" or c == "\x00" for c in text):
        raise Unreadable("This holds characters that cannot be stored as text.")
    return _read_text(one, text)


def _in_order(one: Input, chosen: list[str]) -> list[Any]:
    """What was chosen before in its old order, then what is new."""
    before = [key for key in one.chosen if key in chosen]
    return [json_of(key) for key in [*before, *(key for key in chosen if key not in before)]]


def _read_text(one: Input, text: str) -> Value:
    bare = text.strip()
    if not bare:
        return MISSING
    match one.widget:
        case "choice":
            return _chosen(one, text)
        case "number" | "whole":
            return number(bare, whole=one.widget == "whole", limits=one.schema)
        case "duration":
            return duration(bare)
        case "lines":
            if not one.is_set or fits_lines(one.value):
                return [line.strip() for line in text.splitlines() if line.strip()]
            return json_of(bare)
        case "json":
            return json_of(bare)
        case "template":
            return template_value(one, text)
        case "expression":
            return text if "\n" in text else bare
        case _:
            if one.is_set and one.value is not None and not isinstance(one.value, str) and bare == one.text:
                return one.value
            return text


def _chosen(one: Input, text: str) -> Any:
    for key, _, _ in one.choices:
        if key == text:
            return json_of(text)
    raise Unreadable(f"“{unquoted(text)}” is not one of the choices.")


def number(text: str, *, whole: bool, limits: Mapping[str, Any] | None = None) -> int | float:
    shown = text
    if text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        found = float(text)
    except ValueError:
        raise Unreadable(f"“{shown}” is not a number.") from None
    if found != found or found in (float("inf"), float("-inf")):
        raise Unreadable(f"“{shown}” is not a number.")
    if whole and not found.is_integer():
        raise Unreadable(f"“{shown}” is not a whole number.")
    if (whole or not set(text) & set(".eE")) and abs(found) < 1e15:
        found = int(found)
    least, most = (limits or {}).get("minimum"), (limits or {}).get("maximum")
    above = (limits or {}).get("exclusiveMinimum")
    if isinstance(least, (int, float)) and found < least:
        raise Unreadable(f"{shown} is too small; {least:g} is the least.")
    if isinstance(above, (int, float)) and found <= above:
        raise Unreadable(f"{shown} is too small; it must be more than {above:g}.")
    if isinstance(most, (int, float)) and found > most:
        raise Unreadable(f"{shown} is too large; {most:g} is the most.")
    return found


def duration(text: str) -> str | int | float:
    """As it was typed when it can be read: `30s`, or bare seconds. A template passes."""
    try:
        return number(text, whole=False, limits={"minimum": 0})
    except Unreadable:
        pass
    try:
        parse_duration(text)
    except ValueError:
        raise Unreadable(f"“{text}” is not a duration. Write it like 500ms, 30s, 5m, 4h or 2d.") from None
    return text


def spoken_duration(value: Any) -> str:
    return format_duration(float(value)) if isinstance(value, (int, float)) else str(value)


def template_value(one: Input, text: str) -> Any:
    """A text with `{{ … }}` in it, or a plain value of the type that is wanted here."""
    bare = text.strip()
    wanted = one.schema.get("type") if isinstance(one.schema, Mapping) else None
    kinds = set(wanted) if isinstance(wanted, list) else {wanted} - {None}
    if "{{" in text or kinds == {"string"}:
        if one.is_set and not isinstance(one.value, str) and bare == one.text:
            return one.value
        return text
    if not kinds and (one.is_set and isinstance(one.value, str)):
        return text
    if "string" in kinds and isinstance(one.value, str):
        return text
    try:
        found = json_of(bare)
    except Unreadable:
        if kinds and kinds <= {"object", "array"}:
            raise
        return text
    return found if not isinstance(found, str) else text


def json_of(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise Unreadable("This is nested too deep.") from None
    except ValueError as wrong:
        raise Unreadable(f"This is not JSON: {wrong}.") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")
