"""What goes to a model and what comes back: plain values that a journal holds and any provider reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["user", "assistant", "tool"]


@dataclass(frozen=True)
class ToolUse:
    """A model's wish to call a tool."""

    id: str
    name: str
    arguments: dict[str, Any] | None
    """None when what the model wrote is not a JSON object."""
    raw: str = ""
    """The arguments as written, kept when they are broken."""

    def as_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "arguments": self.arguments, "raw": self.raw}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ToolUse:
        return cls(value["id"], value["name"], value.get("arguments"), value.get("raw", ""))


@dataclass(frozen=True)
class Message:
    role: Role
    text: str = ""
    tool_uses: tuple[ToolUse, ...] = ()
    """assistant: the calls it asked for."""
    tool_use_id: str = ""
    """tool: which call this answers."""
    tool: str = ""
    result: Any = None
    """tool: the result as data; `text` is what a model reads of it."""
    failed: bool = False
    wire: Any = None
    """assistant: the provider's own form, sent back unchanged so that nothing it needs is lost."""

    def as_json(self) -> dict[str, Any]:
        """For the journal; without the parts that are recorded elsewhere (results, wire form)."""
        value: dict[str, Any] = {"role": self.role, "text": self.text}
        if self.tool_uses:
            value["tool_uses"] = [u.as_json() for u in self.tool_uses]
        if self.role == "tool":
            value |= {"tool_use_id": self.tool_use_id, "tool": self.tool, "failed": self.failed}
        return value


@dataclass(frozen=True)
class ToolOffer:
    """A tool as a model is told of it."""

    name: str
    description: str
    parameters: dict[str, Any]
    writes: bool = False


@dataclass(frozen=True)
class ModelRequest:
    """One question to one model.

    Order is kept for the provider's prompt cache: what never changes within a step (system, tools) first,
    then messages that only ever grow.
    """

    model: str
    """`provider:model`."""
    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolOffer, ...] = ()
    schema: dict[str, Any] | None = None
    """JSON Schema the answer must fit; None for free text."""
    prompt: str = ""
    """The step's own words, without the material; the extractive model ranks by them."""
    material: Mapping[str, Any] = field(default_factory=dict)
    """What the step sees, as data; models get the same as text in the first message."""
    max_output_tokens: int | None = None
    temperature: float | None = None
    timeout_seconds: float = 60.0

    def as_json(self, known: int = 0) -> dict[str, Any]:
        """For the journal and for people: what went in. known: messages an earlier turn has recorded."""
        value: dict[str, Any] = {
            "messages": [m.as_json() for m in self.messages[known:]],
            "earlier_messages": known,
            "tools": [t.name for t in self.tools],
        }
        if not known:
            value |= {"system": self.system, "schema": self.schema}
        return value


@dataclass(frozen=True)
class Usage:
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Part of the input tokens that the provider had cached."""
    estimated: bool = False
    """True when the provider told nothing and length stood in for it."""

    def as_json(self) -> dict[str, Any]:
        return {
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "cached_tokens": self.cached_tokens,
            "estimated": self.estimated,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Usage:
        return cls(
            int(value.get("input_tokens", 0)),
            int(value.get("output_tokens", 0)),
            int(value.get("cached_tokens", 0)),
            bool(value.get("estimated", False)),
        )


@dataclass(frozen=True)
class ModelResponse:
    text: str = ""
    tool_uses: tuple[ToolUse, ...] = ()
    usage: Usage = Usage()
    finish: str = ""
    """The provider's word, for people only; some providers give none, so nothing depends on it."""
    note: str = ""
    """A provider's remark about its answer, such as the fields it found no evidence for."""
    offline: bool = False
    """True when no model was asked: an extract by rules."""
    wire: Any = None

    def as_json(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "tool_uses": [u.as_json() for u in self.tool_uses],
            "usage": self.usage.as_json(),
            "finish": self.finish,
            "note": self.note,
            "offline": self.offline,
            "wire": self.wire,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelResponse:
        return cls(
            text=value.get("text", ""),
            tool_uses=tuple(ToolUse.from_json(u) for u in value.get("tool_uses", ())),
            usage=Usage.from_json(value.get("usage", {})),
            finish=value.get("finish", ""),
            note=value.get("note", ""),
            offline=bool(value.get("offline", False)),
            wire=value.get("wire"),
        )


class MalformedAnswer(Exception):
    """The provider answered, but not with something that can be read. Repaired, not retried."""

    def __init__(self, problem: str, usage: Usage | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.usage = usage or Usage()


def estimate_tokens(*texts: str) -> int:
    """Tokens of texts by length, four characters each: for providers that tell no usage, and for limits."""
    return sum((len(t) + 3) // 4 for t in texts)


def estimated_usage(request: ModelRequest, answer: str) -> Usage:
    """Usage by length of what went in and out."""
    sent = [request.system, *(m.text for m in request.messages), *(str(t.parameters) for t in request.tools)]
    return Usage(estimate_tokens(*sent), estimate_tokens(answer), estimated=True)
