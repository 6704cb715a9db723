"""What every route shares: the answers it may give, and the frame around every call."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from os import SEEK_END
from typing import Any

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse
from pydantic_core import PydanticSerializationError, to_json

from apps.api import idempotency, problems
from apps.api.problems import Problem
from apps.workspaces.access import Principal
from mirrorneuron.base.errors import InvalidInput, MirrorNeuronError

MAX_REQUEST = 64 * 1024 * 1024
"""Above this nothing is read; one file of 50 MB with its frame fits."""
READS = frozenset({401, 403, 404, 422})
WRITES = frozenset({400, 401, 403, 404, 409, 412, 413, 422, 429})


def reads(shape: Any) -> dict[Any, Any]:
    """Responses of a GET."""
    return {200: shape, READS: Problem}


def writes(shape: Any, status: int = 200) -> dict[Any, Any]:
    """Responses of an unsafe call."""
    return {status: shape, WRITES: Problem}


def answer(body: Any) -> HttpResponse:
    """A 200 of plain JSON values, written as they are.

    For reads of many rows: checking an answer against its shape again costs more than reading it. A test
    compares such answers with their shapes instead.
    """
    try:
        text = to_json(body)
    except PydanticSerializationError:  # a lone surrogate, which only JSON's own escapes can carry
        text = json.dumps(body).encode()
    return HttpResponse(text, content_type="application/json; charset=utf-8")


def principal(request: HttpRequest) -> Principal:
    """Who calls; set by `apps.api.auth` before any route runs."""
    found: Principal = request.principal  # type: ignore[attr-defined]
    return found


def step_path(text: str) -> str:
    """A step path from a URL, where its `/` is written `:`."""
    return text.replace(":", "/")


def revision(request: HttpRequest) -> int | None:
    """The number in `If-Match`; None without one or for `*`. Raises InvalidInput for anything else."""
    given = request.headers.get("If-Match", "").strip()
    if given in ("", "*"):
        return None
    number = given.removeprefix("W/").strip('"')
    if not number.isdecimal() or len(number) > 9:
        raise InvalidInput(
            f"If-Match is {given!r}.",
            fields={"If-Match": 'The revision you saw, such as "1" (the ETag of the request).'},
            next="Read the request again and send its ETag.",
        )
    return int(number)


def framed(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The frame around every path: size first, then the call, then what the caller may rely on.

    Answers are never cached by anybody in between; an answer to a keyed call is kept for its repeat.
    """

    @wraps(view)
    def call(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        refusal = _refused(request)
        if refusal is not None:
            return refusal
        try:
            response = view(request, *args, **kwargs)
        except idempotency.Replay as replay:
            return replay.response
        except MirrorNeuronError as error:
            response = problems.from_error(error)
        except BaseException:
            idempotency.finish(request, HttpResponse(status=500))
            raise
        if response.status_code == 405:
            response = _not_allowed(request, response)
        idempotency.finish(request, response)
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return call


def _refused(request: HttpRequest) -> HttpResponse | None:
    length = body_length(request)
    is_upload = (request.content_type or "").startswith("multipart/")
    if length > (MAX_REQUEST if is_upload else settings.DATA_UPLOAD_MAX_MEMORY_SIZE):
        return problems.too_large()
    if "\x00" in request.path or "%00" in request.META.get("QUERY_STRING", ""):
        return problems.problem(
            422, "invalid_input", "The address contains a NUL character.", next="Leave it out."
        )
    return None


def body_length(request: HttpRequest) -> int:
    """Bytes of the body as announced, or as already received where nothing was announced (chunked)."""
    announced = request.META.get("CONTENT_LENGTH") or ""
    if announced.isdecimal():
        return int(announced)
    received = getattr(request, "_stream", None)
    if not isinstance(request, ASGIRequest) or received is None or not received.seekable():
        return 0
    length: int = received.seek(0, SEEK_END)
    received.seek(0)
    return length


def _not_allowed(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    allowed = response.headers.get("Allow", "")
    return problems.problem(
        405,
        "method_not_allowed",
        f"{request.path} does not take {request.method}.",
        next=f"It takes {allowed}." if allowed else "",
        headers={"Allow": allowed} if allowed else None,
    )
