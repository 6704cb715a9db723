"""The supervisor alone, with a child of a few lines instead of the product."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirrorneuron import datalock
from mirrorneuron.base.errors import ConfigurationError
from mirrorneuron.supervisor import Supervisor, listen

pytestmark = pytest.mark.faults

CHILD = """
import json, os, signal, socket, sys, threading, time
listener, lock, alive, ready = map(int, sys.argv[1:5])
life = {"pid": os.getpid(), "crash": os.environ.get("MN_CRASH_AT"), "args": sys.argv[5:]}
with open(os.path.join(os.environ["MN_DATA"], "log"), "a") as log:
    log.write(json.dumps(life) + "\\n")
if os.environ.get("EXIT_AT_ONCE"):
    sys.exit(int(os.environ["EXIT_AT_ONCE"]))
def leave():
    os.read(alive, 1)
    os._exit(9)
threading.Thread(target=leave, daemon=True).start()
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
with os.fdopen(ready, "w") as pipe:
    pipe.write(json.dumps({"url": sys.argv[5], "sign_in": "link", "pid": os.getpid()}) + "\\n")
server = socket.socket(fileno=listener)
while True:
    client, _ = server.accept()
    client.sendall(str(os.getpid()).encode())
    client.close()
"""
PARENT = """
import json, sys
from pathlib import Path
from mirrorneuron.supervisor import Supervisor
data, port, child = sys.argv[1:4]
def ready(facts):
    print(json.dumps(facts), flush=True)
def say(text):
    print(text, file=sys.stderr, flush=True)
sys.exit(Supervisor(Path(data), port=int(port), program=(child,), when_ready=ready, say=say).run())
"""


@pytest.fixture
def supervised(tmp_path):
    """Starts a supervisor with the small child; gives the process and the data folder."""
    child, parent = tmp_path / "child.py", tmp_path / "parent.py"
    child.write_text(CHILD)
    parent.write_text(PARENT)
    started = []

    def start(**environ):
        data = tmp_path / "held"
        command = [sys.executable, str(parent), str(data), "0", str(child)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ}
        )
        started.append(process)
        return process, data

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _ready(process):
    return json.loads(process.stdout.readline())


def _ask(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.settimeout(10)
        return int(connection.recv(100))


def _lives(data: Path):
    return [json.loads(line) for line in (data / "log").read_text().splitlines()]


def test_killed_child_is_started_again_on_the_same_port_and_lock(supervised):
    process, data = supervised()
    facts = _ready(process)
    first = _ask(facts["url"])
    os.kill(first, signal.SIGKILL)
    _eventually(lambda: not _is_alive(first))  # a busy machine lets it take one more question
    # The socket never closed: the question waits for the next child instead of being refused.
    second = _ask(facts["url"])
    assert second != first
    with pytest.raises(datalock.DataHeld):
        datalock.acquire(data)
    assert "SIGKILL" in process.stderr.readline()
    assert [life["args"][1:] for life in _lives(data)] == [[], ["--again"]]


def test_restart_runs_without_the_crash_point(supervised):
    process, data = supervised(MN_CRASH_AT="after_call", MN_FAULTS="1")
    facts = _ready(process)
    first = _ask(facts["url"])
    os.kill(first, signal.SIGKILL)
    _eventually(lambda: not _is_alive(first))
    _ask(facts["url"])
    assert [life["crash"] for life in _lives(data)] == ["after_call", None]


def test_child_that_dies_again_and_again_is_started_ever_later(supervised):
    process, _ = supervised(EXIT_AT_ONCE="137")
    said = [process.stderr.readline() for _ in range(3)]
    assert "in" not in said[0].split("again")[1] and "in 0.5 s" in said[1] and "in 1 s" in said[2]


@pytest.mark.parametrize("code", ["78", "1", "0"])
def test_first_start_that_ends_by_itself_is_not_repeated(supervised, code):
    process, data = supervised(EXIT_AT_ONCE=code)
    assert process.wait(10) == 1
    assert len(_lives(data)) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_stops_the_child_and_exits_0(supervised, number):
    process, data = supervised()
    child = _ask(_ready(process)["url"])
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not _is_alive(child)
    datalock.acquire(data).release()


def test_many_signals_at_once_do_not_deadlock_it(supervised):
    process, data = supervised()
    child = _ask(_ready(process)["url"])
    for _ in range(50):
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert not _is_alive(child)
    datalock.acquire(data).release()


@pytest.mark.alone
def test_stop_during_back_off_exits_0_at_once(supervised):
    process, _ = supervised(EXIT_AT_ONCE="137")
    for _ in range(3):
        process.stderr.readline()
    process.terminate()
    assert process.wait(0.9) == 0


def test_child_leaves_when_the_supervisor_is_killed(supervised):
    process, data = supervised()
    child = _ask(_ready(process)["url"])
    process.kill()
    process.wait(10)
    _eventually(lambda: not _is_alive(child))
    _eventually(lambda: datalock.holder(data) is None)


def test_second_start_on_the_same_data_names_the_first(supervised, tmp_path):
    process, data = supervised()
    url = _ready(process)["url"]
    with pytest.raises(datalock.DataHeld) as caught:
        Supervisor(data, port=0).run()
    assert str(process.pid) in str(caught.value) and url in str(caught.value)


def test_taken_port_is_said_with_another_one(tmp_path):
    taken = listen("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=f"Port {port} .* --port {port + 1}"):
        Supervisor(tmp_path, port=port).run()
    taken.close()
    datalock.acquire(tmp_path).release()


def test_answers_are_sent_at_once():
    """Without TCP_NODELAY the second packet of an answer waits 40 ms for the client's acknowledgement."""

    async def accepted() -> int:
        found = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(
            lambda _, writer: found.set_result(writer), sock=listen("127.0.0.1", 0)
        )
        async with server:
            _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
            answering = await found
            without_delay = answering.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY
            )
            for end in (client, answering):
                end.close()
                await end.wait_closed()
        return without_delay

    # On a thread of its own: browser tests that ran in this process before leave a loop running on this one.
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(asyncio.run, accepted()).result(timeout=30) == 1


def test_host_of_another_machine_is_said():
    with pytest.raises(ConfigurationError, match="cannot listen on"):
        listen("192.0.2.1", 0)


def test_data_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        datalock.acquire(tmp_path / "file" / "data")


def _is_alive(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):  # The latter when it goes between opening and reading.
        return False
    # A killed supervisor leaves its child to init, which may take a moment to bury it.
    return stat.rpartition(")")[2].split()[0] != "Z"


def _eventually(claim, seconds=10):
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end
        time.sleep(0.02)
