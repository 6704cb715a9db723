"""Runs one piece of Python inside the closed box; nothing of ours is imported.

Reads `{code, inputs}` as JSON on standard input, writes one JSON object on standard output: `{value, printed,
left_out}` or `{error, text, line}`. Time is limited by whoever started it, memory here.

    child.py MAX_MEMORY MAX_PRINTED MAX_DEPTH
"""

from __future__ import annotations

import ast
import io
import json
import sys
from typing import Any

MAX_FILE = 64 * 1024 * 1024
"""Bytes of any file it writes; the only one it can is its answer."""
MAX_PROCESSES = 16
"""Processes and threads inside the box."""


def main() -> None:
    memory, most_printed, depth = (int(argument) for argument in sys.argv[1:4])
    given = json.load(sys.stdin)
    answers, sys.stdout = sys.stdout, _Printed(most_printed)
    sys.stdin = io.StringIO()
    _limit(memory)
    sys.setrecursionlimit(depth + 50)
    try:
        answer: dict[str, Any] = {"value": _plain(_run(given["code"], given["inputs"]))}
    except BaseException as exc:  # SystemExit too: the answer is what this is for
        answer = {"error": type(exc).__name__, "text": _text(exc), "line": _line(exc)}
    answer |= {"printed": sys.stdout.kept(), "left_out": sys.stdout.left_out}
    answers.write(json.dumps(answer))
    answers.flush()


def _limit(memory: int) -> None:
    import resource

    for limit, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MAX_FILE),
        (resource.RLIMIT_NPROC, MAX_PROCESSES),
    ):
        resource.setrlimit(limit, (most, most))


def _run(code: str, names: dict[str, Any]) -> Any:
    """`result` if the code sets it, else the value of its last expression."""
    names = {"__name__": "code", **names}
    tree = ast.parse(code, "code")
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "code", "exec", dont_inherit=True), names)  # noqa: S102 - what the box is for
    value = None
    if isinstance(last, ast.Expr):
        expression = ast.Expression(last.value)
        value = eval(compile(expression, "code", "eval", dont_inherit=True), names)  # noqa: S307
    return names.get("result", value)


class _Printed(io.TextIOBase):
    def __init__(self, most: int) -> None:
        self.most, self.parts, self.size = most, list[str](), 0

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.size < self.most:
            self.parts.append(text[: self.most - self.size])
        self.size += len(text)
        return len(text)

    def kept(self) -> str:
        return "".join(self.parts)

    @property
    def left_out(self) -> int:
        return max(0, self.size - self.most)


def _plain(value: Any) -> Any:
    """What JSON cannot hold, as JSON; the same rules as for small Python."""
    import datetime
    import decimal

    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, dict):
        return {_key(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(part) for part in value), key=lambda v: (type(v).__name__, str(v)))
    raise TypeError(f"the result holds {type(value).__name__}, which cannot be stored")


def _key(key: Any) -> str:
    if key is True or key is False or key is None:
        return {True: "true", False: "false", None: "null"}[key]
    if isinstance(key, (str, int, float)):
        return str(key)
    raise TypeError(f"the result has a key of type {type(key).__name__}")


def _text(exc: BaseException) -> str:
    try:
        return str(exc.args[0] if isinstance(exc, (KeyError, SyntaxError)) and exc.args else exc)[:2000]
    except BaseException:
        return ""


def _line(exc: BaseException) -> int | None:
    """The innermost line of the code itself."""
    if isinstance(exc, SyntaxError) and exc.filename == "code":
        return exc.lineno
    found, trace = None, exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "code":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found


if __name__ == "__main__":
    main()
