"""Workers replaced one by one under load, killed children, pages of one server hinted by another."""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from websockets.sync.client import connect

from tests.cli.installation import Installation, Prepared, empty_database
from tests.processes import Background, eventually

pytestmark = [pytest.mark.services, pytest.mark.faults]

CHAIN = """
apiVersion: mirrorneuron/v1
kind: Blueprint
metadata: {name: rolling}
card: {purpose: Tests., must_never: [shout], business_owner: A, technical_owner: A, model_steward: A}
contract:
  goal: Call, wait a little, call again.
  inputs: {type: object, required: [n], properties: {n: {type: integer}}}
  boundaries: {allowed_tools: [visit]}
tools:
  visit:
    kind: http
    method: POST
    effect: keyed
    url: "URL/visit/{{ args.place }}"
    parameters: {type: object, required: [place], properties: {place: {type: string}}}
graph:
  nodes:
    - {id: first, kind: tool, tool: visit, with: {place: "first-{{ inputs.n }}"}}
    - {id: work, kind: code, code: "sum(range(20000))", queue: sums}
    - {id: second, kind: tool, tool: visit, with: {place: "second-{{ inputs.n }}"}}
  edges: [{from: first, to: work}, {from: work, to: second}]
outputs: {sum: "{{ steps.work.output }}"}
"""


