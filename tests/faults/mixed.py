"""The blueprints of the soak: every kind of step a kill can hit, against the counting remote.

Every effect carries a `reference` that starts with the run's own and is used by one step of one round or item
only, so that the remote's log alone says what happened how often.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

RETRY = {"max_attempts": 12, "base": 0.2, "factor": 1.5, "max": 2}
"""The remote is in a bad mood now and then; nothing may fail because of that."""


def all_of(url: str) -> dict[str, str]:
    """Blueprint texts by name."""
    makers = (chain, full, classes, timers, rounds, race, question, items, loops, nested, parent, undone)
    return {maker.__name__: text(f"soak_{maker.__name__}", url, **maker()) for maker in makers}


def text(name: str, url: str, nodes: list, edges: list, agents: bool = False, **contract: Any) -> str:
    """A blueprint with the tools charge (keyed), mark (idempotent), note (opaque) and book (with a probe).

    JSON is YAML too.
    """
    tools = {
        "charge": _tool(f"{url}/keyed/charge", "keyed"),
        "mark": _tool(f"{url}/put/mark", "idempotent"),
        "note": _tool(f"{url}/plain/note", "opaque"),
        "book": _tool(f"{url}/plain/book", "probe")
        | {"probe": {"method": "GET", "url": url + "/probe/{{ args.reference }}", "present": "body.present"}},
    }
    document = {
        "apiVersion": "mirrorneuron/v1",
        "kind": "Blueprint",
        "metadata": {"name": name, "title": name},
        "card": {
            "purpose": "Soak.", "must_never": ["act twice"], "business_owner": "tests",
            "technical_owner": "tests", "model_steward": "tests",
        },
        "contract": {
            "goal": "Finish, once.",
            "inputs": {
                "type": "object", "required": ["reference"],
                "properties": {"reference": {"type": "string"}},
            },
            "boundaries": {"allowed_tools": list(tools)},
            "recovery_policy": {"retry_budget": 20, "run_retry_budget": 10000},
            **contract,
        },
        "tools": tools,
        "graph": {"nodes": nodes, "edges": edges},
    }  # fmt: skip
    if agents:
        document["models"] = {"quick": {"use": "scripted:thinker"}}
        document["agents"] = {"thinker": {"model": "quick", "instructions": "Be brief.", "tools": []}}
    return json.dumps(document)


def _tool(url: str, effect: str) -> dict:
    return {
        "kind": "http",
        "description": "Tell the remote service.",
        "parameters": {
            "type": "object", "required": ["reference"], "properties": {"reference": {"type": "string"}},
        },
        "method": "POST",
        "url": url,
        "effect": effect,
        "open_world": False,
        "timeout": "1s",
    }  # fmt: skip


def value(id: str, output: object, **more: object) -> dict:
    return {"id": id, "kind": "transform", "output": output, **more}


def effect(id: str, tool: str, reference: str = "", **more: object) -> dict:
    of_run = "{{ inputs.reference + '." + id + "' }}"
    return {
        "id": id, "kind": "tool", "tool": tool, "tier": 2, "retry": RETRY,
        "with": {"reference": reference or of_run}, **more,
    }  # fmt: skip


def line(*ids: str) -> list[dict]:
    return [{"from": a, "to": b} for a, b in pairwise(ids)]


def chain() -> dict:
    """Ten values, each made of the one before."""
    ids = [f"n{i}" for i in range(10)]
    nodes = [value("n0", {"count": 0})]
    nodes += [
        value(id, {"count": "{{ steps." + before + ".output.count + 1 }}"}) for before, id in pairwise(ids)
    ]
    check = {"id": "check", "kind": "check", "checks": [{"args": {"that": "steps.n9.output.count == 9"}}]}
    return {"nodes": [*nodes, check], "edges": line(*ids, "check")}


def full() -> dict:
    """A model, an effect, a question, an effect that the answer allows."""
    nodes = [
        value("begin", {"reference": "{{ inputs.reference }}"}),
        {
            "id": "think", "kind": "agent", "agent": "thinker", "retry": RETRY,
            "prompt": "Say something about {{ inputs.reference }}.",
            "output": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
        },
        effect("first", "charge"),
        {
            "id": "ask", "kind": "approval", "title": "Go on?", "proposes": "second",
            "with": {"reference": "{{ inputs.reference + '.second' }}"},
        },
        {"id": "second", "kind": "tool", "tool": "note", "retry": RETRY},
        value("finish", {"said": "{{ steps.think.output.text }}"}),
    ]  # fmt: skip
    edges = [*line("begin", "think", "first", "ask"), {"from": "ask.approved", "to": "second"},
             *line("second", "finish")]  # fmt: skip
    return {"nodes": nodes, "edges": edges, "agents": True}


def classes() -> dict:
    """One effect of each class, side by side."""
    tools = ("charge", "mark", "note", "book")
    nodes = [
        value("begin", 1),
        *(effect(f"do_{tool}", tool) for tool in tools),
        {"id": "join", "kind": "aggregator"},
        value("finish", {"done": True}),
    ]
    edges = [{"from": "begin", "to": f"do_{tool}"} for tool in tools]
    edges += [{"from": f"do_{tool}", "to": "join"} for tool in tools]
    return {"nodes": nodes, "edges": [*edges, *line("join", "finish")]}


def timers() -> dict:
    """Timers in a row and side by side, with an effect after them."""
    nodes = [
        value("begin", 1),
        {"id": "short", "kind": "timer", "duration": "200ms"},
        {"id": "long", "kind": "timer", "duration": "1s"},
        {"id": "join", "kind": "aggregator"},
        effect("after", "charge"),
    ]
    edges = [
        {"from": "begin", "to": "short"}, {"from": "begin", "to": "long"},
        {"from": "short", "to": "join"}, {"from": "long", "to": "join"}, {"from": "join", "to": "after"},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def rounds() -> dict:
    """A back edge: three rounds, an effect in each."""
    nodes = [
        value("begin", {"wanted": 3}),
        effect("draft", "charge", "{{ inputs.reference + '.draft' + string(round) }}"),
        {"id": "enough", "kind": "check", "checks": [{"args": {"that": "round >= 3"}}]},
        effect("last", "note"),
    ]
    edges = [
        *line("begin", "draft", "enough"),
        {"from": "enough.fail", "to": "draft", "max_rounds": 5},
        {"from": "enough.pass", "to": "last"},
    ]
    return {"nodes": nodes, "edges": edges}


def race() -> dict:
    """The first answer settles the join; the losers are cancelled or finish for nothing."""
    nodes = [
        value("begin", 1),
        {"id": "slow", "kind": "timer", "duration": "2s"},
        effect("loser", "mark"),
        value("quick", {"won": True}),
        {"id": "first", "kind": "aggregator", "join": "first_success"},
        effect("then", "charge"),
    ]
    edges = [
        {"from": "begin", "to": "slow"}, {"from": "slow", "to": "loser"}, {"from": "begin", "to": "quick"},
        {"from": "loser", "to": "first"}, {"from": "quick", "to": "first"}, {"from": "first", "to": "then"},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def question() -> dict:
    """A person says yes or no; each way has its effect."""
    nodes = [
        value("begin", 1),
        {"id": "ask", "kind": "approval", "title": "Yes?", "with": {"reference": "{{ inputs.reference }}"}},
        effect("yes", "note"),
        effect("no", "charge"),
        {"id": "join", "kind": "aggregator"},
    ]
    edges = [
        *line("begin", "ask"),
        {"from": "ask.approved", "to": "yes"}, {"from": "ask.rejected", "to": "no"},
        {"from": "yes", "to": "join"}, {"from": "no", "to": "join"},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def body(*nodes: dict, edges: list | None = None) -> dict:
    return {"nodes": list(nodes), "edges": line(*(n["id"] for n in nodes)) if edges is None else edges}


def items() -> dict:
    """A map of five items, each a value and an effect, three at a time."""
    send = effect("send", "charge", "{{ inputs.reference + '.send' + string(index) }}")
    nodes = [
        value("list", [1, 2, 3, 4, 5]),
        {
            "id": "each", "kind": "map", "items": "{{ steps.list.output }}",
            "max_parallel": 3, "retry_budget": 99,
            "body": body(value("double", "{{ item * 2 }}"), send),
        },
        value("sum", {"count": "{{ size(steps.each.output) }}"}),
    ]  # fmt: skip
    return {"nodes": nodes, "edges": line("list", "each", "sum")}


def loops() -> dict:
    """A loop of four rounds with an effect and a short wait in each."""
    nodes = [
        {
            "id": "again", "kind": "loop", "max_rounds": 9, "condition": "round >= 4",
            "body": body(
                value("count", {"n": "{{ round }}"}),
                effect("ping", "mark", "{{ inputs.reference + '.ping' + string(round) }}"),
                {"id": "breathe", "kind": "timer", "duration": "50ms"},
            ),
        },
        effect("after", "book"),
    ]  # fmt: skip
    return {"nodes": nodes, "edges": line("again", "after")}


def nested() -> dict:
    """A loop in a map, an effect for each item, and a question at the end."""
    inner = {
        "id": "try", "kind": "loop", "max_rounds": 3, "condition": "round >= 2",
        "body": body(value("think", {"n": "{{ round }}"})),
    }  # fmt: skip
    send = effect("send", "note", "{{ inputs.reference + '.send' + string(index) }}")
    nodes = [
        value("list", [1, 2, 3]),
        {
            "id": "each", "kind": "map", "items": "{{ steps.list.output }}", "retry_budget": 99,
            "body": body(inner, send),
        },
        {"id": "ask", "kind": "approval", "title": "Well?", "with": {"reference": "{{ inputs.reference }}"}},
        value("yes", True),
        value("no", False),
        {"id": "join", "kind": "aggregator"},
    ]  # fmt: skip
    edges = [
        *line("list", "each", "ask"),
        {"from": "ask.approved", "to": "yes"}, {"from": "ask.rejected", "to": "no"},
        {"from": "yes", "to": "join"}, {"from": "no", "to": "join"},
    ]  # fmt: skip
    return {"nodes": nodes, "edges": edges}


def parent() -> dict:
    """A run inside a run, with four effects of its own, and an effect after it."""
    child = {
        "id": "child", "kind": "subflow", "blueprint": "soak_classes",
        "with": {"reference": "{{ inputs.reference + '.child' }}"},
    }  # fmt: skip
    return {"nodes": [child, effect("after", "charge")], "edges": line("child", "after")}


def undone() -> dict:
    """An effect that is taken back when the run is stopped, and a wait in which that may happen."""
    undo = {"tool": "charge", "with": {"reference": "{{ inputs.reference + '.undo' }}"}}
    nodes = [
        effect("first", "charge", compensate=undo),
        {"id": "nap", "kind": "timer", "duration": "1500ms"},
        effect("second", "note"),
    ]
    return {"nodes": nodes, "edges": line("first", "nap", "second")}


def must_happen(name: str) -> tuple[str, ...]:
    """What a run that succeeded has done at the remote, once each: the ends of the references."""
    return {
        "chain": (),
        "full": ("first", "second"),
        "classes": ("do_charge", "do_mark", "do_note", "do_book"),
        "timers": ("after",),
        "rounds": ("draft1", "draft2", "draft3", "last"),
        "race": ("then",),
        "question": (),
        "items": tuple(f"send{i}" for i in range(5)),
        "loops": ("ping1", "ping2", "ping3", "ping4", "after"),
        "nested": ("send0", "send1", "send2"),
        "parent": ("child.do_charge", "child.do_mark", "child.do_note", "child.do_book", "after"),
        "undone": ("first", "second"),
    }[name]
