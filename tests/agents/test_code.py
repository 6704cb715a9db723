"""Code steps: what they give, and that hostile code harms nobody but its own step."""

from __future__ import annotations

import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from apps.agents.sandbox import full, small
from apps.agents.sandbox.base import MAX_PRINTED, CodeFailed, NoSandbox
from apps.blueprints.core.code import SMALL_MODULES, check_code
from apps.blueprints.core.validate import validate
from apps.ledger.selectors import entries
from apps.runs.services import start_run
from apps.workspaces.access import principal_for
from apps.workspaces.models import User, Workspace
from tests.runs.engine import version_of, work_all

HOSTILE_MEMORY = [
    "[0] * 10**9",
    "x = []\nwhile True:\n    x.append('a' * 1000)",
    "'a' * 10**10",
    "f'{1:>9999999999}'",
]


def ran(code: str, seconds: float = 2.0, **inputs: Any) -> Any:
    return small.run(code, inputs, seconds=seconds).value


# --- results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("a + 1", 3),
        ("x = 5", None),
        ("result = 7\nprint('kept')", 7),
        ("result = a\nresult * 100", 2),
        ("def double(n):\n    return n * 2\ndouble(a)", 4),
        ("{3, 1, 2}", [1, 2, 3]),
        ("{1: (1, 2), 'x': None}", {"1": [1, 2], "x": None}),
        ("import datetime\ndatetime.date(2026, 4, 1)", "2026-04-01"),
        ("import decimal\ndecimal.Decimal('1.10')", "1.10"),
        ("import random\nrandom.seed(1)\nrandom.random()", 0.13436424411240122),
    ],
)
def test_the_result_is_result_or_the_last_expression(code: str, expected: Any) -> None:
    assert ran(code, a=2) == expected


def test_what_is_printed_is_kept_up_to_a_bound() -> None:
    found = small.run("for i in range(5000):\n    print('line', i)\nresult = 1", {}, seconds=5)
    assert found.value == 1
    assert found.printed.startswith("line 0\nline 1\n") and len(found.printed) == MAX_PRINTED
    assert found.left_out > 1000


# --- hostile code, small ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["while True: pass", "try:\n    while True: pass\nexcept BaseException:\n    1"]
)
def test_a_loop_without_end_stops_at_its_time(code: str) -> None:
    began = time.monotonic()
    with pytest.raises(CodeFailed, match=r"longer than 0\.3 s") as failed:
        ran(code, seconds=0.3)
    assert time.monotonic() - began < 3
    assert failed.value.permanent


@pytest.mark.parametrize("code", HOSTILE_MEMORY)
def test_memory_has_a_bound(code: str) -> None:
    with pytest.raises(CodeFailed, match="needs more than 256 MB"):
        ran(code, seconds=10)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open('/etc/passwd').read()", "PermissionError"),
        ("import pathlib\npathlib.Path('/tmp/x').write_text('a')", "PermissionError"),
        ("import os\nos.environ", "RuntimeError"),
        ("import os\nos.listdir('/')", "PermissionError"),
        ("import os\nos.system('id')", "AttributeError"),
        ("import socket", "ModuleNotFoundError"),
        ("import subprocess", "ModuleNotFoundError"),
        ("__import__('os')", "NameError"),
        ("().__class__.__bases__[0].__subclasses__()", "AttributeError"),
        ("import time\ntime.time()", "RuntimeError"),
        ("import datetime\ndatetime.datetime.now()", "RuntimeError"),
        ("import random\nrandom.random()", "RuntimeError"),
        ("import asyncio\nasync def f():\n    await asyncio.sleep(9)\nawait f()", "RuntimeError"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
        ("undefined_name", "NameError"),
    ],
)
def test_code_reaches_nothing_outside(code: str, error: str) -> None:
    with pytest.raises(CodeFailed) as failed:
        ran(code)
    assert failed.value.attributes["error"] == error


def test_an_error_says_its_line_and_message_and_nothing_of_this_process(monkeypatch: Any) -> None:
    monkeypatch.setenv("MN_SECRET_KEY_PROBE", "hunter2")
    with pytest.raises(CodeFailed) as failed:
        ran("x = 1\n\nraise ValueError('bad row ' + str(n))", n=7)
    assert "line 3" in failed.value.message and "ValueError: bad row 7" in failed.value.message
    with pytest.raises(CodeFailed) as long:
        ran("raise ValueError('s' * 100000)")
    assert len(long.value.message) <= 501
    with pytest.raises(CodeFailed) as dump:
        ran("import os, sys\nraise ValueError(str(os.getenv('MN_SECRET_KEY_PROBE')))")
    shown = str(dump.value.as_json())
    assert "hunter2" not in shown and str(Path.cwd()) not in shown


