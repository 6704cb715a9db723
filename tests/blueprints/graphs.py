"""Graphs for tests of layout and picture."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from apps.blueprints.core import kinds
from apps.blueprints.core.document import Document, Edge, Graph, Metadata, Node

LEAVES = ("agent", "tool", "transform", "check", "approval", "timer", "router")


def node(node_id: str, kind: str = "tool", **fields: Any) -> Node:
    return Node.model_validate({"id": node_id, "kind": kind, **fields})


def edge(source: str, target: str, **fields: Any) -> Edge:
    return Edge.model_validate({"from": source, "to": target, **fields})


def chain(*ids: str) -> Graph:
    return Graph(nodes=[node(i) for i in ids], edges=[edge(a, b) for a, b in pairwise(ids)])


def document(graph: Graph, **fields: Any) -> Document:
    return Document(metadata=Metadata(name="sample", title="Sample"), graph=graph, **fields)


@st.composite
def graphs(draw: st.DrawFn, depth: int = 1) -> Graph:
    """Any graph of the format: cycles, self-loops, ports, labels, several edges alike, containers."""
    ids = [f"n{i}" for i in range(draw(st.integers(0, 12)))]
    nodes = []
    for node_id in ids:
        if depth and draw(st.integers(0, 7)) == 0:
            nodes.append(node(node_id, "map", body=draw(graphs(depth=depth - 1))))
        else:
            nodes.append(node(node_id, draw(st.sampled_from(LEAVES)), title=draw(st.text(max_size=40))))
    edges = []
    if ids:
        for _ in range(draw(st.integers(0, 20))):
            source = draw(st.sampled_from(nodes))
            port = draw(st.sampled_from(["", *(f".{p}" for p in kinds.ports(source))]))
            edges.append(
                edge(
                    source.id + port,
                    draw(st.sampled_from(ids)),
                    max_rounds=draw(st.sampled_from([None, None, 3])),
                    label=draw(st.sampled_from(["", "", "a long label that says why this way is taken"])),
                )
            )
    return Graph(nodes=nodes, edges=edges)
