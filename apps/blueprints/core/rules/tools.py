"""Tools, models, agents and connections: is everything that is named there, and allowed?"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from apps.blueprints.core.document import DeclaredTool, ToolCall
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.expressions import ExpressionError, is_template, sources
from apps.blueprints.core.problems import Path, shown
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import Scope, check_condition, check_expression, check_template
from apps.blueprints.core.schemas import check, literal_flaws, misfits
from apps.blueprints.core.suggest import instead, nearest
from apps.blueprints.core.tools import ToolSpec

PLACEHOLDER_HOST = "placeholder.invalid"
"""Where a placeholder of an imported contract points: a host that can never exist (RFC 2606)."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_IN_TOOLS = frozenset(["args", "inputs", "run", "connection"])


def check_tools(case: Case) -> None:
    for name, tool in case.document.tools.items():
        _check_declared(case, name, tool, ("tools", name))
    for name, agent in case.document.agents.items():
        path: Path = ("agents", name)
        if agent.model:
            check_model(case, agent.model, (*path, "model"))
        for index, tool_name in enumerate(agent.tools):
            check_use(case, tool_name, (*path, "tools", index))
        if is_template(agent.instructions):
            case.warning(
                (*path, "instructions"),
                "not_a_template",
                f"The instructions of {shown(name)} hold an expression, but a model gets them as they stand.",
                "Put the expression into the prompt of the node that uses this agent.",
            )
        for index, seen in enumerate(agent.sees):
            # What is not there is simply not seen, so an optional input needs no care.
            seen_scope = Scope(_IN_AGENTS, given=frozenset([tuple(seen.strip("{} \n").split("."))]))
            check_expression(case, seen, (*path, "sees", index), seen_scope)
    for name, model in case.document.models.items():
        _check_choice(case, name, model.use, model.fallback)


_IN_AGENTS = frozenset(["inputs", "steps", "run", "round", "effects", "args"])
_INSERTED = re.compile(r"\{\{(?:(?!\{\{).)*?\}\}")
"""Never over another opening, so that a text of opening brackets is read in linear time."""


def check_use(case: Case, name: str, path: Path, *, node: str = "") -> ToolSpec | None:
    """A tool that something wants to call: it must exist and be allowed."""
    spec = case.tools.get(name)
    if spec is None:
        if name in case.names("tools"):
            return None  # Declared, but not well; that has its own problem.
        case.error(
            path,
            "unknown_tool",
            f"There is no tool {shown(name)}.",
            _cap(unknown_tool_fix(case, name)) + ".",
            node=node,
        )
        return None
    if name not in case.document.contract.boundaries.allowed_tools:
        case.error(
            path,
            "tool_not_allowed",
            f"The tool {shown(name)} is not among the allowed tools of the contract.",
            f"Add {name} to contract.boundaries.allowed_tools, or use an allowed tool.",
            node=node,
        )
    if _always_forbidden(case) & {name, *spec.actions}:
        case.error(
            path,
            "tool_forbidden",
            f"The contract forbids {shown(name)}, and this step calls it.",
            f"Remove {name} from contract.boundaries.forbidden_actions, or do not call it.",
            node=node,
        )
    return spec


def _always_forbidden(case: Case) -> set[str]:
    return {
        action if isinstance(action, str) else action.name
        for action in case.document.contract.boundaries.forbidden_actions
        if isinstance(action, str) or not action.when
    }


def unknown_tool_fix(case: Case, name: str) -> str:
    hint = instead(name, case.tools, one_of="one of the tools")
    return f"{hint}, or declare it under tools" if hint else "declare it under tools"


def check_arguments(
    case: Case,
    spec: ToolSpec,
    given: Any,
    path: Path,
    *,
    node: str = "",
    whole: bool = True,
) -> None:
    """Arguments against the tool's parameters.

    whole: everything required must be there; False when somebody else adds the rest.
    """
    parameters = spec.parameters
    if spec.declared and not parameters.get("properties"):
        return
    if given is not None and not isinstance(given, (dict, str)):
        case.error(
            path,
            "wrong_type",
            f"The arguments of {spec.name} are a mapping of names to values.",
            'Write {name: "{{ … }}"}.',
            node=node,
        )
        return
    found: set[Path] = set()
    for misfit in misfits(type_of_template(given or {}, case.lookup), parameters, spec.name):
        if misfit.code == "missing_argument" and not whole:
            continue
        found.add(misfit.path)
        report: Callable[..., None] = case.error if misfit.is_error else case.warning
        below = () if path[-1:] == ("with",) else ("with",)
        lacks = (*below, misfit.lacks) if misfit.lacks else ()
        report((*path, *misfit.path), misfit.code, misfit.message, misfit.fix, node=node, lacks=lacks)
    properties = parameters.get("properties")
    if not isinstance(given, dict) or not isinstance(properties, dict):
        return
    for name, value in given.items():
        if (name,) not in found and name in properties and not _has_template(value):
            for inside, text in literal_flaws(value, properties[name]):
                case.error(
                    (*path, name, *inside),
                    "bad_argument",
                    f'Argument "{name}" of {spec.name}: {text}.',
                    "Write a value that fits, or an expression.",
                    node=node,
                )


