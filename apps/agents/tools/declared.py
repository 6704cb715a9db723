"""Tools that a blueprint declares with `kind: http`: a request made from templates.

Templates see `args`, `inputs`, `run` and `connection`. What is inserted into a URL is percent-encoded, so
that an argument stays one segment of a path or one value. Connections are resolved here, in the worker, for
this call only: their fields go to no host that both the workspace and the blueprint do not name, and are
taken out of every result and every error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx

from apps.agents.tools import answers, client
from apps.agents.tools.base import (
    AmbiguousOutcome,
    Answer,
    Connection,
    EffectClass,
    StepError,
    Tool,
    ToolRun,
    ToolSpec,
)
from apps.agents.tools.http_request import READS, pairs_of
from apps.blueprints.core import expressions
from apps.blueprints.core.document import DeclaredTool, Document
from apps.blueprints.core.expressions import ExpressionError
from apps.blueprints.core.tools import declared_spec
from mirrorneuron.base.errors import MirrorNeuronError

HIDDEN = "…"
BAD_TEMPLATE = "bad_template"


def declared_tool(name: str, declared: DeclaredTool, document: Document) -> Tool:
    """The tool behind a declaration. Kinds other than `http` are refused by validation."""
    spec = declared_spec(name, declared)
    made = _Declared(name, declared, document, spec)
    if spec.output is None:
        spec = spec.model_copy(update={"output": answers.OUTPUT})
    return Tool(
        spec,
        work=made.run,
        probe=made.probe if declared.probe is not None else None,
        describe_source=made.describe,
        simulate_source=made.simulate,
    )


@dataclass(frozen=True)
class _Declared:
    name: str
    tool: DeclaredTool
    document: Document
    spec: ToolSpec

    def run(self, call: ToolRun) -> Any:
        """Make the request. The result is `{status, headers, body, note}`."""
        is_write = self.spec.is_write
        headers: dict[str, Any] = dict(self.tool.headers)
        if self.spec.effect is EffectClass.KEYED:
            headers = {k: v for k, v in headers.items() if k.lower() != self.tool.key_header.lower()}
            headers[self.tool.key_header] = call.key
        with _Secrets(self, call) as secrets:
            try:
                response = self._send(
                    call,
                    secrets,
                    self.tool.method,
                    self.tool.url,
                    headers,
                    self.tool.query,
                    is_main=True,
                )
            except AmbiguousOutcome as exc:
                if is_write:
                    raise
                raise StepError(exc.message, code=exc.code) from exc
            answers.settle(response, is_write=is_write, shown=f"{self.name}: {_host(response.url)}")
            return secrets.redact(answers.shape(response))

    def probe(self, call: ToolRun) -> Answer:
        """Ask whether the effect is there. What cannot be asked or read is `unknown`, never a guess."""
        probe = self.tool.probe
        assert probe is not None
        try:
            with _Secrets(self, call) as secrets:
                response = self._send(
                    call, secrets, probe.method, probe.url, dict(probe.headers), {}, is_main=False
                )
                result = secrets.redact(answers.shape(response))
        except MirrorNeuronError as exc:
            return Answer("unknown", detail=exc.message)
        status = response.status
        if status >= 500 or status in {401, 403, 408, 425, 429}:
            return Answer("unknown", detail=f"The probe was answered {status}.")
        try:
            found = expressions.evaluate(
                probe.present,
                {"status": status, "body": result["body"], "args": call.arguments, **_plain_names(call)},
            )
        except ExpressionError as exc:
            # `body.state == 'paid'` cannot be evaluated on the empty answer of a thing that is not there.
            state = "absent" if status in {404, 410} else "unknown"
            return Answer(state, detail=f"The probe was answered {status}; {exc.message}.")
        if not isinstance(found, bool):
            return Answer("unknown", detail=f'"present" of {self.name} gave {found!r}, not true or false.')
        return Answer("present", result=result) if found else Answer("absent", detail=f"Answered {status}.")

    def describe(self, arguments: Mapping[str, Any]) -> str:
        names = {"args": dict(arguments)}
        try:
            url = _url(self.tool.url, names, missing=HIDDEN)
        except (StepError, ExpressionError):
            url = self.tool.url
        if not self.spec.is_write:
            return f"{url} will be read."
        ending = "It can be undone." if self.tool.undo is not None else "It cannot be recalled."
        return f"{self.tool.method.upper()} {url} will be called. {ending}"

    def simulate(self, call: ToolRun) -> Any:
        if self.tool.simulate is not None:
            return _rendered(self.name, self.tool.simulate, {"args": call.arguments, **_plain_names(call)})
        return {"status": 200, "headers": {}, "body": None, "note": "Simulated: nothing was sent."}

    def _send(
        self,
        call: ToolRun,
        secrets: _Secrets,
        method: str,
        url: str,
        headers: dict[str, Any],
        query: Mapping[str, Any],
        *,
        is_main: bool,
    ) -> client.Response:
        names = secrets.names(url, headers, query, self.tool.body if is_main else None)
        try:
            target = httpx.URL(_url(url, names))
            pairs = pairs_of(_rendered(self.name, dict(query), names))
            target = target.copy_merge_params(pairs) if pairs else target
        except (httpx.InvalidURL, ValueError) as exc:
            raise StepError(
                f"The URL of {self.name} cannot be read.", permanent=True, code="bad_url"
            ) from exc
        sent = {
            k: v if isinstance(v, str) else json.dumps(v)
            for k, v in _rendered(self.name, headers, names).items()
            if v is not None
        }
        content = b""
        if is_main and method.upper() not in READS:
            content = self._body(names, sent)
        return client.fetch(
            method,
            str(target),
            headers=sent,
            content=content,
            seconds=call.seconds_left(),
            max_redirects=0
            if (is_main and self.spec.is_write) or method.upper() not in READS
            else client.MAX_REDIRECTS,
            hosts=secrets.hosts() if secrets.used else None,
        )

    def _body(self, names: Mapping[str, Any], headers: dict[str, str]) -> bytes:
        """The body in the form its Content-Type asks for; JSON unless set, and then the header is added."""
        body = names["args"] if self.tool.body is None else _rendered(self.name, self.tool.body, names)
        kind = next((v for k, v in headers.items() if k.lower() == "content-type"), "")
        if kind.startswith("application/x-www-form-urlencoded") and isinstance(body, dict):
            return urlencode(pairs_of(body)).encode()
        if kind and "json" not in kind and isinstance(body, str):
            return body.encode("utf-8", "replace")
        if not kind:
            headers["Content-Type"] = "application/json"
        return json.dumps(body, ensure_ascii=False, sort_keys=True).encode("utf-8", "replace")


class _Secrets:
    """The connections one call uses: opened on demand, and redacted from any error on the way out."""

    def __init__(self, made: _Declared, call: ToolRun) -> None:
        self.made = made
        self.call = call
        self.used: dict[str, Connection] = {}
        self.redact = answers.Redactor()

    def __enter__(self) -> _Secrets:
        return self

    def __exit__(self, kind: type | None, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, MirrorNeuronError) and self.redact.secrets:
            if exc.code == BAD_TEMPLATE:
                # It quotes values, cut or changed by the template so that no redaction finds them.
                exc.message = f"A template of the tool {self.made.name} failed on a connection's fields."
            exc.message = self.redact(exc.message)
            exc.args = (exc.message,)
            exc.next = self.redact(exc.next)
            exc.attributes = self.redact(exc.attributes)
            # The chain below may quote the request.
            exc.__cause__, exc.__suppress_context__ = None, True
        elif isinstance(exc, Exception) and self.redact.secrets:
            raise AmbiguousOutcome(f"{self.made.name} failed ({type(exc).__name__}).") from None

    def names(self, *templates: Any) -> dict[str, Any]:
        """Names for the templates, with exactly the connections they mention."""
        try:
            mentioned = {
                reference.split(".")[1]
                for template in templates
                for reference in expressions.references(template)
                if reference.startswith("connection.")
            }
        except ExpressionError as exc:
            raise _bad_template(self.made.name, exc) from exc
        for name in sorted(mentioned - set(self.used)):
            self.used[name] = self.call.connection(name)
        self.redact = answers.Redactor(
            value
            for name, connection in self.used.items()
            for value in connection.fields.values()
            if isinstance(value, (str, int))
        )
        return {
            "args": self.call.arguments,
            **_plain_names(self.call),
            "connection": {name: dict(connection.fields) for name, connection in self.used.items()},
        }

    def hosts(self) -> frozenset[str]:
        """Hosts that every used connection may be sent to, by the workspace and by the blueprint."""
        allowed: frozenset[str] | None = None
        for name, connection in self.used.items():
            need = self.made.document.connections.get(name)
            own, asked = frozenset(connection.hosts), frozenset(need.hosts if need else ())
            # A blueprint may narrow the hosts an admin named, never name them: whoever edits it is no admin.
            both = own & asked if asked else own
            allowed = both if allowed is None else allowed & both
        return allowed or frozenset()


def _plain_names(call: ToolRun) -> dict[str, Any]:
    return {name: call.names[name] for name in ("inputs", "run") if name in call.names}


def _rendered(tool: str, template: Any, names: Mapping[str, Any]) -> Any:
    try:
        return expressions.render(template, names)
    except ExpressionError as exc:
        raise _bad_template(tool, exc) from None


def _bad_template(tool: str, exc: ExpressionError) -> StepError:
    return StepError(f"A template of the tool {tool} failed: {exc}.", permanent=True, code=BAD_TEMPLATE)


def _url(template: str, names: Mapping[str, Any], missing: str | None = None) -> str:
    """The URL with every inserted value encoded for its place.

    Before the path only a host name with an optional port may be inserted, or a whole base URL at the very
    beginning when it does not come from `args`.
    missing: shown for what has no value; None makes that an error.
    """
    built = ""
    for part in expressions.parts(template.strip()):
        if not part.is_expression:
            built += part.text
            continue
        try:
            value = expressions.evaluate(part.text, names)
        except ExpressionError as exc:
            if missing is None:
                raise _bad_template("this URL", exc) from None
            built += missing
            continue
        text = value if isinstance(value, str) else json.dumps(value)
        built += _placed(built, text, part.text)
    return built


def _placed(before: str, text: str, source: str) -> str:
    references = expressions.compile_expression(source).references
    is_host = re.fullmatch(r"https?://[^/?#]*", before)
    if (not before or is_host) and any(r.split(".")[0] == "args" for r in references):
        raise StepError(
            "An argument cannot decide the host of this tool's URL.", permanent=True, code="bad_url"
        )
    if not before:
        return text.rstrip("/")
    if is_host:
        if not re.fullmatch(r"[A-Za-z0-9.-]+(:\d{1,5})?", text):
            raise StepError("The host inserted into the URL is no host name.", permanent=True, code="bad_url")
        return text
    in_query = "?" in before
    if not in_query and text in {"", ".", ".."}:
        raise StepError(
            f"The value {text!r} of {source} cannot be a part of the URL's path.",
            permanent=True,
            code="bad_url",
        )
    return quote(text, safe="")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
