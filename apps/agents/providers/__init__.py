"""Models behind one door: `complete(request)`. A vendor is a module here; nothing else imports one.

`provider:model` names a model: `openai:<model>` (any OpenAI-compatible server), `offline:extractive` (no
model at all), `scripted:<name>` (tests). Modules are imported on first use: a page that shows a run loads no
vendor.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module

from apps.agents.core.messages import ModelRequest, ModelResponse
from apps.agents.providers.base import Provider
from apps.runs.errors import StepError

_PROVIDERS = {
    "openai": ("apps.agents.providers.openai", "OpenAI"),
    "offline": ("apps.agents.providers.offline", "Offline"),
    "scripted": ("apps.agents.providers.scripted", "Scripted"),
}
FREE = frozenset({"offline", "scripted"})
"""Providers that cost nothing by their nature."""


def reaches_out(model: str) -> bool:
    """Whether asking this model leaves the process, so that limits and breakers have a say."""
    return model.partition(":")[0] != "offline"


@lru_cache(maxsize=len(_PROVIDERS))
def _made(name: str) -> Provider:
    module, cls = _PROVIDERS[name]
    provider: Provider = getattr(import_module(module), cls)()
    return provider


def provider_of(model: str) -> Provider:
    """The provider of `provider:model`. Raises StepError (permanent) that lists the known ones."""
    name, _, rest = model.partition(":")
    if name not in _PROVIDERS or not rest:
        raise StepError(
            f'Model "{model}" has no known provider; expected one of '
            f"{', '.join(f'{p}:…' for p in sorted(_PROVIDERS) if p != 'scripted')}.",
            code="model_unknown",
            permanent=True,
            next="Correct `use` under `models` in the blueprint.",
        )
    return _made(name)


def complete(request: ModelRequest) -> ModelResponse:
    """Ask the request's model once. Errors: see `base.Provider.complete`."""
    return provider_of(request.model).complete(request)
