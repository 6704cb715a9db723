"""Values to try expressions on: what is pinned, and what a step gave in the blueprint's latest run."""

from __future__ import annotations

from collections.abc import Mapping, Set
from functools import cached_property
from typing import Any

from apps.blueprints import pins
from apps.blueprints.core.expressions import ExpressionError, compile_expression, references, render
from apps.ledger.payloads import Extent, column
from apps.runs import selectors as runs
from apps.runs.core.plan import pass_path, pass_scope, path_of, scope_of
from apps.runs.models import Run
from apps.web.core.inspector.forms import Subject
from apps.web.core.inspector.inputs import Input
from apps.web.core.inspector.preview import readable
from apps.web.editing import Opened

MOST_STEPS = 400
FIRST = {"map": 0, "loop": 1}
"""The number of the first pass through a container's body."""
OF_BODY = {"map": (("output",),), "loop": (("output",), ("condition",))}
"""Fields of a container that see what its body sees."""

Names = dict[str, Any]


class KnownValues:
    """Looked up once, and only when a form has an expression that reads something."""

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.source = ""
        self._read: dict[str, list[dict[str, Any]]] = {}

    @cached_property
    def _run(self) -> Run | None:
        if self.opened.blueprint is None:
            return None
        return runs.runs_for(self.opened.principal, blueprint=self.opened.name).first()

    @cached_property
    def _inputs(self) -> Any:
        return column(self._run, "inputs", Extent.WHOLE) if self._run is not None else None

    def _rows(self, scope: str) -> list[dict[str, Any]]:
        """The run's steps of a scope, the pass itself among them."""
        if self._run is None:
            return []
        if scope not in self._read:
            rows = runs.steps_of(self._run, runs.step_rows(self._run, [scope])[:MOST_STEPS])
            # Nodes that are still blocked are told of the whole run.
            self._read[scope] = [row for row in rows if scope_of(row["path"]) == scope]
        return self._read[scope]

    @cached_property
    def _pinned(self) -> dict[str, dict[str, Any]]:
        """Pins stand in for what a step gave, as they do in a test."""
        if self.opened.blueprint is None:
            return {}
        found = pins.pins_for(self.opened.principal, self.opened.name)
        return {
            path: {"output": pin.output, "status": "succeeded", "attempts": 1, "port": pin.port}
            for path, pin in found.items()
        }

    def names_for(self, subject: Subject, one: Input) -> Mapping[str, Any] | None:
        """The names an input reads, with values; None when nothing is known of them."""
        wanted = {name.partition(".")[0] for name in readable(one)}
        if not wanted or subject.kind != "node":
            return None
        node = self.opened.plan.nodes.get(subject.key)
        is_inside = node is not None and tuple(one.path[:1]) in OF_BODY.get(node.kind, ())
        container = subject.key if is_inside else subject.key.rpartition("/")[0]
        names, self.source = self._seen_from(container, wanted)
        is_known = names.get("steps") or wanted & (names.keys() - {"round", "index", "steps"})
        return names if self._run is not None or is_known else None

    def _seen_from(self, container: str, wanted: Set[str]) -> tuple[Names, str]:
        """What the first pass through a body sees, or the run itself; and where it comes from, in words."""
        return self._body(container, wanted) if container else self._top(wanted)

    def _top(self, wanted: Set[str]) -> tuple[Names, str]:
        names: Names = {"round": 1}
        if "steps" in wanted:
            names["steps"] = _by_node(self._rows("")) | self._pins_in("")
        if self._run is None:
            return names, "what is pinned"
        if "inputs" in wanted:
            names["inputs"] = self._inputs
        if "run" in wanted:
            names["run"] = {"id": str(self._run.id), "started_at": self._run.created_at.isoformat()}
        return names, f"the run of {self._run.created_at:%-d %b, %H:%M}"

    def _body(self, container: str, wanted: Set[str]) -> tuple[Names, str]:
        around = container.rpartition("/")[0]
        node = self.opened.plan.nodes.get(container)
        if node is None or node.kind not in FIRST:
            return self._seen_from(around, wanted)
        asked = _roots(node.items) if "item" in wanted else set()
        asked |= _roots(node.with_) if "args" in wanted else set()
        names, source = self._seen_from(around, wanted | asked)
        scope = self._scope_of(container)
        if "steps" in wanted:
            inside = [row for row in self._rows(scope) if row["path"] != pass_path(scope)]
            steps = names["steps"] | _by_node(inside) | self._pins_in(container)
            names = names | {"steps": steps}
        if "args" in wanted and node.with_:
            names = names | {"args": _value(node.with_, names)}
        if node.kind == "loop":
            given = self._given(scope) if "previous" in wanted else {}
            return names | {"round": 1, "previous": given.get("previous")}, f"{source}, first round"
        if "item" in wanted:
            # What is pinned, and the expression as it is now, come before what the run had.
            items = _value(node.items, names)
            given = {"item": items[0]} if isinstance(items, list) and items else self._given(scope)
            names = names | ({"item": given["item"]} if "item" in given else {})
        return names | {"index": 0}, f"{source}, first item"

    def _given(self, scope: str) -> dict[str, Any]:
        """What a pass works on."""
        found = next((row["input"] for row in self._rows(scope) if row["path"] == pass_path(scope)), None)
        return found if isinstance(found, dict) else {}

    def _scope_of(self, container: str) -> str:
        """The scope in the run of the first pass through a body, `each[0]/again[1]`."""
        if not container:
            return ""
        around, _, node_id = container.rpartition("/")
        kind = self.opened.plan.nodes[container].kind
        return pass_scope(path_of(node_id, 1, self._scope_of(around)), FIRST.get(kind, 0))

    def _pins_in(self, container: str) -> dict[str, dict[str, Any]]:
        return {
            path.rpartition("/")[2]: pin
            for path, pin in self._pinned.items()
            if path.rpartition("/")[0] == container
        }


def _by_node(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        row["node"]: {
            "output": row["output"],
            "status": row["status"],
            "attempts": row["attempt"],
            "port": row["port"],
        }
        for row in rows
    }


def _roots(written: Any) -> set[str]:
    """The names a template or an expression begins with."""
    try:
        if isinstance(written, str) and "{{" not in written:
            return {name.partition(".")[0] for name in compile_expression(written).references}
        return {name.partition(".")[0] for name in references(written)}
    except ExpressionError:
        return set()


def _value(written: Any, names: Names) -> Any:
    """What an expression or a template gives; None when it gives nothing."""
    try:
        if isinstance(written, str) and "{{" not in written:
            return compile_expression(written).evaluate(names)
        return render(written, names)
    except ExpressionError:
        return None
