"""`mn up` as a person starts it: real processes, a data folder of its own."""

import json
import re
import socket

import httpx
import pytest

from tests.processes import Up, eventually, lay_out, run_mn

pytestmark = pytest.mark.faults


@pytest.fixture
def up(tmp_path):
    started = []

    def start(*args, tables=True, **environ):
        data = tmp_path / "held"
        if tables and not data.exists():
            lay_out(data)
        one = Up(data, tmp_path / "log", *args, **environ)
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()


@pytest.fixture
def documents(tmp_path):
    """A folder of documents the product has never seen."""
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "minutes.md").write_text(
        "# Minutes\nOrrery Glassworks wants a second furnace monitor before winter.\n"
        "Orrery Glassworks reported that alarms reach the night shift too late.\n"
    )
    (folder / "about.txt").write_text("Orrery Glassworks makes lenses in Fennick and employs 80 people.\n")
    return folder


def test_printed_link_signs_in_once_and_only_by_post(up):
    started = up(tables=False)  # from nothing, the migrations too
    with httpx.Client(follow_redirects=True) as browser:
        page = browser.get(started.sign_in)
        assert browser.get(started.sign_in).status_code == 200  # looking again does not use it up
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)[1]
        inside = browser.post(started.sign_in, data={"csrfmiddlewaretoken": token})
        assert inside.status_code == 200 and "sign-in" not in str(inside.url)
    late = httpx.get(started.sign_in)
    assert late.status_code == 410 and "used" in late.text


def test_second_start_taken_port_and_wrong_setting_are_one_sentence(up, tmp_path):
    started = up()
    port = started.url.rsplit(":", 1)[1]
    attempts = {
        "already works on the data": run_mn(started.data, "up", "--no-browser"),
        f"Port {port}": run_mn(tmp_path / "other", "up", "--no-browser", "--port", port),
        "MN_POLL_SECONDS": run_mn(tmp_path / "third", "up", "--no-browser", MN_POLL_SECONDS="often"),
        "cannot be written": run_mn(tmp_path / "log" / "x", "up", "--no-browser"),
        "MN_FAULTS=1": run_mn(tmp_path / "fourth", "up", "--no-browser", MN_CRASH_AT="after_call"),
    }
    for words, done in attempts.items():
        said = [line for line in done.stderr.splitlines() if not line.startswith("Starting with")]
        assert done.returncode == 1 and done.stdout == ""
        assert len(said) == 1 and words in said[0] and said[0].endswith("."), done.stderr


@pytest.mark.alone
def test_killed_worker_is_back_within_five_seconds(up):
    started = up()
    assert started.kill_child() < 5
    assert started.kill_child() < 5


def test_terminated_it_exits_0_and_frees_data_and_port(up):
    started = up()
    port = int(started.url.rsplit(":", 1)[1])
    assert started.stop() == 0
    with socket.create_server(("127.0.0.1", port)):
        pass
    assert up().health()["status"] == "ok"


def test_command_line_beside_it_only_writes_rows(up, documents):
    started = up()

    def mn(*args):
        done = run_mn(started.data, *args, "--json")
        return done.returncode, json.loads(done.stdout)

    crm = documents / "crm.csv"
    crm.write_text("company,contact,email\nOrrery Glassworks,Ada Fell,ada@orrery.example\n")
    code, run = mn(
        "run", "customer_research_to_followup", "-i", "company=Orrery Glassworks",
        "-i", f"documents={documents}", "-i", f"crm={crm}", "--wait",
    )  # fmt: skip
    assert code == 3 and run["waiting_for"][0]["reason"] == "approval"
    assert mn("runs", "explain", run["id"])[1]["next"]
    (request,) = mn("approvals", "list")[1]["items"]
    edit = documents / "edit.json"
    edit.write_text(json.dumps({"subject": "Furnace monitor before winter"}))
    assert mn("approvals", "approve", request["id"], "--edit", edit)[0] == 0
    started.kill_child()
    code, ended = mn("runs", "wait", run["id"])
    assert code == 0 and ended["status"] == "succeeded"
    (effect,) = mn("effects", "list", "--run", run["id"])[1]["items"]
    assert (
        effect["state"] == "committed" and effect["arguments"]["subject"] == "Furnace monitor before winter"
    )
    assert len(list((started.data / "outbox").iterdir())) == 1
    assert mn("doctor")[1]["ok"]


def test_child_goes_when_the_supervisor_is_killed(up):
    started = up()
    started.process.kill()
    started.process.wait()
    eventually(lambda: started.boot() is None)
    again = up()
    assert again.health()["status"] == "ok"
