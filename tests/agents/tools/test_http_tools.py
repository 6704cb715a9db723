"""`http_request` and the tools a blueprint declares: what is sent, what comes back, what a failure means."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.agents.tools.answers import Redactor, settle
from apps.agents.tools.base import AmbiguousOutcome, Connection, DefiniteFailure, EffectClass, StepError, Tool
from apps.agents.tools.client import Response
from apps.agents.tools.declared import declared_tool
from apps.agents.tools.http_request import HTTP_REQUEST
from apps.agents.tools.registry import BUILTIN
from apps.blueprints.core.document import Document
from mirrorneuron.base.errors import MirrorNeuronError
from tests.agents.tools.conftest import Site, make_call

SECRET = "tok-1234-äß/+secret"


def tool_of(site_url: str, connections: dict[str, Any] | None = None, **declaration: Any) -> Tool:
    parameters = {"type": "object", "properties": {"order": {"type": "string"}}}
    document = Document.model_validate(
        {
            "metadata": {"name": "shop"},
            "connections": connections
            or {"shop": {"kind": "bearer", "fields": ["token"], "hosts": ["127.0.0.1"]}},
            "tools": {
                "refund": {
                    "parameters": parameters,
                    "method": "POST",
                    "url": site_url + "/orders/{{ args.order }}/refund",
                    **declaration,
                }
            },
        }
    )
    return declared_tool("refund", document.tools["refund"], document)


def call_of(order: str = "A-1", hosts: tuple[str, ...] = ("127.0.0.1",), key: str = "key-1") -> Any:
    def connection(name: str) -> Connection:
        return Connection(name, "bearer", {"token": SECRET}, hosts)

    return make_call(
        {"order": order},
        key=key,
        connection=connection,
        names={"inputs": {"shop": "north"}, "run": {"id": "r1"}},
    )


class TestHttpRequest:
    def test_get_is_a_read_and_gives_json(self, site: Site) -> None:
        site.answers["/x"] = (200, {"ETag": "v1", "Set-Cookie": "s=1"}, {"a": 1})
        found = HTTP_REQUEST.run(make_call({"url": site.url + "/x", "query": {"q": "a b", "n": [1, 2]}}))
        assert (found["status"], found["body"], found["headers"]["etag"]) == (200, {"a": 1}, "v1")
        assert "set-cookie" not in found["headers"]
        assert site.requests[0]["path"] == "/x?q=a+b&n=1&n=2"
        assert HTTP_REQUEST.spec_for({"url": "x"}).effect is EffectClass.READ
        assert HTTP_REQUEST.spec_for({"url": "x", "method": "POST"}).effect is EffectClass.OPAQUE

    def test_a_write_carries_the_key(self, site: Site) -> None:
        site.answers["/x"] = (201, {}, {"id": 7})
        headers = {"idempotency-key": "from the model"}
        HTTP_REQUEST.run(
            make_call(
                {"url": site.url + "/x", "method": "POST", "json": {"a": "ü"}, "headers": headers}, key="k9"
            )
        )
        sent = site.requests[0]
        assert (sent["headers"]["Idempotency-Key"], json.loads(sent["body"])) == ("k9", {"a": "ü"})

    def test_text_is_text_and_other_bytes_are_named(self, site: Site) -> None:
        site.answers |= {
            "/t": (200, {"Content-Type": "text/plain; charset=latin-1"}, b"caf\xe9"),
            "/b": (200, {"Content-Type": "image/png"}, b"\x89PNG"),
            "/j": (200, {"Content-Type": "application/json"}, b"{broken"),
        }
        bodies = [HTTP_REQUEST.run(make_call({"url": site.url + p})) for p in ("/t", "/b", "/j")]
        assert [b["body"] for b in bodies] == ["café", None, "{broken"]
        assert "image/png" in bodies[1]["note"]
        assert "not" in bodies[2]["note"]

    def test_a_simulated_call_sends_nothing(self, site: Site) -> None:
        HTTP_REQUEST.simulate(make_call({"url": site.url, "method": "POST"}))
        assert site.requests == []

    def test_describes_what_cannot_be_recalled(self) -> None:
        said = HTTP_REQUEST.describe({"url": "https://a.example/x", "method": "DELETE"})
        assert said == "A DELETE request will be sent to https://a.example/x. It cannot be recalled."


class TestWhatAnAnswerMeans:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 412, 413, 422])
    def test_refusals_are_definite_and_lasting(self, site: Site, status: int) -> None:
        site.answers["/x"] = (status, {}, b"because")
        for method in ("GET", "POST"):
            with pytest.raises(DefiniteFailure) as caught:
                HTTP_REQUEST.run(make_call({"url": site.url + "/x", "method": method}))
            assert caught.value.permanent
            assert caught.value.attributes["answer"] == "because"

    def test_too_many_requests_is_definite_and_says_when(self, site: Site) -> None:
        site.answers["/x"] = (429, {"Retry-After": "7"}, b"")
        with pytest.raises(DefiniteFailure) as caught:
            HTTP_REQUEST.run(make_call({"url": site.url + "/x", "method": "POST"}))
        assert (caught.value.retry_after, caught.value.permanent) == (7.0, False)

    @pytest.mark.parametrize("status", [408, 409, 423, 425, 500, 502, 503, 504, 302, 307])
    def test_nobody_knows_what_a_write_did(self, site: Site, status: int) -> None:
        site.answers["/x"] = (status, {"Location": "/y"}, b"")
        with pytest.raises(AmbiguousOutcome):
            HTTP_REQUEST.run(make_call({"url": site.url + "/x", "method": "POST"}))
        assert len(site.requests) == 1

    @pytest.mark.parametrize("status", [408, 425, 500, 503])
    def test_a_read_is_tried_again(self, site: Site, status: int) -> None:
        site.answers["/x"] = (status, {"Retry-After": "3"}, b"")
        with pytest.raises(StepError) as caught:
            HTTP_REQUEST.run(make_call({"url": site.url + "/x"}))
        assert (caught.value.permanent, caught.value.retry_after) == (False, 3.0)
        assert not isinstance(caught.value, DefiniteFailure)


class TestNothingLeft:
    """A write that is refused before the first byte leaves must never stand in doubt."""

    @pytest.mark.parametrize(
        "arguments",
        [
            {"url": "http://10.0.0.1/x"}, {"url": "ftp://shop.example/"},
            {"url": "http://127.0.0.1:1/", "headers": {"a b": "c"}},
        ],
    )  # fmt: skip
    def test_refused_requests_are_definite(self, arguments: dict[str, Any]) -> None:
        with pytest.raises(DefiniteFailure) as caught:
            HTTP_REQUEST.run(make_call({**arguments, "method": "POST"}))
        assert caught.value.permanent

    def test_bad_templates_and_missing_connections_are_definite(self, site: Site) -> None:
        with pytest.raises(DefiniteFailure):
            tool_of("", url=site.url + "/{{ args.nothing }}").run(call_of())
        with pytest.raises(DefiniteFailure, match="no connection"):
            tool_of(site.url, headers={"X-Token": "{{ connection.other.token }}"}).run(
                make_call({"order": "A"})
            )

    def test_bad_addresses_and_names_are_definite(self) -> None:
        with pytest.raises(DefiniteFailure):
            BUILTIN["send_email"].run(make_call({"to": "x", "subject": "s", "body": "b"}))
        with pytest.raises(DefiniteFailure):
            BUILTIN["write_file"].run(make_call({"name": "../x", "content": "b"}))


class TestDeclared:
    def test_a_keyed_tool_sends_its_key_and_its_arguments(self, site: Site) -> None:
        site.answers["/orders/A-1/refund"] = (200, {}, {"ok": True})
        tool = tool_of(site.url, effect="keyed", key_header="X-Once")
        first = tool.run(call_of(key="abc"))
        tool.run(call_of(key="abc"))
        assert first["body"] == {"ok": True}
        assert [r["headers"]["X-Once"] for r in site.requests] == ["abc", "abc"]
        assert site.requests[0]["body"] == site.requests[1]["body"] == b'{"order": "A-1"}'
        assert tool.spec.effect is EffectClass.KEYED

    def test_templates_see_arguments_inputs_run_and_connection(self, site: Site) -> None:
        site.answers["/orders/A-1/refund"] = (200, {}, {})
        tool = tool_of(
            site.url,
            headers={"Authorization": "Bearer {{ connection.shop.token }}", "X-Run": "{{ run.id }}"},
            query={"shop": "{{ inputs.shop }}", "none": "{{ null }}"},
            body={"order": "{{ args.order }}", "amount": "{{ 1 + 1 }}"},
        )
        tool.run(
            replace(
                call_of(), connection=lambda n: Connection(n, "bearer", {"token": "tok-77"}, ("127.0.0.1",))
            )
        )
        sent = site.requests[0]
        assert sent["path"] == "/orders/A-1/refund?shop=north"
        assert (sent["headers"]["Authorization"], sent["headers"]["X-Run"]) == ("Bearer tok-77", "r1")
        assert json.loads(sent["body"]) == {"order": "A-1", "amount": 2}

    @given(st.text(min_size=1, max_size=30).filter(lambda t: t not in {".", ".."}))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
    def test_an_argument_stays_one_segment_of_the_path(self, site: Site, order: str) -> None:
        order = order.encode("utf-8", "replace").decode()
        site.requests.clear()
        with pytest.raises(DefiniteFailure):  # the site knows no such order: 404
            tool_of(site.url).run(call_of(order))
        path = site.requests[0]["path"]
        assert path.startswith("/orders/")
        assert path.endswith("/refund")
        assert path.count("/") == 3
        assert "?" not in path
        assert "#" not in path

    @pytest.mark.parametrize("order", ["", ".", ".."])
    def test_an_argument_cannot_climb(self, site: Site, order: str) -> None:
        with pytest.raises(StepError, match="cannot be a part of the URL"):
            tool_of(site.url).run(call_of(order))
        assert site.requests == []

    @pytest.mark.parametrize(
        "url", ["{{ args.order }}/x", "http://{{ args.order }}/x", "http://127.0.0.1{{ args.order }}"]
    )
    def test_an_argument_never_decides_the_host(self, site: Site, url: str) -> None:
        with pytest.raises(StepError, match="cannot decide the host"):
            tool_of("", url=url).run(call_of("evil.example"))

    def test_a_missing_name_is_said(self, site: Site) -> None:
        with pytest.raises(StepError, match=r"args\.nothing") as caught:
            tool_of("", url=site.url + "/{{ args.nothing }}").run(call_of())
        assert caught.value.permanent

    def test_simulate_gives_what_was_declared(self, site: Site) -> None:
        assert tool_of(site.url, simulate={"status": "refunded"}).simulate(call_of()) == {
            "status": "refunded"
        }
        assert site.requests == []

    def test_describes_the_call(self, site: Site) -> None:
        said = tool_of("https://shop.example").describe({"order": "A 1"})
        assert said == "POST https://shop.example/orders/A%201/refund will be called. It cannot be recalled."


class TestSecrets:
    HEADERS = {"Authorization": "Bearer {{ connection.shop.token }}"}

    def test_never_come_back(self, site: Site) -> None:
        plain = "tok-1234-secret"

        def echo(handler: Any) -> None:
            data = json.dumps({"you sent": dict(handler.headers), plain: [plain]}).encode()
            handler.send_response(200)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data)))
            handler.send_header("X-Request-Id", plain)
            handler.end_headers()
            handler.wfile.write(data)

        site.answers["/orders/A-1/refund"] = echo
        call = replace(
            call_of(), connection=lambda n: Connection(n, "bearer", {"token": plain}, ("127.0.0.1",))
        )
        found = tool_of(site.url, headers=self.HEADERS).run(call)
        assert plain not in json.dumps(found)
        assert "Bearer •••" in json.dumps(found, ensure_ascii=False)

    def test_never_stand_in_an_error(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        plain = "tok-1234-secret"
        site.answers["/orders/A-1/refund"] = (400, {}, f"bad token {plain}".encode())
        call = replace(
            call_of(), connection=lambda n: Connection(n, "bearer", {"token": plain}, ("127.0.0.1",))
        )
        with pytest.raises(DefiniteFailure) as caught:
            tool_of(site.url, headers=self.HEADERS).run(call)
        shown = json.dumps(caught.value.as_json()) + repr(caught.value) + caplog.text
        assert plain not in shown
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("hosts", [("shop.example",), ()])
    def test_go_to_no_other_host(self, site: Site, hosts: tuple[str, ...]) -> None:
        connections = {"shop": {"kind": "bearer", "fields": ["token"], "hosts": list(hosts)}}
        with pytest.raises(MirrorNeuronError, match="not among the hosts"):
            tool_of(site.url, connections, headers=self.HEADERS).run(call_of(hosts=hosts))
        assert site.requests == []

    def test_a_blueprint_cannot_widen_the_workspaces_hosts(self, site: Site) -> None:
        with pytest.raises(MirrorNeuronError, match="not among the hosts"):
            tool_of(site.url, headers=self.HEADERS).run(call_of(hosts=("shop.example",)))
        assert site.requests == []

    def test_a_blueprint_cannot_name_hosts_the_workspace_has_not(self, site: Site) -> None:
        with pytest.raises(MirrorNeuronError, match="not among the hosts"):
            tool_of(site.url, headers=self.HEADERS).run(call_of(hosts=()))
        assert site.requests == []

    @pytest.mark.parametrize(
        "template",
        [
            "{{ int(connection.shop.token) }}",
            "{{ timestamp(connection.shop.token) }}",
            "{{ int(connection.shop.token.substring(2, 30)) }}",
            "{{ {'a': 1}['x' + connection.shop.token.substring(1)] }}",
        ],
    )
    @pytest.mark.parametrize("place", ["headers", "query", "body", "url"])
    def test_no_part_of_one_stands_in_a_failed_template(self, site: Site, template: str, place: str) -> None:
        plain = "sk_live_" + "".join(chr(97 + n % 26) for n in range(90))
        call = replace(
            call_of(), connection=lambda n: Connection(n, "bearer", {"token": plain}, ("127.0.0.1",))
        )
        given: Any = site.url + "/" + template if place == "url" else {"X-Token": template}
        with pytest.raises(MirrorNeuronError) as caught:
            tool_of(site.url, **{place: given}).run(call)
        shown = json.dumps(caught.value.as_json()) + repr(caught.value) + str(caught.value)
        assert not any(plain[n : n + 6] in shown for n in range(len(plain) - 6))

    def test_are_not_shown_by_the_connection_itself(self) -> None:
        assert SECRET not in repr(Connection("shop", "bearer", {"token": SECRET}, ()))
        assert SECRET not in repr(call_of())

    @given(st.text(min_size=4, max_size=20), st.text(max_size=50))
    def test_redaction_leaves_nothing(self, secret: str, around: str) -> None:
        redact = Redactor([secret])
        if secret not in Redactor.SIGN * 2:
            assert secret not in redact({"a": [around + secret + around]})["a"][0].replace(
                Redactor.SIGN, "\x00"
            )


class TestProbe:
    PROBE = {"method": "GET", "present": "body.status == 'refunded'"}

    def probe(self, site: Site, **probe: str) -> str:
        tool = tool_of(
            site.url,
            effect="probe",
            probe={**self.PROBE, "url": site.url + "/orders/{{ args.order }}", **probe},
        )
        assert tool.probe is not None
        return tool.probe(call_of()).state

    @pytest.mark.parametrize(
        ("status", "body", "state"),
        [
            (200, {"status": "refunded"}, "present"),
            (200, {"status": "open"}, "absent"),
            (200, {}, "unknown"),
            (404, {}, "absent"),
            (500, {"status": "refunded"}, "unknown"),
            (401, {}, "unknown"),
            (429, {}, "unknown"),
        ],
    )
    def test_says_present_absent_or_unknown(self, site: Site, status: int, body: Any, state: str) -> None:
        site.answers["/orders/A-1"] = (status, {}, body)
        assert self.probe(site) == state
        assert site.requests[0]["body"] == b""

    def test_a_server_that_cannot_be_asked_is_unknown(self, site: Site) -> None:
        assert self.probe(site, url="http://10.255.0.1/x") == "unknown"

    def test_an_answer_that_is_no_truth_is_unknown(self, site: Site) -> None:
        site.answers["/orders/A-1"] = (200, {}, {"status": "refunded"})
        assert self.probe(site, present="body.status") == "unknown"


def test_connections_come_from_the_workspace(db: None, workspace: Any) -> None:
    from apps.agents.tools.connections import connection_of

    with pytest.raises(StepError, match="no connection") as caught:
        connection_of(workspace.id, "shop")
    assert caught.value.permanent
    with pytest.raises(StepError):
        connection_of(uuid4(), "shop")


@pytest.mark.parametrize(
    "said", ["²", "Mon, 01 Jan 2024 00:00:99999999999999999999 GMT", "9" * 400, "-1", "soon"]
)
def test_a_refusal_is_one_whatever_time_it_names(said: str) -> None:
    """An opaque write that was refused is not in doubt because a header makes no sense."""
    answer = Response(429, {"retry-after": said}, b"", "https://shop.example")
    with pytest.raises(DefiniteFailure):
        settle(answer, is_write=True, shown="POST shop.example")
