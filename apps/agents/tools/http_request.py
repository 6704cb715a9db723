"""`http_request`: one request to a public web address that the arguments name.

GET and HEAD are reads. Every other method is opaque: whether the other side honours an idempotency key is not
known here, so the key is sent along but nothing is built on it; a service that does is declared as a tool of
its own. No credentials ever go out this way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from apps.agents.tools import answers
from apps.agents.tools.base import AmbiguousOutcome, EffectClass, StepError, Tool, ToolRun, ToolSpec

READS = frozenset({"GET", "HEAD"})

SPEC = ToolSpec(
    name="http_request",
    description="Call a public web address and return its answer.",
    permission="call web addresses",
    parameters={
        "type": "object",
        "required": ["url"],
        "additionalProperties": False,
        "properties": {
            "url": {"type": "string", "minLength": 8, "maxLength": 4000},
            "method": {
                "type": "string",
                "enum": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
                "default": "GET",
            },
            "query": {"type": "object", "description": "Added to the URL."},
            "headers": {"type": "object", "additionalProperties": {"type": "string"}},
            "json": {"description": "Sent as a JSON body."},
            "text": {"type": "string", "description": "Sent as it is, when there is no JSON body."},
        },
    },
    output=answers.OUTPUT,
    effect=EffectClass.OPAQUE,
    actions=("call_web", "upload"),
    # Even a read tells the other side what is asked: where it goes must come from a trusted place.
    sinks=("url", "query", "headers", "json", "text"),
    open_world=True,
    timeout_seconds=30.0,
    by_arguments=True,
)


def effect_for(arguments: Mapping[str, Any]) -> EffectClass:
    return EffectClass.READ if method_of(arguments) in READS else EffectClass.OPAQUE


def method_of(arguments: Mapping[str, Any]) -> str:
    return str(arguments.get("method") or "GET").upper()


def run(call: ToolRun) -> dict[str, Any]:
    """Make the request; redirects are followed for reads only."""
    import httpx  # with the client a tenth of a second, which the start of a worker does not have

    from apps.agents.tools import client

    arguments = call.arguments
    method = method_of(arguments)
    is_write = method not in READS
    url = arguments["url"]
    if arguments.get("query"):
        try:
            url = str(httpx.URL(url).copy_merge_params(pairs_of(arguments["query"])))
        except (httpx.InvalidURL, ValueError, TypeError) as exc:
            raise StepError("The URL cannot be read.", permanent=True, code="bad_url") from exc
    headers = dict(arguments.get("headers") or {})
    content = b""
    if is_write and "json" in arguments:
        content = json.dumps(arguments["json"], ensure_ascii=False).encode("utf-8", "replace")
        headers = {k: v for k, v in headers.items() if k.lower() != "content-type"}
        headers["Content-Type"] = "application/json"
    elif is_write and arguments.get("text"):
        content = arguments["text"].encode("utf-8", "replace")
    if is_write and call.key:
        headers = {k: v for k, v in headers.items() if k.lower() != "idempotency-key"}
        headers["Idempotency-Key"] = call.key
    try:
        response = client.fetch(
            method,
            url,
            headers=headers,
            content=content,
            seconds=call.seconds_left(),
            max_redirects=0 if is_write else client.MAX_REDIRECTS,
        )
    except AmbiguousOutcome as exc:
        if is_write:
            raise
        raise StepError(exc.message, code=exc.code) from exc
    answers.settle(response, is_write=is_write, shown=f"{method} {urlsplit(url).hostname}")
    return answers.shape(response)


def describe(arguments: Mapping[str, Any]) -> str:
    method, url = method_of(arguments), str(arguments["url"])[:300]
    if method in READS:
        return f"{url} will be read."
    return f"A {method} request will be sent to {url}. It cannot be recalled."


def simulate(call: ToolRun) -> dict[str, Any]:
    return {"status": 200, "headers": {}, "body": None, "note": "Simulated: nothing was sent."}


def pairs_of(query: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Pairs for the URL: lists repeat the name, null leaves it out."""
    pairs: list[tuple[str, Any]] = []
    for name, value in query.items():
        for item in value if isinstance(value, list) else [value]:
            if item is not None:
                pairs.append((str(name), item if isinstance(item, str) else json.dumps(item)))
    return pairs


HTTP_REQUEST = Tool(SPEC, work=run, describe_source=describe, simulate_source=simulate, effect_for=effect_for)
