"""The blueprints of the workloads, as documents.

A *recorded* step stands for work that must not be done twice: a kind the engine may not compute again, whose
result is committed before the next step starts. A *pure* step is a `transform`.
"""

from __future__ import annotations

from typing import Any

RECORDED = "code"
"""The node kind whose handler the benchmark replaces by one that only answers."""
STEPS = 10
WIDTH = 100
PAYLOAD_CHARACTERS = 1_000_000


def _step(node_id: str, i: int, kind: str) -> dict[str, Any]:
    if kind == "pure":
        return {"id": node_id, "kind": "transform", "output": {"i": i, "ok": True}}
    return {"id": node_id, "kind": RECORDED, "code": "bench", "notes": str(i)}


def _document(name: str, nodes: list[dict[str, Any]], edges: list[tuple[str, str]], **more: Any) -> Any:
    return {
        "metadata": {"name": name},
        "graph": {"nodes": nodes, "edges": [{"from": a, "to": b} for a, b in edges]},
        **more,
    }


def _of(i: int, rest: str = "") -> str:
    """The output of a step, as an expression."""
    return f"{{{{ steps.s{i}.output{rest} }}}}"


def chain(kind: str, steps: int = STEPS) -> dict[str, Any]:
    """W1, W2: one step after the other, each returning `{"i": i, "ok": true}`."""
    nodes = [_step(f"s{i}", i, kind) for i in range(steps)]
    edges = [(f"s{i}", f"s{i + 1}") for i in range(steps - 1)]
    return _document(f"chain{steps}_{kind}", nodes, edges, outputs={"last": _of(steps - 1, ".i")})


def fan_out(kind: str, width: int = WIDTH) -> dict[str, Any]:
    """W3: all at once, then one that joins them."""
    nodes = [_step(f"s{i}", i, kind) for i in range(width)]
    join = {"id": "join", "kind": "aggregator", "join": "all", "merge": "{{ size(results) }}"}
    edges = [(f"s{i}", "join") for i in range(width)]
    return _document(f"fan_{kind}", [*nodes, join], edges, outputs={"last": "{{ steps.join.output }}"})


def mapped(kind: str, width: int = WIDTH) -> dict[str, Any]:
    """W3 as a map: one node whose body runs once for each item."""
    node = {
        "id": "each",
        "kind": "map",
        "items": list(range(width)),
        "max_items": width,
        "body": {"nodes": [_step("one", 0, kind)], "edges": []},
    }
    return _document(f"map_{kind}", [node], [], outputs={"last": "{{ size(steps.each.output) }}"})


def question() -> dict[str, Any]:
    """W4: waits for a person, then one step."""
    ask = {"id": "ask", "kind": "approval", "title": "Go on?", "with": {"go": True}}
    return _document("question", [ask, _step("after", 0, "pure")], [("ask.approved", "after")])


def listener() -> dict[str, Any]:
    """W4: waits for a signal, then one step."""
    wait = {"id": "wait", "kind": "sensor", "signal": "go"}
    return _document("listener", [wait, _step("after", 0, "pure")], [("wait", "after")])


def passing() -> dict[str, Any]:
    """W7: every step gets the string of the one before and returns it unchanged."""
    nodes = [
        {
            **_step(f"s{i}", i, "recorded"),
            "with": {"text": "{{ inputs.text }}" if i == 0 else _of(i - 1)},
        }
        for i in range(STEPS)
    ]
    edges = [(f"s{i}", f"s{i + 1}") for i in range(STEPS - 1)]
    contract = {"inputs": {"type": "object", "properties": {"text": {"type": "string"}}}}
    last = "{{ size(steps.s" + str(STEPS - 1) + ".output) }}"
    return _document("passing", nodes, edges, contract=contract, outputs={"last": last})
