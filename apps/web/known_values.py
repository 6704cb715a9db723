"""Values to try expressions on: what is pinned, and what a step gave in the blueprint's latest run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
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
MOST_ITEMS = 50
"""Items of a map whose results are read together."""
FIRST = {"map": 0, "loop": 1}
"""The number of the first pass through a container's body."""
OF_BODY = {"map": (("output",),), "loop": (("output",), ("condition",))}
"""Fields of a container that see what its body sees."""
OWN = frozenset(["output", "results", "failed"])
"""Names that only some fields have."""
AT_END = ("contract", "outputs")
"""Parts of a blueprint whose expressions are judged when a run is over."""

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
        place = self._place_of(subject, one)
        if not wanted or place is None:
            return None
        container, own = place
        names, self.source = self._seen_from(container, wanted)
        names = names | own(wanted & OWN)
        if wanted - names.keys():
            return None  # It has not happened yet; a name that means nothing is said to be a problem.
        is_known = names.get("steps") or wanted & (names.keys() - {"round", "index", "steps"})
        return names if self._run is not None or is_known else None

    def _place_of(self, subject: Subject, one: Input) -> tuple[str, Callable[[Set[str]], Names]] | None:
        """Whose names a field sees, and what only fields like it see; None where nothing can be known."""
        if subject.kind == "edge":
            edge = next((e for e in self.opened.plan.edges if e.id == subject.key), None)
            if edge is None or one.path[:1] != ("when",):
                return None
            return edge.scope, lambda asked: self._left_by(edge.source, asked)
        if subject.kind == "part":
            return ("", lambda _: {}) if subject.key in AT_END else None
        node, path = self.opened.plan.nodes.get(subject.key), subject.key
        is_inside = node is not None and tuple(one.path[:1]) in OF_BODY.get(node.kind, ())
        container = path if is_inside else path.rpartition("/")[0]
        if one.path[:1] == ("merge",):
            return container, lambda asked: self._joined(path, asked)
        if one.path[:1] == ("condition",):
            return container, lambda asked: self._judged(path, asked)
        return container, lambda _: {}

    # --- what only some fields see

    def _left_by(self, path: str, asked: Set[str]) -> Names:
        """For the condition of an edge: the output of the step it leaves."""
        found = self._step(path) if asked else None
        return {"output": found["output"]} if found is not None and found["status"] == "succeeded" else {}

    def _judged(self, path: str, asked: Set[str]) -> Names:
        """For `condition`: what a round handed over, or what a sensor saw when it looked last."""
        if not asked:
            return {}
        if self.opened.plan.nodes[path].kind == "loop":
            scope = self._scope_of(path)
            row = next((r for r in self._rows(scope) if r["path"] == pass_path(scope)), None)
            return {"output": row["output"]} if row is not None and row["status"] == "succeeded" else {}
        found = (self._step(path) or {}).get("output")
        if not isinstance(found, dict):
            return {}
        seen = found.get("body") if found.get("by") == "poll" else found.get("last")
        return {"output": seen} if seen is not None else {}

    def _joined(self, path: str, asked: Set[str]) -> Names:
        """For `merge`: what the branches of a join, or the items of a map, have given."""
        node = self.opened.plan.nodes.get(path)
        if node is None or not asked:
            return {}
        if node.kind == "map":
            return self._items_of(path, node.join or "all")
        sources = dict.fromkeys(edge.source for edge in self.opened.plan.edges if edge.target == path)
        steps = {source.rpartition("/")[2]: self._step(source) for source in sources}
        arrived = {name: step for name, step in steps.items() if step and step["status"] == "succeeded"}
        if not arrived:
            return {}
        return {
            "results": {name: step["output"] for name, step in arrived.items()},
            "failed": {n: step["status"] for n, step in steps.items() if step and step["status"] == "failed"},
        }

    def _items_of(self, path: str, join: str) -> Names:
        at = path_of(path.rpartition("/")[2], 1, self._scope_of(path.rpartition("/")[0]))
        row = next((row for row in self._rows(scope_of(at)) if row["path"] == at), None)
        items = (row["input"] or {}).get("items") if row is not None else None
        if self._run is None or not isinstance(items, list) or not 0 < len(items) <= MOST_ITEMS:
            return {}
        wanted = [pass_path(pass_scope(at, index)) for index in range(len(items))]
        rows = runs.step_rows(self._run, [scope_of(one) for one in wanted])
        passes = {r["path"]: r for r in runs.steps_of(self._run, [r for r in rows if r.path in wanted])}
        ended = [passes.get(one) for one in wanted]
        done = [one["output"] for one in ended if one is not None and one["status"] == "succeeded"]
        results: Any = done
        if join in ("any", "first_success"):
            results = done[0] if done else None
        elif join == "all_settled":
            results = [one["output"] if one is not None else None for one in ended]
        failed = [
            {"index": index, "error": one["error"]}
            for index, one in enumerate(ended)
            if one is not None and one["status"] == "failed"
        ]
        return {"results": results, "failed": failed}

    def _step(self, path: str) -> dict[str, Any] | None:
        """What a step gave in the first pass through all around it; pins come first."""
        container, _, node_id = path.rpartition("/")
        known = _by_node(self._rows(self._scope_of(container))) | self._pins_in(container)
        return known.get(node_id)

    # --- what everything in one place sees

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
