"""The handler of sensors, as far as they wait: for a signal, until a time. Polling is the agents' room's.

What a sensor needs to go on lies in its step's memo: `waits_for` and `schema` while it takes signals,
`expires_at` when its time is bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from apps.blueprints.core.document import Graph, Node
from apps.blueprints.core.sample import sample
from apps.runs.core.states import WaitReason
from apps.runs.errors import StepError
from apps.runs.handlers import time_of
from apps.runs.inbox import inbox
from apps.runs.ports import Context, Done, Outcome, Wait, register_handler
from apps.runs.signals import NAME, NAME_WORDS
from mirrorneuron.base.clock import now


@dataclass(frozen=True)
class Watch:
    """What one sensor waits for; the same in every attempt."""

    signal: str
    expires_at: datetime | None
    memo: dict[str, Any]

    @property
    def is_over(self) -> bool:
        return self.expires_at is not None and now() >= self.expires_at

    def wait(self, due_at: datetime | None = None, **memo: Any) -> Wait:
        """Wait for the signal, the time `due_at`, or the end, whichever comes first."""
        ends = [at for at in (due_at, self.expires_at) if at is not None]
        reason = WaitReason.SIGNAL if self.signal else WaitReason.POLL
        kept = {name: value for name, value in self.memo.items() if name != "limit"}
        return Wait(reason, min(ends, default=None), kept | memo)


def sensor(context: Context) -> Outcome:
    """Wait for a signal; leave by `expired` when the time is over."""
    watch = watch_of(context)
    if context.simulate:
        return simulated(context, sample(context.node.schema_ or {}))
    if watch.is_over and not has_signal(context, watch):
        return expired(context, watch)
    return watch.wait()


def watch_of(context: Context) -> Watch:
    """What was decided when the sensor began to wait, or is decided now. Shown as the step's input."""
    node, memo = context.node, context.memo or {}
    if "began_at" in memo:
        end = memo.get("expires_at")
        return Watch(memo.get("waits_for", ""), datetime.fromisoformat(end) if end else None, memo)
    args = {"args": context.render(node.with_)} if node.with_ is not None else {}
    signal = str(context.render(node.signal, **args)) if node.signal else ""
    if signal and not NAME.fullmatch(signal):
        raise StepError(
            f'Sensor "{node.id}": {signal[:80]!r} is not a name for a signal.',
            code="bad_signal_name", permanent=True, next=NAME_WORDS,
        )  # fmt: skip
    ends = [now() + timedelta(seconds=node.due)] if node.due is not None else []
    if node.until:
        ends.append(time_of(context, node.until, args))
    end = min(ends, default=None)
    memo = {
        "began_at": now().isoformat(),
        **({"waits_for": signal} if signal else {}),
        **({"schema": node.schema_} if node.schema_ else {}),
        **({"expires_at": end.isoformat()} if end else {}),
    }
    context.memo = memo  # Whatever makes it wait meanwhile (a limit on calls) writes it down too.
    shown = {"signal": signal, "until": memo.get("expires_at"), **args}
    context.set_input({name: value for name, value in shown.items() if value})
    return Watch(signal, end, memo)


def has_signal(context: Context, watch: Watch) -> bool:
    """Whether a signal came while the step was not waiting; it takes it when it waits again."""
    return bool(watch.signal) and inbox(context.run_id, watch.signal, context.path).exists()


def simulated(context: Context, body: Any) -> Done:
    """A simulated run waits for nobody: it gets a sample of what would come."""
    return Done(_output("simulation", body))


def looked(output: Any, polls: int) -> dict[str, Any]:
    """What a sensor that found what it looked for puts out."""
    return _output("poll", output, polls=polls)


def expired(context: Context, watch: Watch) -> Outcome:
    """Leave by `expired`, or fail when the blueprint does not say what follows then."""
    node = context.node
    if not _has_edge(context.document.graph, node, "expired"):
        waited = f'signal "{watch.signal}"' if watch.signal else "what it looks for"
        raise StepError(
            f'Sensor "{node.id}" waited for {waited} until its time was over; no edge leaves by `expired`.',
            code="sensor_expired", permanent=True,
            next="Add an edge from its port `expired`, or give it more time.",
        )  # fmt: skip
    return Done(_output("", None, polls=watch.memo.get("polls"), last=watch.memo.get("last")), port="expired")


def _output(by: str, body: Any, **more: Any) -> dict[str, Any]:
    return {"by": by, "body": body, "at": now().isoformat().replace("+00:00", "Z")} | {
        name: value for name, value in more.items() if value is not None
    }


def _has_edge(graph: Graph, node: Node, port: str) -> bool:
    if any(one is node for one in graph.nodes):
        return any(edge.source == node.id and edge.port == port for edge in graph.edges)
    return any(_has_edge(one.body, node, port) for one in graph.nodes if one.body is not None)


def register() -> None:
    register_handler("sensor", sensor)
