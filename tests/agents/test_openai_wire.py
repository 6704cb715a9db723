"""The OpenAI wire format against a small server: each failure gets its class, one call is one request."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from apps.agents import providers
from apps.agents.core.messages import MalformedAnswer, Message, ModelRequest, ModelResponse, ToolOffer
from apps.agents.providers.openai import MAX_DETAIL, _detail
from apps.runs.errors import StepError
from mirrorneuron.config import config

KEY = "sk-very-secret"


class Server:
    """Answers every request with what `answer` says and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Any = said("hello")
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                server.requests.append(json.loads(body))
                server.headers.append({k.lower(): v for k, v in self.headers.items()})
                status, headers, text = server.answer() if callable(server.answer) else server.answer
                if status == 0:  # cut the connection hard
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    return
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that gave up
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


def said(
    text: str | None, tool_calls: list[Any] | None = None, **more: Any
) -> tuple[int, dict[str, str], bytes]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if tool_calls:
        message["tool_calls"] = tool_calls
    body = {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "small",
        "choices": [
            {"index": 0, "message": message, "finish_reason": "tool_calls" if tool_calls else "stop"}
        ],
        "usage": {
            "prompt_tokens": 11,
            "completion_tokens": 5,
            "total_tokens": 16,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
        **more,
    }
    return 200, {}, json.dumps(body).encode()


def failed(status: int, code: str = "x", **headers: str) -> tuple[int, dict[str, str], bytes]:
    return status, headers, json.dumps({"error": {"message": "said the server", "code": code}}).encode()


def call(arguments: str) -> list[Any]:
    return [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": arguments}}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    monkeypatch.setattr(config(), "openai_base_url", made.url)
    monkeypatch.setattr(config(), "openai_api_key", SecretStr(KEY))
    yield made
    made.http.shutdown()
    made.http.server_close()


def ask(*messages: Message, seconds: float = 5.0, **more: Any) -> ModelResponse:
    given = messages or (Message("user", "Say hello."),)
    return providers.complete(
        ModelRequest("openai:small", "You are brief.", given, timeout_seconds=seconds, **more)
    )


def test_an_answer_carries_text_and_usage(server: Server) -> None:
    answer = ask()
    assert (answer.text, answer.tool_uses) == ("hello", ())
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (11, 5, 4)
    assert not answer.usage.estimated
    sent = server.requests[0]
    assert sent["model"] == "small"
    assert [m["role"] for m in sent["messages"]] == ["system", "user"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_a_tool_call_goes_out_and_comes_back(server: Server) -> None:
    server.answer = said(None, call('{"at": "home"}'))
    tools = (ToolOffer("look", "Look.", {"type": "object", "properties": {"at": {"type": "string"}}}),)
    first = ask(tools=tools)
    use = first.tool_uses[0]
    assert (use.name, use.arguments) == ("look", {"at": "home"})
    assert server.requests[0]["tools"][0]["function"]["name"] == "look"

    # What was journalled is JSON; the next request is made from it.
    kept = ModelResponse.from_json(json.loads(json.dumps(first.as_json())))
    server.answer = said("done")
    ask(
        Message("user", "Look."),
        Message("assistant", kept.text, tool_uses=kept.tool_uses, wire=kept.wire),
        Message("tool", "a garden", tool_use_id=use.id, tool="look"),
        tools=tools,
    )
    told = server.requests[1]["messages"]
    assert [m["role"] for m in told] == ["system", "user", "assistant", "tool"]
    assert told[3]["tool_call_id"] == "t1" and told[3]["content"] == "a garden"


@pytest.mark.parametrize("broken", ['{"at": ', "[" * 50_000])
def test_broken_tool_arguments_are_kept_as_they_came(server: Server, broken: str) -> None:
    server.answer = said(None, call(broken))
    use = ask().tool_uses[0]
    assert (use.arguments, use.raw) == (None, broken)


@pytest.mark.parametrize(
    ("answer", "code", "permanent", "retry_after"),
    [
        (failed(429, **{"Retry-After": "7"}), "model_rate_limited", False, 7.0),
        (failed(429, "insufficient_quota"), "model_quota", True, None),
        (failed(500), "model_server_error", False, None),
        (failed(503), "model_overloaded", False, None),
        (failed(529), "model_overloaded", False, None),
        (failed(401), "model_auth", True, None),
        (failed(404, "model_not_found"), "model_not_found", True, None),
        (failed(400, "context_length_exceeded"), "model_context_exceeded", True, None),
        (failed(400), "model_rejected", True, None),
        ((0, {}, b""), "model_unreachable", False, None),
    ],
)
def test_a_failure_gets_its_class_after_exactly_one_request(
    server: Server, answer: Any, code: str, permanent: bool, retry_after: float | None
) -> None:
    server.answer = answer
    with pytest.raises(StepError) as caught:
        ask()
    found = caught.value
    assert (found.code, found.permanent, found.retry_after) == (code, permanent, retry_after)
    assert KEY not in str(found)
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"{broken", b"<html>busy</html>", b'{"choices": []}'])
def test_an_unreadable_body_is_malformed_after_exactly_one_request(server: Server, body: bytes) -> None:
    server.answer = (200, {}, body)
    with pytest.raises(MalformedAnswer):
        ask()
    assert len(server.requests) == 1


def test_an_empty_answer_is_malformed(server: Server) -> None:
    server.answer = said("")
    with pytest.raises(MalformedAnswer):
        ask()


def test_the_time_out_covers_the_whole_request(server: Server) -> None:
    def slow() -> Any:
        time.sleep(1.5)
        return said("late")

    server.answer = slow
    with pytest.raises(StepError) as caught:
        ask(seconds=0.3)
    assert caught.value.code == "model_timeout"
    assert len(server.requests) == 1


def test_nobody_there_is_unreachable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config(), "openai_base_url", "http://127.0.0.1:9/v1")
    with pytest.raises(StepError) as caught:
        ask()
    assert caught.value.code == "model_unreachable"


def test_many_threads_share_one_client(server: Server) -> None:
    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(lambda _: ask().text, range(32)))
    assert texts == ["hello"] * 32
    assert len(server.requests) == 32


def test_usage_that_was_not_told_is_estimated(server: Server) -> None:
    server.answer = said("hello there", usage=None)
    usage = ask().usage
    assert usage.estimated and usage.input_tokens > 0 and usage.output_tokens > 0


def test_without_key_and_url_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config(), "openai_base_url", "")
    monkeypatch.setattr(config(), "openai_api_key", SecretStr(""))
    with pytest.raises(StepError) as caught:
        ask()
    assert caught.value.permanent and "OPENAI_API_KEY" in str(caught.value)


def test_an_unknown_provider_lists_the_known_ones() -> None:
    with pytest.raises(StepError) as caught:
        providers.provider_of("oracle:delphi")
    assert "offline:…" in str(caught.value) and "scripted" not in str(caught.value)


def test_no_half_of_a_key_is_left_where_a_failure_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config(), "openai_api_key", SecretStr(KEY))
    for padding in range(MAX_DETAIL - len(KEY), MAX_DETAIL + 1):
        said = _detail(RuntimeError("x" * padding + KEY))
        assert KEY[:3] not in said and len(said) <= MAX_DETAIL