def check_call(case: Case, call: ToolCall, path: Path, scope: Scope, *, must_be_allowed: bool = True) -> None:
    """A tool call that stands in the blueprint: compensate, undo, poll."""
    if must_be_allowed:
        spec = check_use(case, call.tool, (*path, "tool"), node=scope.node)
    else:
        spec = case.tools.get(call.tool)
        if spec is None and call.tool not in case.names("tools"):
            case.error(
                (*path, "tool"),
                "unknown_tool",
                f"There is no tool {shown(call.tool)}.",
                _cap(unknown_tool_fix(case, call.tool)) + ".",
            )
    check_template(case, call.with_, (*path, "with"), scope)
    if spec is not None:
        check_arguments(case, spec, call.with_, (*path, "with"), node=scope.node)


def _has_template(value: Any) -> bool:
    if isinstance(value, str):
        return is_template(value)
    if isinstance(value, dict):
        return any(_has_template(v) for v in value.values())
    return isinstance(value, list) and any(_has_template(v) for v in value)


# --- declared tools ---------------------------------------------------------------------------------------


def _check_declared(case: Case, name: str, tool: DeclaredTool, path: Path) -> None:
    if name in case.builtin:
        case.error(
            path,
            "tool_name_taken",
            f"{shown(name)} is the name of a built-in tool.",
            f'Give it another name, such as "my_{name}".',
        )
    if tool.kind != "http":
        case.error(
            (*path, "kind"),
            "tool_kind_not_runnable",
            f"Tool {shown(name)} is of kind {tool.kind}; the format knows it, but this release runs "
            "http tools only.",
            "Write kind: http, or use a built-in tool.",
        )
        return
    for field, schema in (("parameters", tool.parameters), ("output", tool.output)):
        if schema is not None:
            report_schema(case, schema, (*path, field))
    _check_url(case, name, tool, path)
    if tool.method.upper() not in _METHODS:
        near = nearest(tool.method.upper(), _METHODS)
        case.error(
            (*path, "method"),
            "bad_value",
            f"{shown(tool.method)} is not an HTTP method.",
            f"Write {near or 'one of ' + ', '.join(_METHODS)}.",
        )
    scope = Scope(_IN_TOOLS, only=lambda way: _wrong_path(case, tool, way))
    for field in ("url", "headers", "query", "body", "simulate"):
        check_template(case, getattr(tool, field), (*path, field), scope)
    if tool.effect == "probe" and tool.probe is None:
        case.error(
            (*path, "effect"),
            "missing_field",
            f"Tool {shown(name)} has the effect class probe but no probe.",
            'Add probe: {url: …, present: "status == 200"}, or write effect: opaque.',
        )
    if tool.probe is not None:
        check_template(case, tool.probe.url, (*path, "probe", "url"), scope)
        check_template(case, tool.probe.headers, (*path, "probe", "headers"), scope)
        seen = Scope(_IN_TOOLS | {"status", "body", "headers", "result"}, only=scope.only)
        check_condition(case, tool.probe.present, (*path, "probe", "present"), seen)
    if tool.effect == "read" and tool.method.upper() not in ("GET", "HEAD", "POST"):
        case.warning(
            (*path, "effect"),
            "read_that_writes",
            f"Tool {shown(name)} is declared as read, but {tool.method.upper()} usually writes.",
            "Write effect: opaque, or keyed when the other side honours idempotency keys.",
        )
    properties = tool.parameters.get("properties")
    for index, sink in enumerate(tool.sinks):
        if isinstance(properties, dict) and sink not in properties:
            case.error(
                (*path, "sinks", index),
                "unknown_argument",
                f"sinks names {shown(sink)}, which is not a parameter of {name}.",
                _cap(instead(sink, properties) or "declare it under parameters") + ".",
            )
    if tool.undo is not None:
        check_call(
            case, tool.undo, (*path, "undo"), Scope(_IN_TOOLS | {"result", "output"}), must_be_allowed=False
        )


