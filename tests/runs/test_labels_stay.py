"""No kind of step makes what a tool has read trusted by handing it on."""

from __future__ import annotations

from typing import Any

import pytest

from apps.runs import ports, services
from apps.runs.ports import Context, Done
from tests.runs.engine import version_of, work_all

pytestmark = pytest.mark.django_db(transaction=True)
READ = "{{ steps.read.output }}"
EDGES = [{"from": "read", "to": "x"}, {"from": "x", "to": "use"}]


@pytest.mark.parametrize(
    "node",
    [
        {"kind": "transform", "with": {"it": READ}, "output": "{{ args.it }}"},
        {"kind": "transform", "with": READ, "output": "{{ args }}"},
        {"kind": "aggregator", "merge": "{{ steps.first.output }}"},
        {"kind": "map", "items": "{{ [1] }}", "with": {"it": READ},
         "body": {"nodes": [{"id": "in", "kind": "transform", "output": "{{ args.it }}"}], "edges": []}},
        {"kind": "map", "items": "{{ [1] }}", "merge": READ,
         "body": {"nodes": [{"id": "in", "kind": "transform", "output": 1}], "edges": []}},
        {"kind": "loop", "until": "true", "max_rounds": 1, "with": {"it": READ},
         "body": {"nodes": [{"id": "in", "kind": "transform", "output": "{{ args.it }}"}], "edges": []}},
        {"kind": "check", "checks": [{"check": "grounded", "args": {"claim": READ, "sources": [READ]}}]},
    ],
)  # fmt: skip
def test_what_was_read_stays_marked(
    workspace: Any, alice: Any, principal: Any, monkeypatch: pytest.MonkeyPatch, node: dict[str, Any]
) -> None:
    found: list[str] = []
    monkeypatch.setitem(ports._handlers, "tool", lambda context: Done("a@evil.example", labels=("tool:web",)))

    def look(context: Context) -> Done:
        found.extend(context.labels_of("{{ steps.x.output }}"))
        return Done(context.render("{{ steps.x.output }}"))

    monkeypatch.setitem(ports._handlers, "code", look)
    nodes = [
        {"id": "first", "kind": "tool", "tool": "web"},
        {"id": "read", "kind": "tool" if "steps.first" not in str(node) else "transform",
         **({"tool": "web"} if "steps.first" not in str(node) else {"output": 1})},
        {"id": "x", **node},
        {"id": "use", "kind": "code", "code": "x"},
    ]  # fmt: skip
    version = version_of(workspace, nodes, [{"from": "first", "to": "read"}, *EDGES])
    run = services.start_run(principal(alice), version, {})
    work_all()
    step = run.steps.get(path="x")
    if node["kind"] == "check":
        assert step.labels == ["tool:web"], (step.status, step.error)
        return
    assert "evil" in str(step.output), (step.output, step.error)
    assert found == ["tool:web"]
