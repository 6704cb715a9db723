"""Every error as `application/problem+json` (RFC 9457) with a stable `code` and what to do next."""

from __future__ import annotations

import json
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from pydantic import BaseModel, ConfigDict

from mirrorneuron.base.errors import MirrorNeuronError
from mirrorneuron.base.logs import logger
from mirrorneuron.base.safejson import storable
from mirrorneuron.base.storage import storage_trouble

log = logger(__name__)
CONTENT_TYPE = "application/problem+json"
TITLES = {
    400: "Bad request",
    401: "Not signed in",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Cannot be used",
    428: "Precondition required",
    429: "Too many requests",
    500: "Internal error",
    503: "Unavailable",
}
CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
}
NEXT = {
    401: "Send `Authorization: Bearer <token>`, or sign in and use the session.",
    403: "Send the CSRF token of the session in `X-CSRFToken`, or use an API token.",
    404: "See /api/v1/docs for the paths there are.",
}


class Problem(BaseModel):
    """What went wrong, for machines (`code`, `fields`) and people (`detail`, `next`)."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    type: str = "about:blank"
    title: str
    status: int
    code: str
    """Stable; switch on this."""
    detail: str
    """Names the thing, what was found, what was expected."""
    fields: dict[str, str] = {}
    """Input fields at fault, by path, each with its sentence."""
    next: str = ""
    """What to do about it."""


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    fields: dict[str, str] | None = None,
    next: str = "",
    headers: dict[str, str] | None = None,
    **more: Any,
) -> HttpResponse:
    body = {
        "type": "about:blank",
        "title": TITLES.get(status, "Error"),
        "status": status,
        "code": code,
        "detail": detail,
        "fields": fields or {},
        "next": next,
        **more,
    }
    # It says again what was sent, and only JSON's own escapes can carry half a character.
    text = json.dumps(storable(body), ensure_ascii=False)
    return HttpResponse(text, status=status, content_type=CONTENT_TYPE, headers=headers)


def from_error(error: MirrorNeuronError) -> HttpResponse:
    """One of our own errors; its attributes travel as `details`, a blueprint's problems as `problems`."""
    more: dict[str, Any] = {}
    if error.attributes:
        more["details"] = error.attributes
    problems = getattr(error, "problems", None)
    if problems is not None:
        more["problems"] = [p.as_json() for p in problems]
    headers = {}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status in (429, 503) or error.attributes.get("retry_after"):
        headers["Retry-After"] = str(error.attributes.get("retry_after") or 1)
    if error.status >= 500:
        log.warning("api.unavailable", code=error.code, error=error.message)
    return problem(
        error.status, error.code, error.message, fields=error.fields, next=error.next, headers=headers, **more
    )


def register(api: NinjaAPI) -> None:
    """Translate every kind of exception once, here."""

    @api.exception_handler(MirrorNeuronError)
    def ours(request: HttpRequest, error: MirrorNeuronError) -> HttpResponse:
        return from_error(error)

    @api.exception_handler(ValidationError)
    def wrong_input(request: HttpRequest, error: ValidationError) -> HttpResponse:
        fields = {_path(e.get("loc", ())): _sentence(e.get("msg", "")) for e in error.errors}
        return problem(
            422,
            "invalid_input",
            " ".join(f"{path}: {text}" for path, text in list(fields.items())[:5])
            or "The input is not valid.",
            fields=fields,
            next="Correct these fields and send it again.",
        )

    @api.exception_handler(HttpError)
    def http(request: HttpRequest, error: HttpError) -> HttpResponse:
        status = error.status_code
        unreadable = getattr(request, "unreadable", "")
        if status == 400 and unreadable:
            return problem(400, "unreadable_body", f"{unreadable}.", next="Send UTF-8 JSON (RFC 8259).")
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        return problem(
            status,
            CODES.get(status, "error"),
            "You are not signed in." if status == 401 else f"{error.message.rstrip('.')}.",
            next=NEXT.get(status, ""),
            headers=headers,
        )

    @api.exception_handler(Http404)
    def missing(request: HttpRequest, error: Http404) -> HttpResponse:
        return unknown_path(request)

    @api.exception_handler(PermissionDenied)
    def denied(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
        return problem(403, "forbidden", "This is not allowed.", next=NEXT[403])

    @api.exception_handler(RequestDataTooBig)
    def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
        return too_large()

    @api.exception_handler(SuspiciousOperation)
    @api.exception_handler(BadRequest)
    def suspicious(request: HttpRequest, error: Exception) -> HttpResponse:
        return problem(
            400, "bad_request", "The request cannot be read.", next="Check its encoding and parts."
        )

    @api.exception_handler(OperationalError)
    @api.exception_handler(InternalError)
    def unusable(request: HttpRequest, error: DatabaseError) -> HttpResponse:
        log.error("api.database", method=request.method, path=request.path, exc_info=error)
        return from_error(storage_trouble(str(error)))

    @api.exception_handler(Exception)
    def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
        log.error("api.failed", method=request.method, path=request.path, exc_info=error)
        return problem(
            500,
            "internal_error",
            "Something in MirrorNeuron failed; the error is in its log.",
            next="Try again; if it stays, look into the log or run `mn doctor`.",
        )


def unknown_path(request: HttpRequest) -> HttpResponse:
    return problem(
        404,
        "not_found",
        f"There is no {request.method} {request.path}.",
        next="See /api/v1/docs for the paths.",
    )


def too_large() -> HttpResponse:
    return problem(
        413,
        "too_large",
        "The request is larger than this installation takes.",
        next="Upload documents one by one to POST /api/v1/files (50 MB each) and send their ids.",
    )


def _path(parts: Any) -> str:
    """`("body", "payload", "labels", "a")` → `labels.a`: callers never see the names of our parameters."""
    kept = [p for p in parts if p not in ("body", "query", "path", "header", "form", "file")]
    if kept and kept[0] == "payload":
        kept = kept[1:]
    text = ""
    for part in kept:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text or "body"


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ")
    return text if text.endswith(".") else f"{text}."
