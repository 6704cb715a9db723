"""MirrorNeuron, the roof: settings, URLs, ASGI, Celery and the command line.

Celery takes a fifth of a second to load; `celery_app` is loaded when somebody asks for it.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "celery_app"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "celery_app":
        from mirrorneuron.celery import app

        return app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
