"""Handlers of the node kinds that touch a model or a tool: `agent`, `extract`, `tool`, model routers; and
where the handler of `code` is plugged in.

They say what a step works on; the loop and the gateway do the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from apps.agents import gateway
from apps.agents.core.clean import is_clean
from apps.agents.core.prompt import fit
from apps.agents.loop import Finished, Work, run_agent
from apps.agents.polling import sensor_with
from apps.agents.providers import FREE
from apps.agents.sandbox.step import code
from apps.blueprints.core import expressions
from apps.blueprints.core.document import Agent, Document, ModelChoice, Node, ToolCall
from apps.runs.errors import StepError
from apps.runs.ports import (
    Context,
    Done,
    Happened,
    Outcome,
    StepHandler,
    Undone,
    handler_for,
    register_handler,
)

DEFAULT_MODEL = "offline:extractive"
MAX_FALLBACKS = 5


# --- tool -------------------------------------------------------------------------------------------------


def tool(context: Context) -> Outcome:
    """One call with given arguments; those of an approval that proposes this node, exactly as approved."""
    node = context.node
    approval = _approval_of(context)
    arguments, labels = _arguments(context, approval)
    context.set_input(arguments)
    key = str(context.render(node.business_key)) if node.business_key else ""
    output = gateway.call_tool(
        context, node.tool, arguments, business_key=key, labels=labels, approved=approval is not None
    )
    added = gateway.labels_added(context, node.tool)
    return Done(output, labels=tuple(sorted({*added, *(x for found in labels.values() for x in found)})))


def _arguments(
    context: Context, approval: tuple[str, dict[str, Any]] | None
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    if approval is not None:
        name, arguments = approval
        labels = context.labels_of(f"steps.{name}.output")
        return arguments, dict.fromkeys(arguments, labels)
    template = context.node.with_ if context.node.with_ is not None else {}
    given = context.render(template)
    if not isinstance(given, Mapping):
        raise StepError(
            f'Node "{context.node.id}" gives its tool a {type(given).__name__}, expected arguments by name.',
            code="bad_arguments",
            permanent=True,
            next="Write `with` as a mapping of argument names to values.",
        )
    whole = None if isinstance(template, Mapping) else context.labels_of(template)
    arguments = {key: value for key, value in given.items() if value is not None}
    return arguments, {
        key: whole if whole is not None else context.labels_of(template[key]) for key in arguments
    }


def _approval_of(context: Context) -> tuple[str, dict[str, Any]] | None:
    """The approval that proposes this node and has been decided, with the final arguments."""
    steps = context.names()["steps"]
    for node in reversed(context.document.graph.nodes):
        if node.kind != "approval" or node.proposes != context.node.id:
            continue
        step = steps.get(node.id) or {}
        output = step.get("output")
        if step.get("port") == "approved" and isinstance(output, Mapping):
            return node.id, dict(output)
    return None


def undo(context: Context) -> Outcome:
    """Take back what a step has done: by its node's `compensate`, else by what its tools declare as `undo`,
    one call for each of its effects, the latest first."""
    done = context.undoes()
    results = []
    for ordinal, (call, effect) in enumerate(_calls_back(context, done)):
        names = {"args": effect.arguments, "result": effect.result, "output": done.output}
        arguments = context.render(call.with_, **names)
        results.append(
            {
                "tool": call.tool,
                "undoes": effect.tool,
                "result": gateway.call_tool(context, call.tool, arguments, ordinal=ordinal, undoing=True),
            }
        )
    return Done({"undone": results})


def _calls_back(context: Context, done: Undone) -> list[tuple[ToolCall, Happened]]:
    if context.node.compensate is not None:
        return [(context.node.compensate, effect) for effect in done.effects[:1]]
    declared = context.document.tools
    found = [(declared[effect.tool].undo, effect) for effect in done.effects if effect.tool in declared]
    return [(call, effect) for call, effect in found if call is not None]


# --- agent, extract ---------------------------------------------------------------------------------------


def agent(context: Context) -> Outcome:
    """A model over its allowed tools until the output schema holds."""
    node = context.node
    who = _agent_of(context)
    work = _work(context, who, node.output if isinstance(node.output, dict) else None)
    finished = run_agent(context, work)
    return Done(finished.value, labels=finished.labels)


def extract(context: Context) -> Outcome:
    """A model without tools and with a strict schema. A narrow enough schema cleans the labels."""
    node = context.node
    if not isinstance(node.output, dict):
        raise StepError(
            f'Node "{node.id}" of kind extract has no output schema.',
            code="bad_extract",
            permanent=True,
            next="Give it `output` as a JSON Schema.",
        )
    who = _agent_of(context).model_copy(update={"tools": []})
    instructions = who.instructions or "Extract the wanted fields from the material. Copy, never guess."
    work = _work(context, who.model_copy(update={"instructions": instructions}), node.output)
    finished = run_agent(context, work)
    return Done(finished.value, labels=() if is_clean(finished.value, node.output) else finished.labels)


def _agent_of(context: Context) -> Agent:
    node = context.node
    if not node.agent:
        return Agent()
    found = context.document.agents.get(node.agent)
    if found is None:
        raise StepError(
            f'Node "{node.id}" names the agent "{node.agent}", which does not exist.',
            code="agent_not_found",
            permanent=True,
        )
    return found


def _work(context: Context, who: Agent, schema: dict[str, Any] | None) -> Work:
    node, document = context.node, context.document
    prompt = str(context.render(node.prompt)) if node.prompt else document.contract.goal
    seen, labels = _seen(context, who)
    fitted = fit(seen, document.contract.context.max_tokens)
    models, choice = _models(document, node.model or who.model)
    if context.simulate:
        # A simulated run sends nothing anywhere, so it asks no model that is not here.
        models = tuple(m for m in models if m.partition(":")[0] in FREE) or (DEFAULT_MODEL,)
    shown = {"prompt": prompt, "sees": fitted.material, "model": models[0]}
    context.set_input(shown | ({"left_out": fitted.left_out} if fitted.left_out else {}))
    return Work(
        models=models,
        instructions=who.instructions,
        prompt=prompt,
        schema=schema,
        material=fitted.material,
        labels=tuple(sorted(labels)),
        own_tools=tuple(who.tools),
        max_turns=who.max_turns,
        max_output_tokens=choice.max_output_tokens,
        temperature=choice.temperature,
    )


def _seen(context: Context, who: Agent) -> tuple[dict[str, Any], set[str]]:
    """What the step sees, by name, and its labels: `sees`, else what the prompt names; and `with`."""
    node = context.node
    mentioned = sorted(expressions.references(node.prompt)) if node.prompt else []
    names = list(who.sees) or [m for m in mentioned if m.partition(".")[0] in ("inputs", "steps")]
    seen: dict[str, Any] = {}
    labels = set(context.labels_of(node.prompt)) if node.prompt else set()
    for name in names:
        try:
            value = context.evaluate(name)
        except StepError:
            continue  # a step that has not run, or an input that was not given: nothing to see
        if value is not None:
            seen[name] = value
            labels.update(context.labels_of(name))
    if node.with_ is not None:
        given = context.render(node.with_)
        seen |= given if isinstance(given, dict) else {"input": given}
        labels.update(context.labels_of(node.with_))
    return seen, labels


def _models(document: Document, name: str) -> tuple[tuple[str, ...], ModelChoice]:
    """`provider:model` of a name and of its fallbacks, with the first one's settings."""
    if not name:
        return (DEFAULT_MODEL,), ModelChoice(use=DEFAULT_MODEL)
    if name not in document.models and ":" in name:
        return (name,), ModelChoice(use=name)
    found: list[ModelChoice] = []
    while name and len(found) < MAX_FALLBACKS:
        choice = document.models.get(name)
        if choice is None:
            raise StepError(
                f'There is no model "{name}" in this blueprint.',
                code="model_unknown",
                permanent=True,
                next="Add it under `models`.",
            )
        found.append(choice)
        name = choice.fallback
    return tuple(dict.fromkeys(c.use for c in found)), found[0]


