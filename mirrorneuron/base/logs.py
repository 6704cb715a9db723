"""Structured logs: one event a line, as text for people or JSON for machines."""

from __future__ import annotations

import re
import sys
from typing import Any

# structlog would load rich and a syntax highlighter for tracebacks we do not want (see below); that takes
# longer than everything else here.
_had_rich = "rich" in sys.modules
if not _had_rich:
    sys.modules["rich"] = None  # type: ignore[assignment]
import structlog  # noqa: E402

if not _had_rich:
    del sys.modules["rich"]

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]

_SECRET = re.compile(r"(/sign-in/|mnh?_|whsec_)[A-Za-z0-9_+/=-]{40,}")
"""A sign-in link, an API token, the address of a hook and its secret, as this product makes them."""


def _without_secrets(_: Any, __: str, line: str) -> str:
    """A line as it is written. Libraries log addresses, and some addresses let in whoever reads them."""
    return _SECRET.sub(r"\1[hidden]", line)


def logging_config(level: str, format: str) -> dict[str, Any]:
    """Django's LOGGING: everything, from us and from libraries, goes to standard error in one shape."""
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format == "json"
        # Plain tracebacks: the pretty ones print local variables, secrets and prompts among them.
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    processors: list[Any] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if format == "json":
        processors.append(structlog.processors.format_exc_info)
    processors += [renderer, _without_secrets]
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "structured": {
                "()": structlog.stdlib.ProcessorFormatter,
                "processors": processors,
                "foreign_pre_chain": _SHARED,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
        "root": {"handlers": ["stderr"], "level": level.upper()},
        "loggers": {
            "django.request": {"level": "ERROR"},
            "django.channels.server": {"level": "WARNING"},
            "celery": {"level": "WARNING"},
            "kombu": {"level": "WARNING"},
            "amqp": {"level": "WARNING"},
            "httpx": {"level": "WARNING"},
            "uvicorn": {"level": "WARNING"},
            "asyncio": {"level": "WARNING"},
        },
    }


def logger(name: str) -> Any:
    """A structured logger: `logger(__name__).info("step.succeeded", run=…, step=…)`."""
    return structlog.get_logger(name)
