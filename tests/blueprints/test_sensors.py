"""What validation says of sensors: every mistake with its place and its remedy, nothing about a good one."""

from __future__ import annotations

from typing import Any

import pytest

from apps.blueprints.core.problems import Problem
from tests.blueprints.samples import problems_after

POLL = {
    "poll": {"tool": "search_documents", "with": {"query": "{{ inputs.company }}"}},
    "every": "30s", "condition": "size(output.passages) > 0", "due": "2d",
}  # fmt: skip


def found(sensor: dict[str, Any], *, expiry: bool = True, reads: str = "") -> list[Problem]:
    """Problems of the sample blueprint with one sensor behind it, the sample's own left out."""

    def change(data: dict[str, Any]) -> None:
        data["graph"]["nodes"].append({"id": "wait", "kind": "sensor", **sensor})
        data["graph"]["edges"].append({"from": "send", "to": "wait"})
        if expiry:
            data["graph"]["nodes"].append({"id": "late", "kind": "transform", "output": 1})
            data["graph"]["edges"].append({"from": "wait.expired", "to": "late"})
        if reads:
            data["graph"]["nodes"].append({"id": "then", "kind": "transform", "output": reads})
            data["graph"]["edges"].append({"from": "wait", "to": "then"})

    own = {str(p) for p in problems_after(lambda data: None)}
    return [p for p in problems_after(change) if str(p) not in own]


@pytest.mark.parametrize(
    "sensor",
    [
        {"signal": "paid", "due": "2d"},
        {"signal": "paid.{{ inputs.company }}", "until": "2030-01-01T00:00:00Z"},
        {"signal": "paid", "schema": {"type": "object"}, **POLL},
        POLL,
    ],
)
def test_a_good_sensor_is_not_remarked_on(sensor: dict[str, Any]) -> None:
    assert found(sensor) == []


def test_a_signal_may_be_waited_for_without_end() -> None:
    assert found({"signal": "paid"}, expiry=False) == []


@pytest.mark.parametrize(
    ("sensor", "code", "place", "fix"),
    [
        ({}, "missing_field", "", "signal"),
        ({"signal": "two words", "due": 1}, "bad_name", ".signal", "letters"),
        ({"signal": "x", "due": 1, "schema": {"type": "strng"}}, "bad_schema", ".schema.type", "string"),
        ({"signal": "x", "until": "noon"}, "bad_time", ".until", "2026"),
        ({"signal": "{{ inputs.compny }}", "due": 1}, "unknown_field", ".signal", "company"),
        ({**POLL, "every": None}, "bad_duration", "", "30s"),
        ({**POLL, "every": "10ms"}, "bad_duration", ".every", "30s"),
        ({**POLL, "due": None}, "unbounded_poll", "", "due"),
        ({**POLL, "condition": ""}, "missing_field", "", "condition"),
        ({**POLL, "condition": "outputs.x"}, "unknown_name", ".condition", "output"),
        ({**POLL, "condition": "1 + 1"}, "type_clash", ".condition", "Compare"),
        ({**POLL, "poll": {"tool": "send_email"}}, "poll_writes", ".poll.tool", "reads"),
        ({**POLL, "poll": {"tool": "search_document"}}, "unknown_tool", ".poll.tool", "search_documents"),
        ({**POLL, "poll": {"tool": "search_documents"}}, "missing_argument", ".poll.with", "query"),
        ({"signal": "x", "due": 1, "every": "5s"}, "field_not_used", ".every", "poll"),
    ],
)  # fmt: skip
def test_each_mistake_is_named_with_its_place(
    sensor: dict[str, Any], code: str, place: str, fix: str
) -> None:
    given = {name: value for name, value in sensor.items() if value is not None}
    ours = [p for p in found(given) if p.code == code]
    assert ours, found(given)
    assert ours[0].path == f"graph.nodes[4]{place}"
    assert fix in ours[0].fix


def test_an_expiry_nobody_handles_and_one_that_never_comes_are_doubts() -> None:
    assert [(p.code, p.level) for p in found({"signal": "x", "due": "1d"}, expiry=False)] == [
        ("expiry_not_handled", "warning")
    ]
    assert [(p.code, p.level) for p in found({"signal": "x"})] == [("never_expires", "warning")]


def test_the_body_is_known_by_its_schema_in_what_follows() -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "integer"}}, "additionalProperties": False}
    sensor = {"signal": "paid", "schema": schema, "due": "1d"}
    assert found(sensor, reads="{{ steps.wait.output.body.amount }}") == []
    (wrong,) = found(sensor, reads="{{ steps.wait.output.body.amout }}")
    assert wrong.code == "unknown_field" and "amount" in wrong.fix
