"""Where values come from is never lost, and a schema never reaches outside."""

from __future__ import annotations

import pytest

from apps.runs import ports, services
from apps.runs.core.checks import check_schema, grounded
from apps.runs.core.inputs import input_problems
from apps.runs.ports import Done
from tests.runs.engine import version_of, work_all

REMOTE = {"$ref": "http://127.0.0.1:9/schema.json"}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ steps.read.output }}", ["tool:web"]),
        ("{{ steps.plain.output }}", []),
        ("{{ inputs.which }}", ["user"]),
        ("{{ steps[inputs.which].output }}", ["tool:web", "user"]),
        ("{{ effects.map(e, e.arguments) }}", ["tool:web", "user"]),
        ({"a": ["{{ steps.read.output }}"]}, ["tool:web"]),
    ],
)
def test_labels_follow_every_way_to_name_a_step(workspace, alice, principal, monkeypatch, template, expected):
    found = []
    monkeypatch.setitem(ports._handlers, "tool", lambda context: Done("seen", labels=("tool:web",)))

    def look(context):
        found.extend(context.labels_of(template))
        return Done(1)

    monkeypatch.setitem(ports._handlers, "code", look)
    version = version_of(
        workspace,
        [
            {"id": "read", "kind": "tool", "tool": "web"},
            {"id": "plain", "kind": "transform", "output": 1},
            {"id": "use", "kind": "code", "code": "x"},
        ],
        [{"from": "read", "to": "use"}, {"from": "plain", "to": "use"}],
    )
    services.start_run(principal(alice), version, {"which": "read"})
    work_all()
    assert found == expected


def test_a_schema_never_fetches_anything():
    result = check_schema({"a": 1}, REMOTE)
    assert not result.passed
    assert "cannot be used" in result.detail
    assert "cannot be used" in input_problems({"properties": {"a": REMOTE}}, {"a": 1})["inputs"]


def test_a_long_row_of_dots_is_read_once():
    """Quadratic in the row before: 20,000 dots took five seconds, a million would take hours."""
    assert grounded("." * 1_000_000, ["a source"]).passed in (True, False)