@pytest.mark.parametrize("code", ["lambda: 1", "..."])
def test_what_cannot_be_stored_is_no_result(code: str) -> None:
    if code == "...":
        with pytest.raises(CodeFailed, match="cannot be stored"):
            ran(code)
    else:
        assert isinstance(ran(code), str)


def test_a_number_of_a_hundred_thousand_digits_is_refused_in_words() -> None:
    with pytest.raises(CodeFailed, match="digits"):
        ran("10 ** 100000")


@pytest.mark.parametrize(
    "code",
    [
        "x = 'a' * 10**6\n[x] * 3000",
        "x = ['a' * 1000]\nfor i in range(12):\n    x = [x] * 10\nx",
        "x = [10 ** 3000] * 1000\n[x] * 1000",
        "import decimal\nx = [decimal.Decimal('1.' + '1' * 900)] * 1000\n[x] * 1000",
        "x = ('a' * 1000,)\nfor i in range(60):\n    x = {'a' * 1000: x, 'b': x}\nx",
    ],
)
def test_a_result_that_is_small_only_where_it_was_made_is_refused(code: str) -> None:
    # One list inside another many times: written out it would have gigabytes and take this process with it.
    with pytest.raises(CodeFailed, match="has more than 16 MB"):
        ran(code)


def test_one_step_sees_nothing_of_another() -> None:
    ran("kept = 'secret of the first'")
    with pytest.raises(CodeFailed, match="NameError"):
        ran("kept")


