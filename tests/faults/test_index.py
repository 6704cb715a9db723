"""The list of scenarios and the tests say the same."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| (.+) \|$", re.MULTILINE)
NAMED = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
NUMBERED = re.compile(r"test_(\d\d)_")
ROWS = {int(n): where for n, _, where in ROW.findall((TESTS / "faults" / "SCENARIOS.md").read_text())}


@lru_cache
def names_in(path: str) -> frozenset[str]:
    tree = ast.parse((TESTS / path).read_text())
    return frozenset(n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_number_is_there_once() -> None:
    assert sorted(ROWS) == list(range(1, 81))


@pytest.mark.parametrize("number", range(1, 81))
def test_a_scenario_names_tests_that_exist_or_says_why_there_is_none(number: int) -> None:
    where = ROWS[number]
    named = NAMED.findall(where)
    assert named or where.startswith("not here: "), where
    for path, name in named:
        assert name in names_in(path), f"{path} has no {name}"


def test_every_numbered_test_is_named_under_its_number() -> None:
    for file in sorted((TESTS / "faults").glob("test_*.py")):
        for name in names_in(f"faults/{file.name}"):
            if found := NUMBERED.match(name):
                assert f"`faults/{file.name}::{name}`" in ROWS[int(found.group(1))], name
