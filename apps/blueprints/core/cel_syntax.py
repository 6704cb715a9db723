"""Reads CEL source into a tree: the grammar of the language definition without messages.

Only `expressions` and `cel_evaluate` import this.
Source: github.com/google/cel-spec, doc/langdef.md, "Syntax".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, assert_never

MAX_NESTING = 32
"""Brackets within brackets; deeper source is refused rather than risking the stack."""
MAX_CHAIN = 60
"""Operators in a row, as in `a + b + c`."""
MAX_DEPTH = 96
"""Levels of the tree as a whole."""
MACROS = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 3}
"""Macro name → most arguments; `map` may also take a condition in the middle."""

_TOKEN = re.compile(
    r"""
    (?P<space>[\t\n\f\r ]+|//[^\n]*)
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
  | (?P<text>(?P<prefix>[bB][rR]|[rR][bB]|[bBrR])?
      (?P<quoted>\"\"\"(?:[^\\]|\\.)*?\"\"\"|'''(?:[^\\]|\\.)*?'''|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'))
  | (?P<word>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<sign>\|\||&&|==|!=|<=|>=|[<>?:.,()\[\]{}+\-*/%!])
    """,
    re.VERBOSE | re.DOTALL,
)
_RAW_QUOTED = re.compile(r"""(?P<quoted>\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')""", re.DOTALL)
_ESCAPE = re.compile(
    r"""\\(?:(?P<one>[abfnrtv\\?"'`])|x(?P<x>[0-9a-fA-F]{2})|X(?P<x2>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})
    |U(?P<long>[0-9a-fA-F]{8})|(?P<oct>[0-3][0-7]{2})|(?P<bad>.?))""",
    re.VERBOSE | re.DOTALL,
)
_ONE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_RESERVED = frozenset(
    {"as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop"}
    | {"package", "namespace", "return", "var", "void", "while"}
)
_RELATIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})


class CelSyntaxError(Exception):
    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


@dataclass(frozen=True, slots=True)
class Literal:
    value: Any


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Select:
    operand: Tree
    field: str


@dataclass(frozen=True, slots=True)
class Has:
    """`has(a.b)`: the one place where a missing field is an answer."""

    select: Select


@dataclass(frozen=True, slots=True)
class Index:
    operand: Tree
    key: Tree


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or a method when it has a target."""

    function: str
    target: Tree | None
    arguments: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Macro:
    function: str
    target: Tree
    variable: str
    condition: Tree | None
    """Of a three-argument `map` only."""
    body: Tree


@dataclass(frozen=True, slots=True)
class Unary:
    sign: str
    operand: Tree


@dataclass(frozen=True, slots=True)
class Binary:
    sign: str
    left: Tree
    right: Tree


@dataclass(frozen=True, slots=True)
class Choice:
    condition: Tree
    then: Tree
    otherwise: Tree


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class MapOf:
    items: tuple[tuple[Tree, Tree], ...]


Tree = Literal | Name | Select | Has | Index | Call | Macro | Unary | Binary | Choice | ListOf | MapOf


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int
    value: Any = None


def end_of_placeholder(text: str, start: int) -> int | None:
    """Where the `}}` begins that closes a `{{` whose inside starts at `start`; None when there is none.

    Braces of map literals are counted and strings are skipped, so `{{ {'a': {'b': '}}'}} }}` ends at its end.
    """
    depth, position = 0, start
    while position < len(text):
        if depth == 0 and text.startswith("}}", position):
            return position
        token = _match(text, position)
        if token is None:
            position += 1
            continue
        if token.text == "{":
            depth += 1
        elif token.text == "}":
            depth = max(0, depth - 1)
        position += len(token.text)
    return None


def parse(source: str) -> Tree:
    """Raises CelSyntaxError with the place of the first thing that does not fit."""
    parser = _Parser(_tokens(source))
    tree = parser.expression()
    if parser.here.kind != "end":
        raise parser.unexpected("the end")
    _refuse_deep(tree)
    return tree


def children(tree: Tree) -> tuple[Tree, ...]:
    """The sub-trees, in order of the source. A macro's body is one of them, its variable is not."""
    match tree:
        case Literal() | Name():
            return ()
        case Select(operand, _) | Unary(_, operand):
            return (operand,)
        case Has(select):
            return (select,)
        case Index(operand, key):
            return (operand, key)
        case Call(_, target, arguments):
            return arguments if target is None else (target, *arguments)
        case Macro(_, target, _, condition, body):
            return (target, body) if condition is None else (target, condition, body)
        case Binary(_, left, right):
            return (left, right)
        case Choice(condition, then, otherwise):
            return (condition, then, otherwise)
        case ListOf(items):
            return items
        case MapOf(pairs):
            return tuple(part for pair in pairs for part in pair)
    assert_never(tree)


def _refuse_deep(tree: Tree) -> None:
    level: tuple[Tree, ...] = (tree,)
    for _ in range(MAX_DEPTH):
        level = tuple(child for parent in level for child in children(parent))
        if not level:
            return
    raise CelSyntaxError("this expression is nested too deeply; split it over several steps", 0)


def _match(source: str, position: int) -> _Token | None:
    match = _TOKEN.match(source, position)
    if match is None:
        return None
    kind = match.lastgroup or ""
    text = match[0]
    if match["text"] is not None:
        kind = "text"
        prefix = match["prefix"] or ""
        if "r" in prefix.lower():
            # Raw strings end at the first quote, whatever stands before it.
            raw = _RAW_QUOTED.match(source, position + len(prefix))
            if raw is None:
                return None
            text = prefix + raw[0]
    return _Token(kind, text, position)


def _tokens(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(source):
        token = _match(source, position)
        if token is None:
            character = source[position]
            if character in "\"'":
                raise CelSyntaxError("this text has no closing quote", position)
            if character == "=":
                raise CelSyntaxError("= is not an operator; compare with ==", position)
            raise CelSyntaxError(f"{character!r} cannot stand here", position)
        position += len(token.text)
        if token.kind != "space":
            tokens.append(_with_value(token))
    tokens.append(_Token("end", "", len(source)))
    return tokens


def _with_value(token: _Token) -> _Token:
    value: Any = None
    if token.kind == "int":
        digits = token.text.rstrip("uU")
        value = int(digits, 16) if digits[:2].lower() == "0x" else int(digits)
        if value > 2**63:
            raise CelSyntaxError("this number is too large", token.position)
    elif token.kind == "float":
        value = float(token.text)
        if value == float("inf"):
            raise CelSyntaxError("this number is too large", token.position)
    elif token.kind == "text":
        value = _text_value(token)
    return _Token(token.kind, token.text, token.position, value)


def _text_value(token: _Token) -> str | bytes:
    start = min(i for i in (token.text.find('"'), token.text.find("'")) if i >= 0)
    prefix, quoted = token.text[:start].lower(), token.text[start:]
    width = 3 if len(quoted) >= 6 and quoted[:3] in ('"""', "'''") else 1
    inside = quoted[width:-width]
    if "b" in prefix:
        return _unescape_bytes(inside, token.position, raw="r" in prefix)
    return inside if "r" in prefix else _unescape(inside, token.position)


def _unescape(inside: str, position: int) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["one"]:
            return _ONE.get(match["one"], match["one"])
        if match["oct"]:
            return chr(int(match["oct"], 8))
        code = match["x"] or match["x2"] or match["u"] or match["long"]
        if not code or int(code, 16) > 0x10FFFF or 0xD800 <= int(code, 16) < 0xE000:
            raise CelSyntaxError(f"{match[0]} is not an escape sequence", position)
        return chr(int(code, 16))

    return _ESCAPE.sub(replace, inside)


def _unescape_bytes(inside: str, position: int, *, raw: bool) -> bytes:
    if raw:
        return inside.encode()
    pieces: list[bytes] = []
    last = 0
    for match in _ESCAPE.finditer(inside):
        pieces.append(inside[last : match.start()].encode())
        code = match["x"] or match["x2"]
        if code or match["oct"]:
            pieces.append(bytes([int(code, 16) if code else int(match["oct"], 8)]))
        else:
            pieces.append(_unescape(match[0], position).encode())
        last = match.end()
    return b"".join([*pieces, inside[last:].encode()])


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.depth = 0

    @property
    def here(self) -> _Token:
        return self.tokens[self.index]

    def unexpected(self, wanted: str) -> CelSyntaxError:
        found = repr(self.here.text) if self.here.kind != "end" else "the end"
        return CelSyntaxError(f"expected {wanted}, found {found}", self.here.position)

    def take(self, text: str) -> bool:
        token = self.here
        if token.text == text and token.kind in ("sign", "word"):
            self.index += 1
            return True
        return False

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise self.unexpected(f"'{text}'")

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise CelSyntaxError(f"nested deeper than {MAX_NESTING} levels", self.here.position)

    def expression(self) -> Tree:
        self.deeper()
        condition = self.disjunction()
        if self.take("?"):
            then = self.expression()
            self.expect(":")
            condition = Choice(condition, then, self.expression())
        self.depth -= 1
        return condition

    def disjunction(self) -> Tree:
        parts = [self.conjunction()]
        while self.take("||"):
            parts.append(self.conjunction())
        return _balanced("||", parts)

    def conjunction(self) -> Tree:
        parts = [self.relation()]
        while self.take("&&"):
            parts.append(self.relation())
        return _balanced("&&", parts)

    def relation(self) -> Tree:
        left = self.addition()
        chain = 0
        while self.here.text in _RELATIONS and self.here.kind in ("sign", "word"):
            sign = self.here.text
            self.index += 1
            left = Binary(sign, left, self.addition())
            chain = self.longer(chain)
        return left

    def addition(self) -> Tree:
        left = self.multiplication()
        chain = 0
        while self.here.text in ("+", "-") and self.here.kind == "sign":
            sign = self.here.text
            self.index += 1
            left = Binary(sign, left, self.multiplication())
            chain = self.longer(chain)
        return left

    def multiplication(self) -> Tree:
        left = self.unary()
        chain = 0
        while self.here.text in ("*", "/", "%") and self.here.kind == "sign":
            sign = self.here.text
            self.index += 1
            left = Binary(sign, left, self.unary())
            chain = self.longer(chain)
        return left

    def longer(self, chain: int) -> int:
        """A chain `a + b + c` is a tree as deep as it is long."""
        if chain >= MAX_CHAIN:
            raise CelSyntaxError(f"more than {MAX_CHAIN} operators in a row", self.here.position)
        return chain + 1

    def unary(self) -> Tree:
        sign = self.here.text
        if self.here.kind != "sign" or sign not in ("!", "-"):
            return self.member()
        self.index += 1
        self.deeper()
        operand = self.unary()
        self.depth -= 1
        if sign == "-" and isinstance(operand, Literal) and _is_number(operand.value):
            return Literal(-operand.value)
        return Unary(sign, operand)

    def member(self) -> Tree:
        tree = self.primary()
        chain = 0
        while True:
            if self.take("."):
                token = self.here
                if token.kind != "word":
                    raise self.unexpected("a name after '.'")
                self.index += 1
                tree = self.method(tree, token) if self.take("(") else Select(tree, token.text)
            elif self.take("["):
                key = self.expression()
                self.expect("]")
                tree = Index(tree, key)
            else:
                return tree
            chain = self.longer(chain)

    def method(self, target: Tree, name: _Token) -> Tree:
        arguments = self.arguments(")")
        if name.text not in MACROS:
            return Call(name.text, target, arguments)
        if not 2 <= len(arguments) <= MACROS[name.text]:
            raise CelSyntaxError(
                f"{name.text}() takes a variable and an expression, as in items.{name.text}(item, …)",
                name.position,
            )
        variable = arguments[0]
        if not isinstance(variable, Name):
            raise CelSyntaxError(f"the first argument of {name.text}() is a plain name", name.position)
        condition = arguments[1] if len(arguments) == 3 else None
        return Macro(name.text, target, variable.name, condition, arguments[-1])

    def arguments(self, end: str) -> tuple[Tree, ...]:
        items: list[Tree] = []
        while not self.take(end):
            items.append(self.expression())
            if not self.take(","):
                self.expect(end)
                break
        return tuple(items)

    def primary(self) -> Tree:
        token = self.here
        self.index += 1
        if token.kind in ("int", "float", "text"):
            negative = self.index >= 2 and self.tokens[self.index - 2].text == "-"
            if token.kind == "int" and token.value == 2**63 and not negative:
                raise CelSyntaxError("this number is too large", token.position)
            return Literal(token.value)
        if token.kind == "word":
            return self.word(token)
        if token.text == "(" and token.kind == "sign":
            tree = self.expression()
            self.expect(")")
            return tree
        if token.text == "[" and token.kind == "sign":
            return ListOf(self.arguments("]"))
        if token.text == "{" and token.kind == "sign":
            return self.map_literal()
        self.index -= 1
        raise self.unexpected("a value")

    def word(self, token: _Token) -> Tree:
        match token.text:
            case "true":
                return Literal(True)
            case "false":
                return Literal(False)
            case "null":
                return Literal(None)
            case "in":
                self.index -= 1
                raise self.unexpected("a value")
        if token.text in _RESERVED:
            raise CelSyntaxError(f"{token.text!r} is a reserved word", token.position)
        if not self.take("("):
            return Name(token.text)
        arguments = self.arguments(")")
        if token.text == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Select):
                raise CelSyntaxError("has() takes one field, as in has(inputs.company)", token.position)
            return Has(arguments[0])
        return Call(token.text, None, arguments)

    def map_literal(self) -> Tree:
        items: list[tuple[Tree, Tree]] = []
        while not self.take("}"):
            key = self.expression()
            self.expect(":")
            items.append((key, self.expression()))
            if not self.take(","):
                self.expect("}")
                break
        return MapOf(tuple(items))


def _balanced(sign: str, parts: list[Tree]) -> Tree:
    """`a || b || c` as a balanced tree: same order of evaluation, less depth."""
    if len(parts) == 1:
        return parts[0]
    middle = len(parts) // 2
    return Binary(sign, _balanced(sign, parts[:middle]), _balanced(sign, parts[middle:]))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
