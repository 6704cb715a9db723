"""What an HTTP answer means for the step, and what of it is kept.

ENGINE rule 26 for writes: 2xx happened; 4xx did not, except 408, 409, 423 and 425; those four and everything
else nobody knows. A read is never in doubt: it is repeated or it fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from apps.agents.tools.base import AmbiguousOutcome, DefiniteFailure, StepError
from mirrorneuron.base.clock import now

if TYPE_CHECKING:
    from apps.agents.tools.client import Response

NOBODY_KNOWS = frozenset({408, 409, 423, 425})
KEPT_HEADERS = (
    "content-type",
    "content-language",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "retry-after",
    "request-id",
    "x-request-id",
    "x-total-count",
)
MAX_RETRY_AFTER = 3600.0
OUTPUT: dict[str, Any] = {
    "type": "object",
    "required": ["status", "headers", "body"],
    "properties": {
        "status": {"type": "integer", "examples": [200]},
        "headers": {"type": "object", "additionalProperties": {"type": "string"}},
        "body": {"description": "JSON as it is, other text as a string, null for anything else."},
        "note": {
            "type": "string",
            "description": "Why the body is missing or cut; empty when it is all there.",
        },
    },
}


def settle(response: Response, *, is_write: bool, shown: str) -> None:
    """Say what the status means; returns only when the call has succeeded.

    shown: the request in words fit for a log, such as `POST shop.example`.
    Raises DefiniteFailure, AmbiguousOutcome (writes), StepError that can be retried (reads).
    """
    status = response.status
    if 200 <= status < 300 or (status == 304 and not is_write):
        if response.incomplete and not is_write and "larger" not in response.incomplete:
            raise StepError(f"{shown}: {response.incomplete}", code="answer_cut_off")
        return
    said = f"{shown} answered {status}"
    wait = retry_after(response)
    details: dict[str, Any] = {"status": status, "answer": excerpt(response)}
    if status == 429:
        raise DefiniteFailure(f"{said}: too many requests.", retry_after=wait, **details)
    if 400 <= status < 500 and status not in NOBODY_KNOWS:
        raise DefiniteFailure(f"{said}: the request was refused.", permanent=True, **details)
    if is_write:
        asked: dict[str, Any] = {"retry_after": wait} if wait else {}
        raise AmbiguousOutcome(f"{said}, which does not tell whether it took effect.", **asked, **details)
    is_lasting = 300 <= status < 400
    raise StepError(f"{said}.", retry_after=wait, permanent=is_lasting, code="bad_answer", **details)


def retry_after(response: Response) -> float | None:
    """Seconds the other side asks to wait, at most an hour; None when it does not say."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(0.0, (at - now()).total_seconds()), MAX_RETRY_AFTER)


def shape(response: Response) -> dict[str, Any]:
    """`{status, headers, body, note}`: what the step gets."""
    body, note = _body(response)
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return {
        "status": response.status,
        "headers": headers,
        "body": body,
        "note": " ".join(filter(None, [response.incomplete, note])),
    }


def excerpt(response: Response) -> str:
    """The beginning of a text answer, for a person who looks into a failure."""
    body, _ = _body(response)
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) if body is not None else ""
    return text[:500]


def _body(response: Response) -> tuple[Any, str]:
    if not response.body:
        return None, ""
    message = Message()
    message["content-type"] = response.headers.get("content-type", "")
    media_type = message.get_content_type() if response.headers.get("content-type") else ""
    if media_type == "application/json" or media_type.endswith("+json"):
        try:
            return json.loads(response.body), ""
        except (ValueError, RecursionError):
            return _text(response.body, "utf-8"), "The body says it is JSON but is not."
    is_text = (
        media_type.startswith("text/")
        or media_type.endswith(("+xml", "/xml", "javascript", "x-www-form-urlencoded", "yaml"))
        or not media_type
    )
    if not is_text:
        return None, f"The body is {media_type}, {len(response.body)} bytes, and was not kept."
    charset = message.get_content_charset() or "utf-8"
    if not media_type:
        try:
            return response.body.decode("utf-8"), ""
        except UnicodeDecodeError:
            return None, f"The body is {len(response.body)} bytes of an unknown kind and was not kept."
    return _text(response.body, charset), ""


def _text(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset, "replace")
    except LookupError:
        return data.decode("utf-8", "replace")


class Redactor:
    """Takes secrets out of anything that is about to be kept or shown."""

    SIGN = "•••"

    def __init__(self, secrets: Iterable[Any] = ()) -> None:
        found: set[str] = set()
        for secret in secrets:
            text = str(secret)
            # Shorter ones would take half of every text with them, and are no secrets.
            if len(text) >= 4:
                found |= {text, quote(text, safe=""), quote(text), json.dumps(text)[1:-1]}
        self.secrets = sorted(found, key=len, reverse=True)

    def __call__(self, value: Any) -> Any:
        if not self.secrets:
            return value
        if isinstance(value, str):
            for secret in self.secrets:
                value = value.replace(secret, self.SIGN)
            return value
        if isinstance(value, dict):
            return {self(k): self(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(v) for v in value]
        return value
