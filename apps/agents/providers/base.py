"""What a provider is, and how each failure of one is told to the engine.

retryable    rate limited, overloaded, server error, connection, time-out: the step's retry budget decides
permanent    key, quota, unknown model, rejected, context too long: trying again cannot help
malformed    answered with something unreadable: asked again, at most twice, counted apart (`MalformedAnswer`)
"""

from __future__ import annotations

from typing import Protocol

from apps.agents.core.messages import ModelRequest, ModelResponse
from apps.runs.errors import StepError

_NEXT = {
    "model_rate_limited": "The step tries again by itself.",
    "model_overloaded": "The step tries again by itself.",
    "model_server_error": "The step tries again by itself.",
    "model_unreachable": "Check OPENAI_BASE_URL and the network; the step tries again by itself.",
    "model_timeout": "The step tries again by itself; give the node a longer `timeout` if the model is slow.",
    "model_auth": "Check the key in OPENAI_API_KEY.",
    "model_quota": "Check the account's plan and billing with the provider.",
    "model_not_found": "Check the model's name and OPENAI_BASE_URL.",
    "model_rejected": "Look at the request under the step's model calls.",
    "model_context_exceeded": "Let the step see less, or choose a model with a longer context.",
}
RETRYABLE = frozenset(
    {"model_rate_limited", "model_overloaded", "model_server_error", "model_unreachable", "model_timeout"}
)
PERMANENT = frozenset(_NEXT) - RETRYABLE


class Provider(Protocol):
    def complete(self, request: ModelRequest) -> ModelResponse:
        """Ask once. Exactly one request leaves; no retries inside.

        Raises StepError made by `model_error`, or MalformedAnswer.
        """
        ...


def model_error(code: str, model: str, detail: str, retry_after: float | None = None) -> StepError:
    """The StepError for one of the codes above. detail: what was found; never a key or a prompt."""
    return StepError(
        f'Model "{model}": {detail}',
        code=code,
        permanent=code not in RETRYABLE,
        retry_after=retry_after,
        next=_NEXT[code],
    )
