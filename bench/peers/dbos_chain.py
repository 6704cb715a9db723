"""DBOS as a subject: `python -m bench.peers.dbos_chain URL`.

Workflows are called directly, one thread for one run, as its documentation does; every step is recorded in
its database. The fan-out is 100 asynchronous steps of one workflow.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dbos import DBOS

from bench.child import obey
from bench.documents import PAYLOAD_CHARACTERS, STEPS, WIDTH

THREADS = 4


@DBOS.step()
def step(i: int) -> dict[str, Any]:
    return {"i": i, "ok": True}


@DBOS.step()
async def async_step(i: int) -> dict[str, Any]:
    return {"i": i, "ok": True}


@DBOS.step()
def same(text: str) -> str:
    return text


@DBOS.workflow()
def chain() -> dict[str, Any]:
    for i in range(STEPS):
        last = step(i)
    return last


@DBOS.workflow()
async def fan() -> int:
    return len(await asyncio.gather(*[async_step(i) for i in range(WIDTH)]))


@DBOS.workflow()
def passing(text: str) -> int:
    for _ in range(STEPS):
        text = same(text)
    return len(text)


def _chain() -> None:
    assert chain() == {"i": STEPS - 1, "ok": True}


def _fan() -> None:
    assert asyncio.run(fan()) == WIDTH


def _passing(text: str) -> None:
    assert passing(text) == PAYLOAD_CHARACTERS


def one_by_one(what: str, runs: int) -> dict[str, Any]:
    seconds = []
    for _ in range(runs):
        arguments = [payload()] if what == "passing" else []
        run = {"chain.recorded": _chain, "fan.recorded": _fan, "passing": _passing}[what]
        began = time.perf_counter()
        run(*arguments)
        seconds.append(time.perf_counter() - began)
    return {"seconds": seconds}


def all_at_once(what: str, runs: int) -> dict[str, Any]:
    assert what == "chain.recorded"
    began = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: _chain(), range(runs)))
    return {"seconds": [time.perf_counter() - began]}


def payload() -> str:
    return base64.urlsafe_b64encode(os.urandom(PAYLOAD_CHARACTERS * 3 // 4)).decode()


def main(url: str) -> None:
    url = url.replace("postgres://", "postgresql+psycopg://", 1)
    DBOS(config={"name": "bench", "system_database_url": url, "log_level": "ERROR", "enable_otlp": False})
    DBOS.launch()
    try:
        obey({"hello": dict, "one_by_one": one_by_one, "all_at_once": all_at_once})
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main(sys.argv[1])
