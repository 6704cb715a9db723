"""Scenarios 20 to 27: doorbells that are doubled, lost, late or garbage, and brokers that hang."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest
import redis

from tests import services
from tests.fake_remote import FakeRemote
from tests.faults import mixed
from tests.faults.harness import Driver, Server, until
from tests.faults.mixed import effect, line, value
from tests.faults.proxy import Proxy

pytestmark = [pytest.mark.faults]


@pytest.fixture
def short(servers: Server, remote: FakeRemote) -> str:
    nodes = [value("begin", 1), effect("pay", "charge"), effect("tell", "note"), value("finish", 1)]
    text = mixed.text("rung", remote.url, nodes, line("begin", "pay", "tell", "finish"))
    servers.driver.ask("import_blueprint", text=text)
    servers.redis.flush()
    return "rung"


@pytest.fixture
def queue(servers: Server) -> redis.Redis:
    return redis.Redis(port=servers.redis.port)


def heard(server: Server, queue: redis.Redis) -> list[bytes]:
    """Doorbells in the queue; the first after a broken connection may be lost, so ring until one is there."""

    def ring() -> list[bytes]:
        server.driver.ask("ring", times=1)
        return list(queue.lrange("mn.default", 0, -1))

    found: list[bytes] = until(ring, "doorbells in the queue")
    return found


def start(server: Server, reference: str, count: int) -> None:
    references = [f"{reference}-{i}" for i in range(count)]
    server.driver.ask("start_many", blueprint="rung", references=references)


def test_20_every_doorbell_five_times_is_as_good_as_once(
    servers: Server, remote: FakeRemote, reference: str, short: str, queue: redis.Redis
) -> None:
    start(servers, reference, 10)
    messages = heard(servers, queue)
    for message in messages * 4:
        queue.rpush("mn.default", message)
    for _ in range(3):
        servers.start_worker()

    assert servers.settle(remote, reference) == {"succeeded": 10}
    servers.assert_world_matches(remote, reference)


def test_21_without_any_doorbell_work_goes_on_by_looking(
    servers: Server, remote: FakeRemote, reference: str, short: str
) -> None:
    with Proxy("127.0.0.1", servers.redis.port) as proxy:
        proxy.freeze()
        servers.start_worker(BROKER_URL=f"redis://127.0.0.1:{proxy.port}/0")
        began = time.monotonic()
        start(servers, reference, 3)
        assert servers.settle(remote, reference) == {"succeeded": 3}
        assert time.monotonic() - began < 20
        servers.kill_all()
    servers.assert_world_matches(remote, reference)


def test_22_a_broker_flushed_again_and_again_loses_nothing(
    servers: Server, remote: FakeRemote, reference: str, short: str
) -> None:
    over = threading.Event()

    def flush() -> None:
        while not over.wait(0.05):
            servers.redis.flush()

    flusher = threading.Thread(target=flush)
    flusher.start()
    try:
        for _ in range(2):
            servers.start_worker()
        start(servers, reference, 20)
        assert servers.settle(remote, reference) == {"succeeded": 20}
    finally:
        over.set()
        flusher.join()
    servers.assert_world_matches(remote, reference)


def test_22_after_a_flush_a_doorbell_is_heard_again(servers: Server, short: str, queue: redis.Redis) -> None:
    heard(servers, queue)
    servers.redis.flush()
    assert heard(servers, queue)


@pytest.fixture
def behind(servers: Server) -> Iterator[Proxy]:
    """A proxy in front of the broker, with a worker and a second driver behind it."""
    with Proxy("127.0.0.1", servers.redis.port) as proxy:
        yield proxy
        servers.kill_all()


def assert_starts_stay_quick(driver: Driver, reference: str) -> None:
    """Seven of them, while the broker takes nothing."""
    took = []
    for i in range(7):
        began = time.monotonic()
        driver.ask("start", blueprint="rung", inputs={"reference": f"{reference}-{i}"})
        took.append(time.monotonic() - began)
    assert sorted(took)[3] < 0.3, took


@pytest.mark.alone
def test_23_a_half_open_broker_delays_no_start_and_no_step(
    servers: Server, remote: FakeRemote, reference: str, short: str, behind: Proxy
) -> None:
    url = f"redis://127.0.0.1:{behind.port}/0"
    driver = Driver({**servers.env, "BROKER_URL": url}, servers.folder / "half-open.log")
    try:
        worker = servers.start_worker(BROKER_URL=url)
        servers.wait_ready(worker)
        driver.ask("start", blueprint="rung", inputs={"reference": f"{reference}-first"})
        behind.freeze()
        assert_starts_stay_quick(driver, reference)
        assert servers.settle(remote, reference) == {"succeeded": 8}

        behind.reset_all()
        behind.thaw()
        servers.redis.kill()
        servers.redis.start()
        driver.ask("start", blueprint="rung", inputs={"reference": f"{reference}-last"})
        assert servers.settle(remote, reference) == {"succeeded": 9}
    finally:
        driver.close()
    servers.assert_world_matches(remote, reference)


def test_24_a_doorbell_that_comes_after_the_end_changes_nothing(
    servers: Server, remote: FakeRemote, reference: str, short: str, queue: redis.Redis
) -> None:
    run = servers.start("rung", reference=reference)
    servers.start_worker()
    before = run.until_status("succeeded", "failed")
    servers.driver.ask("ring", times=50)
    until(lambda: queue.llen("mn.default") == 0, "all doorbells to be heard")
    servers.start("rung", reference=f"{reference}-next").until_status("succeeded", "failed")

    assert run.look() == before
    servers.assert_world_matches(remote, reference)


def test_25_messages_nobody_understands_do_not_stop_a_worker(
    servers: Server, remote: FakeRemote, reference: str, short: str, queue: redis.Redis
) -> None:
    start(servers, reference, 1)
    first = heard(servers, queue)[0]
    message = json.loads(first)
    unknown = message | {"headers": message["headers"] | {"task": "runs.no_such_task"}}
    # A doorbell names no run; one that does, from another version perhaps, is worth as little.
    named = message | {
        "headers": message["headers"] | {"argsrepr": "('4711',)"},
        "body": "W1s0NzExXSwge30sIHt9XQ==",
    }
    for odd in (unknown, named):
        queue.rpush("mn.default", json.dumps(odd))
    worker = servers.start_worker()

    assert servers.settle(remote, reference) == {"succeeded": 1}
    until(lambda: queue.llen("mn.default") == 0, "the queue to be empty")
    start(servers, f"{reference}-more", 3)
    assert servers.settle(remote, reference) == {"succeeded": 4}
    assert worker.is_running, worker.tail()
    servers.assert_world_matches(remote, reference)


def test_27_a_broker_that_comes_back_brings_no_stampede(
    servers: Server, remote: FakeRemote, reference: str, short: str, queue: redis.Redis
) -> None:
    from apps.runs.doorbell import MAX_RINGS

    servers.redis.kill()
    start(servers, reference, 100)
    servers.redis.start()
    start(servers, f"{reference}-last", 1)
    heard(servers, queue)
    # What was just being rung when it came back, and what had gathered behind that.
    assert queue.llen("mn.default") <= 2 * MAX_RINGS + 5
    for message in queue.lrange("mn.default", 0, -1):
        assert json.loads(message)["headers"]["expires"], "a doorbell that nobody hears in time is dropped"
    # As after an hour: a thousand doorbells whose time has passed.
    old = json.loads(queue.lrange("mn.default", 0, 0)[0])
    old["headers"]["expires"] = "2026-01-01T00:00:00+00:00"
    queue.rpush("mn.default", *[json.dumps(old)] * 1000)
    servers.start_worker()
    assert servers.settle(remote, reference) == {"succeeded": 101}
    until(lambda: queue.llen("mn.default") == 0, "the old doorbells to be dropped")
    servers.assert_world_matches(remote, reference)


# --- RabbitMQ ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vhost() -> Iterator[str]:
    """A virtual host of the tests' own on the RabbitMQ of this machine, so that no other queue is emptied."""
    found = services.amqp()
    if not found.found or shutil.which("rabbitmqctl") is None:
        missing = found.missing if not found.found else "rabbitmqctl is not installed"
        (pytest.fail if services.required() else pytest.skip)(missing)
    name = f"mn_faults_{os.getpid()}"
    for arguments in (["add_vhost", name], ["set_permissions", "-p", name, "guest", ".*", ".*", ".*"]):
        done = subprocess.run(["rabbitmqctl", *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"No virtual host can be made on RabbitMQ: {done.stderr[-300:]}")
    yield name
    subprocess.run(["rabbitmqctl", "delete_vhost", name], capture_output=True)


@pytest.mark.services
def test_22_a_purged_queue_on_rabbitmq_loses_nothing(
    servers: Server, remote: FakeRemote, reference: str, short: str, vhost: str
) -> None:
    from kombu import Connection

    url = f"amqp://guest:guest@127.0.0.1:5672/{vhost}"
    driver = Driver({**servers.env, "BROKER_URL": url}, servers.folder / "rabbit.log")
    try:
        servers.start_worker(BROKER_URL=url)
        for i in range(5):
            references = [f"{reference}-{i}-{j}" for j in range(4)]
            driver.ask("start_many", blueprint="rung", references=references)
            with Connection(url) as connection, contextlib.suppress(Exception):
                connection.default_channel.queue_purge("default")
        assert servers.settle(remote, reference) == {"succeeded": 20}
    finally:
        driver.close()
        servers.kill_all()
    servers.assert_world_matches(remote, reference)


@pytest.mark.services
@pytest.mark.alone
def test_26_a_broker_that_takes_nothing_more_holds_nobody_up(
    servers: Server, remote: FakeRemote, reference: str, short: str, vhost: str
) -> None:
    """A memory alarm: RabbitMQ stops reading from those who publish, and their sockets fill up."""
    with Proxy("127.0.0.1", 5672) as proxy:
        url = f"amqp://guest:guest@127.0.0.1:{proxy.port}/{vhost}"
        driver = Driver({**servers.env, "BROKER_URL": url}, servers.folder / "alarm.log")
        try:
            worker = servers.start_worker(BROKER_URL=url)
            servers.wait_ready(worker)
            driver.ask("start", blueprint="rung", inputs={"reference": f"{reference}-first"})
            proxy.freeze()
            assert_starts_stay_quick(driver, reference)
            assert servers.settle(remote, reference) == {"succeeded": 8}
            proxy.thaw()
            assert worker.stop() == 0, worker.tail()
        finally:
            driver.close()
            servers.kill_all()
    servers.assert_world_matches(remote, reference)
