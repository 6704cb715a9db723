"""What a call of a tool or a model asks of `governance.flow` before it leaves, and says to it afterwards.

A tool that reaches the outside is told apart by the host it calls: one host that is down or wants rest says
nothing about another. A provider of models is the same for all workspaces, because they share its key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from apps.agents.core.messages import MalformedAnswer
from apps.agents.tools.base import AmbiguousOutcome
from apps.blueprints.core.tools import ToolSpec
from apps.governance.flow import Outgoing, Reply, Ticket
from apps.runs.errors import StepError, Suspended
from apps.runs.ports import Context
from mirrorneuron.base.errors import MirrorNeuronError

DOWN = frozenset(
    {
        "answer_cut_off",
        "connect_failed",
        "connection_lost",
        "dns_timeout",
        "model_overloaded",
        "model_server_error",
        "model_timeout",
        "model_unreachable",
        "no_answer_in_time",
        "tls_failed",
        "tool_timeout",
    }
)
"""Codes that may mean: the other side is down."""
RESTS = frozenset({"model_rate_limited"})
MAX_HOST = 80


def tool_call(context: Context, spec: ToolSpec, arguments: Mapping[str, Any], seconds: float) -> Outgoing:
    """A call of a tool, by whoever started the run."""
    host = _host(context, spec.name, arguments)
    tool = f"tool:{spec.name}"
    limit = context.document.contract.tool_limits.get(spec.name)
    per_hour = None
    if limit is not None and limit.per_user_hour is not None:
        key = f"hour:{context.document.metadata.name}:{spec.name}:{context.started_by or 'nobody'}"
        per_hour = (key, limit.per_user_hour)
    return Outgoing(
        workspace_id=context.workspace_id,
        target=f"{tool}@{host}" if host else tool,
        timeout_seconds=seconds,
        limits=(tool, *_user(context)),
        per_hour=per_hour,
        has_breaker=spec.open_world,
    )


def model_call(context: Context, model: str, seconds: float) -> Outgoing:
    provider = f"provider:{model.partition(':')[0]}"
    return Outgoing(
        workspace_id=context.workspace_id,
        target=provider,
        timeout_seconds=seconds,
        is_shared=True,
        limits=(f"model:{model}"[:200], *_user(context)),
    )


def _user(context: Context) -> tuple[str, ...]:
    return (f"user:{context.started_by}",) if context.started_by else ()


def _host(context: Context, name: str, arguments: Mapping[str, Any]) -> str:
    declared = context.document.tools.get(name)
    url = declared.url if declared is not None else arguments.get("url")
    if not isinstance(url, str):
        return ""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2].lower()
    except ValueError:
        return ""
    return "" if "{" in host else host[:MAX_HOST]


@contextmanager
def watched(context: Context, ticket: Ticket) -> Iterator[None]:
    """Tell how the call inside went."""
    try:
        yield
    except Suspended:
        raise
    except Exception as exc:
        _tell(context, ticket, exc)
        raise
    _tell(context, ticket, None)


class Sending:
    """A write: `admit` when it is about to go in flight, `execute` around the call itself, and `told` around
    all of it, in the step's own thread, so that the database is never asked from another one."""

    def __init__(self, context: Context, call: Outgoing | None, turn: int, ordinal: int) -> None:
        """call: None for a simulated one, which asks and tells nothing."""
        self._context, self._call, self._place = context, call, (turn, ordinal)
        self._ticket: Ticket | None = None
        self._has_left = False
        self._problem: BaseException | None = TimeoutError("no answer in time")

    def admit(self) -> None:
        if self._call is not None:
            self._ticket = self._context.admit(self._call, *self._place)

    def execute(self, work: Callable[[], Any]) -> Any:
        self._has_left = True
        try:
            result = work()
        except BaseException as exc:
            self._problem = exc
            raise
        self._problem = None
        return result

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        finally:
            if self._call is not None and self._has_left:
                # A repeat under the same key was not asked for, but tells as much.
                ticket = self._ticket or Ticket(self._call, is_watched=True)
                _tell(self._context, ticket, self._problem)


def _tell(context: Context, ticket: Ticket, problem: BaseException | None) -> None:
    reply, retry_after = reply_of(problem)
    error = (problem.message if isinstance(problem, MirrorNeuronError) else str(problem)) if problem else ""
    context.called(ticket, reply, retry_after=retry_after, error=error)


def reply_of(problem: BaseException | None) -> tuple[Reply, float | None]:
    """What an error says about the other side, and how long it asked to be left alone."""
    if problem is None or isinstance(problem, MalformedAnswer):
        return Reply.ANSWERED, None
    attributes = problem.attributes if isinstance(problem, MirrorNeuronError) else {}
    asked = problem.retry_after if isinstance(problem, StepError) else attributes.get("retry_after")
    status = attributes.get("status")
    code = problem.code if isinstance(problem, MirrorNeuronError) else ""
    if status == 429 or code in RESTS:
        return Reply.RESTS, asked
    is_down = (
        code in DOWN
        or isinstance(problem, (TimeoutError, AmbiguousOutcome))
        or (isinstance(status, int) and status >= 500)
    )
    return (Reply.FAILED if is_down else Reply.ANSWERED), asked
