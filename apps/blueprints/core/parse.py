"""Reads the text of a blueprint, YAML or JSON, and remembers where everything stands.

Two readings of the same text. The first gives plain values, the line of every key and item, and every
duplicate key; it is what validation works on. The second, made on demand, is the round-trip tree that keeps
comments, order and quoting, so that an edited blueprint comes back as its author wrote it.

A blueprint comes from strangers: size, depth, number of values and what aliases may multiply are bounded,
tags are refused, and nothing in a text can make an object of ours.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

from apps.blueprints.core.problems import Path, Problem, path_parts, path_text, shown

MAX_BYTES = 1_048_576
MAX_DEPTH = 60
MAX_VALUES = 50_000
MAX_ALIASED = 20_000
"""Values that may stand in a document only because an alias repeats them."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_ ./%()'-]*")
"""Texts that need no quotes anywhere; the writer still quotes those that would read as something else."""
_BLOCK = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?\n)+[!-~](?:[ -~]*[!-~])?")
"""Several lines that a block can hold without guessing: ASCII, no blank line, no space at an end."""
_HALVES = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"


class Refused(Exception):
    """Reading ends here, with one problem to report."""

    def __init__(self, code: str, message: str, fix: str, line: int | None = None) -> None:
        super().__init__(message)
        self.problem = Problem("", line, "error", code, message, fix)


@dataclass
class Parsed:
    """A text as plain values, with the line of each."""

    text: str
    data: Any = None
    """Plain JSON values; None when the text could not be read at all."""
    problems: list[Problem] = field(default_factory=list)
    is_json: bool = False
    lines: dict[Path, int] = field(default_factory=dict)
    root: Node | None = None
    """YAML's own nodes with their marks; None for JSON, and when the text could not be read."""
    aliases: dict[tuple[int, int | None], tuple[int, int]] = field(default_factory=dict)
    """Where each alias stands, by its parent's id and its place in it (list position, or id of the key)."""
    repeated: dict[int, Node] = field(default_factory=dict)
    """The nodes that aliases stand for, by their id."""
    _tree: Any = None

    def line(self, path: str | Path) -> int | None:
        """The line of a key or item, counted from 1; of the nearest thing around it when it is not there."""
        parts = path_parts(path) if isinstance(path, str) else path
        for length in range(len(parts), -1, -1):
            found = self.lines.get(parts[:length])
            if found is not None:
                return found
        return None

    @property
    def readable(self) -> bool:
        return self.data is not None

    @property
    def tree(self) -> Any:
        """The round-trip tree: change it in place, then `dump`. Plain values when the text is JSON."""
        if self._tree is None:
            self._tree = json.loads(self.text) if self.is_json else _round_trip().load(self.text)
        return self._tree

    def dump(self) -> str:
        """The document as text again: comments, key order, quoting and anchors as they were.

        Indentation and spacing between values become even. A text that could not be read comes back
        unchanged.
        """
        if not self.readable or any(p.code == "duplicate_key" for p in self.problems):
            return self.text
        if self.is_json:
            return json.dumps(self.tree, indent=2, ensure_ascii=False) + "\n"
        out = io.StringIO()
        _round_trip(_indentation(self.text)).dump(self.tree, out)
        return out.getvalue()


def parse(text: str) -> Parsed:
    """Read a blueprint. Never raises for what the text contains; see `Parsed.problems`."""
    parsed = Parsed(text=text)
    try:
        _check_size(text)
        if not (text.lstrip("\ufeff \t\r\n")[:1] in ("{", "[") and _read_json(parsed)):
            _read_yaml(parsed)
    except Refused as refused:
        parsed.data = None
        parsed.problems.append(refused.problem)
    return parsed


def plain_dump(data: Any) -> str:
    """Plain values as readable YAML in their own order, for documents that have no text yet."""
    out = io.StringIO()
    _round_trip().dump(_styled(data), out)
    return out.getvalue()


def _check_size(text: str) -> None:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_BYTES:
        raise Refused(
            "too_large",
            f"The document has {size:,} bytes; at most {MAX_BYTES:,} are read.",
            "Move long texts and data into input files and keep the plan in the blueprint.",
        )


# --- JSON -------------------------------------------------------------------------------------------------


def _read_json(parsed: Parsed) -> bool:
    """Read JSON with our own scanner for the lines; False when it is not JSON, so that YAML has its turn."""
    text = parsed.text.lstrip("\ufeff")
    if not _json_is_shallow(text):
        raise Refused(
            "too_deep", f"The document is nested deeper than {MAX_DEPTH} levels.", "Flatten the document."
        )
    try:
        json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return False
    parsed.is_json = True
    parsed.text = text
    parsed.data = _JsonLines(text, parsed).value(())
    return True


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _json_is_shallow(text: str) -> bool:
    depth = 0
    # A string that is never closed runs to the end, so that no quote is read twice: linear in any text.
    for match in re.finditer(r'"(?:[^"\\]|\\.?)*+(?:"|\Z)|[\[\]{}]', text, re.DOTALL):
        if match[0] in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return False
        elif match[0] in "]}":
            depth -= 1
    return True


