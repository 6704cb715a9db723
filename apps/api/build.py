"""The API put together: one `NinjaAPI`, one router per resource, one frame around all of them."""

from __future__ import annotations

import json
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI, Swagger
from ninja.openapi.schema import OpenAPISchema
from ninja.parser import Parser

import mirrorneuron
from apps.api import doors, idempotency, problems
from apps.api.auth import Session, Token
from apps.api.routers import (
    approvals,
    blueprints,
    connections,
    dead_letters,
    draft_views,
    drafts,
    effects,
    files,
    gallery,
    hooks,
    limits,
    models,
    recovery,
    runs,
    schedules,
    schema,
    tokens,
    tools,
    trials,
    versions,
)

DESCRIPTION = """\
Everything the pages can do. Errors are `application/problem+json` with a stable `code`. Unsafe calls take
`Idempotency-Key`: a repeat within seven days gets the first answer again. Lists are cursor-paged. In URLs the
`/` of a step path is written `:`. `MN-Workspace` chooses among the workspaces of a session; a token belongs
to one.
"""


class StrictParser(Parser):
    """JSON as RFC 8259 has it: no NaN, no NUL inside strings, no nesting that exhausts the stack."""

    def parse_body(self, request: HttpRequest) -> Any:
        if not request.body:
            return {}
        try:
            value = json.loads(request.body, parse_constant=_refuse)
        except (ValueError, RecursionError) as exc:
            raise _unreadable(request, f"The body is not JSON: {exc}") from exc
        if b"\\u0000" in request.body and _has_nul(value):
            raise _unreadable(request, "A text in the body contains a NUL character")
        return value


def _unreadable(request: HttpRequest, why: str) -> ValueError:
    # ninja says "Cannot parse request body" for every failure; the reason travels on the request.
    request.unreadable = why  # type: ignore[attr-defined]
    return ValueError(why)


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is not a JSON value")


def _has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(k) or _has_nul(v) for k, v in value.items())
    return isinstance(value, list) and any(map(_has_nul, value))


class MirrorNeuronAPI(NinjaAPI):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._schemas: dict[str, OpenAPISchema] = {}
        """By the path they begin with."""

    def get_openapi_schema(
        self, *, path_prefix: str | None = None, path_params: dict[str, Any] | None = None
    ) -> OpenAPISchema:
        """Worked out once, for it changes with the code alone and takes a second or two."""
        prefix = self.get_root_path(path_params or {}) if path_prefix is None else path_prefix
        if prefix not in self._schemas:
            self._schemas[prefix] = self._worked_out(prefix)
        return self._schemas[prefix]

    def _worked_out(self, prefix: str) -> OpenAPISchema:
        """Problems are announced under their own media type; unsafe calls name their key header."""
        schema = super().get_openapi_schema(path_prefix=prefix)
        for path in schema["paths"].values():
            for method, operation in path.items():
                for status, response in operation["responses"].items():
                    if int(status) >= 400 and "application/json" in response.get("content", {}):
                        content = response["content"]
                        content[problems.CONTENT_TYPE] = content.pop("application/json")
                if method.upper() in idempotency.UNSAFE:
                    operation.setdefault("parameters", []).append(_KEY)
        return schema


_KEY = {
    "in": "header",
    "name": idempotency.HEADER,
    "required": False,
    "description": "Makes repeating the call safe.",
    "schema": {"type": "string", "maxLength": idempotency.MAX_LENGTH},
}


def build() -> MirrorNeuronAPI:
    api = MirrorNeuronAPI(
        title="MirrorNeuron",
        version=mirrorneuron.__version__,
        description=DESCRIPTION,
        urls_namespace="api",
        auth=[Token(), Session()],
        docs=Swagger(settings={"persistAuthorization": False, "validatorUrl": None}),
        parser=StrictParser(),
    )
    problems.register(api)

    @api.exception_handler(idempotency.Replay)
    def replayed(request: HttpRequest, error: idempotency.Replay) -> HttpResponse:
        return error.response

    for prefix, resource in (
        ("/blueprints", blueprints),
        ("/blueprints", drafts),
        ("/blueprints", draft_views),
        ("/blueprints", trials),
        ("/blueprints", versions),
        ("/gallery", gallery),
        ("/runs", runs),
        ("/runs", recovery),
        ("/schedules", schedules),
        ("/hooks", hooks),
        ("/approvals", approvals),
        ("/effects", effects),
        ("/dead-letters", dead_letters),
        ("/limits", limits),
        ("/files", files),
        ("/tools", tools),
        ("/models", models),
        ("/tokens", tokens),
        ("/connections", connections),
        ("/schema", schema),
    ):
        api.add_router(prefix, resource.router, tags=[prefix.strip("/")])
    return api


def urlpatterns(api: MirrorNeuronAPI) -> list[URLPattern | URLResolver]:
    """The API's paths, each in its frame, and a problem for everything else below it."""
    patterns, _, _ = api.urls
    for pattern in patterns:
        assert pattern.callback is not None
        pattern.callback = doors.framed(pattern.callback)
    return [*patterns, re_path(r"^.*$", csrf_exempt(problems.unknown_path))]
