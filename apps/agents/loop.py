"""The agent loop: ask the model, run the tools it asked for, until its answer fits the schema.

One model request is one recorded unit, one tool call is another. A request that was answered is never sent
again: after a crash the loop walks over the recorded decisions and goes on where they end. A decision is
durable before any tool runs.

    turn n   request → response, recorded and committed
             tool calls → results appended, turn n + 1
             an answer that fits → done
             an answer that does not → a repair request, at most two in a step, counted apart from retries
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from apps.agents import gateway, outgoing, providers
from apps.agents.core.messages import (
    MalformedAnswer,
    Message,
    ModelRequest,
    ModelResponse,
    ToolOffer,
    ToolUse,
    Usage,
    estimated_usage,
)
from apps.agents.core.prompt import data_block, fit, read_answer, system_text, user_text
from apps.agents.errors import MalformedOutput, Refused, Rejected
from apps.agents.prices import cost_of
from apps.agents.tools.registry import tool_for
from apps.runs.core.checks import schema_problems
from apps.runs.core.limits import LIMITS
from apps.runs.errors import DefiniteFailure, StepError
from apps.runs.ports import CallRecord, Context
from mirrorneuron.base import crash
from mirrorneuron.base.clock import now
from mirrorneuron.base.safejson import fingerprint

MAX_REPAIRS = 2
MAX_USES = gateway.QUESTIONS_PER_TURN
"""Tool calls in one answer; more are a model gone wrong."""
MAX_REFUSALS = 3
"""After so many refusals in one step nobody expects the next call to be better."""
MAX_SECONDS = 300.0
MAX_RESULT_TOKENS = 20_000
"""Of one tool result, where the contract sets no limit."""
NEVER_SENT = frozenset({"model_not_configured", "model_unknown"})
FATAL = frozenset({"abandon", "effect_conflict", "duplicate_effect"})
"""Failures of a call that end the step, whatever a model would make of them."""


@dataclass(frozen=True)
class Work:
    """What an agent is to do.

    models: `provider:model` first choice first; the next one is asked when one cannot be used at all.
    material: what it sees, by name; labels: where that came from. own_tools: offered and allowed.
    """

    models: tuple[str, ...]
    instructions: str
    prompt: str
    schema: dict[str, Any] | None
    material: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    own_tools: tuple[str, ...] = ()
    max_turns: int = 8
    max_output_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Finished:
    value: Any
    labels: tuple[str, ...]


def run_agent(context: Context, work: Work) -> Finished:
    """Work until the answer fits.

    Raises StepError: of the model (retryable or not), `malformed_output`, `turn_limit`, `refused`; Suspended
    while a person is asked about a call.
    """
    return _Loop(context, work).run()


class _Loop:
    def __init__(self, context: Context, work: Work) -> None:
        self.context, self.work = context, work
        card = context.document.card
        goal = context.document.contract.goal
        self.system = system_text(work.instructions, goal, card.must_never, work.schema)
        self.offers = tuple(_offer(context, name) for name in work.own_tools if _may(context, name))
        self.messages: list[Message] = [Message("user", user_text(work.prompt, work.material))]
        self.told = 0
        """Messages that earlier turns have recorded."""
        self.labels = set(work.labels)
        self.repairs = 0
        self.refusals = 0

    def run(self) -> Finished:
        turn, used = 0, 0
        while True:
            last = used >= self.work.max_turns - 1
            outcome = self._decide(turn, tools=() if last and self.offers else self.offers)
            if isinstance(outcome, ModelResponse) and outcome.tool_uses:
                if last or len(outcome.tool_uses) > MAX_USES:
                    raise StepError(
                        f"The model still asks for tools after {used + 1} turns.",
                        code="turn_limit",
                        permanent=True,
                        next="Raise the agent's max_turns, or say in its instructions when to stop.",
                    )
                self._use_tools(turn, outcome)
                used += 1
            else:
                value, problems = self._read(outcome)
                if not problems:
                    return Finished(value, tuple(sorted(self.labels)))
                self._repair(turn, outcome, problems)
            turn += 1

    # --- one request --------------------------------------------------------------------------------------

    def _decide(self, turn: int, tools: Sequence[ToolOffer]) -> ModelResponse | MalformedAnswer:
        """The model's answer of this turn: the recorded one, or a new one, recorded and committed."""
        known = self.context.recorded("model", turn)
        if known is not None:
            self.told = len(self.messages)
            if known.error is not None:
                return MalformedAnswer(known.error.get("message", "The answer could not be read."))
            return ModelResponse.from_json(known.response)
        problem: StepError | None = None
        for model in self.work.models:
            request = self._request(model, tools)
            try:
                return self._ask(turn, request)
            except StepError as exc:
                if not exc.permanent or not exc.code.startswith("model_"):
                    raise
                problem = problem or exc
                self.context.entry("model.unusable", {"model": model, "turn": turn, "code": exc.code})
        assert problem is not None
        raise problem

    def _request(self, model: str, tools: Sequence[ToolOffer]) -> ModelRequest:
        return ModelRequest(
            model=model,
            system=self.system,
            messages=tuple(self.messages),
            tools=tuple(tools),
            schema=self.work.schema,
            prompt=self.work.prompt,
            material=self.work.material,
            max_output_tokens=self.work.max_output_tokens,
            temperature=self.work.temperature,
            timeout_seconds=self._seconds(),
        )

    def _seconds(self) -> float:
        """For one request: what the attempt has left, and no longer than it may show no progress."""
        most = min(MAX_SECONDS, self.context.seconds_left() - 5.0)
        return max(1.0, min(most, self.context.node.progress or most))

    def _ask(self, turn: int, request: ModelRequest) -> ModelResponse | MalformedAnswer:
        leaves = providers.reaches_out(request.model)
        asked = outgoing.model_call(self.context, request.model, request.timeout_seconds)
        ticket = self.context.admit(asked, turn) if leaves else None
        watched = outgoing.watched(self.context, ticket) if ticket else nullcontext()
        self.context.progress(at_least=request.timeout_seconds + LIMITS.call_margin_seconds)
        began = time.monotonic()
        try:
            with watched:
                answer: ModelResponse | MalformedAnswer = providers.complete(request)
        except MalformedAnswer as exc:
            answer = exc
        except StepError as exc:
            self._failed(turn, request, exc, time.monotonic() - began)
            raise
        self._record(turn, request, answer, time.monotonic() - began)
        # The decision is durable before anything follows from it: a crash replays it, nobody asks twice.
        self.context.flush()
        crash.reach("after_decision")
        return answer

    def _record(
        self, turn: int, request: ModelRequest, answer: ModelResponse | MalformedAnswer, seconds: float
    ) -> None:
        usage = answer.usage
        if isinstance(answer, MalformedAnswer) and not usage.input_tokens:
            usage = estimated_usage(request, "")
        cost = cost_of(self.context.workspace_id, request.model, usage)
        malformed = isinstance(answer, MalformedAnswer)
        self._journal(
            turn,
            0,
            request,
            seconds,
            usage,
            response=None if isinstance(answer, MalformedAnswer) else answer.as_json(),
            error={"code": "malformed_answer", "message": answer.problem}
            if isinstance(answer, MalformedAnswer)
            else None,
            prices=cost.prices,
            microusd=cost.microusd,
        )
        self.context.entry(
            "model.requested",
            {
                "model": request.model,
                "turn": turn,
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "cached_tokens": usage.cached_tokens,
                "estimated": usage.estimated,
                "cost_microusd": cost.microusd,
                "latency_ms": round(seconds * 1000),
                "offline": isinstance(answer, ModelResponse) and answer.offline,
                **({"malformed": True} if malformed else {}),
            },
        )

    def _failed(self, turn: int, request: ModelRequest, exc: StepError, seconds: float) -> None:
        """A request without an answer: kept under its attempt's number, so that a retry can use the turn.

        After a time-out or a cut the provider may charge for it all the same: the cost is unknown, not zero.
        """
        if exc.code not in NEVER_SENT:
            maybe_charged = exc.code in ("model_timeout", "model_unreachable", "model_server_error")
            usage = estimated_usage(request, "") if maybe_charged else Usage()
            free = not maybe_charged or cost_of(self.context.workspace_id, request.model, usage).microusd == 0
            number = 1 + 10 * self.context.attempt + self.work.models.index(request.model)
            self._journal(
                turn, number, request, seconds, usage,
                response=None, error=exc.as_json(), prices=None, microusd=0 if free else None,
            )  # fmt: skip
        self.context.entry(
            "model.failed", {"model": request.model, "turn": turn, "code": exc.code, "message": exc.message}
        )

    def _journal(
        self,
        turn: int,
        ordinal: int,
        request: ModelRequest,
        seconds: float,
        usage: Usage,
        *,
        response: Any,
        error: dict[str, Any] | None,
        prices: dict[str, Any] | None,
        microusd: int | None,
    ) -> None:
        self.context.record(
            CallRecord(
                kind="model",
                name=request.model,
                turn=turn,
                ordinal=ordinal,
                request_hash=fingerprint(request.as_json()),
                request=request.as_json(self.told),
                response=response,
                started_at=now() - timedelta(seconds=seconds),
                latency_ms=round(seconds * 1000),
                error=error,
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_tokens=usage.cached_tokens,
                unit_prices=prices,
                cost_microusd=microusd,
                attempt=self.context.attempt,
            )
        )
        if ordinal == 0:
            self.told = len(self.messages)

    # --- tools --------------------------------------------------------------------------------------------

    def _use_tools(self, turn: int, answer: ModelResponse) -> None:
        said = Message("assistant", answer.text, tool_uses=answer.tool_uses, wire=answer.wire)
        results = [self._use(turn, ordinal, use) for ordinal, use in enumerate(answer.tool_uses)]
        self.messages += [said, *results]

    def _use(self, turn: int, ordinal: int, use: ToolUse) -> Message:
        """One call through the gateway; what a model can act on comes back as its result."""
        known = self.context.recorded("tool", turn, ordinal)
        if known is not None and known.error is not None:
            self._count_refusal(known.error.get("code", ""))
            return _failure(use, known.error.get("message", "It failed."))
        # A model's arguments carry the labels of everything it has read so far.
        labels = {name: sorted(self.labels) for name in use.arguments or {}}
        try:
            if use.arguments is None:
                raise StepError(
                    f'The arguments of "{use.name}" are not a JSON object.',
                    code="bad_arguments",
                    permanent=True,
                )
            result = gateway.call_tool(
                self.context,
                use.name,
                use.arguments,
                turn=turn,
                ordinal=ordinal,
                labels=labels,
                own_tools=self.work.own_tools,
            )
        except StepError as exc:
            if isinstance(exc, DefiniteFailure) or not exc.permanent or exc.code in FATAL:
                raise
            self._remember_failure(turn, ordinal, use, exc)
            if isinstance(exc, Refused) and self._count_refusal(exc.code):
                raise
            return _failure(use, _told(exc))
        self.labels.update(gateway.labels_added(self.context, use.name))
        text = _shown(use.name, result, self.context.document.contract.context.max_tokens)
        return Message("tool", text, tool_use_id=use.id, tool=use.name, result=result)

    def _remember_failure(self, turn: int, ordinal: int, use: ToolUse, exc: StepError) -> None:
        """Part of what the model goes on from, so a replay must see the same."""
        self.context.record(
            CallRecord(
                kind="tool",
                name=use.name[:120],
                turn=turn,
                ordinal=ordinal,
                request_hash=fingerprint([use.name, use.arguments]),
                request=use.arguments if use.arguments is not None else use.raw,
                response=None,
                started_at=now(),
                latency_ms=0,
                error={"code": exc.code, "message": _told(exc)},
                attempt=self.context.attempt,
            )
        )

    def _count_refusal(self, code: str) -> bool:
        self.refusals += code == "refused"
        return self.refusals >= MAX_REFUSALS

    # --- the answer ---------------------------------------------------------------------------------------

    def _read(self, answer: ModelResponse | MalformedAnswer) -> tuple[Any, list[str]]:
        """The value, or what is wrong with it."""
        if isinstance(answer, MalformedAnswer):
            return None, [answer.problem]
        try:
            value = read_answer(answer.text, self.work.schema)
        except ValueError as exc:
            return None, [str(exc), *([answer.note] if answer.note else [])]
        problems = schema_problems(value, self.work.schema) if self.work.schema is not None else []
        if self.work.schema is None and not value:
            problems = ["it is empty"]
        # What the provider says about its answer says more than what the schema makes of it.
        return value, [answer.note] if answer.note and problems else problems

    def _repair(self, turn: int, answer: ModelResponse | MalformedAnswer, problems: list[str]) -> None:
        """Ask again, saying what is wrong; after two of these, or where asking again is of no use, fail."""
        model = self.work.models[0]
        hopeless = isinstance(answer, ModelResponse) and answer.offline
        if hopeless or self.repairs >= MAX_REPAIRS:
            raise MalformedOutput(
                f"The model's answer does not fit the step's output: {'; '.join(problems[:5])}",
                permanent=True,
                next="Give the step more to work from, or loosen its output schema."
                if hopeless
                else "Look at the step's model calls; a stronger model or a simpler schema may help.",
                model=model,
                repairs=self.repairs,
            )
        self.repairs += 1
        if self.context.recorded("model", turn + 1) is None:
            self.context.entry(
                "model.repaired", {"turn": turn + 1, "repair": self.repairs, "problems": problems[:5]}
            )
        if isinstance(answer, ModelResponse):
            self.messages.append(Message("assistant", answer.text, wire=answer.wire))
        listed = "\n".join(f"- {p}" for p in problems[:10])
        asked = "a JSON value that fits the schema" if self.work.schema is not None else "text"
        self.messages.append(
            Message(
                "user", f"That answer cannot be used:\n{listed}\nAnswer again with {asked}, and nothing else."
            )
        )


