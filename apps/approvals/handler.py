"""The node kind `approval`: puts the exact action, what it will do and the evidence before people.

It runs once per round and ends in a question; the decision completes the step (`services.decide`), so that
nothing of it runs again.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from apps.approvals.core.follows import acts_after
from apps.approvals.core.states import Verb
from apps.approvals.core.verbs import allowed_verbs
from apps.blueprints.core.document import Node
from apps.blueprints.ports import builtin_tools, describe_call
from apps.blueprints.selectors import tools_of
from apps.runs.errors import StepError
from apps.runs.ports import Ask, Context, Outcome, Question
from mirrorneuron.base.clock import now


def approval(context: Context) -> Outcome:
    """Ask people about the arguments this node proposes."""
    node = context.node
    proposal = context.render(node.with_ or {})
    if not isinstance(proposal, dict):
        raise StepError(
            f'Node "{node.id}" proposes a {type(proposal).__name__}, expected arguments by name.',
            code="bad_proposal",
            permanent=True,
            next="Write `with` as a mapping of argument names to values.",
        )
    context.set_input(proposal)
    tool = _proposed_tool(context)
    verbs = allowed_verbs(node, context.document.graph.edges, context.round)
    return Ask(
        Question(
            title=str(context.render(node.title)) if node.title else node.id.replace("_", " "),
            proposal=proposal,
            tool=tool,
            effect_summary=_effect(context, tool, proposal),
            evidence=_evidence(context),
            labels=_labels(context),
            assign=node.assign.model_dump(),
            quorum=[rule.model_dump() for rule in node.quorum],
            verbs=verbs,
            due_at=now() + timedelta(seconds=node.due) if node.due is not None else None,
            timeout_action=_timeout_action(context),
            round=context.round,
            answer_schema=node.schema_ if Verb.ANSWER in verbs else None,
        )
    )


def _proposed_tool(context: Context) -> str:
    proposed = context.document.node(context.node.proposes) if context.node.proposes else None
    return proposed.tool if proposed else ""


def _effect(context: Context, tool: str, proposal: dict[str, Any]) -> str:
    """One sentence: what will happen if approved."""
    if tool:
        said = describe_call(context.document, tool, proposal)
        if said:
            return said
        spec = tools_of(context.document).get(tool)
        if spec is not None and spec.permission:
            return f"It will {spec.permission}."
        return f"The tool {tool} will be called with exactly these arguments."
    goes_on = "The run goes on with exactly these values" if proposal else "The run goes on"
    acts = acts_after(context.document, context.node, builtin_tools())
    if not acts:
        return f"{goes_on}; nothing outside is changed before somebody is asked again, or it ends."
    return f"{goes_on}, and what follows changes something outside: {', '.join(f'“{one}”' for one in acts)}."


def _evidence(context: Context) -> list[dict[str, Any]]:
    steps = context.names()["steps"] if context.node.show else {}
    found = []
    for node_id in context.node.show:
        shown: Node | None = context.document.node(node_id)
        step = steps.get(node_id) or {}
        if shown is None or step.get("status") not in (None, "succeeded"):
            continue  # A skipped step has nothing to show.
        found.append({"step": node_id, "title": shown.title or node_id, "output": step.get("output")})
    return found


def _labels(context: Context) -> dict[str, list[str]]:
    """Where each argument came from. A `with` that is one expression gives all its arguments its labels."""
    template = context.node.with_ or {}
    if isinstance(template, dict):
        return {name: context.labels_of(value) for name, value in template.items()}
    labels = context.labels_of(template)
    rendered = context.render(template)
    return dict.fromkeys(rendered, labels) if isinstance(rendered, dict) else {}


def _timeout_action(context: Context) -> str:
    checkpoints = context.document.contract.human_checkpoints
    return next((c.timeout_action for c in checkpoints if c.step == context.node.id), "pause")