class _JsonLines:
    """Walks JSON already known to be well-formed and notes the line of every key, item and duplicate."""

    TOKEN = re.compile(r'[\s,:]*("(?:[^"\\]|\\.)*"|[\[\]{}]|[^\s,:\[\]{}"]+)', re.DOTALL)

    def __init__(self, text: str, parsed: Parsed) -> None:
        self.text = text
        self.parsed = parsed
        self.at = 0
        self.counted_to = 0
        self.line = 1
        self.count = 0

    def token(self) -> str:
        match = self.TOKEN.match(self.text, self.at)
        assert match is not None, "json.loads has accepted the text"
        start = match.start(1)
        self.line += self.text.count("\n", self.counted_to, start)
        self.counted_to = start
        self.at = match.end()
        return match[1]

    def value(self, path: Path) -> Any:
        return self.value_of(self.token(), path)

    def value_of(self, token: str, path: Path) -> Any:
        self.count += 1
        if self.count > MAX_VALUES:
            raise _too_many()
        self.parsed.lines.setdefault(path, self.line)
        if token == "{":  # noqa: S105 - a token of the text
            return self.mapping(path)
        if token == "[":  # noqa: S105 - a token of the text
            items: list[Any] = []
            while (inner := self.token()) != "]":
                items.append(self.value_of(inner, (*path, len(items))))
            return items
        value = json.loads(token)
        _check_characters(self.parsed, value, path, self.line)
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused(
                "not_a_number", f"{token} is too large for a number.", "Write a smaller number.", self.line
            )
        return value

    def mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while (inner := self.token()) != "}":
            key = str(json.loads(inner))
            _check_characters(self.parsed, key, path, self.line)
            if key in result:
                _duplicate(self.parsed, (*path, key), self.line)
                self.value(("", *path, key))
                continue
            self.parsed.lines[(*path, key)] = self.line
            result[key] = self.value((*path, key))
        return result


# --- YAML -------------------------------------------------------------------------------------------------