def _may(context: Context, name: str) -> bool:
    """A tool the contract does not allow is not even offered; the gateway refuses it all the same."""
    allowed = context.document.contract.boundaries.allowed_tools
    return name in allowed and tool_for(context.document, name) is not None


def _offer(context: Context, name: str) -> ToolOffer:
    tool = tool_for(context.document, name)
    assert tool is not None
    spec = tool.spec
    return ToolOffer(name, spec.description, spec.parameters, writes=spec.is_write)


def _shown(tool: str, result: Any, max_tokens: int | None) -> str:
    """A result as a model reads it: as data, cut to the contract's limit, saying what was cut."""
    fitted = fit({"result": result}, max_tokens or MAX_RESULT_TOKENS)
    cut = f"\n(Left out: {'; '.join(fitted.left_out)})" if fitted.left_out else ""
    return data_block(f"tool {tool}", fitted.material["result"]) + cut


def _failure(use: ToolUse, message: str) -> Message:
    value = {"error": message}
    text = json.dumps(value, ensure_ascii=False)
    return Message("tool", text, tool_use_id=use.id, tool=use.name, result=value, failed=True)


def _told(exc: StepError) -> str:
    """What a model is told of a failed call."""
    if isinstance(exc, Refused):
        return f"Refused by the contract ({exc.rule}): {exc.message} Do not try this again."
    if isinstance(exc, Rejected) or exc.code == "rejected":
        return f"{exc.message} Do not try this again."
    return str(exc)