def test_several_steps_run_at_once() -> None:
    found: list[Any] = []
    threads = [threading.Thread(target=lambda i=i: found.append(ran("sum(range(a))", a=i))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(found) == sorted(sum(range(i)) for i in range(8))


# --- full Python ------------------------------------------------------------------------------------------

BOX = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def open_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for bubblewrap that encloses nothing: for harmless code only."""
    (tmp_path / "bwrap").write_text(BOX)
    (tmp_path / "bwrap").chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(full, "_nobody", dict)


def test_without_bubblewrap_full_python_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(NoSandbox) as refused:
        full.run("1", {}, seconds=1)
    assert refused.value.code == "no_sandbox" and refused.value.permanent
    assert "bubblewrap" in refused.value.message and "python: small" in refused.value.next


@pytest.mark.usefixtures("open_box")
@pytest.mark.parametrize(
    ("code", "expected"),
    [("import statistics\nstatistics.mean(rows)", 2), ("result = {3, 1}", [1, 3]), ("x = 1", None)],
)
def test_full_python_has_the_standard_library(code: str, expected: Any) -> None:
    assert full.run(code, {"rows": [1, 2, 3]}, seconds=5).value == expected


@pytest.mark.usefixtures("open_box")
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1\n\n1 / 0", "line 3 with ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "line 2 with SystemExit"),
        ("[0] * 10**9", "needs more than 256 MB"),
        ("object()", "holds object, which cannot be stored"),
    ],
)
def test_full_python_fails_in_the_same_words(code: str, words: str) -> None:
    with pytest.raises(CodeFailed, match=words):
        full.run(code, {}, seconds=5)


FORGED = [
    "1", "[]", "{}", "null", "[" * 100_000, '{"value": 1}', '{"value": 1, "printed": [], "left_out": 0}',
    '{"value": 1, "printed": "", "left_out": "0"}', '{"error": 1, "text": "", "line": 1}',
    '{"error": "E", "text": {}, "line": [], "printed": "", "left_out": 0}', "9" * 5000,
    '{"value": 1, "printed": "' + "x" * 9000 + '", "left_out": 0}',
]  # fmt: skip


@pytest.mark.parametrize("answer", FORGED, ids=lambda one: one[:30])
def test_what_code_writes_in_place_of_its_answer_is_not_believed(answer: str) -> None:
    with pytest.raises(CodeFailed, match="wrote over its own result"):
        full._read(answer.encode(), b"", 0)


def test_a_result_written_past_the_checks_is_checked_again() -> None:
    for value, words in (("[" * 95 + "]" * 95, "nested"), ('"' + "x" * 16_000_001 + '"', "more than 16 MB")):
        answer = f'{{"value": {value}, "printed": "", "left_out": 0}}'
        with pytest.raises(CodeFailed, match=words):
            full._read(answer.encode(), b"", 0)


@pytest.mark.usefixtures("open_box")
def test_full_python_is_killed_at_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "_START_SECONDS", 1.0)
    with pytest.raises(CodeFailed, match=r"longer than 0\.2 s"):
        full.run("while True: pass", {}, seconds=0.2)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("open('/dev/shm/x', 'w').write('a')", "Read-only"),
        ("open('/x', 'w')", "Read-only"),
        ("import socket\nsocket.create_connection(('192.0.2.1', 80), 2)", "unreachable"),
        ("import os\nos.write(1, b'x' * 10**8)", "wrote over its own result"),
        ("import os\nwhile True:\n    os.fork()", "code_failed|failed"),
    ],
)
def test_the_real_box_is_closed(code: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "_START_SECONDS", 2.0)
    with pytest.raises(CodeFailed, match=words):
        full.run(code, {}, seconds=1)


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_the_real_box_shows_no_environment_and_no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MN_SECRET_KEY_PROBE", "hunter2")
    code = "import os\n[dict(os.environ), [p for p in os.listdir('/proc') if p.isdigit()]]"
    environment, processes = full.run(code, {}, seconds=5).value
    assert "hunter2" not in str(environment) and len(processes) <= 3


# --- validation -------------------------------------------------------------------------------------------


def document(code: str, **node: Any) -> dict[str, Any]:
    return {
        "apiVersion": "mirrorneuron/v1",
        "kind": "Blueprint",
        "metadata": {"name": "t"},
        "graph": {"nodes": [{"id": "calc", "kind": "code", "code": code, **node}]},
    }


@pytest.mark.parametrize(
    ("code", "found", "words"),
    [
        ("x = 1\ny = (\n", "code_syntax", "Line 2"),
        ("", "missing_field", "has no code"),
        ("x = 1\nimport requests", "code_import", "Line 2"),
        ("import os", "code_import", "no files and no environment"),
        ("def f():\n    yield 1", "code_not_supported", "yield"),
        ("class A(B):\n    pass", "code_not_supported", "classes made from others"),
        ("#" * 40000, "code_too_long", "32000"),
        ("-" * 30000 + "1", "code_syntax", "nested too deeply"),
        ("(" * 30000, "code_syntax", "nested"),
        ("a\0b", "code_syntax", "null bytes"),
    ],
)
def test_validation_finds_what_is_certain_to_fail(code: str, found: str, words: str) -> None:
    problems = validate(document(code), {}).errors
    assert [p.code for p in problems] == [found]
    assert words in problems[0].message and problems[0].fix


def test_full_python_may_import_and_yield() -> None:
    code = "import statistics\ndef f():\n    yield 1\nlist(f())"
    assert validate(document(code), {}).errors
    assert not validate(document(code, python="full"), {}).errors


@pytest.mark.parametrize("name", ["result", "class", "two words"])
def test_an_input_that_code_could_not_name_is_found(name: str) -> None:
    problems = validate(document("1", **{"with": {name: 1}}), {}).errors
    assert [p.code for p in problems] == ["bad_name"]


@pytest.mark.parametrize("module", sorted(SMALL_MODULES))
def test_every_module_validation_allows_can_be_imported(module: str) -> None:
    names = {"__future__": "from __future__ import annotations"}
    ran(names.get(module, f"import {module}"))


@pytest.mark.parametrize(
    "code",
    ["def f():\n    yield 1", "x = 1\ndel x", "class A(B): pass", "import statistics", "from math import *"],
)
def test_what_validation_refuses_does_fail(code: str) -> None:
    assert check_code(code, full=False)
    with pytest.raises(CodeFailed):
        ran(code)


# --- on the engine ----------------------------------------------------------------------------------------


def start(alice: User, workspace: Workspace, node: dict[str, Any], inputs: dict[str, Any]) -> Any:
    nodes = [{"id": "calc", "kind": "code", **node}]
    run = start_run(principal_for(alice, workspace, "web"), version_of(workspace, nodes), inputs)
    work_all()
    run.refresh_from_db()
    return run


@pytest.mark.django_db(transaction=True)
def test_a_code_step_keeps_its_result_labels_and_prints(alice: User, workspace: Workspace) -> None:
    run = start(
        alice,
        workspace,
        {
            "code": "print('rows:', len(rows))\nsum(r['eur'] for r in rows)",
            "with": {"rows": "{{ inputs.rows }}"},
            "output": {"type": "number"},
        },
        {"rows": [{"eur": 2}, {"eur": 3}]},
    )
    step = run.steps.get()
    assert (run.status, step.output, step.labels) == ("succeeded", 5, ["user"])
    assert step.attempt == 1
    (printed,) = entries(run.id, kinds=["code.printed"])
    assert printed.data == {"text": "rows: 2\n"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("node", "code", "words"),
    [
        ({"code": "1\n\n1 / 0"}, "code_failed", "line 3"),
        ({"code": "'x'", "output": {"type": "number"}}, "bad_output", "is not of type 'number'"),
        ({"code": "1", "with": {"class": 1}}, "bad_arguments", '"class"'),
        ({"code": "while True: pass", "timeout": 0.5}, "code_failed", "longer than"),
    ],
)
def test_a_code_step_that_fails_says_why_and_is_not_tried_again(
    alice: User, workspace: Workspace, node: dict[str, Any], code: str, words: str
) -> None:
    run = start(alice, workspace, node, {})
    step = run.steps.get()
    assert (run.status, step.status, step.attempt) == ("failed", "failed", 1)
    assert step.error["code"] == code and words in step.error["message"]
