"""The scripted model: says what a test wrote down, and counts how often it was asked.

`scripted:<name>` takes its lines from `register(name, …)`, or, when MN_FAULTS=1, from
`MN_DATA/scripted/<name>.json`, so that tests can steer worker processes. Without either it refuses, so no
production blueprint can hold a script. Each asking appends one line to `MN_DATA/scripted/<name>.asked`: what
was asked by a process that died counts too.

A script is a list of lines, or `{"lines": […], "by": "turn" | "asked", "repeat": false}`. `by: turn` (the
default) picks the line by how many answers the request already holds, so a repeated request gets the same
line;
`by: asked` picks the next line each time, for failures that pass. A line has one of

    text: "…"            json: …              raw: "{broken"
    tools: [{name, arguments}]                 (arguments as text: sent as broken as they are)
    error: model_rate_limited | … | malformed  (with retry_after)

and may have `seconds` (latency) and `usage: {input_tokens, output_tokens, cached_tokens}`.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apps.agents.core.messages import (
    MalformedAnswer,
    ModelRequest,
    ModelResponse,
    ToolUse,
    Usage,
    estimated_usage,
)
from apps.agents.providers.base import PERMANENT, RETRYABLE, model_error
from apps.runs.errors import StepError
from mirrorneuron.config import config

Line = Mapping[str, Any]
_scripts: dict[str, Mapping[str, Any]] = {}
_requests: dict[str, list[ModelRequest]] = {}
_lock = threading.Lock()
_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def register(name: str, lines: Sequence[Line], *, by: str = "turn", repeat: bool = False) -> None:
    """Give a script to this process; the model is then `scripted:<name>`."""
    with _lock:
        _scripts[name] = {"lines": list(lines), "by": by, "repeat": repeat}
        _requests[name] = []


def clear() -> None:
    """Forget every script of this process."""
    with _lock:
        _scripts.clear()
        _requests.clear()


def requests(name: str) -> list[ModelRequest]:
    """What this process asked the script, oldest first."""
    return list(_requests.get(name, ()))


def asked(name: str) -> int:
    """How often any process with this data folder asked the script."""
    path = _folder() / f"{name}.asked"
    return len(path.read_text().splitlines()) if path.exists() else 0


class Scripted:
    def complete(self, request: ModelRequest) -> ModelResponse:
        name = request.model.partition(":")[2]
        script = _script(name)
        with _lock:
            before = asked(name)
            _count(name)
            _requests.setdefault(name, []).append(request)
        turn = sum(m.role == "assistant" for m in request.messages)
        index = before if script.get("by", "turn") == "asked" else turn
        lines = script["lines"]
        if index >= len(lines) and not (script.get("repeat") and lines):
            raise StepError(
                f'Script "{name}" has {len(lines)} lines; line {index + 1} was asked for.',
                code="script_exhausted",
                permanent=True,
            )
        return _say(lines[min(index, len(lines) - 1)], request)


def _say(line: Line, request: ModelRequest) -> ModelResponse:
    time.sleep(min(float(line.get("seconds", 0)), request.timeout_seconds))
    if float(line.get("seconds", 0)) > request.timeout_seconds:
        raise model_error("model_timeout", request.model, "no answer in time.")
    error = line.get("error")
    if error == "malformed":
        raise MalformedAnswer("The answer could not be read: the script says so.")
    if error in RETRYABLE | PERMANENT:
        raise model_error(str(error), request.model, "the script says so.", line.get("retry_after"))
    if error:
        raise StepError(f'Script line has the unknown error "{error}".', permanent=True)
    uses = tuple(
        ToolUse(
            id=f"call-{len(request.messages)}-{index}",
            name=use["name"],
            arguments=use["arguments"] if isinstance(use.get("arguments"), dict) else None,
            raw=use["arguments"] if isinstance(use.get("arguments"), str) else "",
        )
        for index, use in enumerate(line.get("tools", ()))
    )
    text = line.get("text", line.get("raw", ""))
    if "json" in line:
        text = json.dumps(line["json"], ensure_ascii=False)
    usage = Usage.from_json(line["usage"]) if "usage" in line else estimated_usage(request, text)
    return ModelResponse(text=text, tool_uses=uses, usage=usage, finish="tool_call" if uses else "stop")


def _script(name: str) -> Mapping[str, Any]:
    known = _scripts.get(name)
    if known is not None:
        return known
    path = _folder() / f"{name}.json"
    if config().faults and _SAFE_NAME.fullmatch(name) and path.exists():
        read = json.loads(path.read_text())
        return {"lines": read} if isinstance(read, list) else read
    raise StepError(
        f'There is no script "{name}": scripted models are for tests only.',
        code="model_not_configured",
        permanent=True,
        next="Use offline:extractive or a real model.",
    )


def _count(name: str) -> None:
    # One short append is atomic, so processes can count together.
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    if _SAFE_NAME.fullmatch(name):
        descriptor = os.open(folder / f"{name}.asked", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, f"{os.getpid()}\n".encode())
        finally:
            os.close(descriptor)


def _folder() -> Path:
    return config().data / "scripted"