def _read_yaml(parsed: Parsed) -> None:
    try:
        root = compose(parsed)
    except MarkedYAMLError as exc:
        raise _syntax(parsed, exc) from None
    except ReaderError as exc:
        line = parsed.text.count("\n", 0, exc.position) + 1 if isinstance(exc.position, int) else None
        raise Refused(
            "yaml_syntax",
            "The text contains a character that YAML does not allow.",
            "Remove control characters, or write them inside double quotes as \\u and four digits.",
            line,
        ) from None
    except (YAMLError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as exc:
        # On some malformed texts the library fails in its own code; for a reader that is bad syntax as well.
        raise Refused("yaml_syntax", f"The text is not YAML ({exc}).", "Check the last change.") from None
    parsed.data = plain_values(parsed, root) if root is not None else None
    if parsed.data is None:
        raise Refused(
            "empty", "The document is empty.", "Start from `mn blueprint new` or a gallery blueprint."
        )


def compose(parsed: Parsed) -> Node | None:
    """YAML's nodes of a text, noted in `parsed`. Raises what the library raises."""
    reader = YAML(typ="safe", pure=True)
    reader.max_depth = MAX_DEPTH
    reader.Composer = _Composer
    parsed.root = reader.compose(parsed.text)
    parsed.aliases, parsed.repeated = reader.composer.aliases, reader.composer.repeated
    return parsed.root


def plain_values(parsed: Parsed, root: Node) -> Any:
    """The values of nodes, their lines and problems noted in `parsed`. Raises Refused."""
    return _Values(parsed, YAML(typ="safe", pure=True)).value(root, ())


class _Composer(Composer):
    """Notes where aliases stand: the nodes they give carry the marks of their anchor."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader=loader)
        self.aliases: dict[tuple[int, int | None], tuple[int, int]] = {}
        self.repeated: dict[int, Node] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.parser.check_event(AliasEvent):
            event = self.parser.peek_event()
            place = index if isinstance(index, int) or index is None else id(index)
            self.aliases[(id(parent), place)] = (event.start_mark.index, event.end_mark.index)
            node = super().compose_node(parent, index)
            self.repeated[id(node)] = node
            return node
        return super().compose_node(parent, index)


def _syntax(parsed: Parsed, exc: MarkedYAMLError) -> Refused:
    mark = exc.problem_mark or exc.context_mark
    line = mark.line + 1 if mark is not None else None
    what = str(exc.problem or exc.context or "bad syntax").strip()
    if "maximum depth" in what:
        return Refused(
            "too_deep",
            f"The document is nested deeper than {MAX_DEPTH} levels.",
            "Flatten the document.",
            line,
        )
    if "undefined alias" in what:
        return Refused(
            "unknown_alias", f"YAML: {what}.", "Define the anchor with & before using it with *.", line
        )
    if "expected a single document" in str(exc.context or what):
        line = exc.problem_mark.line + 1 if exc.problem_mark else line
        return Refused(
            "many_documents",
            "The text holds more than one document.",
            "Keep one document; remove the `---` line.",
            line,
        )
    source = parsed.text.splitlines()
    fix = "Check the indentation and the line before."
    if line is not None and 0 < line <= len(source):
        if "\t" in source[line - 1][: len(source[line - 1]) - len(source[line - 1].lstrip())]:
            fix = "Indent with spaces; YAML does not allow tabs."
        elif "mapping values are not allowed" in what or re.search(r":\s*[{%@`*&]", source[line - 1]):
            fix = 'Put the value in double quotes, as in key: "{{ inputs.company }}".'
        elif "expected ',' or '}'" in what or "expected ',' or ']'" in what:
            fix = "Close the bracket, or put a text that contains , : or brackets in quotes."
    return Refused("yaml_syntax", f"The text is not YAML: {what}.", fix, line)


def _too_many() -> Refused:
    return Refused(
        "too_large",
        f"The document has more than {MAX_VALUES:,} values.",
        "Move data into input files and keep the plan in the blueprint.",
    )


class _Values:
    """Turns YAML's node graph into plain values: our types only, keys as text, dates as the text they are."""

    def __init__(self, parsed: Parsed, reader: YAML) -> None:
        self.parsed = parsed
        self.constructor: Any = reader.constructor
        self.seen: set[int] = set()
        self.open: set[int] = set()
        self.count = 0
        self.repeated = 0

    def value(self, node: Node, path: Path) -> Any:
        again = id(node) in self.seen
        self.seen.add(id(node))
        self.bound(node, again)
        self.parsed.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open:
            raise Refused(
                "alias_cycle", "An anchor contains an alias of itself.", "Write the part out.", _line(node)
            )
        self.open.add(id(node))
        try:
            self.check_tag(node, path)
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self.mapping(node, path)
        finally:
            self.open.discard(id(node))

    def bound(self, node: Node, again: bool) -> None:
        self.count += 1
        if self.count > MAX_VALUES:
            raise _too_many()
        if again:
            self.repeated += 1 + (len(node.value) // 50 if isinstance(node, ScalarNode) else 0)
            if self.repeated > MAX_ALIASED:
                raise Refused(
                    "alias_bomb",
                    f"Aliases repeat more than {MAX_ALIASED:,} values.",
                    "Write less with anchors and aliases.",
                    _line(node),
                )

    def check_tag(self, node: Node, path: Path) -> None:
        tag = str(node.tag)
        if tag not in (_TAG + "map", _TAG + "seq", "!", "None"):
            self.odd_tag(node, tag, path)

    def odd_tag(self, node: Node, tag: str, path: Path) -> None:
        self.parsed.problems.append(
            Problem(
                path_text(path),
                _line(node),
                "error",
                "yaml_tag",
                f"The tag {shown(tag.removeprefix(_TAG))} has no meaning in a blueprint.",
                "Remove the tag (the part that starts with !).",
            )
        )

    def mapping(self, node: Node, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self.parsed.problems.append(
                    Problem(
                        path_text(path),
                        _line(key_node),
                        "error",
                        "key_not_text",
                        "A key is a list or a mapping.",
                        "Use a plain name as the key; put a value that starts with "
                        '{ in double quotes, as in "{{ … }}".',
                    )
                )
                continue
            if str(key_node.tag) == _TAG + "merge":
                merged.append(value_node)
                continue
            key = str(key_node.value)
            _check_characters(self.parsed, key, path, _line(key_node))
            if key in result:
                _duplicate(self.parsed, (*path, key), _line(key_node))
                continue
            self.parsed.lines[(*path, key)] = _line(key_node)
            result[key] = self.value(value_node, (*path, key))
        for name, item in self.inherited(merged, path):
            result.setdefault(name, item)
        return result

    def inherited(self, merged: list[Node], path: Path) -> Iterator[tuple[str, Any]]:
        """What `<<` brings in; keys written here win, then the first mapping named."""
        for node in merged:
            for source in node.value if isinstance(node, SequenceNode) else [node]:
                value = self.value(source, (*path, "<<")) if not isinstance(source, ScalarNode) else None
                if isinstance(value, dict):
                    for key, item in value.items():
                        self.parsed.lines.setdefault((*path, key), _line(source))
                        yield key, item
                else:
                    self.parsed.problems.append(
                        Problem(
                            path_text(path),
                            _line(source),
                            "error",
                            "bad_merge",
                            "<< names something that is not a mapping.",
                            "Name a mapping, as in <<: *defaults.",
                        )
                    )

    def scalar(self, node: ScalarNode, path: Path) -> Any:
        tag = str(node.tag).removeprefix(_TAG)
        text = str(node.value)
        _check_characters(self.parsed, text, path, _line(node))
        try:
            match tag:
                case "str" | "timestamp" | "value" | "merge" | "!":
                    return text
                case "null":
                    return None
                case "bool":
                    return bool(self.constructor.construct_yaml_bool(node))
                case "int":
                    return int(self.constructor.construct_yaml_int(node))
                case "float":
                    number = float(self.constructor.construct_yaml_float(node))
                    if math.isfinite(number):
                        return number
        except (ValueError, LookupError, TypeError, AttributeError, YAMLError):
            pass
        if tag in ("bool", "int", "float"):
            self.parsed.problems.append(
                Problem(
                    path_text(path),
                    _line(node),
                    "error",
                    "not_a_number",
                    f"{shown(text)} cannot be used as a value here.",
                    "Write a finite number, or put the text in quotes.",
                )
            )
            return text
        self.odd_tag(node, str(node.tag), path)
        return text


def _check_characters(parsed: Parsed, value: Any, path: Path, line: int) -> None:
    """NUL and halves of surrogate pairs can be written as escapes, but no database keeps them."""
    if not isinstance(value, str) or not ("\x00" in value or _HALVES.search(value)):
        return
    parsed.problems.append(
        Problem(
            path_text(path).encode("utf-8", "backslashreplace").decode(),
            line,
            "error",
            "bad_character",
            f"The text {shown(value.encode('utf-8', 'backslashreplace').decode())} contains a character that "
            "cannot be stored.",
            "Remove the escape \\u0000, or the lone half of a pair such as \\ud800.",
        )
    )


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _duplicate(parsed: Parsed, path: Path, line: int) -> None:
    first = parsed.lines.get(path)
    parsed.problems.append(
        Problem(
            path_text(path),
            line,
            "error",
            "duplicate_key",
            f"The key {shown(path[-1])} stands twice here (first in line {first}); only the first is read.",
            "Keep one of them.",
        )
    )


# --- the round-trip tree ----------------------------------------------------------------------------------


class _Representer(RoundTripRepresenter):
    """Writes fractions as they were written, unless that would lose a digit."""

    def represent_scalar_float(self, data: Any) -> Any:
        node = super().represent_scalar_float(data)
        if float(node.value) == float(data):
            return node
        return self.represent_scalar("tag:yaml.org,2002:float", repr(float(data)))


_Representer.add_representer(ScalarFloat, _Representer.represent_scalar_float)


def _round_trip(indentation: tuple[int, int] = (4, 2)) -> YAML:
    yaml = YAML(typ="rt", pure=True)
    yaml.Representer = _Representer
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.max_depth = MAX_DEPTH
    yaml.indent(mapping=2, sequence=indentation[0], offset=indentation[1])
    return yaml


def _indentation(text: str) -> tuple[int, int]:
    """How this author indents lists: `- ` under its key's first letter, or two further in."""
    lines = text.splitlines()
    for above, below in pairwise(lines):
        if above.rstrip().endswith(":") and below.lstrip().startswith("- "):
            key_at = len(above) - len(above.lstrip())
            dash_at = len(below) - len(below.lstrip())
            return (4, 2) if dash_at > key_at else (2, 0)
    return (4, 2)


def _styled(value: Any) -> Any:
    """Small mappings and lists of plain values on one line, as a person would write them."""
    if isinstance(value, dict):
        mapping = CommentedMap((_styled(key), _styled(item)) for key, item in value.items())
        if value and _is_small(value.values(), 60) and len(value) > 1:
            mapping.fa.set_flow_style()
        return mapping
    if isinstance(value, list):
        items = CommentedSeq(_styled(item) for item in value)
        if _is_small(value, 80):
            items.fa.set_flow_style()
        return items
    if isinstance(value, str):
        if _BLOCK.fullmatch(value):
            return LiteralScalarString(value)
        return value if _PLAIN.fullmatch(value) else DoubleQuotedScalarString(value)
    return value


def _is_small(values: Any, most: int) -> bool:
    every = list(values)
    if any(isinstance(v, (dict, list)) and v for v in every):
        return False
    return sum(len(str(v)) + 2 for v in every) <= most
