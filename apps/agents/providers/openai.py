"""Any server that speaks OpenAI's chat completions: OpenAI itself, Ollama, vLLM, gateways.

Set OPENAI_API_KEY, or OPENAI_BASE_URL for another server. The only module that knows pydantic-ai, which is
used below its agent loop: one `model_request` is one HTTP request, the client's own retries are off.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from apps.agents.core.messages import (
    MalformedAnswer,
    Message,
    ModelRequest,
    ModelResponse,
    ToolUse,
    Usage,
    estimated_usage,
)
from apps.agents.providers import loop_thread
from apps.agents.providers.base import model_error
from apps.runs.errors import StepError
from mirrorneuron.config import config

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.messages import ModelResponse as WireResponse
    from pydantic_ai.models.openai import OpenAIChatModel

MAX_DETAIL = 300
GRACE_SECONDS = 5.0
"""For the request's own time-out to be told before the waiting thread gives up."""


class OpenAI:
    def complete(self, request: ModelRequest) -> ModelResponse:
        """See `Provider.complete`."""
        name = request.model.partition(":")[2]
        key, url = config().openai_api_key.get_secret_value(), config().openai_base_url
        if not key and not url:
            raise StepError(
                f'Model "{request.model}" needs OPENAI_API_KEY, '
                "or OPENAI_BASE_URL for a server without keys.",
                code="model_not_configured",
                permanent=True,
                next="Set one of them and start again, or use offline:extractive.",
            )

        async def ask(cache: dict[Any, Any]) -> WireResponse:
            from pydantic_ai.direct import model_request

            model = cache.get((name, url, key))
            if model is None:
                model = cache[name, url, key] = _client(name, url, key)
            return await model_request(
                model,
                _to_wire(request),
                model_settings=_settings(request),
                model_request_parameters=_parameters(request),
            )

        try:
            answer = loop_thread.run(ask, request.timeout_seconds + GRACE_SECONDS)
        except Exception as exc:
            raise _translated(exc, request.model) from exc
        return _from_wire(answer, request)


def _client(name: str, url: str, key: str) -> OpenAIChatModel:
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    # One line per request belongs to the ledger, not to the log.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    # Servers without keys still want the header.
    return OpenAIChatModel(name, provider=OpenAIProvider(base_url=url or None, api_key=key or "none"))


def _settings(request: ModelRequest) -> Any:
    settings: dict[str, Any] = {"max_retries": 0, "request_timeout": request.timeout_seconds}
    if request.max_output_tokens is not None:
        settings["max_tokens"] = request.max_output_tokens
    if request.temperature is not None:
        settings["temperature"] = request.temperature
    return settings


def _parameters(request: ModelRequest) -> Any:
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.tools import ToolDefinition

    return ModelRequestParameters(
        function_tools=[
            ToolDefinition(
                name=t.name, description=t.description, parameters_json_schema=t.parameters, strict=False
            )
            for t in request.tools
        ]
    )


def _to_wire(request: ModelRequest) -> list[ModelMessage]:
    from pydantic_ai import messages as wire

    result: list[ModelMessage] = []
    parts: list[Any] = [wire.SystemPromptPart(request.system)] if request.system else []
    for message in request.messages:
        if message.role == "assistant":
            if parts:
                result.append(wire.ModelRequest(parts=parts))
                parts = []
            result.append(_said(message))
        elif message.role == "tool":
            parts.append(
                wire.ToolReturnPart(
                    tool_name=message.tool, content=message.text, tool_call_id=message.tool_use_id
                )
            )
        else:
            parts.append(wire.UserPromptPart(message.text))
    if parts:
        result.append(wire.ModelRequest(parts=parts))
    return result


