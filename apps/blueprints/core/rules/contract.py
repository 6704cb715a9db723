"""The blueprint against its own contract: boundaries, checkpoints, gates, criteria, card, outputs."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from apps.blueprints.core.document import Criterion, ForbiddenAction, Node
from apps.blueprints.core.expression_types import type_of_template
from apps.blueprints.core.kinds import RUNNABLE
from apps.blueprints.core.problems import Path, article, shown
from apps.blueprints.core.rules.case import Case
from apps.blueprints.core.rules.names import Scope, check_condition, check_template
from apps.blueprints.core.rules.nodes import check_one
from apps.blueprints.core.rules.tools import report_schema, unknown_tool_fix
from apps.blueprints.core.schemas import check, misfits, types, words
from apps.blueprints.core.suggest import instead, nearest
from apps.blueprints.core.tools import ToolSpec

DURABLE = (
    "current_step", "completed_steps", "tool_calls", "retries", "approvals", "generated_artifacts",
    "committed_side_effects",
)  # fmt: skip
_AT_END = Scope(frozenset(["inputs", "steps", "run", "effects", "output", "outputs"]))
_IN_PREDICATES = Scope(frozenset(["tool", "args", "approval", "state", "inputs", "steps", "run", "effects"]))
_NEEDS_APPROVAL = re.compile(
    r"""^\s*tool\s*==\s*(['"])(?P<tool>[a-z][a-z0-9_]*)\1\s*&&\s*approval\s*==\s*null\s*$"""
)


def check_contract(case: Case) -> None:
    _check_requires(case)
    _check_schemas(case)
    _check_criteria(case)
    _check_boundaries(case)
    _check_checkpoints(case)
    _check_gates(case)
    _check_outputs(case)
    _check_card(case)
    _check_durable_state(case)
    for name in case.document.contract.tool_limits:
        if name not in case.tools and name not in case.names("tools"):
            case.warning(
                ("contract", "tool_limits", name),
                "unknown_tool",
                f"There is no tool {shown(name)} to limit.",
                _cap(unknown_tool_fix(case, name)) + ".",
            )


# --- what comes in and goes out ---------------------------------------------------------------------------


def _check_schemas(case: Case) -> None:
    for field in ("inputs", "outputs"):
        schema: dict[str, Any] = getattr(case.document.contract, field)
        path: Path = ("contract", field)
        report_schema(case, schema, path)
        kinds = types(schema)
        if schema and kinds is not None and "object" not in kinds:
            case.error(
                path,
                "bad_schema",
                f"contract.{field} describes an object with named fields, not {words(kinds)}.",
                "Write {type: object, properties: {…}}.",
            )
        elif schema and field == "inputs" and "type" not in schema and "properties" not in schema:
            known = {"type", "properties", "required", "additionalProperties", "title", "description"}
            if any(isinstance(v, dict) for k, v in schema.items() if k not in known):
                case.error(
                    path,
                    "bad_schema",
                    "contract.inputs is a JSON Schema; its fields belong under properties.",
                    "Write {type: object, properties: {company: {type: string}}}.",
                )


def _check_outputs(case: Case) -> None:
    outputs = case.document.outputs
    check_template(case, outputs, ("outputs",), _AT_END)
    wanted = case.document.contract.outputs
    if not wanted or check(wanted):
        return
    for misfit in misfits(type_of_template(outputs, case.lookup), wanted, "the outputs of the contract"):
        if misfit.code == "missing_argument":
            if misfit.path == ():
                continue  # Named one by one below.
            case.error(("outputs", *misfit.path), "missing_output", misfit.message, misfit.fix)
        elif misfit.code == "unknown_argument":
            case.warning(
                ("outputs", *misfit.path),
                "undeclared_output",
                f"The output {shown(misfit.path[-1])} is not in contract.outputs.",
                f"Declare it under contract.outputs.properties, or: {misfit.fix}",
            )
        else:
            case.error(("outputs", *misfit.path), misfit.code, _cap(misfit.message), misfit.fix)
    for name in wanted.get("required") or ():
        if isinstance(name, str) and name not in outputs and name not in case.names("outputs"):
            near = nearest(name, outputs)
            case.error(
                ("outputs",) if outputs else (),
                "missing_output",
                f"The contract promises the output {shown(name)}, but outputs does not give it.",
                f'Rename "{near}" to "{name}".'
                if near
                else f'Add {name}: "{{{{ steps.NODE.output.… }}}}" to outputs.',
            )


def _check_criteria(case: Case) -> None:
    criteria = case.document.contract.success_criteria.output
    for index, criterion in enumerate(criteria):
        path: Path = ("contract", "success_criteria", "output", index)
        if not isinstance(criterion, Criterion):
            continue
        if criterion.check is None or criterion.check == "person":
            if criterion.args and criterion.check is None:
                case.error(
                    path,
                    "missing_field",
                    f"The criterion {shown(criterion.text)} has args but no check.",
                    "Add check: expression, schema or grounded.",
                )
            continue
        check_one(case, criterion.check, criterion, path, _AT_END)


# --- boundaries -------------------------------------------------------------------------------------------


def _check_boundaries(case: Case) -> None:
    boundaries = case.document.contract.boundaries
    for index, name in enumerate(boundaries.allowed_tools):
        path: Path = ("contract", "boundaries", "allowed_tools", index)
        if name in boundaries.allowed_tools[:index]:
            case.warning(path, "named_twice", f"{shown(name)} stands twice.", "Remove one of them.")
        if name not in case.tools and name not in case.names("tools"):
            case.warning(
                path,
                "unknown_tool",
                f"The contract allows {shown(name)}, but there is no such tool.",
                f"{_cap(unknown_tool_fix(case, name))}, or remove it.",
            )
    for index, action in enumerate(boundaries.forbidden_actions):
        _check_forbidden(case, action, ("contract", "boundaries", "forbidden_actions", index))


def _check_forbidden(case: Case, action: str | ForbiddenAction, path: Path) -> None:
    if isinstance(action, ForbiddenAction) and action.when:
        check_condition(case, action.when, (*path, "when"), _IN_PREDICATES)
        return
    name = action if isinstance(action, str) else action.name
    declared = set(case.tools) | {a for spec in case.tools.values() for a in spec.actions}
    if name in declared or name.removesuffix("_without_approval") in declared:
        return
    near = nearest(name, declared)
    case.warning(
        path,
        "not_enforceable",
        f"{shown(name)} is not enforceable: no tool of this blueprint declares an action of that name.",
        (f'Write "{near}", or ' if near else "Write ")
        + "{name: …, when: \"tool == '…' && …\"} so that the gateway can refuse it.",
    )


# --- people -----------------------------------------------------------------------------------------------


def _check_checkpoints(case: Case) -> None:
    for index, checkpoint in enumerate(case.document.contract.human_checkpoints):
        path: Path = ("contract", "human_checkpoints", index)
        step = checkpoint.step
        if step not in case.node_ids:
            approvals = [n.id for _, n in case.nodes() if n.kind == "approval"]
            near = nearest(step, case.node_ids) or (approvals[0] if len(approvals) == 1 else None)
            case.error(
                (*path, "step"),
                "unknown_checkpoint",
                f"The human checkpoint {shown(step)} names no node.",
                (f'Write "{near}", or add' if near else "Add")
                + f" a node {{id: {_identifier(step)}, kind: approval}}.",
            )
            continue
        node = case.shape.nodes.get(step)
        if node is None:
            continue
        if node.kind != "approval":
            if checkpoint.required and not _asks(case, node):
                case.error(
                    (*path, "step"),
                    "checkpoint_without_gate",
                    f'The contract requires a person at "{step}", but it is {article(node.kind)} and '
                    "nobody is asked.",
                    f"Name an approval node, or add one before {step} with proposes: {step}.",
                    node=step,
                )
            continue
        out = [case.shape.port(e) for _, e in case.shape.outgoing[step]]
        if checkpoint.timeout_action == "edge" and "expired" not in out:
            case.error(
                (*path, "timeout_action"),
                "missing_port",
                f'When "{step}" is overdue the run should follow an edge, but none leaves by its port '
                "expired.",
                f"Add an edge {{from: {step}.expired, to: …}}, or write timeout_action: pause.",
                node=step,
            )
        if checkpoint.timeout_action != "pause" and node.due is None:
            case.warning(
                path,
                "no_due_date",
                f'"{step}" has no due date, so its timeout action {checkpoint.timeout_action} never happens.',
                f"Add due: 4h to the node {step}.",
                node=step,
            )


def _asks(case: Case, node: Node) -> bool:
    return node.id in case.proposed_by or node.tier == 1


def _check_gates(case: Case) -> None:
    """Writes no approval stands before. Where the contract wants one, the gateway asks by itself."""
    shape = case.shape
    approvals = [n.id for n in shape.nodes.values() if n.kind == "approval"]
    open_ways = shape.reached(closed=[(a, p) for a in approvals for p in ("approved", "answered")])
    needs = _tools_that_need_approval(case)
    for path, node in case.nodes():
        if node.kind not in RUNNABLE:
            continue
        for spec, place in _writes(case, node, path):
            asked_for = bool(needs & {spec.name, *spec.actions})
            if node.tier == 0 and node.kind == "tool":
                case.error(
                    (*path, "tier"),
                    "tier_forbids_write",
                    f'"{node.id}" may only suggest (tier 0), but {spec.name} changes something outside.',
                    "Write tier: 1, or use a tool that only reads.",
                    node=node.id,
                )
            elif _asks(case, node) or (node.kind == "agent" and node.tier != 2):
                continue  # A person approves the proposal, the step, or whatever a model has chosen.
            elif node.kind == "tool" and node.id not in open_ways:
                if asked_for:
                    case.warning(
                        place,
                        "approval_not_bound",
                        f'An approval stands before "{node.id}", but it does not approve the exact call of '
                        f"{spec.name}, so a person is asked twice.",
                        f"Write proposes: {node.id} on that approval, and give it the arguments in its with.",
                        node=node.id,
                    )
            else:
                case.warning(
                    place,
                    "write_without_gate",
                    f'"{node.id}" can change the world with {spec.name} and no approval stands before it'
                    + ("; the contract asks for one." if asked_for else "."),
                    f"Add an approval before it with proposes: {node.id}, or write tier: 1."
                    if node.kind == "tool"
                    else "Write tier: 1, or give the agent read tools only.",
                    node=node.id,
                )
    _check_way_out(case, open_ways)


def _tools_that_need_approval(case: Case) -> set[str]:
    found: set[str] = set()
    for action in case.document.contract.boundaries.forbidden_actions:
        name = action if isinstance(action, str) else action.name
        when = "" if isinstance(action, str) else action.when
        match = _NEEDS_APPROVAL.match(when)
        if match:
            found.add(match["tool"])
        elif not when and name.endswith("_without_approval"):
            found.add(name.removesuffix("_without_approval"))
    return found


def _writes(case: Case, node: Node, path: Path) -> list[tuple[ToolSpec, Path]]:
    """Write tools a node may call, each with where that is said."""
    if node.kind == "tool":
        spec = case.tools.get(node.tool)
        return [(spec, (*path, "tool"))] if spec is not None and spec.is_write else []
    agent = case.document.agents.get(node.agent) if node.kind == "agent" else None
    specs = [case.tools[name] for name in agent.tools if name in case.tools] if agent else []
    return [(spec, (*path, "agent")) for spec in specs if spec.is_write]


def _check_way_out(case: Case, open_ways: set[str]) -> None:
    """Private data, untrusted content and a way out without a person between them."""
    shape = case.shape
    private = any(
        spec.name in case.document.tools and case.document.connections for spec in case.tools.values()
    )
    inputs = case.document.contract.inputs.get("properties")
    if isinstance(inputs, dict):
        private = private or any(
            isinstance(s, dict) and s.get("format") in ("file", "files") for s in inputs.values()
        )
    if not private:
        return
    untrusted = {
        node.id
        for node in shape.nodes.values()
        for name in (
            node.tool,
            *(case.document.agents[node.agent].tools if node.agent in case.document.agents else ()),
        )
        if name in case.tools and case.tools[name].open_world and not case.tools[name].is_write
    }
    for path, node in case.nodes():
        for spec, place in _writes(case, node, path):
            before = {node.id, *shape.names(shape.ever_before[node.id])}
            asked = _asks(case, node) or (node.kind == "agent" and node.tier != 2)
            if spec.sinks and not asked and node.id in open_ways and untrusted & before:
                case.warning(
                    place,
                    "untrusted_way_out",
                    f'"{node.id}" sends with {spec.name} after reading untrusted content '
                    f"({', '.join(sorted(untrusted & before)[:3])}) "
                    "and private data, and no person looks.",
                    "Add an approval before it, or clean the untrusted part with an extract node.",
                    node=node.id,
                )


# --- the card and the rest --------------------------------------------------------------------------------


def _check_card(case: Case) -> None:
    card = case.document.card
    report: Callable[..., None] = case.error if case.publishing else case.warning
    examples = {
        "purpose": "purpose: what it is for, in one sentence",
        "must_never": "must_never: [what it must never do]",
        "business_owner": "business_owner: a role or name",
        "technical_owner": "technical_owner: a role or name",
        "model_steward": "model_steward: a role or name",
    }  # fmt: skip
    for field, example in examples.items():
        if not getattr(card, field) and field not in _written(case.raw("card")):
            report(
                ("card",),
                "card_incomplete",
                f"The agent card has no {field}; a published blueprint needs it.",
                f"Add {example} under card.",
            )
        elif not getattr(card, field):
            report(
                ("card", field),
                "card_incomplete",
                f"{field} of the agent card is empty; a published blueprint needs it.",
                f"Write {example}.",
            )
    if not card.runbook:
        case.warning(
            ("card",),
            "no_runbook",
            "There is no runbook: nobody knows what to do when it goes wrong.",
            "Add runbook: runbook.md under card.",
        )
    if case.publishing and not case.document.contract.goal:
        case.warning(("contract",), "no_goal", "The contract has no goal.", "Add goal: one sentence.")


def _written(value: Any) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _check_durable_state(case: Case) -> None:
    for index, name in enumerate(case.document.contract.durable_state.required):
        if name not in DURABLE:
            case.warning(
                ("contract", "durable_state", "required", index),
                "unknown_state",
                f"The runtime keeps no state called {shown(name)}.",
                _cap(instead(name, DURABLE)) + ".",
            )


def _check_requires(case: Case) -> None:
    text = case.document.metadata.requires
    if not text.strip():
        return
    path: Path = ("metadata", "requires")
    satisfied = satisfies(case.runtime, text)
    if satisfied is None:
        case.error(
            path,
            "bad_requires",
            f"requires is {shown(text)}, which names no versions.",
            'Write it like ">=0.1" or ">=0.1,<2".',
        )
    elif not satisfied:
        case.error(
            path,
            "requires_not_satisfied",
            f"The blueprint requires {text}, this runtime is {case.runtime}.",
            "Install a runtime that fits, or change requires.",
        )


_CLAUSE = re.compile(r"(>=|<=|==|!=|~=|>|<|=)?\s*v?(\d+(?:\.\d+)*)")


def satisfies(version: str, requires: str) -> bool | None:
    """Whether a version is among those named, such as `>=0.1,<2`; None when the text cannot be read."""
    have = _numbers(version)
    for clause in requires.split(","):
        match = _CLAUSE.fullmatch(clause.strip())
        if match is None:
            return None
        sign, want = match[1] or "==", _numbers(match[2])
        size = max(len(have), len(want))
        one, other = have + (0,) * (size - len(have)), want + (0,) * (size - len(want))
        holds = {
            ">=": one >= other, "<=": one <= other, ">": one > other, "<": one < other, "!=": one != other,
            "==": one == other, "=": one == other,
            "~=": one >= other and one[: max(len(want) - 1, 1)] == other[: max(len(want) - 1, 1)],
        }[sign]  # fmt: skip
        if not holds:
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part[:9]) for part in match[0].split(".")) if match else (0,)


def _identifier(text: str) -> str:
    name = re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_")[:64]
    return name if name[:1].isalpha() else f"approve_{name}"[:64].rstrip("_")


def _cap(text: str) -> str:
    return text[:1].upper() + text[1:]
