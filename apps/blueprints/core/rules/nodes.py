"""Each node by itself: does it have what its kind needs, and does everything it reads exist and fit?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from apps.blueprints.core.code import RESULT, check_code, is_name
from apps.blueprints.core.document import Check, Node
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.expressions import is_template
from apps.blueprints.core.kinds import RUNNABLE, fields
from apps.blueprints.core.problems import Path, article, shown
from apps.blueprints.core.rules.bodies import check_loop, check_map, check_subflow
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import (
    IN_NODES,
    Scope,
    check_condition,
    check_expression,
    check_template,
    guards_of,
)
from apps.blueprints.core.rules.said import missing as _missing
from apps.blueprints.core.rules.tools import (
    check_arguments,
    check_call,
    check_model,
    check_use,
    report_schema,
)
from apps.blueprints.core.rules.waits import check_sensor, check_timer
from apps.blueprints.core.schemas import types, words
from apps.blueprints.core.suggest import instead

CHECK_ARGS = {"expression": ("that",), "schema": ("value", "schema"), "grounded": ("claim", "sources")}
_ALIAS = {"with_": "with", "schema_": "schema"}


def check_nodes(case: Case) -> None:
    for path, node in case.nodes():
        if node.kind not in RUNNABLE or case.shape.index[node.id] != path[-1]:
            continue
        scope = Scope(IN_NODES | case.given, node.id, case.shape.ever_before[node.id], guards_of(node.when))
        if node.with_ is not None:
            scope = replace(scope, names=scope.names | {"args"})
        _check_fields(case, node, path)
        _check_common(case, node, path, scope)
        _BY_KIND[node.kind](case, node, path, scope)


def _check_fields(case: Case, node: Node, path: Path) -> None:
    known = fields(node.kind)
    for field in sorted(node.model_fields_set):
        name = _ALIAS.get(field, field)
        if name not in known:
            case.warning(
                (*path, name),
                "field_not_used",
                f'A node of kind {node.kind} does not use "{name}"; on "{node.id}" it has no effect.',
                f"Remove it, or choose a kind that uses it. {node.kind.capitalize()} uses "
                f"{', '.join(sorted(known - _PLAIN))}.",
                node=node.id,
            )


_PLAIN = frozenset(["id", "kind", "title", "notes", "label", "queue", "priority", "tier", "concurrency"])


def _check_common(case: Case, node: Node, path: Path, scope: Scope) -> None:
    for field in ("title", "label", "business_key", "prompt"):
        check_template(case, getattr(node, field), (*path, field), scope)
    check_template(
        case, node.with_, (*path, "with"), replace(scope, names=scope.names - ({"args"} - case.given))
    )
    if node.when:
        check_condition(
            case, node.when, (*path, "when"), replace(scope, names=scope.names - ({"args"} - case.given))
        )
    if node.concurrency is not None:
        check_template(case, node.concurrency.key, (*path, "concurrency", "key"), scope)
    if node.compensate is not None:
        after = scope.before if scope.before is None else scope.before | case.shape.bit[node.id]
        inside = replace(scope, before=after, names=scope.names | {"args", "result", "output"})
        check_call(case, node.compensate, (*path, "compensate"), inside)
    if node.timeout == 0:
        case.error(
            (*path, "timeout"),
            "bad_duration",
            f'The timeout of "{node.id}" is 0, so it can never finish.',
            "Write it like 30s, or leave it out.",
            node=node.id,
        )
    if node.tier == 2 and node.kind == "tool" and node.compensate is None:
        spec = case.tools.get(node.tool)
        if spec is not None and spec.is_write and not spec.reversible:
            case.warning(
                (*path, "tier"),
                "tier_2_without_undo",
                f'"{node.id}" acts by itself (tier 2), but nothing says how to take {node.tool} back.',
                "Add compensate: {tool: …, with: {…}}, declare undo on the tool, or write tier: 1.",
                node=node.id,
            )


def _check_model_of(case: Case, node: Node, path: Path) -> None:
    if node.agent and node.agent not in case.names("agents"):
        case.error(
            (*path, "agent"),
            "unknown_agent",
            f"There is no agent {shown(node.agent)}.",
            _cap(
                instead(node.agent, case.names("agents"), one_of="one of the agents")
                or f"add {node.agent} under agents"
            )
            + ".",
            node=node.id,
        )
    if node.model:
        check_model(case, node.model, (*path, "model"), node=node.id)


def _check_output_schema(case: Case, node: Node, path: Path) -> None:
    if isinstance(node.output, dict):
        report_schema(case, node.output, (*path, "output"), node=node.id)
        kinds = types(node.output)
        if case.output_of(node.id) is not None and kinds is not None and "object" not in kinds:
            case.error(
                (*path, "output"),
                "bad_schema",
                f'The output of "{node.id}" must be an object with named fields, not {words(kinds)}.',
                "Write {type: object, required: [answer], properties: {answer: …}}.",
                node=node.id,
            )
    elif node.output is not None:
        case.error(
            (*path, "output"),
            "bad_schema",
            f'The output of "{node.id}" is a JSON Schema, found {shown(node.output)}.',
            "Write {type: object, properties: {…}}.",
            node=node.id,
        )


def _agent(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.agent and not node.model:
        names = ", ".join(sorted(case.names("agents"))[:5])
        example = (
            f"agent: with the name of one of agents ({names})"
            if names
            else "an agent under agents first; none is described yet. Then name it with agent"
        )
        _missing(case, node, path, "agent", example)
    agent = case.document.agents.get(node.agent)
    if not node.prompt and (agent is None or not agent.instructions) and node.agent not in _ghosts(case):
        _missing(case, node, path, "prompt", "prompt: with what it should do")
    _check_model_of(case, node, path)
    _check_output_schema(case, node, path)


def _ghosts(case: Case) -> frozenset[str]:
    """Agents that are written but did not fit."""
    return case.names("agents") - frozenset(case.document.agents)


def _extract(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if node.output is None:
        _missing(case, node, path, "output", "output: with the JSON Schema of what to extract")
    if not node.prompt and node.with_ is None:
        _missing(case, node, path, "prompt", 'prompt: "… {{ steps.NODE.output }}" or with: with what to read')
    _check_model_of(case, node, path)
    _check_output_schema(case, node, path)


def _tool(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.tool:
        _missing(case, node, path, "tool", "tool: with the name of a tool")
        return
    spec = check_use(case, node.tool, (*path, "tool"), node=node.id)
    if spec is None:
        return
    proposed = node.id in case.proposed_by
    if proposed and node.with_ is not None:
        case.warning(
            (*path, "with"),
            "arguments_ignored",
            f'"{node.id}" takes its arguments from the approval "{case.proposed_by[node.id][0]}", '
            "exactly as approved; its own are not used.",
            "Move them to the approval's with.",
            node=node.id,
        )
    elif not proposed:
        target = (*path, "with") if node.with_ is not None else path
        # An approval whose `proposes` is misspelt may have meant this node.
        whole = all(case.is_tool_node(name) for name in case.proposed_by)
        check_arguments(case, spec, node.with_, target, node=node.id, whole=whole)


def _transform(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if "output" not in node.model_fields_set:
        _missing(case, node, path, "output", 'output: "{{ … }}" or a mapping of names to values')
    check_template(case, node.output, (*path, "output"), scope)


def _router(case: Case, node: Node, path: Path, scope: Scope) -> None:
    by_model = bool(node.agent or node.model or node.prompt)
    if not node.routes:
        _missing(case, node, path, "routes", "routes: [{name: big, when: inputs.amount > 1000}]")
    _check_model_of(case, node, path)
    seen: set[str] = set()
    for index, route in enumerate(node.routes):
        here: Path = (*path, "routes", index)
        if route.name in seen or route.name in ("else", "failed"):
            what = "is a port every router has" if route.name in ("else", "failed") else "stands twice"
            case.error(
                (*here, "name"),
                "duplicate_route",
                f'The route {shown(route.name)} of "{node.id}" {what}.',
                "Give it another name.",
                node=node.id,
            )
        seen.add(route.name)
        if route.when:
            check_condition(case, route.when, (*here, "when"), scope)
        elif not by_model:
            case.error(
                here,
                "missing_field",
                f'The route "{route.name}" of "{node.id}" has no condition, and no model picks.',
                "Add when: with an expression, or a model and prompt to the router.",
                node=node.id,
            )


def _aggregator(case: Case, node: Node, path: Path, scope: Scope) -> None:
    arriving = len({e.source for i, e in case.shape.incoming[node.id] if i not in case.shape.back})
    if node.join == "n_of_m":
        if node.n is None:
            _missing(case, node, path, "n", f"n: with how many of the {arriving or 'branches'} must succeed")
        elif node.n > arriving:
            case.error(
                (*path, "n"),
                "out_of_range",
                f'"{node.id}" waits for {node.n} branches, but {arriving} lead to it.',
                f"Write a number from 1 to {max(arriving, 1)}, or add edges.",
                node=node.id,
            )
    elif node.n is not None:
        case.warning(
            (*path, "n"),
            "field_not_used",
            f'n has no effect on "{node.id}": its join is {node.join or "all"}.',
            "Write join: n_of_m, or remove n.",
            node=node.id,
        )
    if not arriving:
        case.error(
            path,
            "missing_input",
            f'Nothing leads to the join "{node.id}".',
            f"Add edges to {node.id} from the branches it joins.",
            node=node.id,
        )
    inside = replace(scope, names=scope.names | {"results", "failed"})
    if isinstance(node.merge, str) and not is_template(node.merge):
        check_expression(case, node.merge, (*path, "merge"), inside)
    else:
        check_template(case, node.merge, (*path, "merge"), inside)


def _approval(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not (node.title or node.proposes or node.with_ is not None or node.schema_):
        _missing(
            case, node, path, "title", "title: with the question, and with: or proposes: what it is about"
        )
    if node.schema_ is not None:
        report_schema(case, node.schema_, (*path, "schema"), node=node.id)
    for index, shown_node in enumerate(node.show):
        _check_named(case, shown_node, (*path, "show", index), f'"{node.id}" shows', node)
    if node.proposes:
        _check_proposal(case, node, path)
    for index, rule in enumerate(node.quorum):
        if rule.of and node.assign.groups and rule.of not in node.assign.groups:
            case.warning(
                (*path, "quorum", index, "of"),
                "quorum_out_of_reach",
                f'"{node.id}" needs {rule.count} of {shown(rule.of)}, but is not assigned to that group.',
                f"Add {rule.of} to assign.groups.",
                node=node.id,
            )


def _check_named(case: Case, name: str, path: Path, what: str, node: Node) -> bool:
    if name in case.node_ids:
        return True
    case.error(
        path,
        "unknown_node",
        f"{what} the node {shown(name)}, which does not exist.",
        _cap(instead(name, case.node_ids - {node.id}, one_of="one of the nodes") or "remove it") + ".",
        node=node.id,
    )
    return False


def _check_proposal(case: Case, node: Node, path: Path) -> None:
    here = (*path, "proposes")
    if not _check_named(case, node.proposes, here, f'"{node.id}" proposes', node):
        return
    target = case.shape.nodes.get(node.proposes)
    if target is None:
        return
    if target.kind != "tool":
        case.error(
            here,
            "proposes_no_tool",
            f'"{node.id}" proposes "{target.id}", which is {article(target.kind)}; only a tool node can '
            "be proposed.",
            "Name the tool node that acts after the approval.",
            node=node.id,
        )
        return
    shape = case.shape
    starts = [e.to for _, e in shape.outgoing[node.id] if shape.port(e) == "approved"]
    if not any(t == target.id or shape.bit[t] & shape.before[target.id] for t in starts):
        case.error(
            here,
            "proposal_not_connected",
            f'"{node.id}" proposes "{target.id}", but approving it does not lead there.',
            f"Add the edge {{from: {node.id}.approved, to: {target.id}}}.",
            node=node.id,
        )
    spec = case.tools.get(target.tool)
    if spec is None:
        return
    if node.with_ is None and spec.parameters.get("required"):
        _missing(
            case, node, path, "with", f"with: the arguments of {spec.name}, since it proposes {target.id}"
        )
    else:
        check_arguments(case, spec, node.with_, (*path, "with"), node=node.id)


def _check(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.checks:
        _missing(
            case,
            node,
            path,
            "checks",
            'checks: [{check: expression, args: {that: "size(steps.draft.output.body) > 0"}}]',
        )
    for index, one in enumerate(node.checks):
        check_one(case, one.kind, one, (*path, "checks", index), scope)


def check_one(case: Case, kind: str, one: Check | Any, path: Path, scope: Scope) -> None:
    """One check or criterion: its arguments are there and can be read."""
    args: dict[str, Any] = one.args
    for name in CHECK_ARGS.get(kind, ()):
        if name not in args:
            example = (
                'that: "inputs.amount > 0"' if name == "that" else f'{name}: "{{{{ steps.NODE.output.… }}}}"'
            )
            case.error(
                path,
                "missing_argument",
                f"A check of kind {kind} needs the argument {shown(name)}.",
                f"Add {example} to args.",
                node=scope.node,
            )
    for name in args:
        if kind in CHECK_ARGS and name not in CHECK_ARGS[kind]:
            case.warning(
                (*path, "args", name),
                "unknown_argument",
                f"A check of kind {kind} has no argument {shown(name)}.",
                _cap(instead(name, CHECK_ARGS[kind])) + ".",
                node=scope.node,
            )
    if kind == "expression":
        that = args.get("that")
        if isinstance(that, str):
            check_condition(case, that, (*path, "args", "that"), scope)
        elif "that" in args:
            case.error(
                (*path, "args", "that"),
                "wrong_type",
                "that is an expression, written as text.",
                'Write it in quotes, as in that: "size(inputs.company) > 0".',
                node=scope.node,
            )
        return
    check_template(case, {k: v for k, v in args.items() if k != "schema"}, (*path, "args"), scope)
    if kind == "schema" and isinstance(args.get("schema"), dict):
        report_schema(case, args["schema"], (*path, "args", "schema"), node=scope.node)
    if kind == "grounded":
        for name, wanted in (("claim", frozenset({"string"})), ("sources", frozenset({"array", "string"}))):
            have = types(type_of_template(args[name], case.lookup)) if name in args else None
            if have is not None and not have & wanted:
                case.error(
                    (*path, "args", name),
                    "type_clash",
                    f"{name} of a grounded check takes {words(wanted)}, but gets {words(have)}.",
                    "Name a field that fits.",
                    node=scope.node,
                )


def _code(case: Case, node: Node, path: Path, scope: Scope) -> None:
    if not node.code.strip():
        _missing(case, node, path, "code", "code: with the Python to run, as in code: sum(amounts)")
    for problem in check_code(node.code, full=node.python == "full"):
        case.error(
            (*path, "code"),
            problem.code,
            f'Line {problem.line} of the code of "{node.id}": {problem.message}.',
            f"{problem.fix}.",
            node=node.id,
        )
    for name in node.with_ if isinstance(node.with_, dict) else ():
        if not is_name(str(name)):
            why = f"is what the code calls its {RESULT}" if name == RESULT else "is no name in Python"
            case.error(
                (*path, "with", name),
                "bad_name",
                f'{shown(name)} {why}, so the code of "{node.id}" cannot use it.',
                "Choose a name such as rows or amount_eur.",
                node=node.id,
            )
    if isinstance(node.output, dict):
        report_schema(case, node.output, (*path, "output"), node=node.id)
    elif node.output is not None:
        _check_output_schema(case, node, path)


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]


_BY_KIND: dict[str, Callable[[Case, Node, Path, Scope], None]] = {
    "agent": _agent,
    "extract": _extract,
    "tool": _tool,
    "transform": _transform,
    "router": _router,
    "aggregator": _aggregator,
    "approval": _approval,
    "check": _check,
    "timer": check_timer,
    "sensor": check_sensor,
    "map": check_map,
    "loop": check_loop,
    "subflow": check_subflow,
    "code": _code,
}