class Remote(ThreadingHTTPServer):
    """Counts what it is asked to do and takes its time."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.begun: list[str] = []
        """What has arrived, whether or not it is done yet."""
        self.keys: set[str] = set()
        """A key that comes again is the same request, and is answered without being done again."""
        self.seconds = 0.02
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        assert isinstance(self.server, Remote)
        self.server.begun.append(self.path)
        time.sleep(self.server.seconds)
        key = self.headers["Idempotency-Key"]
        if key not in self.server.keys:
            self.server.keys.add(key)
            self.server.seen.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def remote() -> Iterator[Remote]:
    server = Remote()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def installation(
    postgres_url: str, prepared: Prepared, redis_url: str, tmp_path: Path
) -> Iterator[Installation]:
    with empty_database(postgres_url, prepared.name) as database:
        yield Installation(
            database,
            tmp_path / "data",
            MN_TOKEN=prepared.token,
            BROKER_URL=redis_url,
            MN_EGRESS_ALLOW="127.0.0.1",
            MN_LEASE_SECONDS="60",
        )


@pytest.fixture
def processes() -> Iterator[list[Background]]:
    started: list[Background] = []
    yield started
    for process in started:
        process.kill()


def publish(installation: Installation, remote: Remote, tmp_path: Path, text: str = CHAIN) -> None:
    file = tmp_path / "blueprint.yaml"
    file.write_text(text.replace("URL", remote.url))
    code, said = installation.mn("blueprint", "import", str(file))
    assert code == 0, said


def start_many(installation: Installation, url: str, first: int, count: int) -> None:
    token = installation.settings["MN_TOKEN"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    for n in range(first, first + count):
        body = json.dumps({"blueprint": "rolling", "inputs": {"n": n}}).encode()
        own = headers | {"Idempotency-Key": f"n{n}"}
        request = urllib.request.Request(f"{url}/api/v1/runs", body, own)
        eventually(lambda request=request: answers(request), seconds=180, pause=0.2)


def answers(request: Any) -> bool:
    try:
        urllib.request.urlopen(request, timeout=30).read()
    except OSError:
        return False
    return True


def web(installation: Installation, processes: list[Background], log: Path, port: int, **more: str) -> str:
    url = f"http://127.0.0.1:{port}"
    processes.append(installation.background(log, "web", "--port", str(port), **more))

    eventually(lambda: answers(url + "/healthz"), seconds=180, pause=0.2)
    return url


def test_workers_are_replaced_one_by_one_and_nothing_is_lost_or_done_twice(
    installation: Installation, processes: list[Background], remote: Remote, tmp_path: Path
) -> None:
    publish(installation, remote, tmp_path)
    log = tmp_path / "workers.log"
    kinds = [
        ("worker", "-c", "2", "--pool", "threads", "-Q", "default"),
        ("worker", "-c", "2", "--pool", "prefork", "-Q", "default,sums"),
        ("worker", "-c", "2", "--pool", "threads", "-Q", "sums,default"),
    ]
    url = web(installation, processes, tmp_path / "web.log", 8101)
    running = [installation.background(log, *kind) for kind in kinds]
    processes += running
    installation.until_workers(4)
    total, load = 120, 0
    starter = threading.Thread(target=start_many, args=(installation, url, 0, total))
    starter.start()
    for index, kind in enumerate(kinds):
        load += 20
        eventually(lambda load=load: len(remote.seen) >= load, seconds=180)
        fresh = installation.background(log, *kind)
        processes.append(fresh)
        assert running[index].stop() == 0, log.read_text()[-4000:]
        running[index] = fresh
    starter.join(240)

    open_runs = "SELECT count(*) FROM runs_run WHERE status NOT IN ('succeeded', 'failed', 'cancelled')"
    eventually(lambda: installation.ask(open_runs) == [(0,)], seconds=240, pause=0.3)
    for process in running:
        process.stop()
    assert installation.ask("SELECT status, count(*) FROM runs_run GROUP BY 1") == [("succeeded", total)]
    assert sorted(remote.seen) == sorted(f"/visit/{w}-{n}" for n in range(total) for w in ("first", "second"))
    used = "SELECT count(*) FROM runs_step WHERE failures > 0 OR losses > 0"
    assert installation.ask(used) == [(0,)]
    assert installation.ask("SELECT count(*) FROM runs_attempt WHERE status IN ('lost', 'failed')") == [(0,)]
    report = installation.mn("doctor")[1]
    assert report["findings"] == []


def test_a_pool_process_that_is_told_to_stop_ends_its_step_first(
    installation: Installation, processes: list[Background], remote: Remote, tmp_path: Path
) -> None:
    remote.seconds = 1.0
    publish(installation, remote, tmp_path)
    log = tmp_path / "workers.log"
    worker = installation.background(log, "worker", "-c", "1", "--pool", "prefork", "-Q", "default")
    processes.append(worker)
    installation.until_workers(1)
    url = web(installation, processes, tmp_path / "web.log", 8121)
    start_many(installation, url, 1, 1)
    eventually(lambda: remote.begun == ["/visit/first-1"], seconds=60, pause=0.01)
    assert worker.stop() == 0, log.read_text()[-4000:]
    step = "SELECT status, attempt, losses FROM runs_step WHERE node_id = 'first'"
    assert installation.ask(step) == [("succeeded", 1, 0)]
    assert installation.ask("SELECT count(*) FROM runs_attempt") == [(0,)]


@pytest.mark.parametrize("hints", ["postgres", "redis"])
def test_a_page_of_one_web_process_sees_what_another_started(
    installation: Installation,
    processes: list[Background],
    remote: Remote,
    redis_url: str,
    tmp_path: Path,
    hints: str,
) -> None:
    publish(installation, remote, tmp_path)
    more = {"CHANNEL_URL": redis_url} if hints == "redis" else {}
    a = web(installation, processes, tmp_path / "a.log", 8111, **more)
    b = web(installation, processes, tmp_path / "b.log", 8112, **more)
    start_many(installation, b, 0, 1)
    ((run,),) = installation.ask("SELECT id FROM runs_run")
    with page_of(installation, a, f"/ws/runs/{run}?after=0&format=json") as page:
        assert page.until("run.started")["seq"] == 1
        began = time.monotonic()
        log = tmp_path / "workers.log"
        processes.append(installation.background(log, "worker", "-c", "2", "-Q", "default,sums", **more))
        page.until("run.succeeded")
    ((ended,),) = installation.ask("SELECT extract(epoch FROM now() - ended_at) FROM runs_run")
    # A page that nobody told would have looked half a minute later.
    assert ended < 15, f"{ended} s after the end, {time.monotonic() - began} s in all"


class Page:
    """A live page as JSON."""

    def __init__(self, link: Any) -> None:
        self.link = link

    def until(self, kind: str, seconds: float = 120) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            message = json.loads(self.link.recv(timeout=max(0.0, end - time.monotonic())))
            for event in message if isinstance(message, list) else message.get("items", [message]):
                if event.get("kind") == kind:
                    return dict(event)


@contextmanager
def page_of(installation: Installation, url: str, path: str) -> Iterator[Page]:
    """Sign in to this web process, and hold one of its sockets."""
    sign_in = installation.mn("user", "link", "alice@example.com")[1]["sign_in"]
    jar = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    form = browser.open(url + urlsplit(sign_in).path, timeout=30).read().decode()
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form)
    assert token is not None, form
    browser.open(
        urllib.request.Request(
            url + urlsplit(sign_in).path, urlencode({"csrfmiddlewaretoken": token[1]}).encode()
        ),
        timeout=30,
    )
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)
    address = url.replace("http:", "ws:") + path
    with connect(address, additional_headers={"Cookie": cookies, "Origin": url}, proxy=None) as link:
        yield Page(link)


@pytest.mark.parametrize("pool", ["threads", pytest.param("prefork", marks=pytest.mark.alone)])
def test_nobody_waits_for_the_lease_of_a_worker_that_was_killed_on_this_machine(
    installation: Installation, processes: list[Background], remote: Remote, tmp_path: Path, pool: str
) -> None:
    remote.seconds = 0.0
    publish(installation, remote, tmp_path, CHAIN.replace("sum(range(20000))", "sum(range(10**9))").replace(
        "queue: sums", "queue: sums, timeout: 60s"))  # fmt: skip
    log = tmp_path / "workers.log"
    kind = ("worker", "-c", "1", "--pool", pool, "-Q", "default,sums")
    processes.append(installation.background(log, *kind))
    installation.until_workers(1)
    url = web(installation, processes, tmp_path / "web.log", 8102)
    start_many(installation, url, 1, 1)
    working = (
        "SELECT s.attempt, w.pid FROM runs_step s JOIN runs_worker w ON w.boot = s.worker"
        " WHERE s.status = 'running' AND s.node_id = 'work' UNION ALL"
        # The run holds the step its worker went on to.
        " SELECT 1, w.pid FROM runs_run r JOIN runs_worker w ON w.boot = r.held_worker"
        " WHERE r.held_path = 'work'"
    )
    eventually(lambda: len(installation.ask(working)) == 1, seconds=120)
    ((attempt, pid),) = installation.ask(working)
    killed = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    if pool == "threads":
        # As a service manager would: its successor is told by nobody.
        processes.append(installation.background(log, *kind))
    expired = "SELECT count(*) FROM runs_worker WHERE pid = %s AND lease_until > now()"
    eventually(lambda: installation.ask(expired, pid) == [(0,)], seconds=15, pause=0.02)
    took = time.monotonic() - killed
    eventually(lambda: any(a > attempt for a, _ in installation.ask(working)), seconds=30, pause=0.02)
    assert pool == "threads" or took < 2, took


def test_requests_of_a_web_process_share_few_connections(
    installation: Installation, processes: list[Background], remote: Remote, tmp_path: Path
) -> None:
    publish(installation, remote, tmp_path)
    url = web(installation, processes, tmp_path / "web.log", 8105)
    start_many(installation, url, 0, 40)
    name = installation.settings["DATABASE_URL"].rpartition("/")[2]
    ((held,),) = installation.ask("SELECT count(*) FROM pg_stat_activity WHERE datname = %s", name)
    assert held <= 8 + 2 + 1  # the pool, the two connections for hints, and the one that asks