def _check_url(case: Case, name: str, tool: DeclaredTool, path: Path) -> None:
    if not tool.url:
        case.error(path, "missing_field", f"Tool {shown(name)} has no url.", 'Add url: "https://…".')
        return
    parts = urlsplit(_INSERTED.sub("x", tool.url)) if _splits(tool.url) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
        if not tool.url.startswith("{{"):
            case.error(
                (*path, "url"),
                "bad_url",
                f"{shown(tool.url)} is not a web address.",
                'Write it with its scheme, as in "https://shop.example/orders".',
            )
        return
    if parts.hostname == PLACEHOLDER_HOST:
        report: Callable[..., None] = case.error if case.publishing else case.warning
        report(
            path,
            "placeholder_tool",
            f"Tool {shown(name)} is a placeholder: the imported contract names it, but nothing provides it.",
            f"Give tools.{name} its url, method and parameters, or replace it by a built-in tool everywhere.",
        )
        return
    for used in sorted(_connections_used(tool)):
        need = case.document.connections.get(used)
        if need is not None and need.hosts and parts.hostname not in need.hosts and "{{" not in parts.netloc:
            case.error(
                (*path, "url"),
                "connection_host",
                f"Tool {shown(name)} sends credentials of {shown(used)} to {parts.hostname}, which is "
                "not one of its hosts.",
                f"Add {parts.hostname} to connections.{used}.hosts.",
            )


def _splits(url: str) -> bool:
    try:
        urlsplit(_INSERTED.sub("x", url))
    except ValueError:
        return False
    return True


def _connections_used(tool: DeclaredTool) -> set[str]:
    used = set()
    for template in (tool.url, tool.headers, tool.query, tool.body):
        try:
            for source in sources(template):
                used |= set(re.findall(r"\bconnection\.([a-z][a-z0-9_]*)", source))
        except ExpressionError:
            continue
    return used


def _wrong_path(case: Case, tool: DeclaredTool, way: tuple[str, ...]) -> str | None:
    """What is wrong with `args.x` or `connection.shop.token` inside a declared tool."""
    if way[0] == "args" and len(way) > 1:
        properties = tool.parameters.get("properties")
        if isinstance(properties, dict) and way[1] not in properties:
            near = nearest(way[1], properties)
            hint = f'; write "args.{near}"' if near else "; declare it under parameters"
            return f"args.{way[1]}: the tool has no parameter {shown(way[1])}{hint}."
    if way[0] == "connection" and len(way) > 1:
        known = case.names("connections")
        if way[1] not in known:
            hint = instead(way[1], known, one_of="one of the connections") or "declare it under connections"
            return f"There is no connection {shown(way[1])}; {hint}."
        need = case.document.connections.get(way[1])
        if need is not None and len(way) > 2 and way[2] not in need.fields:
            hint = instead(way[2], need.fields) or "add it to its fields"
            return f"Connection {shown(way[1])} has no field {shown(way[2])}; {hint}."
    return None


# --- models -----------------------------------------------------------------------------------------------


def check_model(case: Case, name: str, path: Path, *, node: str = "") -> None:
    """A name of `models`, or `provider:model` itself."""
    known = case.names("models")
    if name in known or ":" in name:
        return
    case.error(
        path,
        "unknown_model",
        f"There is no model {shown(name)}.",
        _cap(
            instead(name, known, one_of="one of the models")
            or 'declare it: models: {cheap: {use: "offline:extractive"}}'
        )
        + ".",
        node=node,
    )


def _check_choice(case: Case, name: str, use: str, fallback: str) -> None:
    provider, _, model = use.partition(":")
    if not provider or not model:
        case.error(
            ("models", name, "use"),
            "bad_model",
            f"{shown(use)} does not name a model.",
            'Write provider:model, as in "offline:extractive" or "openai:gpt-5.4".',
        )
    if not fallback:
        return
    path: Path = ("models", name, "fallback")
    if fallback not in case.names("models"):
        case.error(
            path,
            "unknown_model",
            f"There is no model {shown(fallback)} to fall back to.",
            _cap(instead(fallback, case.names("models") - {name}) or "remove it") + ".",
        )
        return
    seen, here = [name], fallback
    while here and here not in seen and here in case.document.models:
        seen.append(here)
        here = case.document.models[here].fallback
    if here in seen and here == name and name == min(seen):
        case.error(
            path,
            "fallback_cycle",
            f"The models {' → '.join([*seen, here])} fall back on each other in a circle.",
            "Remove one of the fallbacks.",
        )


def report_schema(case: Case, schema: Any, path: Path, *, node: str = "") -> None:
    """Everything wrong with a JSON Schema in the blueprint."""
    for flaw in check(schema):
        report: Callable[..., None] = case.error if flaw.is_error else case.warning
        report((*path, *flaw.path), "bad_schema", flaw.message, flaw.fix, node=node)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]
