"""What can be said about a code step's Python without running it: syntax, names, and what the sandbox lacks.

The text is only parsed. The parser bounds its own depth, and the text's length is bounded here.
"""

from __future__ import annotations

import ast
import keyword
from collections.abc import Iterator
from dataclasses import dataclass

MAX_CODE = 32_000
"""Characters of one step's code."""
RESULT = "result"
"""The name a step's code may give its result; so no input has it."""
SMALL_MODULES = frozenset(
    [
        "asyncio", "base64", "binascii", "bisect", "collections", "copy", "csv", "dataclasses", "datetime",
        "decimal", "functools", "hashlib", "itertools", "json", "math", "pathlib", "posixpath", "random",
        "re", "sys", "tomllib", "typing", "unicodedata", "__future__",
    ]
)  # fmt: skip
"""What small Python can import and use. `os` and `time` are there too, but all they offer is refused."""
_REFUSED = {
    "os": "a step's code reaches no files and no environment",
    "time": "a step's code has no clock",
}
_MISSING: dict[type[ast.AST], str] = {
    ast.Yield: "yield",
    ast.YieldFrom: "yield from",
    ast.Delete: "del",
    ast.AsyncFor: "async for",
    ast.AsyncWith: "async with",
    ast.TryStar: "except*",
}
if hasattr(ast, "TypeAlias"):  # Python 3.12
    _MISSING[ast.TypeAlias] = "type"


@dataclass(frozen=True)
class CodeProblem:
    line: int
    """Within the code; its first line is 1."""
    code: str
    message: str
    fix: str


def is_name(text: str) -> bool:
    """Whether an input of this name can be used in code."""
    return text.isidentifier() and not keyword.iskeyword(text) and text != RESULT


def check_code(code: str, *, full: bool) -> list[CodeProblem]:
    """Everything that is certain to fail. full: any Python; else only what the small interpreter knows."""
    if len(code) > MAX_CODE:
        return [
            CodeProblem(
                1, "code_too_long", f"it has {len(code)} characters, and {MAX_CODE} are allowed",
                "Split it into several steps, or move data into inputs",
            )
        ]  # fmt: skip
    try:
        tree = ast.parse(code)
    except SyntaxError as exc:
        where = (exc.text or "").strip()[:60]
        shown = f' ("{where}")' if where else ""
        return [CodeProblem(exc.lineno or 1, "code_syntax", f"{exc.msg}{shown}", "Correct the Python")]
    except (ValueError, RecursionError, MemoryError, OverflowError) as exc:
        reason = "it is nested too deeply" if not isinstance(exc, ValueError) else "it is not readable text"
        return [CodeProblem(1, "code_syntax", reason, "Write it more simply")]
    found = [] if full else sorted(_missing(tree), key=lambda p: p.line)
    return found[:20]


def _missing(tree: ast.AST) -> Iterator[CodeProblem]:
    for node in ast.walk(tree):
        word = _MISSING.get(type(node))
        if word:
            yield CodeProblem(
                getattr(node, "lineno", 1), "code_not_supported", f'small Python has no "{word}"',
                'Write it without, or set python: full',
            )  # fmt: skip
        elif isinstance(node, ast.ClassDef) and (node.bases or node.keywords):
            yield CodeProblem(
                node.lineno, "code_not_supported", "small Python has no classes made from others",
                "Write it without, or set python: full",
            )  # fmt: skip
        elif isinstance(node, ast.comprehension) and node.is_async:
            yield CodeProblem(
                node.target.lineno, "code_not_supported", 'small Python has no "async for"',
                "Write it without, or set python: full",
            )  # fmt: skip
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _module(alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            yield from _module(node.module or ".", node.lineno)
            if any(alias.name == "*" for alias in node.names):
                yield CodeProblem(
                    node.lineno, "code_not_supported", "small Python has no import of *", "Name what you need"
                )


def _module(name: str, line: int) -> Iterator[CodeProblem]:
    if name in _REFUSED:
        yield CodeProblem(line, "code_import", f'"{name}" is of no use here: {_REFUSED[name]}', "Remove it")
    elif name not in SMALL_MODULES:
        offered = ", ".join(sorted(SMALL_MODULES - {"__future__"}))
        yield CodeProblem(
            line, "code_import", f'small Python has no module "{name}"',
            f"Use one of {offered}; or set python: full for the standard library",
        )  # fmt: skip