def _said(message: Message) -> ModelMessage:
    """What the model said before: its own form where it was kept, so that nothing is lost on the way back."""
    from pydantic_ai import messages as wire

    if message.wire:
        return wire.ModelMessagesTypeAdapter.validate_python([message.wire])[0]
    parts: list[Any] = [wire.TextPart(message.text)] if message.text else []
    for use in message.tool_uses:
        arguments = use.raw if use.arguments is None else use.arguments
        parts.append(wire.ToolCallPart(use.name, arguments, tool_call_id=use.id))
    return wire.ModelResponse(parts=parts or [wire.TextPart("")])


def _from_wire(answer: WireResponse, request: ModelRequest) -> ModelResponse:
    from pydantic_ai import messages as wire

    text = "".join(p.content for p in answer.parts if isinstance(p, wire.TextPart))
    uses = tuple(_use(p) for p in answer.parts if isinstance(p, wire.ToolCallPart))
    usage = Usage(answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cache_read_tokens)
    if not usage.input_tokens and not usage.output_tokens:
        usage = estimated_usage(request, text + "".join(u.raw for u in uses))
    finish = answer.finish_reason or ""
    if finish == "content_filter" and not text and not uses:
        raise model_error(
            "model_rejected", request.model, "the provider's content filter held the answer back."
        )
    if not text.strip() and not uses:
        raise MalformedAnswer("The answer was empty.", usage)
    kept = wire.ModelMessagesTypeAdapter.dump_python([answer], mode="json")[0]
    return ModelResponse(text=text, tool_uses=uses, usage=usage, finish=finish, wire=kept)


def _use(part: Any) -> ToolUse:
    raw = part.args if isinstance(part.args, str) else json.dumps(part.args or {})
    try:
        arguments = json.loads(raw or "{}")
    except (ValueError, RecursionError):
        arguments = None
    return ToolUse(part.tool_call_id, part.tool_name, arguments if isinstance(arguments, dict) else None, raw)


def _translated(exc: Exception, model: str) -> Exception:
    """One of our errors for whatever came out; the taxonomy was measured against six wire formats."""
    from pydantic_ai import exceptions as wire

    detail = _detail(exc)
    retry_after = getattr(exc, "retry_after", None)
    match exc:
        case wire.ModelRateLimitError():
            return model_error("model_rate_limited", model, f"too many requests. {detail}", retry_after)
        case wire.ModelQuotaExceededError():
            return model_error("model_quota", model, f"the quota is used up. {detail}")
        case wire.ModelOverloadedError() | wire.ModelUnavailableError():
            return model_error("model_overloaded", model, f"the server is overloaded. {detail}", retry_after)
        case wire.ModelServerError():
            return model_error("model_server_error", model, f"the server failed. {detail}", retry_after)
        case wire.ModelRequestTimeout() | wire.ModelTimeoutError() | TimeoutError():
            return model_error("model_timeout", model, f"no answer in time. {detail}")
        case wire.ModelConnectionError():
            return model_error("model_unreachable", model, f"the connection failed. {detail}")
        case wire.ModelContextWindowExceededError():
            return model_error("model_context_exceeded", model, f"the request is too long. {detail}")
        case wire.ModelAuthenticationError():
            return model_error("model_auth", model, "the server refused the key.")
        case wire.ModelNotFoundError():
            return model_error("model_not_found", model, f"the server does not know it. {detail}")
        case wire.ModelRequestRejectedError():
            return model_error("model_rejected", model, f"the server refused the request. {detail}")
        case wire.UnexpectedModelBehavior():
            return MalformedAnswer(f"The answer could not be read: {detail}")
        case wire.ModelHTTPError(status_code=status) if status >= 500:
            return model_error("model_server_error", model, f"the server failed. {detail}", retry_after)
        case wire.ModelHTTPError():
            return model_error("model_rejected", model, f"the server refused the request. {detail}")
        case wire.ModelAPIError():
            return MalformedAnswer(f"The answer could not be read: {detail}")
    return exc


def _detail(exc: Exception) -> str:
    key = config().openai_api_key.get_secret_value()
    text = " ".join(str(exc).split())
    # Before it is cut, so that no half of the key is left at the end.
    return (text.replace(key, "(key)") if key else text)[:MAX_DETAIL]
