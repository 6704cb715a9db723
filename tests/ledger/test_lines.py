"""How entries are written: short, and read back as they were."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.ledger.core.lines import LETTERS, Line, marks_of_kind, marks_of_path, packed, unpacked

_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
_values = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from([0.0, 0.25]) | _texts
_usual = st.sampled_from([{}, {"queued_seconds": 0.0}, {"queued_seconds": 0}, {"port": "done"}, {"port": ""}])
_data = _usual | st.dictionaries(_texts, _values | st.lists(_values, max_size=2), max_size=2)
_kinds = st.sampled_from([*LETTERS, "step.failed", "run.succeeded", "n", "r"])
_paths = st.sampled_from(["", "a", "b", "each[2]/a", 'it"s'])
_lines = st.builds(Line, _kinds.filter(lambda k: len(k) > 1), _paths, st.none() | st.integers(0, 3), _data)


@given(st.lists(_lines, max_size=6))
def test_lines_come_back_as_they_were_written(lines: list[Line]) -> None:
    back = unpacked(packed(lines))
    assert back == lines
    # 0 is not 0.0 to who reads it.
    assert json.dumps([line.data for line in back]) == json.dumps([line.data for line in lines])


@given(st.lists(_lines, max_size=6))
def test_every_line_is_found_by_its_kind_and_its_path(lines: list[Line]) -> None:
    text = packed(lines)
    for line in lines:
        assert any(mark in text for mark in marks_of_kind(line.kind))
        assert not line.step_path or any(mark in text for mark in marks_of_path(line.step_path))


def test_a_step_that_follows_another_costs_two_letters_and_two_paths() -> None:
    lines = [
        Line("step.succeeded", "s1", 1, {"port": "done"}),
        Line("step.ready", "s2", 0, {}),
        Line("step.started", "s2", 1, {"queued_seconds": 0.0}),
    ]
    assert packed(lines) == '[["s","s1"],["n","s2"]]'


@pytest.mark.parametrize(
    "text",
    [
        '[["step.succeeded","s1",1,{"port":"done"}],["step.ready","s2",0,{}],["run.succeeded","",null,{}]]',
        '[["s","s1",1,{"port":"done"}],["r","s2",0,{}],["run.succeeded","",null,{}]]',
        '[["s","s1"],["r","s2"],["run.succeeded"]]',
    ],
)
def test_older_forms_are_read(text: str) -> None:
    assert unpacked(text) == [
        Line("step.succeeded", "s1", 1, {"port": "done"}),
        Line("step.ready", "s2", 0, {}),
        Line("run.succeeded", "", None, {}),
    ]
