"""Reads about models: which providers there are, and whether this installation can use them."""

from __future__ import annotations

from typing import Any

from apps.agents.providers.offline import MODELS as OFFLINE
from mirrorneuron.config import config


def providers() -> list[dict[str, Any]]:
    """Every provider a blueprint may name: {provider, ready, detail, models}.

    models: those known by name; another one may work, its provider says so at the first request.
    """
    key, url = config().openai_api_key.get_secret_value(), config().openai_base_url
    if url:
        detail = f"Requests go to {url}."
    elif key:
        detail = "The key is set."
    else:
        detail = "Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server without keys."
    return [
        {
            "provider": "offline",
            "ready": True,
            "detail": "Needs nothing; it ranks and quotes what a step sees.",
            "models": [f"offline:{name}" for name in OFFLINE],
        },
        {"provider": "openai", "ready": bool(key or url), "detail": detail, "models": []},
    ]
