"""LangGraph as a subject: `python -m bench.peers.langgraph_chain URL`.

A graph of ten nodes with a checkpoint after every superstep (`durability="sync"`) in PostgreSQL, on a pool of
connections; the fan-out is 100 `Send`s to one node.
"""

from __future__ import annotations

import base64
import operator
import os
import sys
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from bench.child import obey
from bench.documents import PAYLOAD_CHARACTERS, STEPS, WIDTH

THREADS = 4


class Chain(TypedDict):
    last: dict[str, Any]


class Fan(TypedDict):
    results: Annotated[list[Any], operator.add]
    size: int


class Passing(TypedDict):
    text: str


def _sequence(state: Any, node: Callable[[int], Callable[[Any], Any]], saver: PostgresSaver) -> Any:
    graph = StateGraph(state)
    for i in range(STEPS):
        graph.add_node(f"s{i}", node(i))
        graph.add_edge(START if i == 0 else f"s{i - 1}", f"s{i}")
    graph.add_edge(f"s{STEPS - 1}", END)
    return graph.compile(checkpointer=saver)


def _fan(saver: PostgresSaver) -> Any:
    graph = StateGraph(Fan)
    graph.add_node("one", lambda state: {"results": [{"i": state["i"], "ok": True}]})
    graph.add_node("join", lambda state: {"size": len(state["results"])})
    graph.add_conditional_edges(START, lambda state: [Send("one", {"i": i}) for i in range(WIDTH)], ["one"])
    graph.add_edge("one", "join")
    graph.add_edge("join", END)
    return graph.compile(checkpointer=saver)


class Graphs:
    def __init__(self, saver: PostgresSaver) -> None:
        self.chain = _sequence(Chain, lambda i: lambda state: {"last": {"i": i, "ok": True}}, saver)
        self.passing = _sequence(Passing, lambda i: lambda state: {"text": state["text"]}, saver)
        self.fan = _fan(saver)

    def run(self, what: str, text: str) -> None:
        if what == "chain.recorded":
            assert _invoke(self.chain, {"last": {}})["last"] == {"i": STEPS - 1, "ok": True}
        elif what == "fan.recorded":
            assert _invoke(self.fan, {"results": [], "size": 0})["size"] == WIDTH
        else:
            assert len(_invoke(self.passing, {"text": text})["text"]) == PAYLOAD_CHARACTERS

    def one_by_one(self, what: str, runs: int) -> dict[str, Any]:
        seconds = []
        for _ in range(runs):
            text = payload() if what == "passing" else ""
            began = time.perf_counter()
            self.run(what, text)
            seconds.append(time.perf_counter() - began)
        return {"seconds": seconds}

    def all_at_once(self, what: str, runs: int) -> dict[str, Any]:
        began = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda _: self.run(what, ""), range(runs)))
        return {"seconds": [time.perf_counter() - began]}


def _invoke(graph: Any, state: dict[str, Any]) -> Any:
    return graph.invoke(state, {"configurable": {"thread_id": uuid.uuid4().hex}}, durability="sync")


def payload() -> str:
    return base64.urlsafe_b64encode(os.urandom(PAYLOAD_CHARACTERS * 3 // 4)).decode()


def main(url: str) -> None:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    with ConnectionPool(url, min_size=THREADS, max_size=2 * THREADS, kwargs=options) as pool:
        saver = PostgresSaver(pool)  # type: ignore[arg-type]
        saver.setup()
        graphs = Graphs(saver)
        obey({"hello": dict, "one_by_one": graphs.one_by_one, "all_at_once": graphs.all_at_once})


if __name__ == "__main__":
    main(sys.argv[1])
