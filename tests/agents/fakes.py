"""A context for handlers without a database: keeps what the engine would keep, and can crash.

`crash_after_flush` makes the n-th flush the last thing that happens; `again()` gives the context of the next
attempt, with everything that was committed and nothing else.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.agents.tools.base import Tool, ToolRun
from apps.blueprints.core import expressions
from apps.blueprints.core.document import Document, Node
from apps.blueprints.core.tools import ToolSpec
from apps.governance.flow import Outgoing, Reply, Ticket
from apps.ledger.core.states import EffectClass
from apps.runs.errors import StepError, Suspended
from apps.runs.ports import Ask, CallRecord, EffectCall
from mirrorneuron.base.safejson import fingerprint, storable


class Crash(BaseException):
    """The process died here."""


@dataclass
class World:
    """What is durable: survives a crash."""

    calls: dict[tuple[str, int, int], CallRecord] = field(default_factory=dict)
    entries: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    effects: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    grants: set[str] = field(default_factory=set)
    executed: list[dict[str, Any]] = field(default_factory=list)

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.entries]


class FakeContext:
    def __init__(
        self,
        document: Document,
        node: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        steps: Mapping[str, Any] | None = None,
        labels: Mapping[str, list[str]] | None = None,
        world: World | None = None,
        simulate: bool = False,
        memo: dict[str, Any] | None = None,
        attempt: int = 1,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        found = document.node(node)
        assert found is not None
        self.node: Node = found
        self.document = document
        self.run_id = uuid.uuid4()
        self.workspace_id = uuid.uuid4()
        self.path = node
        self.attempt = attempt
        self.round = 1
        self.simulate = simulate
        self.memo = memo
        self.started_by = None
        self.inputs = dict(inputs or {})
        self.steps = {
            n.id: {"output": None, "status": "blocked", "attempts": 0} for n in document.graph.nodes
        } | {
            k: {"output": v, "status": "succeeded", "attempts": 1, "port": "approved"}
            for k, v in (steps or {}).items()
        }
        self.step_labels = dict(labels or {})
        self.world = world or World()
        self.input: Any = None
        self.files = dict(files or {})
        self._calls: list[CallRecord] = []
        self._entries: list[tuple[str, dict[str, Any]]] = []
        self.flushes = 0
        self.crash_after_flush = 0

    def again(self, **changes: Any) -> FakeContext:
        """The next attempt at the same step."""
        fresh = FakeContext(
            self.document, self.node.id, inputs=self.inputs, world=self.world,
            simulate=self.simulate, attempt=self.attempt + 1, files=self.files,
        )  # fmt: skip
        fresh.steps, fresh.step_labels = self.steps, self.step_labels
        fresh.run_id, fresh.workspace_id = self.run_id, self.workspace_id
        for name, value in changes.items():
            setattr(fresh, name, value)
        return fresh

    def admit(self, call: Outgoing, turn: int, ordinal: int = 0) -> Ticket:
        return Ticket(call)

    def called(self, ticket: Ticket, reply: Reply, **more: Any) -> None:
        pass

    def names(self) -> dict[str, Any]:
        effects = [
            {"tool": e["tool"], "state": "committed", "approved_by": None}
            for e in self.world.effects.values()
        ]
        return {
            "inputs": self.inputs,
            "steps": self.steps,
            "run": {"id": str(self.run_id), "started_at": "2026-01-01T00:00:00+00:00"},
            "round": self.round,
            "effects": effects,
        }

    def render(self, template: Any, **extra: Any) -> Any:
        try:
            return expressions.render(template, self.names() | extra)
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def evaluate(self, expression: str, **extra: Any) -> Any:
        try:
            return expressions.evaluate(expression, self.names() | extra)
        except expressions.ExpressionError as exc:
            raise StepError(str(exc), code="bad_expression", permanent=True) from exc

    def labels_of(self, template: Any) -> list[str]:
        found: set[str] = set()
        references = expressions.references(template)
        if isinstance(template, str) and "{{" not in template:
            try:
                references = expressions.compile_expression(template).references
            except expressions.ExpressionError:
                references = frozenset()
        for reference in references:
            root, _, rest = reference.partition(".")
            if root == "inputs":
                found.add("user")
            elif root == "steps":
                found.update(self.step_labels.get(rest.partition(".")[0], []))
        return sorted(found)

    def set_input(self, value: Any) -> None:
        self.input = value

    def entry(self, kind: str, data: dict[str, Any]) -> None:
        self._entries.append((kind, data))

    def recorded(self, kind: str, turn: int, ordinal: int = 0) -> CallRecord | None:
        held = {(c.kind, c.turn, c.ordinal): c for c in self._calls}
        return held.get((kind, turn, ordinal)) or self.world.calls.get((kind, turn, ordinal))

    def record(self, call: CallRecord) -> None:
        place = (call.kind, call.turn, call.ordinal)
        assert self.recorded(*place) is None, f"recorded twice: {place}"
        storable(call.request), storable(call.response)
        self._calls.append(call)

    def flush(self) -> None:
        self.commit()
        self.flushes += 1
        if self.flushes == self.crash_after_flush:
            raise Crash

    def commit(self) -> None:
        """What the engine does at a flush, an effect and the step's end."""
        for call in self._calls:
            self.world.calls[call.kind, call.turn, call.ordinal] = call
        self.world.entries += self._entries
        self._calls, self._entries = [], []

    def effect(self, call: EffectCall) -> Any:
        place = (call.turn, call.ordinal)
        if place in self.world.effects:
            return self.world.effects[place]["result"]
        if call.needs_grant and fingerprint([call.tool, call.arguments]) not in self.world.grants:
            assert call.question is not None
            raise Suspended(Ask(call.question))
        self.commit()
        result = storable(call.execute(f"key-{call.turn}-{call.ordinal}"))
        self.world.effects[place] = {"tool": call.tool, "arguments": call.arguments, "result": result}
        self.world.executed.append({"tool": call.tool, "arguments": call.arguments})
        return result

    def grant(self, tool: str, arguments: dict[str, Any]) -> None:
        self.world.grants.add(fingerprint([tool, arguments]))

    def file_bytes(self, file_id: str) -> bytes:
        return self.files[file_id]

    def progress(self, note: str = "", *, at_least: float = 0.0) -> None:
        pass

    def seconds_left(self) -> float:
        return 120.0


def tool(name: str, run: Any, *, effect: str = "read", **spec: Any) -> Tool:
    """A tool for tests: `run(arguments)`."""

    def work(call: ToolRun) -> Any:
        return run(call.arguments)

    given = {
        "description": f"Do {name}.",
        "parameters": {"type": "object", "properties": {}},
        "open_world": False,
        "timeout_seconds": 5.0,
    } | spec
    return Tool(
        ToolSpec(name=name, effect=EffectClass(effect), **given),
        work,
        simulate_source=lambda call: {"simulated": name},
    )


def document(**parts: Any) -> Document:
    """A blueprint of the given parts."""
    return Document.model_validate({"metadata": {"name": "test"}, **parts})
