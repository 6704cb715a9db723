"""W6: reading. A run of 100 steps and lists with 10,000 runs, by the API and as pages, over HTTP.

One client that keeps its connection, one `mn web` process. `page data` is what the run's page reads and works
out, measured inside a process, without HTTP and without drawing.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
from typing import Any
from urllib.parse import urlsplit

from bench import measure
from bench.stage import Stage, stop
from bench.subject import Subject

TITLE = "reading a run of 100 steps, and lists of many runs"
WARM = 5


def measure_round(stage: Stage) -> dict[str, dict[str, Any]]:
    scale = stage.scale
    with stage.home("w6") as (_, environment):
        with stage.engine(environment) as subject:
            made = subject.ask("pages", runs=scale.listed)
            run, token, cookie = made["run"], made["token"], made["session"]
            data = subject.ask("page_data", run=run, rounds=scale.requests)["seconds"]
        web = stage.spawn(
            ["-P", "-m", "mirrorneuron.cli", "web", "--port", "0", "--json"],
            environment, stdout=subprocess.PIPE,
        )  # fmt: skip
        try:
            url = _url(web)
            client = Client(url, token, cookie)
            first = client.get("/api/v1/runs?limit=50")
            deep = _deep_cursor(client, first, scale.listed)
            addresses = {
                "run (API)": f"/api/v1/runs/{run}",
                "steps of the run (API)": f"/api/v1/runs/{run}/steps",
                "page of the run": f"/runs/{run}",
                "list of 50 (API)": "/api/v1/runs?limit=50",
                "deep page of 50 (API)": f"/api/v1/runs?limit=50&cursor={deep}",
                "page of the list": "/runs",
            }
            lines = {"page data": _times(data)}
            for name, address in addresses.items():
                lines[name] = client.times(address, scale.requests)
        finally:
            stop(web)
        with stage.engine(environment, slots=0) as subject:
            for name, count in _queries(subject, token, addresses).items():
                lines[name]["queries"] = count
    return lines


def _queries(subject: Subject, token: str, addresses: dict[str, str]) -> dict[str, int]:
    found: dict[str, int] = subject.ask("queries", token=token, addresses=addresses)
    return found


def _url(web: subprocess.Popen[bytes]) -> str:
    """The address `mn web` prints once it listens."""
    assert web.stdout is not None
    text = ""
    while line := web.stdout.readline().decode():
        text += line
        try:
            return str(json.loads(text)["url"])
        except ValueError:
            continue
    raise RuntimeError("mn web ended before it said where it listens")


class Client:
    """One connection that is kept."""

    def __init__(self, url: str, token: str, cookie: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
        self._api = {"Authorization": f"Bearer {token}"}
        self._page = {"Cookie": f"sessionid={cookie}"}

    def get(self, address: str) -> bytes:
        headers = self._api if address.startswith("/api/") else self._page
        for attempt in range(100):
            try:
                self._connection.request("GET", address, headers=headers)
                answer = self._connection.getresponse()
            except ConnectionError:
                if attempt == 99:
                    raise
                time.sleep(0.05)  # it listens before it accepts
                self._connection.close()
                continue
            body = answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{address} answered {answer.status}: {body[:200]!r}")
            return body
        raise AssertionError

    def times(self, address: str, requests: int) -> dict[str, Any]:
        seconds, size = [], 0
        for i in range(WARM + requests):
            began = time.perf_counter()
            size = len(self.get(address))
            if i >= WARM:
                seconds.append(time.perf_counter() - began)
        return {**_times(seconds), "kb": round(size / 1000, 1)}


def _times(seconds: list[float]) -> dict[str, Any]:
    return {
        "p50_ms": round(measure.quantile(seconds, 0.5) * 1000, 2),
        "p95_ms": round(measure.quantile(seconds, 0.95) * 1000, 2),
    }


def _deep_cursor(client: Client, first: bytes, runs: int) -> str:
    """A cursor near the end of the list."""
    body = json.loads(first)
    cursor = str(body["next"])
    for _ in range(max(runs // 200 - 2, 0)):
        body = json.loads(client.get(f"/api/v1/runs?limit=200&cursor={cursor}"))
        if not body["next"]:
            break
        cursor = str(body["next"])
    return cursor