# --- router -----------------------------------------------------------------------------------------------


def asks_model(node: Node) -> bool:
    """Whether a router's routes are picked by a model."""
    return bool(node.model or node.agent or node.prompt)


def router_with(conditional: StepHandler) -> StepHandler:
    """A router handler that asks a model where the node says so and leaves the rest to the engine's own."""

    def router(context: Context) -> Outcome:
        if not asks_model(context.node):
            return conditional(context)
        finished = _pick(context)
        route = finished.value["route"]
        return Done({"route": route, "routes": [route]}, port=route, labels=finished.labels)

    return router


def _pick(context: Context) -> Finished:
    node = context.node
    choices = [
        {"const": r.name, "description": r.description or re.sub(r"_", " ", r.name)} for r in node.routes
    ]
    choices.append({"const": "else", "description": "None of the others fits."})
    schema = {
        "type": "object",
        "required": ["route"],
        "additionalProperties": False,
        "properties": {"route": {"oneOf": choices}},
    }
    who = _agent_of(context)
    instructions = who.instructions or "Choose the one route that fits the material best."
    return run_agent(
        context, _work(context, who.model_copy(update={"instructions": instructions, "tools": []}), schema)
    )


def register() -> None:
    """Plug the handlers into the engine. `runs` has registered its own router before."""
    register_handler("tool", tool)
    register_handler("agent", agent)
    register_handler("extract", extract)
    register_handler("code", code)
    register_handler("undo", undo)
    conditional = handler_for("router")
    assert conditional is not None, "apps.runs registers its handlers first"
    register_handler("router", router_with(conditional))
    waiting = handler_for("sensor")
    assert waiting is not None, "apps.runs registers its handlers first"
    register_handler("sensor", sensor_with(waiting))
